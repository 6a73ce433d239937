"""Following a run: notice when its model file is replaced, and whether it is still in training."""

from dataclasses import dataclass
from pathlib import Path

from gentool.checkpoint import locate
from gentool.core.errors import ModelFileError
from gentool.training.run_lock import HOLDER_NAME, is_locked

Stamp = tuple[int, int, int]


@dataclass
class Watch:
    """Watches the file of a model.

    Attributes:
        path: The model as the user named it.
        seen: Stamp of the file whose model is shown; None if it is gone.
    """

    path: Path
    seen: Stamp | None

    @classmethod
    def of(cls, path: Path) -> "Watch":
        """Return a watch that takes the file as it is now for the one that is shown."""
        return cls(path, _stamp(path))

    def changed(self) -> Stamp | None:
        """Return the stamp of a file that is not ``seen``, which the caller sets; or None."""
        now = _stamp(self.path)
        return None if now == self.seen else now

    def in_training(self) -> bool:
        """Return whether a process trains in the run folder now.

        The lock is tried only where the file of its holder exists, so that a run that begins does
        not find it taken.
        """
        return (self.path / HOLDER_NAME).is_file() and is_locked(self.path)


def _stamp(path: Path) -> Stamp | None:
    """Return what changes when the file of a model is replaced."""
    try:
        about = locate(path).stat()
    except (OSError, ModelFileError):
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino
