"""Writing files so that a stop, a full disk or a power cut never leaves half of one."""

import contextlib
import errno
import hashlib
import io
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from gentool.core.errors import Stopped, UsageError

MODEL_NAME, STATE_NAME = "model.safetensors", "state.safetensors"  # in a run folder
LOG_NAME, PREVIEWS_NAME = "log.jsonl", "samples"  # there too
LOG_START = b'{"images": '  # every line of a log begins so
_CHUNK_BYTES = 4 * 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk, quota, largest file allowed
_SCRATCH = re.compile(r"\.[0-9a-f]{16}\.[0-9]+\.tmp")  # what _scratch_name gives
_BAD_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR)


# Told of every step of a write. gentool puts nothing here; tests put failures and kills.
observers: list[Callable[[str, Path], None]] = []


def reached(step: str, path: Path) -> None:
    """Say that a step of a write is done."""
    for observer in observers:
        observer(step, path)


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading, and never wait for one: opening a named pipe would.

    Raises:
        OSError: it cannot be opened, or is a pipe or a device.
    """
    file = open(os.fspath(path), "rb", opener=_open_at_once)  # noqa: SIM115 - the opener
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file


def _open_at_once(path: str, flags: int) -> int:
    """What ``open`` opens a file with, but without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = False) -> Iterator[BinaryIO]:
    """Open a new file for ``path``, which takes its place only when the block ends well.

    Args:
        path: Where the file goes; its folder must be there.
        sync: Whether it must survive a power cut (costs a few milliseconds).

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    if path.is_symlink():  # what it leads to is written, and the link stays
        path = Path(os.path.realpath(path))
    scratch = path.with_name(_scratch_name(path))
    try:
        with scratch.open("wb") as out:  # open() applies the umask, as the user expects
            reached("open", path)
            yield out
            out.flush()
            reached("flush", path)
            if sync:
                os.fsync(out.fileno())
                reached("sync", path)
        scratch.replace(path)
        reached("replace", path)
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
    if sync:
        _sync_folder(path.parent)
        reached("sync the folder of", path)


def _scratch_name(path: Path) -> str:
    """A short name for the new file, so that a long name of the result leaves room for it."""
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    return f".{digest}.{os.getpid()}.tmp"


def put(path: Path, *parts: bytes | memoryview, sync: bool = False) -> None:
    """Write a whole file, part after part, through ``replacing``.

    Raises:
        OSError: as there.
    """
    with replacing(path, sync=sync) as out:
        for part in parts:
            view = memoryview(part)
            for start in range(0, len(view), _CHUNK_BYTES):
                out.write(view[start : start + _CHUNK_BYTES])
                reached("write", path)


def append(path: Path, line: str) -> None:
    """Add a line to a file; a kill or a full disk may leave the line cut short.

    Raises:
        OSError: the disk is full or the file cannot be written.
    """
    with path.open("a", encoding="utf-8") as out:
        out.write(line + "\n")
        reached("append to", path)


def remove_scratch(folder: Path) -> None:
    """Remove what a killed process left of ``replacing``; nobody may be writing there."""
    for scratch in folder.glob(".*.tmp"):
        if _SCRATCH.fullmatch(scratch.name):
            with contextlib.suppress(OSError):
                scratch.unlink()


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written to the disk of a folder that need not be there yet."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_room(folder: Path, needed: int) -> None:
    """See that ``needed`` bytes will go on the disk of ``folder``.

    Raises:
        Stopped: they will not.
    """
    if free_bytes(folder) < needed:
        raise no_room("too little room", folder, needed)


def is_full(error: OSError) -> bool:
    """Whether a write failed for lack of room."""
    return error.errno in _FULL


def no_room(reason: str, folder: Path, needed: int) -> Stopped:
    """The error of a write that lacks room, with bytes needed and free."""
    message = (
        f"{reason} in {folder}: {needed:,} bytes needed, {free_bytes(folder):,} free. "
        "The last files there are whole. Make room"
    )
    return Stopped(message, interrupted=False, wanted=False)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can open folders."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def is_bad_name(error: OSError) -> bool:
    """Whether a write failed because of the file's name alone, so that others may succeed."""
    return error.errno in _BAD_NAME


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file for a result of a command, as ``replacing`` does; makes its folder.

    Raises:
        UsageError: the file cannot be written there.
    """
    try:
        Path(os.path.realpath(path)).parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as out:
            yield out
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a result of a command, whole or not at all; makes the folder.

    Raises:
        UsageError: the file cannot be written there.
    """
    with writing(path) as out:
        out.write(data)
    return path


def require_writable(path: Path) -> None:
    """Check, before the work, that a file or folder can be made at ``path``.

    A file is made and removed again in the nearest folder that is there, since permissions alone
    do not tell (a read-only disk, for one).

    Raises:
        UsageError: nothing can be written there.
    """
    try:
        folder = path if path.is_dir() else Path(os.path.realpath(path)).parent
        while not os.path.lexists(folder) and folder != folder.parent:
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
