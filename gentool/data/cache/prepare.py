"""The cache of prepared images: every image is prepared once, for all runs on this machine.

``prepare`` takes the images from the cache if they are there. Otherwise it builds the entry,
keeps the images in memory, or streams them. The name of an entry is a hash of what it depends
on: the fingerprint of the source and the preprocessing; ``matching`` tells whether the images are
still those of the source.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import DataError, UsageError
from gentool.core.messages import Progress
from gentool.data.badfiles import MAX_BAD, Tolerance, with_own
from gentool.data.cache.build import Built, build, dims_of
from gentool.data.cache.entry import META, Opened, finish, kept_labels, mark_used, open_entry
from gentool.data.cache.locks import building
from gentool.data.cache.matching import knows, matches, remember
from gentool.data.cache.pruning import cache_limit, prune, size_of
from gentool.data.cache.store import DiskStore, MemoryStore, reached
from gentool.data.cache.streaming import StreamedImages, Window
from gentool.data.dataset import Dataset
from gentool.data.empty_classes import without_empty_classes
from gentool.data.paths import cache_folder
from gentool.data.preprocessing import Preprocessing
from gentool.data.reading import Sample, attempt
from gentool.data.sources.table import Loaded, Source

CacheMode = Literal["auto", "disk", "ram", "never"]
CACHE_MODES: tuple[CacheMode, ...] = get_args(CacheMode)
_SPARE = 2**26  # bytes of the disk that must stay free beside a new entry
_NONE = np.empty(0, dtype=np.int64)
_TRIED_AGAIN = 16  # files with a temporary fault that are tried again when an entry is opened


def prepare(
    source: Source,
    preprocessing: Preprocessing,
    progress: Progress | None = None,
    *,
    cache: CacheMode = "auto",
    max_bad: float = MAX_BAD,
    strict: bool = False,
    sample: Sample | None = None,
) -> Dataset:
    """Return the prepared images of ``source``.

    Args:
        source: Where the images come from.
        preprocessing: How the images are prepared.
        progress: Called with (done, total) several times a second; may raise to stop. The images
            prepared so far stay on disk, and the next call continues after them.
        cache: ``disk`` keeps the images in the cache folder; ``ram`` keeps them in the memory of
            this process; ``never`` decodes each image whenever it is read; ``auto`` is ``disk``
            if they fit, else ``never`` with a note.
        max_bad: Fraction of the images that may be bad, 0 to 1.
        strict: Whether a single bad image is already an error.
        sample: A sample of the source. The images that it has opened are not opened again.

    Raises:
        DataError: there are too many bad files or no good one, the cache cannot be written, the
            images do not fit, or the source cannot be streamed.
        UsageError: there is no such ``cache``, or ``max_bad`` is not from 0 to 1.
    """
    if cache not in CACHE_MODES:
        raise UsageError(
            f"there is no cache mode '{cache!s:.20}'. Choose from {', '.join(CACHE_MODES)}"
        )
    told = _rising(progress) if progress else (lambda done, total: None)
    task = _Task(sample or Sample(source), preprocessing, Tolerance(max_bad, strict), told)
    if cache == "never":
        return _streamed(task, ())
    if cache == "ram":
        return _in_memory(task)
    entry, found = _find(task)
    if found is None:
        note = _make_room(entry, task)
        if note and cache == "disk":
            raise DataError(
                f"{note}. Free some space, set GENTOOL_CACHE to another disk, or use --cache never"
            )
        if note:
            return _streamed(task, (f"{note}: streamed from the source",))
        return _on_disk(entry, task)
    mark_used(entry)
    return _dataset(found, task, ())


@dataclass(frozen=True)
class _Task:
    """What ``prepare`` was asked for; see its arguments."""

    sample: Sample
    preprocessing: Preprocessing
    tolerance: Tolerance
    progress: Progress

    @property
    def source(self) -> Source:
        """Where the images come from."""
        return self.sample.source

    @property
    def key(self) -> bytes:
        """What the pixels depend on; the name of a cache entry is a hash of it."""
        return f"{self.source.fingerprint}|{self.preprocessing}".encode()

    @property
    def stamped_key(self) -> bytes:
        """``key`` with the stamp of the source, for images that differ in nothing else."""
        return self.key + f"|{self.source.stamp}".encode()

    def load(self, index: int) -> Loaded:
        """Return image ``index``, prepared."""
        return self.source.load(index, self.preprocessing)


def _rising(progress: Progress) -> Progress:
    """Return a ``progress`` whose number of images never falls.

    Without it the number falls to 0 where another process has just finished, as its journal is
    then gone, and where this process takes over from another that was killed.
    """
    most = 0

    def report(done: int, total: int) -> None:
        nonlocal most
        most = max(most, done)
        progress(most, total)

    return report


def _find(task: _Task) -> tuple[Path, Opened | None]:
    """Return the entry of the images, opened, or None where it must be built.

    Sources that differ only in their stamp share the entry if their contents are equal. One with
    other contents has an entry of its own.
    """
    shared, own = _place(task, task.key), _place(task, task.stamped_key)
    for entry in (own, shared):
        if (found := _fitting(entry, task)) is not None:
            return entry, found
    if knows(shared, task.source) or open_entry(shared, task.preprocessing.stored_shape) is None:
        return shared, None
    with contextlib.suppress(OSError):  # missing, unless its images were changed meanwhile
        (own / META).unlink()
    return own, None


def _fitting(entry: Path, task: _Task) -> Opened | None:
    """Open an entry; return None if it must be built again or has other images than the source."""
    found = _look_up(entry, task)
    if found is None or knows(entry, task.source):
        return found
    if not matches(found, task.source, task.preprocessing, task.progress):
        return None
    remember(entry, task.source)
    return found


def _place(task: _Task, key: bytes) -> Path:
    """Return the folder of the cache entry with this key."""
    name = task.source.name.encode("utf-8", "replace")[:40].decode(errors="ignore")
    word = "".join(c if c.isalnum() or c in "-_+." else "_" for c in name)
    return cache_folder() / f"{word}-{hashlib.sha256(key).hexdigest()[:16]}"


def _look_up(entry: Path, task: _Task) -> Opened | None:
    """Open an entry; return None if it must be built again, whatever the source has now.

    That is so if it is missing or damaged, or if a file with a temporary fault can now be read.
    """
    found = open_entry(entry, task.preprocessing.stored_shape)
    if found is None:
        return None
    passing = [bad.number for bad in found.bad if bad.passing][:_TRIED_AGAIN]
    if any(isinstance(attempt(task.load, index), Loaded) for index in passing):
        return None
    return found


def _make_room(entry: Path, task: _Task) -> str | None:
    """Drop old entries as far as needed; return a message if the images still do not fit."""
    stored = task.preprocessing.stored_shape
    need = len(task.source) * (stored.dims + 24) - size_of(entry) + _SPARE
    place = next(p for p in (entry.parent, *entry.parent.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    if free < need:
        prune(free=need - free)
        free = shutil.disk_usage(place).free
    if free < need:
        return (
            f"the prepared images take {need / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free "
            f"at {entry.parent}"
        )
    return None


def _on_disk(entry: Path, task: _Task) -> Dataset:
    """Return the images of an entry, after building it here or waiting for another process."""
    source, shape, total = task.source, task.preprocessing.stored_shape, len(task.source)
    notes: list[str] = []
    try:
        with building(entry, lambda: task.progress(min(reached(entry), total - 1), total)):
            limit = cache_limit()
            if (found := _fitting(entry, task)) is None:
                key = hashlib.sha256(task.stamped_key).hexdigest()
                store = DiskStore(entry, key, total, dims_of(shape))
                try:
                    built = _built(task, store)
                    remember(entry, source)
                    finish(store, source, shape, built)
                finally:
                    store.close()
                notes = built.notes
                found = open_entry(entry, shape, check=False)
            prune(max_bytes=limit)
    except OSError as error:
        raise DataError(
            f"cannot write the image cache {entry.parent}: {error.strerror or error}. "
            "Set GENTOOL_CACHE to a folder with enough space"
        ) from error
    if found is None:
        raise DataError(f"the image cache {entry} was changed while in use. Run the command again")
    return _dataset(found, task, tuple(notes))


def _built(task: _Task, store: DiskStore | MemoryStore) -> Built:
    return build(task.sample, task.preprocessing, store, task.tolerance, task.progress)


def _dataset(found: Opened, task: _Task, notes: tuple[str, ...]) -> Dataset:
    source, preprocessing = task.source, task.preprocessing
    bad = tuple((name, bad.reason) for name, bad in zip(found.bad_names, found.bad, strict=True))
    task.tolerance.check(bad, len(source), len(source))
    left_out = np.array([b.number for b in found.bad], dtype=np.int64)
    prepared = Dataset(
        name=source.name,
        images=found.stored[:, *_window(preprocessing)],
        stored=found.stored,
        labels=found.labels,
        classes=found.classes,
        preprocessing=preprocessing,
        hashes=found.hashes,
        fingerprint=found.fingerprint,
        bad=bad,
        describe=partial(_describe, source, left_out),
        listed=partial(_names, source, {bad.number for bad in found.bad}),
        intake=with_own(source.intake, bad),
        repeats=_repeats(source, left_out),
        notes=(*notes, *found.remarks.lines(len(found.hashes), preprocessing)),
    )
    return without_empty_classes(prepared, source.labels)


def _in_memory(task: _Task) -> Dataset:
    source = task.source
    store = MemoryStore(len(source), dims_of(task.preprocessing.stored_shape))
    built = _built(task, store)
    pixels, hashes = store.keep(built.bad_rows)
    pixels.flags.writeable = False
    labels = kept_labels(source, built.bad_rows)
    found = Opened(
        stored=pixels,
        labels=labels,
        classes=source.classes,
        hashes=hashes,
        fingerprint=built.fingerprint(source.classes, labels),
        bad=tuple(built.bad),
        bad_names=tuple(source.describe(bad.number) for bad in built.bad),
        remarks=built.remarks(source, hashes),
    )
    return _dataset(found, task, tuple(built.notes))


def _streamed(task: _Task, notes: tuple[str, ...]) -> Dataset:
    source, preprocessing = task.source, task.preprocessing
    if getattr(source, "access", "processes") == "sequential":
        why = f"{notes[0].partition(': streamed')[0]}, and " if notes else ""
        raise DataError(
            f"{why}{source.name} can be read only from start to end, not in random order. Use "
            "--cache disk, with GENTOOL_CACHE set to a folder with enough space"
        )
    older = hashlib.sha256(b"streamed|" + task.key).hexdigest()
    spots = source.spot_check()
    stored = StreamedImages(source, preprocessing, task.tolerance)
    streamed = Dataset(
        name=source.name,
        images=stored.cropped(_window(preprocessing)),
        stored=stored,
        labels=kept_labels(source, _NONE),
        classes=source.classes,
        preprocessing=preprocessing,
        hashes=np.empty(0, dtype=np.uint64),
        fingerprint=hashlib.sha256(f"{older}|{spots}".encode()).hexdigest() if spots else older,
        older_fingerprint=older if spots else "",
        stamp=source.stamp or "",
        bad=stored.bad,
        describe=source.describe,
        listed=source.names,
        intake=source.intake,
        repeats=_repeats(source, _NONE),
        notes=notes,
        streamed=True,
    )
    return without_empty_classes(streamed, source.labels)


def _window(preprocessing: Preprocessing) -> Window:
    """Return the rows and columns of the centre window in a stored image."""
    shape, stored = preprocessing.shape, preprocessing.stored_shape
    top, left = (stored.height - shape.height) // 2, (stored.width - shape.width) // 2
    return slice(top, top + shape.height), slice(left, left + shape.width)


def _repeats(source: Source, bad: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Return the weights of the images that are not ``bad``, float32, or None without weights."""
    repeats = getattr(source, "repeats", None)
    return None if repeats is None else np.delete(repeats, bad)


def _names(source: Source, bad: set[int]) -> Iterator[str]:
    """Return the names of the images that are not ``bad``."""
    return (name for number, name in enumerate(source.names()) if number not in bad)


def _describe(source: Source, bad: NDArray[np.int64], row: int) -> str:
    """Return the name of the image in a row of the data set, which leaves out the images ``bad``.

    ``bad`` is sorted. Before bad image k stand ``bad[k] - k`` good ones.
    """
    before = np.searchsorted(bad - np.arange(len(bad)), row, side="right")
    return source.describe(row + int(before))
