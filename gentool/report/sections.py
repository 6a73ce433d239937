"""The sections of a report, each a function from runs to HTML."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gentool.core.escapes import shell_line
from gentool.report import markup
from gentool.report.drawing import Drawn
from gentool.report.facts import DONE, STOPPED, TRAINING
from gentool.report.film import Frame, Preview
from gentool.report.health import examine
from gentool.report.keeping import Picture
from gentool.report.markup import command, image, name, paragraph, section, table, text
from gentool.report.reading import RunView
from gentool.report.series import Chart
from gentool.training.ending import next_commands

_STATES = {TRAINING: "in training", DONE: "done", STOPPED: "stopped", "diverged": "diverged"}
_LEVELS = {"good": "Good", "note": "Note", "bad": "Warning"}
_GROUPS = {"scores": "Scores", "losses": "Losses", "speed": "Speed", "more": "Gradients"}
_MOST_CLASSES = 100
_FIRST_ROWS = 10
_LEGEND = 12


@dataclass
class Shown:
    """One run with its pictures.

    Attributes:
        run: What was read.
        film: Sheets of samples, oldest first.
        rebuilt: The newest sheet of reconstructions; None if there is none.
        drawn: What the model drew.
    """

    run: RunView
    film: list[tuple[Preview, Frame]] = field(default_factory=list)
    rebuilt: tuple[Preview, Frame] | None = None
    drawn: Drawn = field(default_factory=Drawn)


def summary(runs: Sequence[Shown]) -> str:
    """Return the cards at the top: state, images, time, speed and score of every run."""
    return "\n".join(
        f'<article class="card" data-run="{k}" aria-label="Summary">'
        f"{f'<h3>{_swatch(k)} {name(shown.run.title)}</h3>' if len(runs) > 1 else ''}"
        f"<dl>{''.join(f'<div><dt>{a}</dt><dd>{b}</dd></div>' for a, b in _facts(shown.run))}</dl>"
        "</article>"
        for k, shown in enumerate(runs)
    )


def _swatch(number: int) -> str:
    return f'<span class="swatch run{number % 8}" aria-hidden="true"></span>'


def _facts(run: RunView) -> list[tuple[str, str]]:
    """Return the most important facts of a run; the values are HTML."""
    state = _STATES.get(run.state, "ended with an error")
    budget = f"of {int(run.setting('images')):,}" if run.setting("images").isdecimal() else ""
    part = f"({run.share:.0%} of the budget)" if run.share and run.state != DONE else ""
    found = [
        ("State", f'<span class="state {run.state or "unknown"}">{state}</span>'),
        ("Images seen", f"{run.images:,} {budget} {part}".strip()),
    ]
    if run.seconds:
        found.append(("Time", duration(run.seconds)))
    if speed := run.speed:
        found.append(("Speed", f"{speed:,.4g} images/s"))
    scores = [b.mean("fd_random") for b in run.log.scores.buckets if "fd_random" in b.series]
    if scores:
        found.append(("Distance to the images", f"{scores[-1]:.4g} (lower is better)"))
    if run.model is not None:
        model = name(run.facts.preset or run.header.get("model", ""))
        found.append(("Model", f"{model}, {text(run.model.shape)}"))
    return found


def duration(seconds: float) -> str:
    """Return a time in words."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"


def differences(runs: Sequence[Shown]) -> str:
    """Return the settings in which several runs differ."""
    if len(runs) < 2:
        return ""
    names = dict.fromkeys(key for shown in runs for key, _, _ in shown.run.facts.settings)
    rows = []
    for key in names:
        values = [shown.run.setting(key) for shown in runs]
        if len(set(values)) > 1 and key != "out":
            rows.append([name(key), *(text(value or "-") for value in values)])
    if not rows:
        return section("differences", "What differs", paragraph("No setting differs."))
    head = ["Setting", *(shown.run.title for shown in runs)]
    first, rest = rows[:_FIRST_ROWS], rows[_FIRST_ROWS:]
    more = table("Further settings that differ", head, rest)
    return section(
        "differences", "What differs", table("Settings that differ", head, first),
        markup.details(f"{len(rest)} further settings that differ", more) if rest else "",
    )  # fmt: skip


