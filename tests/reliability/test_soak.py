"""Long runs and many commands leak nothing: memory, open files, processes, files.

A real training of tiny steps saves and scores often, and is observed from outside through /proc.
By default it takes seconds, which shows a file or process that each save leaves open, but no slow
leak. With ``-m slow`` it takes forty minutes and a thousand commands.
"""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from forkserver import Child, ForkServer
from promises import record

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

MIB = 2**20
WARM_SHARE = 0.3  # of the looks, while allocators and caches fill up
# By default glibc keeps up to 64 MiB of freed memory, as it happens to lie, and what a process has
# then rises and falls by tens of megabytes. Given back at once, it is what the program holds.
GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@dataclass(frozen=True)
class Look:
    """What /proc says of a process: bytes of its own, open files, ended children nobody awaited.

    Pages of files, the libraries among them, are not counted: they come and go as the kernel likes.
    """

    seconds: float
    anonymous: int
    files: int
    zombies: int


def look(child: Child, began: float) -> Look:
    """Look once."""
    own = Path(f"/proc/{child.pid}")
    status = dict(line.split(":", 1) for line in (own / "status").read_text().splitlines())
    kib = sum(int(status[name].split()[0]) for name in ("RssAnon", "VmSwap"))
    children = [
        int(word)
        for task in (own / "task").iterdir()
        for word in (task / "children").read_text().split()
    ]
    states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
              for pid in children]  # fmt: skip
    return Look(
        time.monotonic() - began, kib * 1024, len(list((own / "fd").iterdir())), states.count("Z"),
    )  # fmt: skip


def soak(
    fork_server: ForkServer, data: Path, out: Path, minutes: float, pause: float
) -> list[Look]:
    """Train for so long, look after every pause, and ask to stop; without the first looks.

    The run would go on: in its last tenth an encoder learns, which needs memory of its own.
    """
    began = time.monotonic()
    child = fork_server.start(
        "train", "gan", "--data", data, "--out", out, *TINY, "--minutes", 2 * minutes,
        "--save-every", 640, "--score-every", 6400, "--keep", 2,
    )  # fmt: skip
    looks, snapshots = [], out / "snapshots"
    while time.monotonic() - began < minutes * 60 or len(list(snapshots.glob("*"))) < 2:
        time.sleep(pause)
        looks.append(look(child, began))
    child.send(signal.SIGTERM)
    done = child.wait()
    assert done.code == 75, done.err
    assert child.orphans() == []
    assert len(list(snapshots.iterdir())) == 2
    return looks[round(WARM_SHARE * len(looks)) :]


def slope(looks: list[Look]) -> float:
    """Bytes per second: the median over all pairs of looks (Theil and Sen), deaf to bursts."""
    t, y = (np.array([getattr(k, name) for k in looks]) for name in ("seconds", "anonymous"))
    a, b = np.triu_indices(len(looks), 1)
    return float(np.median((y[b] - y[a]) / (t[b] - t[a])))


def unsteady(looks: list[Look]) -> str:
    """What is left over as a run goes on: open files (saving opens some for a moment), zombies."""
    half = len(looks) // 2
    before, after = (min(k.files for k in part) for part in (looks[:half], looks[half:]))
    zombies = max(k.zombies for k in looks)
    words = f"{after} files open, {before} before" if after > before else ""
    return words + (f"{zombies} zombies" if zombies else "")


def test_a_short_run_opens_no_more_and_more_files(
    fork_server: ForkServer, image_folder: Path, tmp_path: Path
) -> None:
    looks = soak(fork_server, image_folder, tmp_path / "run", 0.15, 0.2)
    left = unsteady(looks)
    assert record("a long run keeps no file open, leaves no zombie", not left), left


@pytest.mark.slow
def test_memory_of_forty_minutes_does_not_grow(image_folder: Path, tmp_path: Path) -> None:
    with ForkServer(tmp_path, **GIVING_BACK) as fork_server:
        looks = soak(fork_server, image_folder, tmp_path / "run", 40, 5)
    left = unsteady(looks)
    assert record("a long run keeps no file open, leaves no zombie", not left), left
    per_hour = slope(looks) * 3600 / MIB
    assert record("memory of forty minutes grows by less than 1 MB/h", per_hour < 1), per_hour


def left_behind(folders: list[Path]) -> set[str]:
    """Everything in folders that commands might leave something in."""
    return {str(p) for folder in folders for p in folder.rglob("*")}


def repeat_sample(fork_server: ForkServer, model: Path, scratch: Path, times: int) -> bool:
    """Sample again and again; whether only the pictures are new."""
    temporary, out = scratch / "tmp", scratch / "out"
    temporary.mkdir()
    folders = [temporary, Path(os.environ["GENTOOL_CACHE"]), model, Path("/dev/shm")]
    before = left_behind(folders)
    for _ in range(times):
        child = fork_server.start(
            "sample", model, "-n", 2, "-o", out, "--device", "cpu", TMPDIR=str(temporary)
        )
        done = child.wait()
        assert done.code == 0, done.err
        assert child.orphans() == []
    assert len(list(out.iterdir())) == 2
    return left_behind(folders) == before


def test_samples_leave_nothing_behind(fork_server: ForkServer, gan: Path, tmp_path: Path) -> None:
    assert record("samples leave nothing behind", repeat_sample(fork_server, gan, tmp_path, 5))


@pytest.mark.slow
def test_a_thousand_samples_leave_nothing_behind(
    fork_server: ForkServer, gan: Path, tmp_path: Path
) -> None:
    assert record("samples leave nothing behind", repeat_sample(fork_server, gan, tmp_path, 1000))
