"""List and verify the cache folder, and delete entries when it gets too large.

Only entries that gentool has written are considered; other files in the folder are neither
counted nor deleted. Images that are being built or read are never deleted. Downloaded sets are
counted, but since downloading them again is costly, they are deleted only when everything is.
"""

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from gentool.core.errors import DataError, UsageError
from gentool.data.cache.entry import META, verify_entry
from gentool.data.cache.locks import free as free_to_change
from gentool.data.cache.store import IMAGES, JOURNAL
from gentool.data.paths import cache_folder

_FILES = ("classifier", "drawn", "features", "index")  # kinds of single files, named KIND-HASH
_DOWNLOADS = "torchvision-"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Entry:
    """One file or folder in the cache.

    Attributes:
        path: File or folder.
        kind: ``images``, ``unfinished``, ``download``, or the kind of a single file.
        bytes: Bytes that it takes on the disk.
        used: When it was last used, in seconds since 1970.
        about: Short description of its contents.
        in_use: Whether a process builds or reads the images now; False for other kinds.
    """

    path: Path
    kind: str
    bytes: int
    used: float
    about: str
    in_use: bool


def list_entries() -> list[Entry]:
    """Return the entries in the cache folder, least recently used first."""
    try:
        paths = list(cache_folder().iterdir())
    except OSError:
        return []
    return sorted(filter(None, map(_entry, paths)), key=lambda e: (e.used, e.path.name))


def prune(
    *,
    older_than: float | None = None,
    max_bytes: int | None = None,
    free: int | None = None,
    everything: bool = False,
) -> list[Entry]:
    """Delete entries that are not in use, least recently used first.

    Args:
        older_than: Delete entries that were not used for this many seconds.
        max_bytes: Delete until the rest takes at most this many bytes.
        free: Delete until this many bytes have become free.
        everything: Delete all entries, including downloads.

    Returns:
        The deleted entries.
    """
    entries = list_entries()
    total, freed = sum(e.bytes for e in entries), 0
    dropped = []
    for entry in entries:
        wanted = (
            everything
            or (older_than is not None and time.time() - entry.used > older_than)
            or (max_bytes is not None and total - freed > max_bytes)
            or (free is not None and freed < free)
        )
        if entry.kind == "download" and not everything:
            continue
        if wanted and _drop(entry):
            dropped.append(entry)
            freed += entry.bytes
    return dropped


def verify(entry: Entry | Path) -> str | None:
    """Read a finished entry of images completely; return what is wrong with it, or None.

    Raises:
        DataError: it is not a finished entry of images.
    """
    path = entry.path if isinstance(entry, Entry) else entry
    if not (path / IMAGES).exists() or (path / JOURNAL).exists():
        raise DataError(
            f"{path} holds no prepared images. Run gentool data cache --list to see what is cached"
        )
    return verify_entry(path)


def cache_limit() -> int:
    """Return how many bytes the cache may take.

    It is ``GENTOOL_CACHE_BYTES`` (such as 50G), else half of the size of its disk. Entries in use
    are never deleted, so they may take more.

    Raises:
        UsageError: the variable is not a number of bytes.
    """
    word = os.environ.get("GENTOOL_CACHE_BYTES", "").strip().upper().removesuffix("B")
    if not word:
        return shutil.disk_usage(cache_folder()).total // 2
    number, unit = (word[:-1], word[-1]) if word[-1] in _UNITS else (word, "")
    if not (number.isascii() and number.isdecimal()):
        raise UsageError(
            f"GENTOOL_CACHE_BYTES={word:.20} is not a size. Write a number of bytes, or 500M, 50G, "
            "2T"
        )
    return int(number) * _UNITS[unit]


def size_of(path: Path) -> int:
    """Return the bytes that a file or folder takes on the disk; 0 if it does not exist."""
    try:
        files = [Path(top) / f for top, _, names in os.walk(path) for f in names] or [path]
        return sum(_room(file) for file in files)
    except OSError:  # it may be deleted meanwhile
        return 0


def _room(file: Path) -> int:
    info = file.lstat()
    return info.st_blocks * 512 if hasattr(info, "st_blocks") else info.st_size


def _entry(path: Path) -> Entry | None:
    """Return the entry at ``path``, or None if gentool did not write it."""
    try:
        info = path.stat()
        if path.is_file():
            kind, dash, _ = path.name.partition("-")
            if not dash or kind not in _FILES:
                return None
            used = max(info.st_mtime, info.st_atime)
            return Entry(path, kind, size_of(path), used, "", False)
        if path.name.startswith(_DOWNLOADS):
            name = path.name.removeprefix(_DOWNLOADS)
            return Entry(path, "download", size_of(path), info.st_mtime, name, False)
        kind = "images" if (path / META).exists() else "unfinished"
        if not (path / IMAGES).exists():
            return None
        with free_to_change(path) as free:
            about = _about(path) if kind == "images" else ""
            return Entry(path, kind, size_of(path), info.st_mtime, about, not free)
    except OSError:  # it may be deleted meanwhile
        return None


def _about(path: Path) -> str:
    try:
        meta = json.loads((path / META).read_text(encoding="utf-8"))
        size = f"{meta['height']}x{meta['width']} {meta['mode']}"
        return f"{meta['count']:,} images of {meta['source']}, {size}"
    except (OSError, ValueError, KeyError, TypeError):
        return "damaged"


def _drop(entry: Entry) -> bool:
    """Delete an entry unless it is in use; return whether it was deleted."""
    try:
        if not entry.path.is_dir():
            entry.path.unlink()
            return True
        if entry.kind == "download":
            shutil.rmtree(entry.path)
            return True
        with free_to_change(entry.path) as free:
            if free:
                # First: if the deletion is interrupted, the rest is not taken for an entry.
                (entry.path / META).unlink(missing_ok=True)
                shutil.rmtree(entry.path)
            return free
    except OSError:
        return False
