"""The cost of ten million images before one is read: memory per image, and seconds to start.

Makes the index of a folder of 10,000 class folders with 1,000 names each (the folders are real,
the files do not exist, because a valid index does not inspect them) and of an archive with as
many members. Opens each index in its own process, and shuffles the positions. Asserts nothing,
and prints the results. It takes about two minutes and 500 MB of disk, which are freed at the end.

    python tests/benchmarks/index_scale.py [COUNT]
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gentool.data.badfiles import MAX_BAD
from gentool.data.sources.archive import place_of_index
from gentool.data.sources.folder import TRUSTED_ABOVE, place_in
from gentool.data.sources.index import Index, Names
from gentool.data.sources.labels import FROM_FOLDERS, by_folder

FOLDERS = 10_000

OPEN = """
import os, sys, time

def resident(kind):
    for line in open("/proc/self/smaps_rollup"):
        if line.startswith(kind):
            return int(line.split()[1]) * 1024

from gentool.data.sources.table import ArchiveSource, FolderSource
from pathlib import Path
import numpy as np, pickle
before, began = resident("Rss:"), time.perf_counter()
source = (FolderSource if sys.argv[1] == "folder" else ArchiveSource)(Path(sys.argv[2]))
seconds = time.perf_counter() - began
opened = resident("Rss:")
count = len(source)
names = [source.paths[int(k)] for k in np.random.default_rng(0).integers(0, count, 1000)]
total = int(source.labels.sum()) + sum(
    int(column.astype(np.uint64).sum()) for column in source.index.columns.values())
assert sum(map(len, source.index.names.raws())) > count
touched = resident("Rss:")
print(f"{sys.argv[1]}: {count:,} images open in {seconds:.2f} s; in memory "
      f"{(opened - before) / count:.1f} bytes an image then, {(touched - before) / count:.1f} when "
      f"every byte of the index has been touched; pickled {len(pickle.dumps(source))} bytes")
"""


def names(count: int) -> Iterator[bytes]:
    """Sorted names, as of photographs in class folders."""
    for k in range(count):
        folder, number = divmod(k, count // FOLDERS)
        yield b"class_%05d/photograph_%08d.jpg" % (folder, number)


def build(folder: Path, archive: Path, count: int) -> None:
    """The two indexes, where the sources look for them."""
    began = time.perf_counter()
    coded = Names.of(names(count))
    found = by_folder(coded)
    assert found is not None
    print(f"index made in {time.perf_counter() - began:.0f} s")
    tops = [b"", *(b"class_%05d/" % k for k in range(FOLDERS))]
    for top in tops:
        (folder / os.fsdecode(top)).mkdir()
    times = [(folder / os.fsdecode(top)).stat().st_mtime_ns for top in tops]
    inside = Names.of(tops)
    columns: dict[str, NDArray[Any]] = {"folders": inside.buffer, "folder starts": inside.starts,
               "folder times": np.array(times), "label root": np.empty(0, np.uint8),
               "label key": np.frombuffer(FROM_FOLDERS.encode(), np.uint8)}  # fmt: skip
    index = Index(coded, found.labels, found.classes, "synthetic", columns)
    index.save(place_in(folder, None, MAX_BAD))
    archive.write_bytes(bytes(1024))
    columns = {
        "offset": np.arange(count, dtype=np.uint64) * 100_000,
        "stored": np.full(count, 99_000, np.uint32),
        "size": np.full(count, 99_500, np.uint32),
        "crc": np.arange(count, dtype=np.uint32),
        "method": np.full(count, 8, np.uint8),
        "time": np.zeros(count, np.int64),
    }
    index = Index(coded, found.labels, found.classes, "synthetic", columns)
    index.save(place_of_index(archive, ""))


def shuffle(count: int) -> None:
    """One epoch of positions through the keyed permutation, a batch at a time."""
    from gentool.core.rng import data_order

    batch, began, seen = 2**16, time.perf_counter(), np.zeros(count, dtype=bool)
    for start in range(0, count, batch):
        seen[data_order(0, start, min(batch, count - start), count)] = True
    seconds = time.perf_counter() - began
    assert seen.all()
    print(f"shuffled: every image once, {count / seconds / 1e6:.1f} million positions a second")


def main() -> None:
    """Build, then open each in a process of its own."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    if count <= TRUSTED_ABOVE or count % FOLDERS:
        sys.exit(f"COUNT is a multiple of {FOLDERS:,} above {TRUSTED_ABOVE:,}")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GENTOOL_CACHE"] = str(Path(scratch) / "cache")
        folder, archive = Path(scratch) / "photographs", Path(scratch) / "photographs.tar"
        build(folder, archive, count)
        for kind, path in (("folder", folder), ("archive", archive)):
            for _ in range(2):  # the second from what the system has kept of the file
                subprocess.run([sys.executable, "-c", OPEN, kind, str(path)], check=True)
        shuffle(count)


if __name__ == "__main__":
    main()
