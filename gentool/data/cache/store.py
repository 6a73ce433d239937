"""Where prepared images go while a set is being made: into memory, or into files with a journal.

On disk every image has its slot from the start, so that workers write in any order. The
journal names the chunks that are done, each with its checksum: a build that was killed goes on
after the last of them.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import DataError
from gentool.core.images import Pixels
from gentool.data.cache.worker import Bad, Chunk, Slots, checksum

JOURNAL = "journal"
IMAGES = "images.u8"
_HASHES = "hashes.u64"  # a slot for every image, while building
_MOVED = 2**24  # bytes moved at once
_TAIL = 2**20  # bytes of the journal that surely hold a whole line

Dims = tuple[int, int, int]
Rows = NDArray[np.int64]


class MemoryStore:
    """All images in one array.

    Raises:
        DataError: there is not as much memory.
    """

    slots = None

    def __init__(self, total: int, dims: Dims) -> None:
        need = total * int(np.prod(dims))
        if need > _memory():
            raise DataError(
                f"{total:,} images take {need / 1e9:.1f} GB, more than the memory of this machine. "
                "Use --cache disk or --cache never"
            )
        self.pixels = np.empty((total, *dims), dtype=np.uint8)
        self.hashes = np.zeros(total, dtype=np.uint64)

    def spans(self, size: int) -> Iterator[tuple[int, int]]:
        """Chunks of ``size`` images."""
        return _spans(0, len(self.pixels), size)

    def recall(self, start: int, stop: int) -> Chunk | None:
        """Nothing: memory begins empty."""
        return None

    def accept(self, chunk: Chunk) -> None:
        """Take what a chunk brings."""
        assert chunk.pixels is not None
        assert chunk.hashes is not None
        self.pixels[chunk.start : chunk.stop] = chunk.pixels
        self.hashes[chunk.start : chunk.stop] = chunk.hashes

    def read(self, start: int, stop: int) -> Pixels:
        """The pixels of images ``start`` to ``stop``."""
        return self.pixels[start:stop]

    def keep(self, bad: Rows) -> tuple[Pixels, NDArray[np.uint64]]:
        """Pixels and hashes of all but the images ``bad`` (sorted), moved together in place."""
        total = len(self.pixels)
        for to, first, last in _runs(bad, total):
            if to == first:
                continue
            for start, stop in _spans(first, last, _MOVED // self.pixels[0].nbytes + 1):
                place = to + start - first
                self.pixels[place : place + stop - start] = self.pixels[start:stop]
        return self.pixels[: total - len(bad)], np.delete(self.hashes, bad)


class DiskStore:
    """Files in the folder of a cache entry.

    Args:
        folder: The entry; made if it is not there.
        key: What the entry depends on; another key's leavings are thrown away.
        total: Images of the source.
        dims: (H, W, C) of what is stored.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, key: str, total: int, dims: Dims) -> None:
        self.folder = folder
        self.slots = Slots(folder / IMAGES, folder / _HASHES)
        self._total, self._dims, self._size = total, dims, int(np.prod(dims))
        folder.mkdir(parents=True, exist_ok=True)
        header = {"key": key, "total": total, "dims": list(dims)}
        found = self._resume(header, total)
        self._done = found or {}
        if found is None:
            self._begin(header, total)
        self._journal = (folder / JOURNAL).open("a", encoding="utf-8")

    def _resume(self, header: dict[str, object], total: int) -> "dict[int, Chunk] | None":
        """What an earlier build left, by its first image; None if that is of no use."""
        try:
            lines = (self.folder / JOURNAL).read_text(encoding="utf-8").split("\n")
            if json.loads(lines[0]) != header:
                return None
            if self.slots.images.stat().st_size != total * self._size:
                return None
            if self.slots.hashes.stat().st_size != total * 8:
                return None
        except (OSError, ValueError):
            return None
        chunks = filter(None, map(_parsed, lines[1:-1]))  # the last may be cut short
        return {chunk.start: chunk for chunk in chunks}  # of two lines the later counts

    def _begin(self, header: dict[str, object], total: int) -> None:
        for path in self.folder.iterdir():  # new files, as others may still read the old ones
            path.unlink()
        for path, size in zip(self.slots, (total * self._size, total * 8), strict=True):
            with path.open("wb") as file:
                file.truncate(size)  # room is taken as it is written
        (self.folder / JOURNAL).write_text(json.dumps(header) + "\n", encoding="utf-8")

    def spans(self, size: int) -> Iterator[tuple[int, int]]:
        """The chunks that an earlier build has done, then more of ``size`` images."""
        start = 0
        while chunk := self._done.get(start):
            yield start, chunk.stop
            start = chunk.stop
        yield from _spans(start, self._total, size)

    def recall(self, start: int, stop: int) -> Chunk | None:
        """A chunk as an earlier build left it, or None if it must be done (again).

        That is so if its pixels do not have their checksum, or if a fault may have passed.
        """
        chunk = self._done.get(start)
        if chunk is None or chunk.stop != stop or any(bad.passing for bad in chunk.bad):
            return None
        hashes = np.frombuffer(_read_at(self.slots.hashes, start * 8, (stop - start) * 8), "u8")
        return chunk if checksum(self.read(start, stop), hashes) == chunk.crc else None

    def accept(self, chunk: Chunk) -> None:
        """Note that a chunk is done."""
        words = [chunk.start, chunk.stop, chunk.crc, chunk.bad]
        self._journal.write(json.dumps(words) + "\n")
        self._journal.flush()  # to the system, which outlives this process

    def read(self, start: int, stop: int) -> Pixels:
        """The pixels of images ``start`` to ``stop``."""
        data = _read_at(self.slots.images, start * self._size, (stop - start) * self._size)
        return np.frombuffer(data, np.uint8).reshape(stop - start, *self._dims)

    def keep(self, bad: Rows) -> NDArray[np.uint64]:
        """Move all images but ``bad`` (sorted) together in place; returns their hashes.

        A build that is killed in between begins anew: slots no longer hold what the journal says.
        """
        if len(bad):
            self._journal.close()
            (self.folder / JOURNAL).write_text("", encoding="utf-8")
            with self.slots.images.open("r+b") as file:
                for to, start, stop in _runs(bad, self._total):
                    if to != start:
                        _move(file, to * self._size, start * self._size, stop * self._size)
                file.truncate((self._total - len(bad)) * self._size)
        return np.delete(np.fromfile(self.slots.hashes, np.uint64), bad)

    def sync(self) -> None:
        """Have the pixels survive a power cut."""
        with self.slots.images.open("r+b") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def clear(self) -> None:
        """Remove what only building needs."""
        self.close()
        self.slots.hashes.unlink(missing_ok=True)
        (self.folder / JOURNAL).unlink(missing_ok=True)


