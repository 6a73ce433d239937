"""Small pieces of HTML; every text from files and users goes through ``text`` or ``name``."""

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from gentool.core.escapes import printable
from gentool.report.film import Frame

_LONGEST = 500  # characters of a text from a file


def text(value: object) -> str:
    """Return a text for HTML, also inside quotes; invisible characters are made visible."""
    words = str(value)
    cut = words if len(words) <= _LONGEST else f"{words[:_LONGEST]} ..."
    return html.escape(printable(cut), quote=True)


def resource(file: str) -> str:
    """Return the text of a file of this package."""
    return Path(__file__).with_name(file).read_text(encoding="utf-8")


def hash_for_policy(content: str) -> str:
    """Return the hash of a script or a style, as a Content-Security-Policy names it."""
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def name(value: object) -> str:
    """Return a name for HTML, isolated so that its direction does not change what is beside it."""
    return f"<bdi>{text(value)}</bdi>"


def section(key: str, title: str, *content: str) -> str:
    """Return a section with its heading; an empty text if it has no content."""
    inner = "\n".join(part for part in content if part)
    if not inner:
        return ""
    return (
        f'<section id="{key}" aria-labelledby="{key}-title">\n'
        f'<h2 id="{key}-title">{text(title)}</h2>\n{inner}\n</section>'
    )


def paragraph(words: str, kind: str = "") -> str:
    """Return a paragraph of text that is not yet escaped; empty if there are no words."""
    told = f' class="{kind}"' if kind else ""
    return f"<p{told}>{text(words)}</p>" if words else ""


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table that scrolls sideways where it is too wide.

    Args:
        caption: What it shows; read by screen readers.
        head: Titles of the columns.
        rows: Cells that are HTML already; the first of each row is its heading.
    """
    titles = "".join(f'<th scope="col">{text(word)}</th>' for word in head)
    lines = "\n".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f'<caption class="unseen">{text(caption)}</caption>'
        f"<thead><tr>{titles}</tr></thead><tbody>\n{lines}\n</tbody></table></div>"
    )


def details(summary: str, inner: str) -> str:
    """Return a part that is closed at first."""
    return f"<details><summary>{text(summary)}</summary>\n{inner}\n</details>"


def image(frame: Frame, alt: str, more: str = "") -> str:
    """Return an image element.

    Args:
        frame: The picture.
        alt: What it shows.
        more: Further attributes, which are HTML already.
    """
    size = f'width="{frame.width}" height="{frame.height}"'
    return f'<img src="{frame.uri}" alt="{text(alt)}" {size}{more}>'


def command(line: str, meaning: str) -> str:
    """Return a command to copy, and what it does."""
    return (
        f'<li><p>{text(meaning)}</p><div class="command"><pre tabindex="0"><code>'
        f"{html.escape(line)}</code></pre>"
        f'<button type="button" class="copy" hidden aria-label="Copy: {text(meaning)}">Copy'
        "</button></div></li>"
    )


def data_block(key: str, value: object) -> str:
    """Return JSON for the script of the page; it cannot end its element."""
    words = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        words = words.replace(letter, f"\\u{ord(letter):04x}")
    return f'<script type="application/json" id="{key}">{words}</script>'