def film(runs: Sequence[Shown]) -> str:
    """Return the sheets of samples with a scrubber."""
    if not any(shown.film for shown in runs):
        return section("film", "Film of learning", paragraph("No sheet of samples was saved yet."))
    reels = "\n".join(_reel(k, shown, len(runs)) for k, shown in enumerate(runs))
    steps = sorted({preview.images for shown in runs for preview, _ in shown.film})
    controls = (
        '<div class="scrubber" hidden><button type="button" id="play" aria-pressed="false">Play'
        '</button><input type="range" id="scrub" min="0" '
        f'max="{len(steps) - 1}" value="{len(steps) - 1}" step="1" '
        'aria-label="Images seen"><output id="moment" for="scrub"></output></div>'
    )
    told = paragraph(
        "Every sheet shows samples from the same latents, so a tile shows how one sample develops."
    )
    without = "<noscript><p>The newest sheet is shown; the film needs JavaScript.</p></noscript>"
    whole = f'<div class="reels">{reels}</div>'
    return section("film", "Film of learning", told, controls, without, whole)


def _reel(number: int, shown: Shown, count: int) -> str:
    frames = []
    for k, (preview, frame) in enumerate(shown.film):
        alt = f"Sheet of samples of {shown.run.title} after {preview.images:,} images"
        newest = k == len(shown.film) - 1
        more = f' class="frame{" current" if newest else ""}" data-images="{preview.images}"'
        frames.append(image(frame, alt, more + ("" if newest else ' aria-hidden="true"')))
    last = f"{shown.film[-1][0].images:,} images" if shown.film else "no sheet yet"
    title = f"{_swatch(number)} {name(shown.run.title)}: " if count > 1 else ""
    return (
        f'<figure class="reel" data-run="{number}"><div class="stack">{"".join(frames)}</div>'
        f'<figcaption>{title}<span class="when">{last}</span></figcaption></figure>'
    )


def health(runs: Sequence[Shown]) -> str:
    """Return what was found about the health of every run."""
    parts = []
    for shown in runs:
        findings = "".join(
            f'<li class="{found.level}"><strong>{_LEVELS[found.level]}:</strong> '
            f"{text(found.words)}</li>"
            for found in examine(shown.run)
        )
        problems = "".join(
            f'<li class="note"><strong>Note:</strong> {text(words)}</li>'
            for words in shown.run.problems
        )
        parts.append(_titled(shown, len(runs)) + f'<ul class="findings">{findings}{problems}</ul>')
    return section("health", "Health", *parts)


def _titled(shown: Shown, count: int) -> str:
    return f"<h3>{name(shown.run.title)}</h3>" if count > 1 else ""


def charts(runs: Sequence[Shown], all_charts: Sequence[Chart]) -> str:
    """Return the charts; the script draws them, and a table stands beside each."""
    parts = []
    for group, title in _GROUPS.items():
        some = [(k, chart) for k, chart in enumerate(all_charts) if chart.group == group]
        if not some:
            continue
        several = "\n".join(_chart(k, chart, runs) for k, chart in some)
        grid = f'<div class="charts">{several}</div>'
        if group == "more":
            parts.append(markup.details("Gradients and skipped steps", grid))
        else:
            parts.append(f"<h3>{title}</h3>\n{grid}")
    if not parts:
        parts.append(paragraph("The log holds no measurements yet."))
    elif any(len(shown.run.log.scores.buckets) == 0 for shown in runs):
        parts.insert(0, paragraph("There is no score yet: a run is first scored after 30 seconds."))
    return section("charts", "Losses and scores", *parts)


