"""The message on failed files, for all commands that write files."""

from collections.abc import Sequence
from pathlib import Path


def failures(failed: Sequence[tuple[Path, str]], count: int) -> str:
    """Return the message for files that could not be written, if others could be.

    Args:
        failed: (path, reason) of each file that could not be written; at least one.
        count: Number of all files.
    """
    path, reason = failed[0]
    return f"{len(failed)} of {count} files cannot be written; the first: {path}: {reason}"
