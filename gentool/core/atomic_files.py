"""Atomic writing of files: a stop or a full disk never leaves half a file.

A file is written under a temporary name in the same folder and then renamed. With ``sync`` it
also survives a power cut.
"""

import contextlib
import errno
import io
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from gentool.core.errors import Stopped, UsageError

MODEL_NAME, STATE_NAME = "model.safetensors", "state.safetensors"  # in a run folder
LOG_NAME, PREVIEWS_NAME = "log.jsonl", "samples"  # in a run folder
REPORT_NAME, FACTS_NAME = "report.html", "run.json"  # in a run folder
FACTS_START = b'{\n "made_by": "train",'  # start of the facts of a run
INTAKE_NAME = "intake.json"  # in a run folder
LOG_START = b'{"images": '  # start of every line of a log
_CHUNK_BYTES = 4 * 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk full, quota used up, file too large
_SCRATCH = re.compile(r"\.[0-9a-f]{16}\.([0-9]+)\.tmp")  # names that _scratch_name returns
_BAD_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR)


# Functions that are called after every step of a write. gentool itself adds none; they make it
# possible to cause an error or to kill the process at an exact step.
observers: list[Callable[[str, Path], None]] = []


def reached(step: str, path: Path) -> None:
    """Call all observers after a step of a write."""
    for observer in observers:
        observer(step, path)


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading without blocking, as a named pipe would block.

    Raises:
        OSError: The file cannot be opened, or it is a pipe or a device.
    """
    file = open(os.fspath(path), "rb", opener=_open_at_once)  # noqa: SIM115 - the opener
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return file


def _open_at_once(path: str, flags: int) -> int:
    """Open a file descriptor without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` when the block ends without an error.

    Args:
        path: File to replace or create; its folder must exist.
        sync: Whether the file must survive a power cut (costs a few milliseconds).

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    if path.is_symlink():  # replace the target of the link and keep the link
        path = Path(os.path.realpath(path))
    scratch = path.with_name(_scratch_name(path))
    try:
        with scratch.open("wb") as out:  # unlike tempfile, open() applies the user's umask
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
    """Return a temporary name, which is short even if the name of the result is very long."""
    import hashlib  # not at module level: --help needs none

    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    return f".{digest}.{os.getpid()}.tmp"


def put(path: Path, *parts: bytes | memoryview, sync: bool = False) -> None:
    """Write the parts of a file one after another, atomically; see ``replacing``.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    with replacing(path, sync=sync) as out:
        for part in parts:
            view = memoryview(part)
            for start in range(0, len(view), _CHUNK_BYTES):
                out.write(view[start : start + _CHUNK_BYTES])
                reached("write", path)


def append(path: Path, line: str) -> None:
    """Append a line to a file; a kill or a full disk may leave the line incomplete.

    Raises:
        OSError: The disk is full or the file cannot be written.
    """
    with path.open("a", encoding="utf-8") as out:
        out.write(line + "\n")
        reached("append to", path)


def remove_scratch(folder: Path) -> None:
    """Remove the temporary files of killed processes; those of running processes stay."""
    for scratch in scratch_files(folder):
        if writer_of(scratch) is None:
            with contextlib.suppress(OSError):
                scratch.unlink()


def scratch_files(folder: Path) -> list[Path]:
    """Return the temporary files in a folder, of killed and of running processes, sorted."""
    return sorted(f for f in folder.glob(".*.tmp") if _SCRATCH.fullmatch(f.name))


def writer_of(scratch: Path) -> int | None:
    """Return the number of the other process here that may be writing a temporary file, or None.

    None does not prove that nobody writes it: its process may be on another machine.
    """
    found = _SCRATCH.fullmatch(scratch.name)
    if found is None or os.name != "posix" or int(found[1]) in (0, os.getpid()):
        return None
    try:
        os.kill(int(found[1]), 0)  # sends nothing
    except PermissionError:  # of another user
        return int(found[1])
    except (OSError, OverflowError):
        return None
    return int(found[1])


def free_bytes(folder: Path) -> int:
    """Return the number of free bytes on the disk of a folder, which need not exist yet."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_room(folder: Path, needed: int) -> None:
    """Check that ``needed`` bytes are free on the disk of ``folder``.

    Raises:
        Stopped: Fewer bytes are free.
    """
    if free_bytes(folder) < needed:
        raise no_room("there is not enough free space", folder, needed)


def is_full(error: OSError) -> bool:
    """Return whether a write failed because the disk, quota or file size limit was reached."""
    return error.errno in _FULL


def no_room(reason: str, folder: Path, needed: int) -> Stopped:
    """Return the error for a full disk; its message gives the bytes needed and free."""
    message = (
        f"{reason} in {folder}: {needed:,} bytes are needed, {free_bytes(folder):,} are free. "
        "The last files there are complete. Free some space"
    )
    return Stopped(message, interrupted=False, wanted=False)


def _sync_folder(folder: Path) -> None:
    """Flush a folder to disk so that a rename survives a power cut; not all systems can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def is_bad_name(error: OSError) -> bool:
    """Return whether a write failed only because of the file's name; other names may work."""
    return error.errno in _BAD_NAME


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Create the folder of ``path`` and open a temporary file that replaces ``path``.

    For results of a command; see ``replacing``.

    Raises:
        UsageError: The file cannot be written.
    """
    try:
        Path(os.path.realpath(path)).parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as out:
            yield out
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a result of a command atomically, and create its folder; return the path.

    Raises:
        UsageError: The file cannot be written.
    """
    with writing(path) as out:
        out.write(data)
    return path


def require_writable(path: Path) -> None:
    """Check, before the work starts, that a file or folder can be created at ``path``.

    The check creates a temporary file in the nearest folder that exists, because permissions
    alone are not enough (the disk may be read-only).

    Raises:
        UsageError: Nothing can be written there.
    """
    import tempfile  # not at module level: --help needs none

    try:
        folder = path if path.is_dir() else Path(os.path.realpath(path)).parent
        while not os.path.lexists(folder) and folder != folder.parent:
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