def _chart(number: int, chart: Chart, runs: Sequence[Shown]) -> str:
    several = len(runs) > 1
    series = len({line.name for line in chart.lines}) > 1
    thin = any(line.low for line in chart.lines)
    figures = ["Mean", "Lowest", "Highest"] if thin else ["Value"]
    head = [*(["Run"] * several), *(["Series"] * series), "Images", *figures]
    rows = []
    for run, word, images, mean, low, high in chart.rows():
        labels = [*([name(runs[run].run.title)] * several), *([name(word)] * series)]
        values = [mean, low, high] if thin else [mean]
        rows.append([*labels, f"{images:,}", *(f"{value:.5g}" for value in values)])
    key = f" <code>{text(chart.name)}</code>" if chart.name != chart.title else ""
    listed = markup.details(f"Table: {chart.title}", table(chart.title, head, rows))
    return (
        f'<figure class="chart" data-chart="{number}"><figcaption><h4>{text(chart.title)}'
        f"{key}</h4>{paragraph(chart.meaning)}{_legend(chart, runs)}</figcaption>"
        f'<div class="plot"></div>{listed}</figure>'
    )


def _legend(chart: Chart, runs: Sequence[Shown]) -> str:
    """Return which line has which colour, for a chart of several lines."""
    if len(chart.lines) < 2 and len(runs) < 2:
        return ""
    names = list(dict.fromkeys(line.name for line in chart.lines))
    items = []
    for line in chart.lines[:_LEGEND]:
        colour = line.run if len(runs) > 1 else names.index(line.name)
        words = [runs[line.run].run.title] * (len(runs) > 1) + [line.name] * (len(names) > 1)
        items.append(f"<li>{_swatch(colour)} {name(' '.join(words))}</li>")
    return f'<ul class="legend">{"".join(items)}</ul>'


def pictures(runs: Sequence[Shown]) -> list[str]:
    """Return the sections of reconstructions, nearest neighbours, traversals and classes."""
    return [
        _of_all("reconstructions", "Reconstructions", runs, _rebuilt),
        _of_all("neighbours", "Nearest training images", runs, _plain("neighbours")),
        _of_all("traversal", "Traversal", runs, _plain("traversal")),
        _of_all("classes", "Classes", runs, _classes),
    ]


def _of_all(key: str, title: str, runs: Sequence[Shown], make: Callable[[Shown], str]) -> str:
    parts = [(shown, make(shown)) for shown in runs]
    whole = [f"<div>{_titled(shown, len(runs))}{inner}</div>" for shown, inner in parts if inner]
    return section(key, title, f'<div class="beside">{"".join(whole)}</div>') if whole else ""


def _plain(key: str) -> Callable[[Shown], str]:
    def make(shown: Shown) -> str:
        note = shown.drawn.notes.get(key, "")
        sheets = [_figure(picture, shown.run) for picture in shown.drawn.pictures.get(key, [])]
        return "".join(sheets) + paragraph(_sentence(note))

    return make


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if not words or words.endswith(".") else ".")


def _figure(picture: Picture, run: RunView) -> str:
    return f'<figure class="sheet">{image(picture.frame, f"{picture.alt}, {run.title}")}</figure>'


def _rebuilt(shown: Shown) -> str:
    if shown.drawn.pictures.get("reconstructions") or shown.rebuilt is None:
        return _plain("reconstructions")(shown)
    preview, frame = shown.rebuilt
    alt = f"Training images beside their reconstructions after {preview.images:,} images"
    return f'<figure class="sheet">{image(frame, alt)}</figure>' + paragraph(
        f"In columns 1, 3, 5 and 7: training images; right of each: its reconstruction, after "
        f"{preview.images:,} images."
    )


