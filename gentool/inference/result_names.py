"""File names of results that are made from files: different for each, safe, and not too long."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

_NAME_BYTES = 160
# os.fsdecode makes these of UTF-8 continuation bytes, which remain where a cut divides a letter.
_CUT_LETTERS = "".join(chr(0xDC80 + k) for k in range(0x40))


def result_names(paths: Sequence[Path], separator: str) -> list[str]:
    """Return a different name for the result of each file, made from the file's whole path.

    A file below the working directory is named by its relative path, any other file by its folder's
    name, a hash of the folder's path and its own name. A suffix other than ``.png`` is kept. A name
    that is too long is replaced by a hash and its end; a name that occurs again gets a number.

    Args:
        paths: Paths of the source files.
        separator: Text between the folders of a path; ``/`` makes folders.
    """
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        parts = list(_from_here(path).parts)
        parts[-1] = path.stem if path.suffix.lower() == ".png" else path.name
        parts = [f"_{part}" if part.startswith(".") else part for part in parts]
        if separator == "/":
            name = "/".join(map(shortened, parts))
        else:
            name = shortened(separator.join(parts))
        found, number = name, 1
        while found.casefold() in taken:
            number += 1
            found = f"{name}~{number}"
        taken.add(found.casefold())
        names.append(found)
    return names


def _from_here(path: Path) -> Path:
    """Return a path relative to the working directory.

    For a path outside it, return the folder's name with a hash of its path, and the file's name.
    """
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
    try:
        return whole.relative_to(Path.cwd())
    except ValueError:
        digest = hashlib.sha256(os.fsencode(whole.parent)).hexdigest()[:6]
        return Path(f"{whole.parent.name or 'root'}-{digest}") / whole.name


def shortened(name: str) -> str:
    """Shorten a part of a file name to a hash and its last 160 bytes; a suffix still fits.

    A name of at most 160 bytes is returned unchanged.
    """
    data = os.fsencode(name)
    if len(data) <= _NAME_BYTES:
        return name
    digest = hashlib.sha256(data).hexdigest()[:8]
    return f"{digest}-{os.fsdecode(data[-_NAME_BYTES:]).lstrip(_CUT_LETTERS)}"
