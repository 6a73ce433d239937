"""Prepare a chunk of images, in this process or in a worker process.

A worker process is a new interpreter that receives its job over stdin and replies over stdout.
It imports neither torch nor the caller's ``__main__``. It writes pixels directly to their place
in the file. When the pipe to its parent closes, for whatever reason, it exits at once.
"""

import os
import pickle
import queue
import sys
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gentool.core.images import Pixels
from gentool.data.preprocessing import Preprocessing
from gentool.data.reading import Bad, Known, attempt
from gentool.data.remarks import Marks, is_far_smaller, marks_of
from gentool.data.sources.table import Loaded, Source

READY = "ready"


class Slots(NamedTuple):
    """Two files with a fixed place for every image of the source: for pixels and content hashes."""

    images: Path
    hashes: Path


class Chunk(NamedTuple):
    """The prepared images ``start`` to ``stop`` (exclusive).

    Attributes:
        start: Number of the first image.
        stop: Number after the last image.
        crc: CRC-32 of the pixels and hashes, which are zero for bad images.
        bad: Images that could not be prepared.
        pixels: uint8 (stop - start, H, W, C), or None if they were written to the file.
        hashes: uint64 (stop - start,), or None if they were written to the file.
        marks: Counts of images to look at.
    """

    start: int
    stop: int
    crc: int
    bad: tuple[Bad, ...]
    pixels: Pixels | None = None
    hashes: NDArray[np.uint64] | None = None
    marks: Marks = Marks()


@dataclass(frozen=True)
class Job:
    """What to prepare and where to put it.

    Attributes:
        source: Where the images come from.
        preprocessing: How the images are prepared.
        dims: (H, W, C) of the stored images.
        slots: Files to write to, or None to return the pixels.
    """

    source: Source
    preprocessing: Preprocessing
    dims: tuple[int, int, int]
    slots: Slots | None

    def run(self, start: int, stop: int, known: Known) -> Chunk:
        """Prepare images ``start`` to ``stop`` (exclusive), except those that are ``known``.

        Raises:
            GentoolError: the source as a whole cannot be read.
            OSError: the pixels cannot be written.
        """
        pixels = np.zeros((stop - start, *self.dims), dtype=np.uint8)
        hashes = np.zeros(stop - start, dtype=np.uint64)
        bad: list[Bad] = []
        marks = Marks()
        for slot, index in enumerate(range(start, stop)):
            found = known[index] if index in known else attempt(self._load, index)
            if isinstance(found, Bad):
                bad.append(found)
            else:
                pixels[slot] = found.pixels
                hashes[slot] = found.content_hash
                marks = marks.plus(self._marks(index, found))
        return self._put(start, stop, pixels, hashes, tuple(bad))._replace(marks=marks)

    def _marks(self, index: int, loaded: Loaded) -> Marks:
        """Return the marks of one image."""
        told = loaded.described
        return marks_of(
            index,
            small=told is not None and is_far_smaller(told.size, self.preprocessing.shape),
            film=told is not None and told.has_frames,
            unsuited=loaded.unsuited,
        )

    def _load(self, index: int) -> Loaded:
        return self.source.load(index, self.preprocessing)

    def give_up(self, index: int, reason: str) -> Chunk:
        """Return a chunk that reports image ``index`` as bad, without reading it."""
        pixels, hashes = np.zeros((1, *self.dims), dtype=np.uint8), np.zeros(1, dtype=np.uint64)
        return self._put(index, index + 1, pixels, hashes, (Bad(index, reason, False),))

    def _put(
        self,
        start: int,
        stop: int,
        pixels: Pixels,
        hashes: NDArray[np.uint64],
        bad: tuple[Bad, ...],
    ) -> Chunk:
        crc = checksum(pixels, hashes)
        if self.slots is None:
            return Chunk(start, stop, crc, bad, pixels, hashes)
        _write_at(self.slots.images, start * pixels[0].nbytes, pixels)
        _write_at(self.slots.hashes, start * hashes.itemsize, hashes)
        return Chunk(start, stop, crc, bad)


def checksum(pixels: Pixels, hashes: NDArray[np.uint64]) -> int:
    """Return the CRC-32 of the pixels followed by the hashes."""
    return zlib.crc32(hashes.data, zlib.crc32(np.ascontiguousarray(pixels).data))


def _write_at(path: Path, offset: int, values: NDArray[Any]) -> None:
    """Write ``values`` at ``offset`` in a file.

    The file is not memory-mapped, so that a full disk raises an error.
    """
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(values.data)


def main() -> None:
    """Prepare chunks on request until stdin closes."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints goes to stderr, not among the replies
    try:
        job: Job = pickle.load(requests)
    except Exception as error:
        _send(replies, f"{type(error).__name__}: {error}")
        return
    _send(replies, READY)
    waiting: queue.SimpleQueue[tuple[int, int, Known]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting), daemon=True).start()
    while True:
        start, stop, known = waiting.get()
        try:
            _send(replies, job.run(start, stop, known))
        except Exception as error:
            _send(replies, error)


def _listen(requests: BinaryIO, waiting: "queue.SimpleQueue[tuple[int, int, Known]]") -> None:
    """Put requests into the queue; end the process when stdin closes, even during a chunk."""
    try:
        while True:
            waiting.put(pickle.load(requests))
    except Exception:
        os._exit(0)


def _send(replies: BinaryIO, answer: object) -> None:
    pickle.dump(answer, replies, protocol=pickle.HIGHEST_PROTOCOL)
    replies.flush()
