"""Places of images and results: the path in a spec of images, and free names for results."""

import os
from hashlib import sha256
from pathlib import Path

from gentool.core.errors import UsageError
from gentool.data.sources.concat import split_weight

_MOST_NAMES = 10_000


def place_of(spec: str) -> Path:
    """Return the path of the file or folder that a spec of images names.

    A weight (``photos@2``) and the prefix ``shards:`` are removed, unless the whole spec is an
    existing path. If the spec names no file, as ``builtin:digits``, the path does not exist.
    """
    try:
        whole = Path(spec).expanduser()
        if os.path.lexists(whole):
            return whole
        return Path(split_weight(spec)[0].removeprefix("shards:")).expanduser()
    except (RuntimeError, UsageError):  # unknown home or bad weight; opening reports the error
        return Path(spec)


def hash_of_place(spec: str) -> str:
    """Return a hash (12 hex digits) of where images are, so that sets of equal name differ.

    Unlike the path itself, the hash can be stored in a recipe without showing the path.
    """
    there = os.path.lexists(place_of(spec))  # else it is a name, such as builtin:digits
    return sha256(os.fsencode(os.path.realpath(spec) if there else spec)).hexdigest()[:12]


def free_name(path: Path) -> Path:
    """Return a path like ``path`` that does not exist yet, such as ``name-2.png``."""
    if not path.name:
        path = Path(os.path.realpath(path))
    if not path.name:  # the root folder
        return Path("results")
    for number in range(2, _MOST_NAMES):
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
        if not os.path.lexists(found):
            return found
    return path.with_name(f"{path.stem}-new{path.suffix}")
