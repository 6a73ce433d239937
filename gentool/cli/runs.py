"""The command ``gentool runs``: list the runs under a folder."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gentool.cli import options
from gentool.cli.console import emit_json, emit_table, say
from gentool.core.errors import UsageError

if TYPE_CHECKING:
    from gentool.report.listing import RunLine

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def command(
    folder: Path = typer.Argument(
        Path("runs"), help="Folder of runs.", metavar="FOLDER", readable=False
    ),
    as_json: options.Json = False,
) -> None:
    """List the runs under a folder: state, images seen, score, size and age.

    gentool runs

    gentool runs experiments/ --json

    The score is the last distance of samples to the images (fd_random); lower is better, and only
    runs on the same images can be compared.
    """
    from gentool.data import is_folder
    from gentool.report.listing import describe, find_runs

    if not is_folder(folder):
        raise UsageError(f"{folder} is not a folder. Name a folder that holds runs")
    found = [describe(run) for run in find_runs(folder)]
    if as_json:
        emit_json([{**vars(run), "folder": str(run.folder)} for run in found])
        return
    if not found:
        say(f"there are no runs under {folder}")
        return
    head = ("run", "state", "preset", "images", "score", "size", "age")
    emit_table([head, *(_row(run) for run in found)], indent="")


def _row(run: "RunLine") -> tuple[str, ...]:
    score = "-" if run.score is None else f"{run.score:.4g}"
    size = f"{run.bytes / 2**20:,.0f} MiB"
    age = _age(time.time() - run.changed)
    return str(run.folder), run.state, run.preset, f"{run.images:,}", score, size, age


def _age(seconds: float) -> str:
    """Return an age in its largest unit."""
    for length, unit in _UNITS:
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' * (count != 1)}"
    return "now"
