"""Locks of cache entries: one process builds an entry at a time, and nobody changes one in use.

Builders hold a lock file (``filelock``). Readers hold a shared lock on the file of pixels. It
lasts as long as the memory mapping and ends with the process, even if the process is killed.
Windows lacks this kind of lock, but there a mapped file cannot be deleted anyway.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

if sys.platform != "win32":
    import fcntl

LOCKS = ".locks"
_POLL_SECONDS = 0.1


@contextlib.contextmanager
def building(entry: Path, poll: Callable[[], None]) -> Iterator[None]:
    """Hold the exclusive right to build ``entry``.

    Args:
        entry: Folder of the entry, which need not exist yet.
        poll: Called about ten times a second while another process holds the right; may raise
            to give up.
    """
    lock = _lock(entry)
    while True:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=_POLL_SECONDS, poll_interval=_POLL_SECONDS / 4)
            break
        poll()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def free(entry: Path) -> Iterator[bool]:
    """Yield whether nobody builds or reads ``entry``; no build can begin within the block if so."""
    lock = _lock(entry)
    try:
        lock.acquire(blocking=False)
    except (Timeout, OSError):
        yield False
        return
    try:
        yield not _is_read(entry / "images.u8")
    finally:
        lock.release()


def _lock(entry: Path) -> FileLock:
    folder = entry.parent / LOCKS
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{entry.name}.lock")


def hold(file: BinaryIO) -> None:
    """Mark an open file as in use while it or a memory mapping of it is open."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # the file system may lack locks
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _is_read(path: Path) -> bool:
    if sys.platform == "win32":
        return False
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
