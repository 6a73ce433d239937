"""Preparing a run of images, in this process or in a worker process of our own.

A worker is a fresh interpreter that is told its job over stdin and answers over stdout. It
imports neither torch nor the caller's ``__main__``, writes pixels straight to their place in
the file, and ends at once when the pipe to its parent closes, however the parent died.
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

from gentool.core.errors import GentoolError
from gentool.core.images import Pixels
from gentool.data.preprocessing import BadImage, Policy
from gentool.data.sources.table import Loaded, Source

READY = "ready"


class Bad(NamedTuple):
    """An image that could not be prepared; ``passing`` if the next time may be different."""

    number: int
    reason: str
    passing: bool


class Slots(NamedTuple):
    """Two files with room for every image of the source: its pixels, and its content hash."""

    images: Path
    hashes: Path


class Chunk(NamedTuple):
    """Images ``start`` to ``stop``, prepared.

    Attributes:
        start: Number of the first.
        stop: Number after the last.
        crc: CRC-32 of their pixels and hashes, with zeros for bad ones.
        bad: Those that could not be prepared.
        pixels: uint8 (stop - start, H, W, C), or None if they are in the file.
        hashes: uint64 (stop - start,), or None likewise.
    """

    start: int
    stop: int
    crc: int
    bad: tuple[Bad, ...]
    pixels: Pixels | None = None
    hashes: NDArray[np.uint64] | None = None


@dataclass(frozen=True)
class Job:
    """What to prepare and where to put it.

    Attributes:
        source: Where the images come from.
        policy: What they become.
        dims: (H, W, C) of what is stored.
        slots: Files to write to, or None to hand the pixels back.
    """

    source: Source
    policy: Policy
    dims: tuple[int, int, int]
    slots: Slots | None

    def run(self, start: int, stop: int) -> Chunk:
        """Prepare images ``start`` to ``stop``.

        Raises:
            GentoolError: the source as a whole cannot be read.
            OSError: the pixels cannot be written.
        """
        pixels = np.zeros((stop - start, *self.dims), dtype=np.uint8)
        hashes = np.zeros(stop - start, dtype=np.uint64)
        bad = []
        for slot, index in enumerate(range(start, stop)):
            found = attempt(self.source, index, self.policy)
            if isinstance(found, Bad):
                bad.append(found)
            else:
                pixels[slot] = found.pixels
                hashes[slot] = found.content_hash
        return self._put(start, stop, pixels, hashes, tuple(bad))

    def give_up(self, index: int, reason: str) -> Chunk:
        """Image ``index`` as a bad one, without looking at it."""
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
    """CRC-32 of both, one after the other."""
    return zlib.crc32(hashes.data, zlib.crc32(np.ascontiguousarray(pixels).data))


def attempt(source: Source, index: int, policy: Policy) -> Loaded | Bad:
    """One image, or why it cannot be one.

    Raises:
        GentoolError: the source as a whole cannot be read.
    """
    try:
        return source.load(index, policy)
    except GentoolError:
        raise
    except BadImage as error:
        return Bad(index, str(error), False)
    except OSError as error:  # a file without permission, a disk or server that fails
        return Bad(index, f"cannot be read: {error.strerror or error}", True)
    except Exception as error:  # decoders raise almost anything on broken data
        words = f"{type(error).__name__}: {error}".strip().splitlines()
        return Bad(index, words[0], False)


def _write_at(path: Path, offset: int, values: NDArray[Any]) -> None:
    """Write into the middle of a file. Not by mapping it: a full disk must be an error."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(values.data)


def main() -> None:
    """Serve chunks until stdin closes."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a decoder prints must not end up among the replies
    try:
        job: Job = pickle.load(requests)
    except Exception as error:
        _send(replies, f"{type(error).__name__}: {error}")
        return
    _send(replies, READY)
    waiting: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting), daemon=True).start()
    while True:
        start, stop = waiting.get()
        try:
            _send(replies, job.run(start, stop))
        except Exception as error:
            _send(replies, error)


def _listen(requests: BinaryIO, waiting: "queue.SimpleQueue[tuple[int, int]]") -> None:
    """Pass requests on; end the process when there can be no more, even within a chunk."""
    try:
        while True:
            waiting.put(pickle.load(requests))
    except Exception:
        os._exit(0)


def _send(replies: BinaryIO, answer: object) -> None:
    pickle.dump(answer, replies, protocol=pickle.HIGHEST_PROTOCOL)
    replies.flush()
