"""What reaches the terminal: results on stdout, everything else on stderr, nothing to escape.

Text from files (class names, paths) may hold control characters or rich's markup; both are
made harmless here, in one place.
"""

import json
import sys
import time
from collections.abc import Iterable

import typer

from gentool.errors import OutputClosed, UsageError

STARTED = time.monotonic()  # --minutes counts from here, a moment after the command's start


def printable(text: str) -> str:
    """``text`` in one line, with whatever is no visible character shown as an escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def say(message: str) -> None:
    """One message for people, on stderr: in one line, but for those that gentool indents."""
    typer.echo("\n  ".join(map(printable, message.split("\n  "))), err=True)


def emit(*cells: str) -> None:
    """One line of results, on stdout, cells apart by tabs, sent at once.

    Raises:
        OutputClosed: the reader of stdout has gone.
    """
    _write("\t".join(map(printable, cells)))


def _write(text: str) -> None:
    try:
        typer.echo(text)
        sys.stdout.flush()
    except BrokenPipeError as error:  # typer would end with exit code 1
        raise OutputClosed("the reader of stdout has gone") from error


def emit_json(value: object) -> None:
    """Results as JSON on stdout."""
    _write(json.dumps(value, indent=2))  # in ASCII: all else is escaped


def emit_table(rows: Iterable[tuple[str, ...]], indent: str = "  ") -> None:
    """Rows of words in aligned columns, on stdout."""
    listed = [tuple(printable(cell) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*listed, strict=True)]
    for row in listed:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        emit((indent + "  ".join(cells)).rstrip())


def refuse_json_beside_tar(output: str, *, as_json: bool) -> None:
    """Stdout carries one thing."""
    if output == "-" and as_json:
        raise UsageError("-o - sends a tar to stdout, where --json cannot go too; leave one out")


def parse_seeds(words: str) -> list[int]:
    """``0,4-9`` -> [0, 4, 5, 6, 7, 8, 9].

    Raises:
        typer.BadParameter: not a list of seeds.
    """
    seeds: list[int] = []
    for word in words.split(","):
        first, dash, last = word.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(word) > 40:
            raise typer.BadParameter(f"'{printable(word)}' is no seed. Write seeds as 0,4-9")
        start, end = int(first), int(last) if dash else int(first)
        if end < start or end - start >= 10**6 or end >= 2**63:
            raise typer.BadParameter(
                f"'{printable(word)}' is no range of at most a million seeds below 2^63"
            )
        seeds += range(start, end + 1)
    return seeds
