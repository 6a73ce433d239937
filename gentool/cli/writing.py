"""The options that decide what a verb may write over, shared by every verb that writes."""

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
    """What to say of files that could not be written though others could."""
    path, reason = failed[0]
    return f"{len(failed)} of {count} files cannot be written; the first, {path}: {reason}"
