"""The runs under a folder: their states, scores, sizes and ages."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gentool.core.atomic_files import LOG_NAME, MODEL_NAME, STATE_NAME
from gentool.report.reading import is_run, read_run

_DEEPEST = 4


@dataclass(frozen=True)
class RunLine:
    """One run in a list.

    Attributes:
        folder: The run folder.
        state: A word of ``facts``.
        preset: Name of the preset, or else of the model; empty if it is not known.
        images: Images seen.
        score: The last distance of samples to the images; None before the first score.
        bytes: Size of all files in the folder.
        changed: When the run was last written, in seconds since 1970.
    """

    folder: Path
    state: str
    preset: str
    images: int
    score: float | None
    bytes: int
    changed: float


def find_runs(folder: Path, depth: int = _DEEPEST) -> Iterator[Path]:
    """Yield the run folders at and under a folder, sorted; links are not followed.

    Args:
        folder: Where to search.
        depth: Levels of folders to search.
    """
    if is_run(folder):
        yield folder
        return
    if depth == 0:
        return
    try:
        with os.scandir(folder) as entries:
            inside = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
    except OSError:
        return
    for name in inside:
        if not name.startswith("."):
            yield from find_runs(folder / name, depth - 1)


def describe(folder: Path) -> RunLine:
    """Return the line of a run.

    Raises:
        ModelFileError: it is not the folder of a run.
    """
    run = read_run(folder)
    scores = [b.mean("fd_random") for b in run.log.scores.buckets if "fd_random" in b.series]
    preset = run.facts.preset or str(run.header.get("model", ""))
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    times = [_time(folder / name) for name in (LOG_NAME, MODEL_NAME, STATE_NAME)]
    return RunLine(
        folder, run.state, preset[:80], run.images, scores[-1] if scores else None,
        sum(_size(path) for path in files), max(times),
    )  # fmt: skip


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
