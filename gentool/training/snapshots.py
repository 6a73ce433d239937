"""Which model files a run keeps: the last, the one with the best score, and numbered snapshots.

``--keep last`` keeps only ``model.safetensors``. ``best`` (the default) also keeps
``best.safetensors``, as soon as there are scores. A number keeps in addition that many of the
latest models in ``snapshots/``, and ``all`` keeps every saved model there.
"""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from gentool.core.atomic_files import put, reached
from gentool.core.errors import UsageError

SNAPSHOTS_NAME = "snapshots"
_MOST = 10**6
_NUMBERED = re.compile(r"[0-9]{12,}\.safetensors")  # names that _target returns


@dataclass(frozen=True)
class Keep:
    """Which models are kept in addition to the last one.

    Attributes:
        best: Whether the model with the best score is kept.
        numbered: Number of snapshots that are kept; infinity for all.
    """

    best: bool = True
    numbered: float = 0


def parse_keep(word: str) -> Keep:
    """Parse a value of ``--keep``: ``last``, ``best``, a number from 1 to 10^6, or ``all``.

    Raises:
        UsageError: the value is none of these.
    """
    named = {"last": Keep(best=False), "best": Keep(), "all": Keep(numbered=math.inf)}
    if word in named:
        return named[word]
    if word.isdecimal() and len(word) < 8 and 1 <= int(word) <= _MOST:
        return Keep(numbered=int(word))
    raise UsageError(
        f"--keep {word:.40}: write last, best, all, or a number of snapshots (1 or more)"
    )


def keep_snapshot(model_path: Path, images: int, keep: Keep) -> None:
    """Keep the model that was just written as a snapshot, after removing the oldest snapshots.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    if not keep.numbered:
        return
    target = _target(model_path, images)
    folder = target.parent
    folder.mkdir(exist_ok=True)
    older = [f for f in numbered_snapshots(folder) if f != target]
    for number, snapshot in enumerate(reversed(older), start=1):
        if number >= keep.numbered:
            snapshot.unlink()
    target.unlink(missing_ok=True)
    try:
        # takes no disk space; the next model will be a new file
        os.link(os.path.realpath(model_path), target)
    except (OSError, NotImplementedError):
        put(target, model_path.read_bytes())
    reached("keep", target)


def numbered_snapshots(folder: Path) -> list[Path]:
    """Return the files in a folder that have the name of a snapshot, the oldest first."""
    found = (f for f in folder.glob("*.safetensors") if _NUMBERED.fullmatch(f.name))
    return sorted(found, key=lambda file: int(file.stem))


def snapshot_is_kept(model_path: Path, images: int, keep: Keep) -> bool:
    """Return whether the snapshot for this count of images exists, or is not wanted."""
    return not keep.numbered or _target(model_path, images).is_file()


def _target(model_path: Path, images: int) -> Path:
    return model_path.parent / SNAPSHOTS_NAME / f"{images:012d}.safetensors"
