"""The speed of reading images compared with plain tools, as ratios that are measured in one run.

There are three comparisons. The first preparation of a set is compared with a plain
``multiprocessing`` pool in which Pillow decodes and resizes the same files on the same cores, but
checks and stores nothing. A second start is compared with the first one. Batches for training
from the cache are compared with batches from a tensor in memory. The two sides alternate, so that
a change in the speed of the machine affects both.

    python tests/benchmarks/intake_speed.py --zip cifar10.zip --rounds 3
"""

import argparse
import gc
import io
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gentool.core.images import ImageShape, to_unit
from gentool.core.rng import data_order
from gentool.data import Dataset, Preprocessing, open_source, prepare
from gentool.data.cache.workers import cores

_CHUNK = 128


def write_jpegs(count: int, width: int, height: int) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of ``count`` JPEGs with something to compress in each."""
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = random.integers(0, 256, (max(2, height // 40), max(2, width // 40), 3))
        image = Image.fromarray(coarse.astype(np.uint8)).resize((width, height))
        noisy = np.asarray(image).astype(np.int16) + random.integers(-8, 9, (height, width, 3))
        buffer = io.BytesIO()
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        yield f"{number % 10}/{number:06d}.jpg", buffer.getvalue()


def write_zip(path: Path, count: int) -> Path:
    """A zip of ``count`` 32x32 JPEGs."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in write_jpegs(count, 32, 32):
            archive.writestr(name, data)
    return path


def write_folder(path: Path, count: int) -> Path:
    """A folder of ``count`` 1000x700 JPEGs."""
    for name, data in write_jpegs(count, 1000, 700):
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return path


# --- the bare pool ------------------------------------------------------------------------------

_archive: zipfile.ZipFile | None = None


def _open_archive(path: str) -> None:
    global _archive
    _archive = zipfile.ZipFile(path) if path else None


def _bare(work: tuple[str, int]) -> int:
    """Read, decode, crop to a square and resize one file; the pixels are dropped."""
    name, side = work
    data = _archive.read(name) if _archive else Path(name).read_bytes()
    image = Image.open(io.BytesIO(data)).convert("RGB")
    short = min(image.size)
    left, top = (image.width - short) / 2, (image.height - short) / 2
    box = (left, top, left + short, top + short)
    small = image.resize((side, side), Image.Resampling.LANCZOS, box=box)
    return int(np.asarray(small).nbytes)


def bare_pool(path: Path, side: int) -> float:
    """Seconds of a bare pool, with its start and the listing of the files."""
    began = time.perf_counter()
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith((".jpg", ".jpeg", ".png"))]
    else:
        names = [str(file) for file in sorted(path.rglob("*.jpg"))]
    archive_path = str(path) if path.is_file() else ""
    size = max(1, min(_CHUNK, len(names) // (16 * cores())))
    with multiprocessing.Pool(cores(), _open_archive, (archive_path,)) as pool:
        work = ((name, side) for name in names)
        assert sum(pool.imap_unordered(_bare, work, size)) == len(names) * side * side * 3
    return time.perf_counter() - began


# --- ours ---------------------------------------------------------------------------------------


def first_start(path: Path, side: int) -> tuple[float, float, float]:
    """Seconds to open and prepare, then both again from the cache: all, and without opening."""
    shutil.rmtree(os.environ["GENTOOL_CACHE"], ignore_errors=True)
    first, _ = _start(path, side)
    gc.collect()
    second, own = _start(path, side)
    return first, second, own


def _start(path: Path, side: int) -> tuple[float, float]:
    began = time.perf_counter()
    source = open_source(str(path))
    opened = time.perf_counter()
    prepare(source, Preprocessing(ImageShape(side, side, 3)), lambda done, total: None)
    ended = time.perf_counter()
    return ended - began, ended - opened


def compare_intake(path: Path, side: int, rounds: int) -> None:
    """Print both sides of the first start and of the second."""
    speed, again, own = [], [], []
    for number in range(rounds + 1):
        bare = bare_pool(path, side)
        first, second, second_own = first_start(path, side)
        if number == 0:  # the first turn warms the disk
            continue
        speed.append(bare / first)
        again.append(first / second)
        own.append(first / second_own)
        print(
            f"{path.name}: bare pool {bare:.2f} s, first start {first:.2f} s (ratio "
            f"{speed[-1]:.3f}), second {1000 * second:.0f} ms ({again[-1]:.0f} times faster), "
            f"without opening the source {1000 * second_own:.0f} ms"
        )
    print(
        f"{path.name}: median ratio to the bare pool {statistics.median(speed):.3f}, second start "
        f"{statistics.median(again):.0f} times faster, without opening the source "
        f"{statistics.median(own):.0f} times ({cores()} cores)"
    )


# --- batches ------------------------------------------------------------------------------------


def compare_batches(data: Dataset, rounds: int, batch: int) -> None:
    """Print the time of an epoch's batches from the cache and from a tensor in memory."""
    import torch

    tensor = torch.from_numpy(np.array(data.images))

    def from_cache(order: NDArray[np.int64]) -> torch.Tensor:
        return to_unit(torch.from_numpy(data.images[order]))

    def from_memory(order: NDArray[np.int64]) -> torch.Tensor:
        return to_unit(tensor[torch.from_numpy(order)])

    def epoch(read: Callable[[NDArray[np.int64]], torch.Tensor], seed: int) -> float:
        began = time.perf_counter()
        for start in range(0, len(data), batch):
            read(data_order(seed, start, min(batch, len(data) - start), len(data)))
        return time.perf_counter() - began

    ratios = []
    for number in range(rounds + 1):
        cached, memory = epoch(from_cache, number), epoch(from_memory, number)
        if number:
            ratios.append(cached / memory)
    print(
        f"an epoch of {len(data):,} images in batches of {batch} takes from the cache "
        f"{statistics.median(ratios):.3f} of the time from a tensor in memory"
    )


def main() -> None:
    """Make the sets, and print every ratio with its median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zip", type=Path, help="a zip of small images, else one is made")
    parser.add_argument("--small", type=int, default=50_000, help="32x32 images, if made")
    parser.add_argument("--large", type=int, default=2000, help="1000x700 images")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GENTOOL_CACHE"] = str(Path(folder) / "cache")
        small = arguments.zip or write_zip(Path(folder) / "small.zip", arguments.small)
        compare_intake(small, 32, arguments.rounds)
        data = prepare(open_source(str(small)), Preprocessing(ImageShape(32, 32, 3)))
        compare_batches(data, arguments.rounds, arguments.batch)
        if arguments.large:
            large = write_folder(Path(folder) / "large", arguments.large)
            compare_intake(large, 64, arguments.rounds)


if __name__ == "__main__":
    main()
