"""Which files of a run are not needed any more, and their removal, for ``gentool gc``.

These are the older snapshots, and temporary files that a killed command left behind. The model, the
best model, the state, previews, logs and reports always stay, and so does everything that gentool
did not write, everything behind a link, and every file of a run that is being trained.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gentool.core.atomic_files import MODEL_NAME, PREVIEWS_NAME, scratch_files, writer_of
from gentool.core.errors import UsageError
from gentool.outputs.marks import MODEL, read_mark
from gentool.training.run_lock import locked, refuse_if_locked
from gentool.training.snapshots import SNAPSHOTS_NAME, numbered_snapshots

SNAPSHOT, LEFTOVER = "snapshot", "leftover"
_LEAST_AGE = 3600.0  # seconds; a younger temporary file may be written on another machine


@dataclass(frozen=True)
class Removable:
    """A file that can go.

    Attributes:
        path: The file.
        what: ``SNAPSHOT``, or ``LEFTOVER`` of a command that was killed while it wrote.
        bytes: Disk space that its removal frees, together with that of the others in the list; 0
            for a file that has another name elsewhere, such as ``model.safetensors``.
    """

    path: Path
    what: str
    bytes: int


@dataclass(frozen=True)
class Clearing:
    """What can go from the folder of a run.

    Attributes:
        folder: The run folder.
        remove: Files that can go, the oldest first.
        kept: Snapshots that stay.
        left: (path, reason) of what looks like a snapshot or a leftover and is not touched.
        busy: Why nothing is removed; empty if something may be.
    """

    folder: Path
    remove: tuple[Removable, ...] = ()
    kept: tuple[Path, ...] = ()
    left: tuple[tuple[Path, str], ...] = ()
    busy: str = ""

    @property
    def bytes(self) -> int:
        """Disk space that the removal frees."""
        return sum(file.bytes for file in self.remove)


def plan_clearing(folder: Path, keep: float) -> Clearing:
    """Return what can go from a run folder.

    Args:
        folder: The run folder.
        keep: Number of the newest snapshots that stay; infinity for all. At least one stays if
            there is no model.
    """
    try:
        refuse_if_locked(folder)
    except UsageError as error:
        return Clearing(folder, busy=str(error))
    return _plan(folder, keep)


def clear(
    folder: Path, keep: float, poll: Callable[[], None], gone: Callable[[Removable], None]
) -> list[tuple[Path, str]]:
    """Remove from a run folder what ``plan_clearing`` returns, while no training can begin there.

    Every file is removed as a whole, the oldest first, so that a kill loses nothing that stays.

    Args:
        folder: The run folder.
        keep: As for ``plan_clearing``.
        poll: Called before every file; may raise to stop.
        gone: Called with every file that was removed.

    Returns:
        (path, reason) of files that could not be removed.

    Raises:
        UsageError: a process trains there.
    """
    failed: list[tuple[Path, str]] = []
    try:
        with locked(folder):
            for file in _plan(folder, keep).remove:
                poll()
                try:
                    file.path.unlink()
                except OSError as error:
                    failed.append((file.path, error.strerror or str(error)))
                else:
                    gone(file)
    except OSError as error:  # of the lock: a folder that cannot be written
        failed.append((folder, error.strerror or str(error)))
    return failed


def _plan(folder: Path, keep: float) -> Clearing:
    snapshots, previews = folder / SNAPSHOTS_NAME, folder / PREVIEWS_NAME
    left: list[tuple[Path, str]] = []
    own: list[Path] = []
    if snapshots.is_symlink():
        left.append((snapshots, "it is a link"))
    elif snapshots.is_dir():
        for path in numbered_snapshots(snapshots):
            why = _why_not(path)
            if why:
                left.append((path, why))
            else:
                own.append(path)
    if not (folder / MODEL_NAME).is_file():
        keep = max(keep, 1)
    newest = int(min(keep, len(own)))
    older, kept = own[: len(own) - newest], own[len(own) - newest :]
    places = [folder, *(place for place in (previews, snapshots) if not place.is_symlink())]
    scratch: list[Path] = []
    for path in (path for place in places for path in scratch_files(place)):
        why = _why_written(path, time.time())
        if why:
            left.append((path, why))
        else:
            scratch.append(path)
    listed = [*((path, SNAPSHOT) for path in older), *((path, LEFTOVER) for path in scratch)]
    return Clearing(folder, tuple(_sized(listed)), tuple(kept), tuple(left))


def _why_not(path: Path) -> str:
    """Return why a file with the name of a snapshot is not touched; empty if it is a snapshot."""
    if path.is_symlink():
        return "it is a link"
    mark = read_mark(path)
    return "" if mark is not None and mark.kind == MODEL else "gentool did not write it, or damaged"


def _why_written(scratch: Path, now: float) -> str:
    """Return why a temporary file may still be written; empty if a killed command left it."""
    writer = writer_of(scratch)
    if writer is not None:
        return f"process {writer}, which is running, may be writing it"
    try:
        age = now - scratch.lstat().st_mtime
    except OSError:  # it has been finished meanwhile
        return "it was just finished"
    return "" if age >= _LEAST_AGE else "it is less than an hour old"


def _sized(listed: Iterable[tuple[Path, str]]) -> list[Removable]:
    """Return files with the space that they free: that of a file counts with its last name."""
    told = [(path, what, path.lstat()) for path, what in listed if os.path.lexists(path)]
    names: Counter[tuple[int, int]] = Counter()
    found = []
    for path, what, info in told:
        key = (info.st_dev, info.st_ino)
        names[key] += 1
        last = names[key] >= info.st_nlink
        found.append(Removable(path, what, info.st_size if last else 0))
    return found
