"""Checks of the free memory, so that work which does not fit is refused before it starts.

Linux may grant more memory than exists, and kills a process that then uses it. An error before
the work starts does not disturb other processes on the machine. Training that runs out of memory is
handled by ``training.accumulation``.
"""

from pathlib import Path

from gentool.core.errors import UsageError

MEMINFO = Path("/proc/meminfo")
CONTROL_GROUP = Path("/sys/fs/cgroup")  # control groups version 2: the memory limit of a container


def free_memory_bytes() -> int | None:
    """Return how many bytes a process may still use; None where the system does not report it."""
    known = [count for count in (_of_machine(), _of_container()) if count is not None]
    return min(known, default=None)


def _of_machine() -> int | None:
    """Return the bytes that Linux reports as available without swapping, or None."""
    try:
        for line in MEMINFO.read_text(errors="replace").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _of_container() -> int | None:
    """Return the bytes left below the memory limit of a container; None without a limit.

    Inactive cached files count as free, because the kernel can drop them.
    """
    try:
        most = int((CONTROL_GROUP / "memory.max").read_text())  # ValueError: "max" means no limit
        used = int((CONTROL_GROUP / "memory.current").read_text())
        rows = (line.split() for line in (CONTROL_GROUP / "memory.stat").read_text().splitlines())
        cached = int(dict(rows).get("inactive_file", "0"))
    except (OSError, ValueError):
        return None
    return max(0, most - used + cached)


def require_memory(
    needed_bytes: int, what: str, instead: str = "Write fewer images, or write them into a folder"
) -> None:
    """Check that there is enough free memory for the work.

    Args:
        needed_bytes: Bytes that the work will need.
        what: Name of the work in the error, such as ``a sheet of 100x100 pixels``.
        instead: What the user can do, in the error.

    Raises:
        UsageError: There is too little memory.
    """
    free = free_memory_bytes()
    if free is not None and needed_bytes > free:
        raise UsageError(
            f"{what} needs {needed_bytes / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} GiB "
            f"are free. {instead}"
        )
