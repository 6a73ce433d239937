"""The whole page: one HTML file with its style, its script and its pictures inside.

A Content-Security-Policy with the hashes of the one style and the one script forbids everything
else, so that no request leaves the page and no text from a file can run as a script.
"""

from collections.abc import Sequence
from datetime import datetime

from gentool.core.version import __version__
from gentool.outputs.marks import REPORT_START, Recipe, recipe_in_html
from gentool.report import sections
from gentool.report.markup import data_block, hash_for_policy, name, resource, text
from gentool.report.sections import Shown
from gentool.report.series import Chart, make_charts

_NAVIGATION = {
    "film": "Film", "health": "Health", "charts": "Charts", "reconstructions": "Reconstructions",
    "neighbours": "Neighbours", "traversal": "Traversal", "classes": "Classes",
    "commands": "Commands", "settings": "Settings", "data": "Data",
}  # fmt: skip


def render(runs: Sequence[Shown], recipe: Recipe) -> str:
    """Return the page of one or several runs; the recipe marks it as made by gentool."""
    charts = make_charts([shown.run for shown in runs])
    style, script = resource("page.css"), resource("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {hash_for_policy(style)}; "
        f"script-src {hash_for_policy(script)}; base-uri 'none'; form-action 'none'"
    )
    titles = ", ".join(shown.run.title for shown in runs)
    body = "\n".join(
        part
        for part in (
            f'<section id="summary" class="cards" aria-label="Summary">{sections.summary(runs)}'
            "</section>",
            sections.differences(runs),
            _pairs(runs, sections.film(runs), sections.health(runs)),
            sections.charts(runs, charts), _pairs(runs, *sections.pictures(runs)),
            sections.commands(runs),
            sections.settings(runs), sections.data(runs),
        )
        if part
    )  # fmt: skip
    return (
        f'{REPORT_START}<head>\n<meta charset="utf-8">\n{recipe_in_html(recipe)}\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="referrer" content="no-referrer">\n<title>{text(titles)} - gentool</title>\n'
        f"<style>{style}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#main">Skip to the content</a>\n'
        f'{_header(runs, body)}\n<main id="main">\n{body}\n</main>\n'
        f"<footer><p>Written by gentool {__version__} at {_now()}. The page loads nothing from "
        f"elsewhere.</p></footer>\n{data_block('data-of-page', _data(runs, charts))}\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _pairs(runs: Sequence[Shown], *parts: str) -> str:
    """Return sections that stand side by side on a wide screen, if there is only one run."""
    whole = "\n".join(part for part in parts if part)
    return f'<div class="pairs">{whole}</div>' if whole and len(runs) == 1 else whole


def _now() -> str:
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")


def _header(runs: Sequence[Shown], body: str) -> str:
    """Return the head of the page: the title, the model in words, and the navigation."""
    if len(runs) == 1:
        run = runs[0].run
        title, words = name(run.title), run.summary
    else:
        title, words = f"{len(runs)} runs side by side", ""
    there = {key: word for key, word in _NAVIGATION.items() if f'<section id="{key}"' in body}
    links = "".join(f'<a href="#{key}">{word}</a>' for key, word in there.items())
    return (
        f'<header><div class="head"><h1>{title}</h1>'
        '<button type="button" id="theme" hidden>Dark theme</button></div>'
        f'<p class="model">{text(words)}</p>'
        f'<nav aria-label="Sections">{links}</nav></header>'
    )


def _data(runs: Sequence[Shown], charts: Sequence[Chart]) -> dict[str, object]:
    """Return the points of the charts for the script."""
    return {
        "runs": [shown.run.title for shown in runs],
        "charts": [
            {"title": chart.title, "lines": [vars(line) for line in chart.lines]}
            for chart in charts
        ],
    }
