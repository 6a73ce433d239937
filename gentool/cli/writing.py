"""The option ``--overwrite`` and the message on failed files, for all commands that write files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace files that gentool made from other settings; never an input or a model "
        "of a run.",
    ),
]  # fmt: skip


def failures(failed: Sequence[tuple[Path, str]], count: int) -> str:
    """Return the message for files that could not be written, if others could be.

    Args:
        failed: (path, reason) of each file that could not be written; at least one.
        count: Number of all files.
    """
    path, reason = failed[0]
    return f"{len(failed)} of {count} files cannot be written; the first, {path}: {reason}"
