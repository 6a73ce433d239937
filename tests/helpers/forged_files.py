"""Forged model files: an intact file is taken apart, changed, and sealed again.

``seal`` is a second implementation of the format. It computes the checksum from its description,
so that only the content of forged files is wrong.
"""

import contextlib
import hashlib
import json
import resource
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def split(data: bytes) -> tuple[Json, bytes]:
    """The JSON table and the bytes of the tensors of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    table: Json = json.loads(data[8 : 8 + length])
    return table, data[8 + length :]


def gentool_header(table: Json) -> Json:
    """The gentool header inside a table."""
    header: Json = json.loads(table["__metadata__"]["gentool"])
    return header


def seal(table: Json, tensors: bytes) -> Json:
    """A table whose gentool header, where it has one, holds the right checksum."""
    try:
        header = gentool_header(table)
        said = {k: v for k, v in header.items() if k != "content_sha256"}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return table
    rows = {k: v for k, v in table.items() if k != "__metadata__"}
    content = json.dumps([said, rows], sort_keys=True).encode() + tensors
    sealed = {**said, "content_sha256": hashlib.sha256(content).hexdigest()}
    meta = {**table["__metadata__"], "gentool": json.dumps(sealed)}
    return {**table, "__metadata__": meta}


def join(table: bytes | Json, tensors: bytes) -> bytes:
    """A safetensors file of a table (sealed; or as raw bytes) and the bytes of the tensors."""
    words = table if isinstance(table, bytes) else json.dumps(seal(table, tensors)).encode()
    words += b" " * (-len(words) % 8)
    return struct.pack("<Q", len(words)) + words + tensors


def with_header(data: bytes, change: Callable[[Json], object]) -> bytes:
    """A file whose gentool header was changed in place by ``change``."""
    table, tensors = split(data)
    header = gentool_header(table)
    change(header)
    table["__metadata__"]["gentool"] = json.dumps(header)
    return join(table, tensors)


def with_table(data: bytes, change: Callable[[Json], object]) -> bytes:
    """A file whose table of tensors was changed in place by ``change``."""
    table, tensors = split(data)
    change(table)
    return join(table, tensors)


# --- watching what opening a file costs and touches -----------------------------------------------

# What nothing that only reads a file ever does.
_FORBIDDEN = ("import", "exec", "compile", "os.", "subprocess.", "socket.", "ctypes.", "pickle.",
              "shutil.", "marshal.", "code.", "webbrowser.", "urllib.")  # fmt: skip
_ALLOWED = {"os.scandir", "os.listdir"}


@dataclass
class Watch:
    """What happened while it was on.

    Attributes:
        allowed: The one file that may be opened.
        events: Every other file that was opened, and everything imported, run or changed.
        seconds: Of processor time, in the last ``look`` block.
    """

    allowed: Path
    events: list[str] = field(default_factory=list)
    seconds: float = 0.0
    on: bool = False

    def hook(self, event: str, details: tuple[Any, ...]) -> None:
        """Python's audit hook."""
        if not self.on:
            return
        if event == "open" and details[0] != str(self.allowed):
            self.events.append(f"open {details[0]!r:.80}")
        elif event.startswith(_FORBIDDEN) and event not in _ALLOWED:
            self.events.append(f"{event} {details!r:.80}")

    @contextlib.contextmanager
    def look(self) -> Iterator[None]:
        """Watch one opening."""
        began = time.process_time()
        self.on = True
        try:
            yield
        finally:
            self.on = False
            self.seconds = time.process_time() - began


def start_watch(allowed: Path) -> Watch:
    """A watch over this process; a hook can never be taken out, only be told to look away."""
    watch = Watch(allowed)
    sys.addaudithook(watch.hook)
    return watch


@contextlib.contextmanager
def memory_growth_below(limit_bytes: int) -> Iterator[None]:
    """Assert that the peak of this process's memory stays so near to what it holds now."""
    with contextlib.suppress(OSError):  # Linux forgets the peak so far; elsewhere it stands
        Path("/proc/self/clear_refs").write_text("5")
    before = peak_bytes()
    yield
    assert peak_bytes() - before < limit_bytes


def peak_bytes() -> int:
    """The most memory that this process has held; on Linux without that of its parent."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
