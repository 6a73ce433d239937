"""The report of ``gentool doctor``: versions, device, precisions, memory, disk, cache, self-check.

It is meant for bug reports. Nothing is sent or downloaded: the module only reads this machine and
computes on it. Folders inside the home folder are shown with ``~``, and of environment variables
named ``GENTOOL_...`` only the names are shown, so that the report can be published.
"""

import contextlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from gentool.core.atomic_files import replacing
from gentool.core.devices import select_precision
from gentool.data.paths import cache_folder
from gentool.diagnostics.device_check import TOLERANCE, compare_networks, try_precisions

_PACKAGES = ("torch", "torchvision", "numpy", "pillow", "safetensors", "typer", "rich", "filelock")
_EXTRAS = ("torch-fidelity", "huggingface-hub", "datasets", "litdata")
_GIB = 2**30
_LITTLE_SHARED = 64 * 2**20  # bytes; the default size of /dev/shm in a container
_LITTLE_DISK = _GIB

OK, WARNING, PROBLEM = "ok", "warning", "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        topic: Section of the report, such as ``versions``.
        name: What was examined, such as ``python``.
        value: Text of the result.
        verdict: ``ok``, ``warning`` (it works, with a limit) or ``problem``.
    """

    topic: str
    name: str
    value: str
    verdict: str = OK


def examine(device: torch.device, poll: Callable[[], None], out: Path) -> list[Finding]:
    """Examine everything; return the findings in the order of the report.

    Args:
        device: Device under test.
        poll: Called after each network of the self-check; may raise to stop.
        out: Folder for runs, which is checked for free space and writing.
    """
    found = [*_versions(), *_device(device), *_precisions(device), *_memory(), *_folders(out)]
    for comparison in compare_networks(device):
        poll()
        verdict = OK if comparison.right else PROBLEM
        value = comparison.problem or f"largest error {comparison.error:.1e}"
        if verdict == PROBLEM and not comparison.problem:
            value += f" (allowed {TOLERANCE:g}), {comparison.worst}"
        found.append(Finding("self-check", comparison.name, value, verdict))
    return found


def _versions() -> list[Finding]:
    def version(package: str) -> str:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(package)
        return ""

    found = [
        Finding(
            "versions", "gentool", version("gentool") or "not installed, runs from a source folder"
        ),
        Finding("versions", "python", f"{platform.python_version()} ({sys.implementation.name})"),
        Finding("versions", "system", platform.platform()),
    ]
    for package in _PACKAGES:
        here = version(package)
        verdict = OK if here else PROBLEM
        found.append(Finding("versions", package, here or "missing", verdict))
    found += [Finding("versions", p, version(p)) for p in _EXTRAS if version(p)]
    names = sorted(name for name in os.environ if name.startswith("GENTOOL_"))
    found.append(Finding("versions", "variables set", ", ".join(names) or "none"))
    return found


def _device(device: torch.device) -> list[Finding]:
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, OMP_NUM_THREADS {threads}"
    found = [
        Finding("device", "under test", str(device)),
        Finding("device", "processor", f"{_processor()}, {cores}"),
        Finding("device", "vector instructions", torch.backends.cpu.get_cpu_capability()),
    ]
    if not torch.cuda.is_available():
        found.append(Finding("device", "cuda", f"none (torch was built for {torch.version.cuda})"))
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        value = (
            f"{about.name}, {_gib(free)} of {_gib(total)} free, capability "
            f"{about.major}.{about.minor}, CUDA {torch.version.cuda}, "
            f"cuDNN {cudnn}"
        )
        found.append(Finding("device", f"cuda:{number}", value))
    found.append(Finding("device", "mps", "yes" if torch.backends.mps.is_available() else "none"))
    return found


def _processor() -> str:
    """Return the name of the processor from Linux, or what Python's ``platform`` reports."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _precisions(device: torch.device) -> list[Finding]:
    chosen = str(select_precision(device)).removeprefix("torch.")
    found = [Finding("precision", "auto chooses", chosen)]
    for name, fault in try_precisions(device).items():
        missed = PROBLEM if name in ("float32", chosen) else WARNING
        found.append(Finding("precision", name, fault or "works", missed if fault else OK))
    return found


def _memory() -> list[Finding]:
    found = []
    with contextlib.suppress(ValueError, OSError, AttributeError):  # not all systems have sysconf
        page = os.sysconf("SC_PAGE_SIZE")
        free, total = (os.sysconf(n) * page for n in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
        found.append(Finding("memory", "main", f"{_gib(free)} of {_gib(total)} free"))
    shared = Path("/dev/shm")
    if shared.is_dir():
        room = shutil.disk_usage(shared)
        verdict = WARNING if room.free <= _LITTLE_SHARED else OK
        more = "; 'docker run --shm-size 1g' gives more" if verdict == WARNING else ""
        value = f"{_gib(room.free)} of {_gib(room.total)} free{more}"
        found.append(Finding("memory", "shared", value, verdict))
    return found


def _folders(out: Path) -> list[Finding]:
    found = [_folder("disk", "runs", out)]
    try:
        found.append(_folder("disk", "temporary files", Path(tempfile.gettempdir())))
    except OSError as error:  # gettempdir found no folder that can be written
        found.append(Finding("disk", "temporary files", error.strerror or str(error), PROBLEM))
    found.append(_folder("cache", "folder", cache_folder()))
    return found


def _folder(topic: str, name: str, folder: Path) -> Finding:
    """Check the free space of a folder, and whether a file can be written there.

    If the folder does not exist, the nearest folder above it is checked.
    """
    shown = _without_home(folder)
    above = folder.absolute()
    while not above.exists():
        above = above.parent
    try:
        free = shutil.disk_usage(above).free
        with replacing(above / f"gentool-doctor-{os.getpid()}", sync=True) as file:
            file.write(b"gentool doctor")
        (above / f"gentool-doctor-{os.getpid()}").unlink()
    except OSError as error:
        return Finding(topic, name, f"{shown}: {error.strerror or error}", PROBLEM)
    little = free < _LITTLE_DISK
    return Finding(topic, name, f"{shown}, {_gib(free)} free", WARNING if little else OK)


def _without_home(folder: Path) -> str:
    with contextlib.suppress(RuntimeError, ValueError):
        return str(Path("~") / folder.absolute().relative_to(Path.home()))
    return str(folder.absolute())


def _gib(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"
