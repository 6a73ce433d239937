"""Prepare all images of a source once, chunk by chunk.

A pool of workers (``crew``) prepares several chunks ahead. This module takes the finished chunks
in order, adds them to the fingerprint, records them in the store and checks the number of bad
files.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import DataError
from gentool.core.images import ImageShape, Pixels
from gentool.core.messages import Progress
from gentool.data.badfiles import BadFile, Tolerance
from gentool.data.cache.store import DiskStore, MemoryStore
from gentool.data.cache.worker import Chunk, Job
from gentool.data.cache.workers import Crew, ThreadCrew, WorkersFailed, cores, make_crew
from gentool.data.likeness import Likeness
from gentool.data.preprocessing import Preprocessing
from gentool.data.reading import Bad, Known, Sample
from gentool.data.remarks import Marks, Remarks, make_remarks
from gentool.data.sources.table import BuiltinSource, Source

_POLL_SECONDS = 0.1
_CHUNK_IMAGES, _CHUNK_BYTES = 256, 2**23
_CHUNKS_EACH = 16  # chunks per worker, at least, so that all workers end at about the same time
_AHEAD = 4  # chunks per worker that may be prepared before the ones before them are taken
_LABELS_AT_ONCE = 100_000


@dataclass
class Built:
    """The result of one pass over the source.

    Attributes:
        bad: Images that could not be prepared, in order.
        digest: SHA-256 over the shape and the pixels; ``fingerprint`` adds the labels.
        notes: Sentences for the user.
        marks: Counts of images to look at.
        likeness: Descriptions of the images, to find those that are nearly equal.
    """

    bad: list[Bad] = field(default_factory=list)
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    notes: list[str] = field(default_factory=list)
    marks: Marks = field(default_factory=Marks)
    likeness: Likeness = field(default_factory=Likeness)

    @property
    def bad_rows(self) -> NDArray[np.int64]:
        """Row numbers of the bad images, int64, sorted."""
        return np.array([bad.number for bad in self.bad], dtype=np.int64)

    def fingerprint(self, classes: tuple[str, ...], labels: NDArray[np.int64] | None) -> str:
        """Return the SHA-256 of shape, pixels and labels, which is the same on every machine."""
        digest = self.digest.copy()
        update_with_labels(digest, classes, labels)
        return digest.hexdigest()

    def remarks(self, source: Source, hashes: NDArray[np.uint64]) -> Remarks:
        """Return what to look at, given the content hashes of the images that are not bad."""
        return make_remarks(self.marks, self.likeness, hashes, self.bad_rows, source.describe)


def dims_of(shape: ImageShape) -> tuple[int, int, int]:
    """Return (H, W, C)."""
    return shape.height, shape.width, shape.channels


def build(
    sample: Sample,
    preprocessing: Preprocessing,
    store: DiskStore | MemoryStore,
    tolerance: Tolerance,
    progress: Progress,
) -> Built:
    """Prepare every image of a source into ``store``.

    Args:
        sample: A sample of the source; images that it has opened are not opened again.
        preprocessing: How the images are prepared.
        store: Where the pixels are written; chunks that it already has are not prepared again.
        tolerance: How many images may be bad.
        progress: Called with (done, total) several times a second; may raise to stop.

    Returns:
        The bad images, the hash of the pixels, and the notes.

    Raises:
        DataError: there are too many bad files, or no image is good.
        OSError: the store cannot be written.
    """
    source, shape = sample.source, preprocessing.stored_shape
    known = partial(sample.known, preprocessing)
    job = Job(source, preprocessing, dims_of(shape), store.slots)
    built, total = Built(), len(source)
    built.digest.update(str(shape).encode())
    names: list[BadFile] = []
    drawn = isinstance(source, BuiltinSource)  # such images are alike by design
    in_order = _in_order(job, known, store, built.notes, progress)
    with closing(in_order) as chunks:  # which also ends the workers
        for chunk in chunks:
            built.bad += chunk.bad
            names += [(source.describe(bad.number), bad.reason) for bad in chunk.bad]
            tolerance.check(names, chunk.stop, total)
            built.marks = built.marks.plus(chunk.marks)
            _take_pixels(built, store.read(chunk.start, chunk.stop), chunk, drawn=drawn)
    if len(built.bad) == total:
        path, reason = names[0]
        raise DataError(f"none of the {total:,} images can be read; the first: {path}: {reason}")
    progress(total, total)
    return built


def _take_pixels(built: Built, pixels: Pixels, chunk: Chunk, *, drawn: bool) -> None:
    """Add the good images of a chunk to the hash, and to what is compared unless they are drawn."""
    numbers = np.arange(chunk.start, chunk.stop)
    if chunk.bad:
        bad = [bad.number - chunk.start for bad in chunk.bad]
        pixels, numbers = np.delete(pixels, bad, axis=0), np.delete(numbers, bad)
    built.digest.update(np.ascontiguousarray(pixels).data)
    if not drawn:
        built.likeness.add(pixels, numbers)


def update_with_labels(
    digest: "hashlib._Hash", classes: tuple[str, ...], labels: NDArray[np.int64] | None
) -> None:
    """Add classes and labels to a fingerprint as JSON, in pieces to save memory."""
    if labels is None:
        digest.update(json.dumps([classes, None]).encode())
        return
    digest.update(f"[{json.dumps(classes)}, [".encode())
    for start in range(0, len(labels), _LABELS_AT_ONCE):
        piece = json.dumps(labels[start : start + _LABELS_AT_ONCE].tolist())
        digest.update((", " if start else "").encode() + piece[1:-1].encode())
    digest.update(b"]]")


def _in_order(
    job: Job,
    known: Callable[[int, int], Known],
    store: DiskStore | MemoryStore,
    notes: list[str],
    progress: Progress,
) -> Generator[Chunk, None, None]:
    """Yield all chunks in order, prepared by worker processes or, if these fail, by threads."""
    total = len(job.source)
    start = 0
    try:
        crew = make_crew(job, total)
        spans = store.spans(_chunk_size(total, job.dims, crew.size))
        with closing(_by_crew(crew, known, spans, store, progress, total)) as chunks:
            for chunk in chunks:
                yield chunk
                start = chunk.stop
    except WorkersFailed as error:
        notes.append(f"images were prepared in threads, because worker processes failed ({error})")
        crew = ThreadCrew(job, cores())
        size = _chunk_size(total, job.dims, crew.size)
        spans = ((k, min(k + size, total)) for k in range(start, total, size))
        yield from _by_crew(crew, known, spans, store, progress, total)


def _by_crew(
    crew: Crew,
    known: Callable[[int, int], Known],
    spans: Iterator[tuple[int, int]],
    store: DiskStore | MemoryStore,
    progress: Progress,
    total: int,
) -> Generator[Chunk, None, None]:
    """Yield the chunks of ``spans`` in order, from the store or from the workers in ``crew``.

    The workers prepare a few chunks ahead.
    """
    ahead: deque[Chunk | Future[list[Chunk]]] = deque()
    done = 0
    try:
        while True:
            while len(ahead) < _AHEAD * crew.size and (span := next(spans, None)):
                ahead.append(store.recall(*span) or crew.submit(*span, known(*span)))
            if not ahead:
                return
            progress(done, total)
            head = ahead.popleft()
            if isinstance(head, Chunk):
                yield head
                done = head.stop
                continue
            while not wait([head], _POLL_SECONDS).done:
                progress(done, total)
            for chunk in head.result():
                store.accept(chunk)
                yield chunk
                done = chunk.stop
    finally:
        crew.close()


def _chunk_size(total: int, dims: tuple[int, int, int], crew: int) -> int:
    """Return the number of images in a chunk.

    Chunks are small enough for memory and for all workers to end at about the same time.
    """
    by_bytes = _CHUNK_BYTES // int(np.prod(dims))
    return max(1, min(_CHUNK_IMAGES, by_bytes, total // (_CHUNKS_EACH * crew)))