def _classes(shown: Shown) -> str:
    """Return the classes with their counts and a row of samples of each."""
    run, rows = shown.run, {p.label: p for p in shown.drawn.pictures.get("classes", [])}
    counts = dict(run.facts.classes) or dict.fromkeys(run.classes, 0)
    if not counts:
        return ""
    count = max(run.facts.class_count, len(run.classes))
    learned = bool(run.header.get("conditional", run.facts.conditional))
    told = [] if learned else ["The model does not learn the classes."]
    listed = list(counts.items())[:_MOST_CLASSES]
    if count > len(listed):
        told.append(f"{len(listed)} of {count:,} classes are listed.")
    if note := shown.drawn.notes.get("classes"):
        told.append(_sentence(note))
    lines = []
    for key, images in listed:
        picture = rows.get(key)
        drawn = image(picture.frame, picture.alt, ' class="strip"') if picture else ""
        lines.append([name(key), f"{images:,}" if images else "-", drawn])
    head = ["Class", "Images", "Samples"]
    return paragraph(" ".join(told)) + table("Classes", head, lines)


def commands(runs: Sequence[Shown]) -> str:
    """Return the commands to go on with."""
    parts = []
    for shown in runs:
        lines = "".join(command(line, meaning) for line, meaning in _commands(shown.run))
        parts.append(f'{_titled(shown, len(runs))}<ul class="commands">{lines}</ul>')
    return section("commands", "Commands to go on", *parts)


def _commands(run: RunView) -> list[tuple[str, str]]:
    """Return commands for a shell, and what each does."""
    folder, found = str(run.folder), []
    if run.facts.command:
        done = run.state == DONE
        line = run.facts.longer if done else run.facts.command
        meaning = "Train on, to twice the budget" if done else "Continue the run"
        if line:
            found.append((f"{line} {shell_line(['--out', folder])}", meaning))
    if run.model is not None:
        data = run.setting("data")
        several = " " in data  # the facts do not tell where a name ends
        labels = run.setting("labels") or None
        found += next_commands(run.folder, [data or "IMAGES"], labels)[: 2 if several else 3]
    words = ["gentool", "report", folder]
    found.append((shell_line(words), "Write this report again, with all pictures"))
    return found


def settings(runs: Sequence[Shown]) -> str:
    """Return every setting with its value and its origin, and the notes of the plan."""
    parts = []
    for shown in runs:
        run = shown.run
        rows = [[name(k), text(value), text(origin)] for k, value, origin in run.facts.settings]
        if not rows:
            config = run.header.get("config")
            known = {**run.training, **(config if isinstance(config, dict) else {})}
            known.pop("data", None)
            rows = [[name(k), text(v), "model file"] for k, v in list(known.items())[:100]]
        if not rows:
            continue
        notes = "".join(f"<li>{text(_sentence(note))}</li>" for note in run.facts.notes)
        whole = table("Settings", ["Setting", "Value", "Origin"], rows)
        computer = ", ".join(
            word for word in (
                run.facts.device, f"{run.facts.threads} threads" * (run.facts.device == "cpu"),
                f"gentool {run.facts.gentool}" if run.facts.settings else "",
            ) if word
        )  # fmt: skip
        parts += [
            _titled(shown, len(runs)), f"<ul>{notes}</ul>" if notes else "",
            paragraph(f"Trained on {computer}." if computer else ""),
            markup.details(f"All {len(rows)} settings and their origins", whole),
        ]  # fmt: skip
    return section("settings", "Settings", *parts)


def data(runs: Sequence[Shown]) -> str:
    """Return what is known about the images."""
    parts = []
    for shown in runs:
        run, lines = shown.run, []
        count = run.data.get("images", run.facts.trained or "?")
        told = f"{count:,}" if isinstance(count, int) else str(count)
        if run.data or run.facts.trained:
            lines.append(f"Trained on {told} images of {run.data.get('name', 'the data')}.")
        if isinstance(kept := run.data.get("kept_out"), dict):
            lines.append(f"{kept.get('images', '?')} images were kept out of training.")
        lines += [_sentence(line) for line in run.facts.data]
        if lines:
            listed = "".join(f"<li>{text(line)}</li>" for line in lines)
            parts.append(f"{_titled(shown, len(runs))}<ul>{listed}</ul>")
    return section("data", "Data", *parts)
