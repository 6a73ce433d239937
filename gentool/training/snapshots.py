"""Which models a run keeps: the last, the best scored, and numbered ones on the way.

``--keep last`` keeps ``model.safetensors`` alone, ``best`` (the default) also
``best.safetensors`` once there are scores, a number also that many of the latest in
``snapshots/``, and ``all`` every one that was saved.
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
_NUMBERED = re.compile(r"[0-9]{12,}\.safetensors")  # what _target gives


@dataclass(frozen=True)
class Keep:
    """What stays beside the last model.

    Attributes:
        best: Whether the best scored does.
        numbered: How many numbered ones do; infinity for all.
    """

    best: bool = True
    numbered: float = 0


def parse_keep(word: str) -> Keep:
    """``last``, ``best``, a number or ``all``.

    Raises:
        UsageError: none of these.
    """
    named = {"last": Keep(best=False), "best": Keep(), "all": Keep(numbered=math.inf)}
    if word in named:
        return named[word]
    if word.isdecimal() and len(word) < 8 and 1 <= int(word) <= _MOST:
        return Keep(numbered=int(word))
    raise UsageError(f"--keep {word:.40}: write last, best, a number of snapshots from 1, or all")


def keep_snapshot(model_path: Path, images: int, keep: Keep) -> None:
    """Keep the model that was just written under its number, after removing what is too many.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    if not keep.numbered:
        return
    target = _target(model_path, images)
    folder = target.parent
    folder.mkdir(exist_ok=True)
    numbered = (f for f in folder.glob("*.safetensors") if _NUMBERED.fullmatch(f.name))
    older = sorted(f for f in numbered if f != target)
    for number, snapshot in enumerate(reversed(older), start=1):
        if number >= keep.numbered:
            snapshot.unlink()
    target.unlink(missing_ok=True)
    try:
        os.link(model_path, target)  # costs no room: the next model is another file
    except (OSError, NotImplementedError):
        put(target, model_path.read_bytes())
    reached("keep", target)


def snapshot_is_kept(model_path: Path, images: int, keep: Keep) -> bool:
    """Whether the model of this count is kept under its number, if it is to be."""
    return not keep.numbered or _target(model_path, images).is_file()


def _target(model_path: Path, images: int) -> Path:
    return model_path.parent / SNAPSHOTS_NAME / f"{images:012d}.safetensors"
