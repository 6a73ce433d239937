"""Images that are decoded whenever they are read, for sets that do not fit on the disk.

``StreamedImages`` can be indexed like the array of a cached set, as far as batches need it. A bad
file is replaced by the next good file of its class, so that labels stay right.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from gentool.core.errors import DataError
from gentool.core.images import Pixels
from gentool.data.badfiles import BadFile, Tolerance
from gentool.data.cache.workers import cores
from gentool.data.dataset import Index
from gentool.data.preprocessing import Preprocessing
from gentool.data.reading import attempt
from gentool.data.sources.table import Loaded, Source

_READERS = 16  # threads, at least: they mostly wait for disks and servers

Window = tuple[slice, slice]


class StreamedImages:
    """An ``ImageArray`` that decodes images when they are asked for.

    Args:
        source: Where the images come from; ``load`` is called from threads.
        preprocessing: How the images are prepared.
        tolerance: How many images may be bad.
    """

    def __init__(self, source: Source, preprocessing: Preprocessing, tolerance: Tolerance) -> None:
        shape = preprocessing.stored_shape
        self._loader = _Loader(source, preprocessing, tolerance)
        self._window: Window = slice(None), slice(None)
        self.shape = (len(source), shape.height, shape.width, shape.channels)

    def cropped(self, window: Window) -> "StreamedImages":
        """Return a view that shows the same window of every image."""
        view = object.__new__(StreamedImages)
        view._loader, view._window = self._loader, window
        rows, columns = window
        height = len(range(*rows.indices(self.shape[1])))
        width = len(range(*columns.indices(self.shape[2])))
        view.shape = (self.shape[0], height, width, self.shape[3])
        return view

    @property
    def bad(self) -> list[BadFile]:
        """(path, reason) of the bad files found so far."""
        return self._loader.bad

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index, /) -> Pixels:
        """Return images as ``ImageArray`` does.

        Raises:
            DataError: there are too many bad files.
            IndexError: there is no such image.
        """
        if isinstance(index, int | np.integer):
            one: Pixels = self[np.array([index])][0]
            return one
        if isinstance(index, slice):
            chosen = np.arange(*index.indices(len(self)))
        else:
            chosen = np.asarray(index)
        if chosen.dtype == np.bool_:
            chosen = np.flatnonzero(chosen)
        out = np.empty((len(chosen), *self.shape[1:]), dtype=np.uint8)
        if len(chosen):
            numbers = np.where(chosen < 0, chosen + len(self), chosen)
            if numbers.min() < 0 or numbers.max() >= len(self):
                raise IndexError(
                    f"there is no image {int(numbers.max())}; the data set has {len(self)}"
                )
            for place, pixels in enumerate(self._loader.load(numbers.tolist())):
                out[place] = pixels[self._window]
        return out


class _Loader:
    """Load images in threads, and remember the bad files and their replacements."""

    def __init__(self, source: Source, preprocessing: Preprocessing, tolerance: Tolerance) -> None:
        self._source, self._preprocessing, self._tolerance = source, preprocessing, tolerance
        self._pool = ThreadPoolExecutor(max(_READERS, cores()), thread_name_prefix="stream")
        self._stand_ins: dict[int, int] = {}
        self._known_bad: set[int] = set()
        self._lock = threading.Lock()
        self.bad: list[BadFile] = []

    def load(self, numbers: list[int]) -> "list[Pixels]":
        return list(self._pool.map(self._one, numbers))

    def _one(self, number: int) -> Pixels:
        found = self._try(self._stand_ins.get(number, number))
        if found is None:
            found = self._replace(number)
        pixels: Pixels = found.pixels
        return pixels

    def _load(self, number: int) -> Loaded:
        return self._source.load(number, self._preprocessing)

    def _try(self, number: int) -> Loaded | None:
        """Load image ``number``; record it and return None if it is bad."""
        if number in self._known_bad:
            return None
        found = attempt(self._load, number)
        if isinstance(found, Loaded):
            return found
        with self._lock:
            if number not in self._known_bad:
                self._known_bad.add(number)
                self.bad.append((self._source.describe(number), found.reason))
                self._tolerance.check(self.bad, len(self._source), len(self._source))
        return None

    def _replace(self, number: int) -> Loaded:
        """Load the next good image of the same class; after the last image comes the first."""
        total, labels = len(self._source), self._source.labels
        same = np.arange(total) if labels is None else np.flatnonzero(labels == labels[number])
        after = np.searchsorted(same, number, side="right")
        for candidate in np.roll(same, -after).tolist():
            if (found := self._try(candidate)) is not None:
                self._stand_ins[number] = candidate
                return found
        path, reason = self.bad[0]
        raise DataError(
            f"no image of the class of image {number} can be read; the first: {path}: {reason}"
        )
