"""How much memory is left, so that work which cannot fit is refused before it begins.

Linux gives memory without asking whether there is any, and ends a process that then uses it; a
refusal in time leaves the other work of the machine alone.
"""

from pathlib import Path

from gentool.core.errors import UsageError

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")  # of a container, control groups version 2


def free_memory_bytes() -> int | None:
    """Bytes that a process may still use; None on a system that does not tell."""
    known = [count for count in (_of_machine(), _of_container()) if count is not None]
    return min(known, default=None)


def _of_machine() -> int | None:
    """What Linux says is available without swapping."""
    try:
        for line in _MEMINFO.read_text(errors="replace").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _of_container() -> int | None:
    """What the limit of a container leaves; cached files that nobody reads make room at need."""
    try:
        most = int((_GROUP / "memory.max").read_text())  # the word "max" where there is no limit
        used = int((_GROUP / "memory.current").read_text())
        rows = (line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
        cached = int(dict(rows).get("inactive_file", "0"))
    except (OSError, ValueError):
        return None
    return max(0, most - used + cached)


def require_memory(needed_bytes: int, what: str) -> None:
    """See that memory for a piece of work is there.

    Args:
        needed_bytes: What it will take.
        what: Its name in the error, such as ``a sheet of 100x100 pixels``.

    Raises:
        UsageError: there is too little.
    """
    free = free_memory_bytes()
    if free is not None and needed_bytes > free:
        raise UsageError(
            f"{what} needs {needed_bytes / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} GiB "
            "are free. Write fewer images, or a folder"
        )
