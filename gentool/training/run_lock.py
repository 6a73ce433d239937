"""One training per run folder: a lock that the kernel lets go when its holder ends.

The lock is a locked file (``filelock``), so a holder that was killed leaves nothing that has to
be recognised by age. Beside it lies who holds it, for the message to the one who comes second.
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
    """Hold the right to train in ``folder``, which is made if it is not there.

    Where the file system knows no locks, the block runs without one.

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
        with contextlib.suppress(OSError):  # a full disk; the lock holds without a name, too
            (folder / HOLDER_NAME).write_text(json.dumps(_myself()), encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / HOLDER_NAME).unlink(missing_ok=True)
        lock.release()


def refuse_if_locked(folder: Path) -> None:
    """Say early, before images are prepared, what ``locked`` would say later.

    Raises:
        UsageError: another process trains there.
    """
    try:
        if not (folder / LOCK_NAME).is_file():
            return
    except OSError:
        return  # no such name can be; ``locked`` will say so
    lock = FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise _refusal(folder) from None
    except (NotImplementedError, OSError):
        return  # ``locked`` will meet it again and decide
    lock.release()


def _myself() -> dict[str, object]:
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since}


def _refusal(folder: Path) -> UsageError:
    """Who holds the lock, as far as can be read, and what to do."""
    try:
        with (folder / HOLDER_NAME).open("rb") as file:
            holder = json.loads(file.read(_MOST_HOLDER_BYTES))
        who = f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"
    return UsageError(
        f"{folder} is being trained in by {who}. Wait for it, stop it, or choose another --out"
    )
