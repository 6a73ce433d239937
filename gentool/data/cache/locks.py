"""Who may change a cache entry: one builder at a time, and nobody while it is in use.

Builders hold a lock file (``filelock``). Readers hold a shared lock on the pixels themselves,
which lives as long as the memory-mapping does and ends with the process, however that ends; on
Windows, where that kind of lock is missing, a mapped file cannot be deleted anyway.
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
    """Hold the right to build ``entry``.

    Args:
        entry: Where it is or will be.
        poll: Called now and then while another process holds it; may raise to give up.
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
    """Whether nobody builds or reads ``entry``; if so, nobody can begin to build in the block."""
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
    """Mark an open file as in use, for as long as it or a mapping of it is open."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # a file system without locks
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
