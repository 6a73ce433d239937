"""Where images are written during a build: into memory, or into files with a journal.

On disk every image has a fixed place from the start, so that workers may write in any order. The
journal lists the finished chunks with their checksums. A build that was killed continues after
the last of them.
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
from gentool.data.cache.worker import Chunk, Slots, checksum
from gentool.data.reading import Bad
from gentool.data.remarks import Marks

JOURNAL = "journal"
IMAGES = "images.u8"
_HASHES = "hashes.u64"  # content hash of every image, while building
MOVED_AT_ONCE = 2**24  # bytes moved at once
_TAIL = 2**20  # bytes at the end of the journal: enough to contain a whole line

Dims = tuple[int, int, int]
Rows = NDArray[np.int64]


class MemoryStore:
    """All images in one array in memory.

    Attributes:
        pixels: uint8 (N, H, W, C).
        hashes: uint64 (N,).

    Raises:
        DataError: the machine does not have enough memory.
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
        """Return the (start, stop) of chunks of ``size`` images."""
        return _spans(0, len(self.pixels), size)

    def recall(self, start: int, stop: int) -> Chunk | None:
        """Return None: nothing is kept from an earlier build."""
        return None

    def accept(self, chunk: Chunk) -> None:
        """Copy the pixels and hashes of a chunk."""
        assert chunk.pixels is not None
        assert chunk.hashes is not None
        self.pixels[chunk.start : chunk.stop] = chunk.pixels
        self.hashes[chunk.start : chunk.stop] = chunk.hashes

    def read(self, start: int, stop: int) -> Pixels:
        """Return the pixels of images ``start`` to ``stop`` (exclusive), uint8 (B, H, W, C)."""
        return self.pixels[start:stop]

    def keep(self, bad: Rows) -> tuple[Pixels, NDArray[np.uint64]]:
        """Return pixels and hashes without the images ``bad`` (sorted); pixels move up in place."""
        total = len(self.pixels)
        for to, first, last in _runs(bad, total):
            if to == first:
                continue
            for start, stop in _spans(first, last, MOVED_AT_ONCE // self.pixels[0].nbytes + 1):
                place = to + start - first
                self.pixels[place : place + stop - start] = self.pixels[start:stop]
        return self.pixels[: total - len(bad)], np.delete(self.hashes, bad)


class DiskStore:
    """Files in the folder of a cache entry.

    Args:
        folder: Folder of the entry; created if missing.
        key: What the entry depends on; files left by a build with another key are deleted.
        total: Number of images in the source.
        dims: (H, W, C) of the stored images.

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
        """Return the chunks of an earlier build by their first image, or None if unusable."""
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
        chunks = filter(None, map(_parsed, lines[1:-1]))  # the last line may be cut short
        return {chunk.start: chunk for chunk in chunks}  # of two lines the later one counts

    def _begin(self, header: dict[str, object], total: int) -> None:
        for path in self.folder.iterdir():  # files are made new: others may still read the old ones
            path.unlink()
        for path, size in zip(self.slots, (total * self._size, total * 8), strict=True):
            with path.open("wb") as file:
                file.truncate(size)  # the file is sparse: writing takes the disk space
        (self.folder / JOURNAL).write_text(json.dumps(header) + "\n", encoding="utf-8")

    def spans(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield the finished chunks of an earlier build, then further ones of ``size`` images."""
        start = 0
        while chunk := self._done.get(start):
            yield start, chunk.stop
            start = chunk.stop
        yield from _spans(start, self._total, size)

    def recall(self, start: int, stop: int) -> Chunk | None:
        """Return a chunk of an earlier build, or None if it must be prepared (again).

        It must be prepared again if its checksum is wrong or if it has a temporary fault.
        """
        chunk = self._done.get(start)
        if chunk is None or chunk.stop != stop or any(bad.passing for bad in chunk.bad):
            return None
        hashes = np.frombuffer(_read_at(self.slots.hashes, start * 8, (stop - start) * 8), "u8")
        return chunk if checksum(self.read(start, stop), hashes) == chunk.crc else None

    def accept(self, chunk: Chunk) -> None:
        """Record in the journal that a chunk is finished."""
        words = [chunk.start, chunk.stop, chunk.crc, chunk.bad, chunk.marks]
        self._journal.write(json.dumps(words) + "\n")
        self._journal.flush()  # to the operating system: survives the end of this process

    def read(self, start: int, stop: int) -> Pixels:
        """Return the pixels of images ``start`` to ``stop`` (exclusive), uint8 (B, H, W, C)."""
        data = _read_at(self.slots.images, start * self._size, (stop - start) * self._size)
        return np.frombuffer(data, np.uint8).reshape(stop - start, *self._dims)

    def keep(self, bad: Rows) -> NDArray[np.uint64]:
        """Remove the images ``bad`` (sorted) from the file of pixels.

        Pixels move up in place, and no longer match the journal. So the journal is emptied first,
        and a build that is killed meanwhile starts again from the beginning.

        Returns:
            The hashes of the remaining images, uint64.
        """
        if len(bad):
            self._journal.close()
            (self.folder / JOURNAL).write_text("", encoding="utf-8")
            with self.slots.images.open("r+b") as file:
                for to, start, stop in _runs(bad, self._total):
                    if to != start:
                        move_bytes(file, to * self._size, start * self._size, stop * self._size)
                file.truncate((self._total - len(bad)) * self._size)
        return np.delete(np.fromfile(self.slots.hashes, np.uint64), bad)

    def sync(self) -> None:
        """Flush the pixels to the disk, so that they survive a power cut."""
        with self.slots.images.open("r+b") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def clear(self) -> None:
        """Remove the files that only a build needs."""
        self.close()
        self.slots.hashes.unlink(missing_ok=True)
        (self.folder / JOURNAL).unlink(missing_ok=True)


def reached(folder: Path) -> int:
    """Return how many images the build in ``folder`` has finished so far, for waiting processes."""
    try:
        with (folder / JOURNAL).open("rb") as file:
            file.seek(-min(_TAIL, file.seek(0, os.SEEK_END)), os.SEEK_END)
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return 0
    chunks = [chunk for chunk in map(_parsed, lines[-3:-1]) if chunk]
    return chunks[-1].stop if chunks else 0


def _parsed(line: str) -> Chunk | None:
    """Return the chunk of a line of the journal, or None for the header or a damaged line."""
    try:
        start, stop, crc, bad, marks = json.loads(line)
        faults = tuple(Bad(int(i), str(reason), bool(passing)) for i, reason, passing in bad)
        counts = Marks(*(int(count) for count in marks))
        chunk = Chunk(int(start), int(stop), int(crc), faults, marks=counts)
    except (ValueError, TypeError):
        return None
    return chunk if chunk.start < chunk.stop else None


def _spans(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    return ((k, min(k + size, stop)) for k in range(start, stop, size))


def _runs(bad: Rows, total: int) -> Iterator[tuple[int, int, int]]:
    """Yield (place, start, stop) for every run of good images: where it moves to, and its range."""
    start = 0
    for number, index in enumerate([*bad.tolist(), total]):
        if start < index:
            yield start - number, start, index
        start = index + 1


def move_bytes(file: BinaryIO, to: int, start: int, stop: int) -> None:
    """Move the bytes ``start`` to ``stop`` (exclusive) of a file to the lower offset ``to``."""
    for here in range(start, stop, MOVED_AT_ONCE):
        file.seek(here)
        data = file.read(min(MOVED_AT_ONCE, stop - here))
        file.seek(to + here - start)
        file.write(data)


def _read_at(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _memory() -> float:
    """Return the bytes of memory of this machine; infinity if the system does not report it."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")