def reached(folder: Path) -> int:
    """How many images the build in ``folder`` has done so far, for those who wait for it."""
    try:
        with (folder / JOURNAL).open("rb") as file:
            file.seek(-min(_TAIL, file.seek(0, os.SEEK_END)), os.SEEK_END)
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return 0
    chunks = [chunk for chunk in map(_parsed, lines[-3:-1]) if chunk]
    return chunks[-1].stop if chunks else 0


def _parsed(line: str) -> Chunk | None:
    """A line of the journal, or None if it is the header or damaged."""
    try:
        start, stop, crc, bad = json.loads(line)
        faults = tuple(Bad(int(i), str(reason), bool(passing)) for i, reason, passing in bad)
        chunk = Chunk(int(start), int(stop), int(crc), faults)
    except (ValueError, TypeError):
        return None
    return chunk if chunk.start < chunk.stop else None


def _spans(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    return ((k, min(k + size, stop)) for k in range(start, stop, size))


def _runs(bad: Rows, total: int) -> Iterator[tuple[int, int, int]]:
    """(place, start, stop) of every run of images between bad ones, and where it goes."""
    start = 0
    for number, index in enumerate([*bad.tolist(), total]):
        if start < index:
            yield start - number, start, index
        start = index + 1


def _move(file: BinaryIO, to: int, start: int, stop: int) -> None:
    """Move bytes towards the beginning of a file."""
    for here in range(start, stop, _MOVED):
        file.seek(here)
        data = file.read(min(_MOVED, stop - here))
        file.seek(to + here - start)
        file.write(data)


def _read_at(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _memory() -> float:
    """Bytes of memory of this machine; endless where it does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")
