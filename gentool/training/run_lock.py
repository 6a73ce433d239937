"""A lock on a run folder, so that only one process at a time trains in it.

The lock is a locked file (``filelock``). The kernel releases it when the process ends, so a killed
process leaves no stale lock. A second file names the process that holds the lock, for the error
message of another process.
"""

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from gentool.core.errors import UsageError

LOCK_NAME, HOLDER_NAME = ".lock", ".holder.json"
_NO_LOCKS_HERE = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_MOST_HOLDER_BYTES = 4096


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of ``folder`` inside the block; create the folder if it does not exist.

    If the file system does not support locks, the block runs without one.

    Raises:
        UsageError: another process trains there.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise _refusal(folder) from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS_HERE:
            raise
        yield
        return
    try:
        with contextlib.suppress(OSError):  # disk full: the lock works without this file
            (folder / HOLDER_NAME).write_text(json.dumps(_myself()), encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / HOLDER_NAME).unlink(missing_ok=True)
        lock.release()


def refuse_if_locked(folder: Path) -> None:
    """Raise the error of ``locked`` early, before images are prepared.

    Raises:
        UsageError: another process trains there.
    """
    try:
        if not (folder / LOCK_NAME).is_file():
            return
    except OSError:
        return  # the name is not possible; ``locked`` will report it
    lock = FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise _refusal(folder) from None
    except (NotImplementedError, OSError):
        return  # the same error will occur in ``locked``, which handles it
    lock.release()


def is_locked(folder: Path) -> bool:
    """Return whether a process trains in ``folder``, as far as the file system can tell."""
    try:
        refuse_if_locked(folder)
    except UsageError:
        return True
    return False


def _myself() -> dict[str, object]:
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since}


def _refusal(folder: Path) -> UsageError:
    """Return the error that names the process that holds the lock, if that can be read."""
    try:
        with (folder / HOLDER_NAME).open("rb") as file:
            holder = json.loads(file.read(_MOST_HOLDER_BYTES))
        who = f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"
    return UsageError(
        f"{who} is training in {folder}. Wait for it, stop it, or choose another --out"
    )
