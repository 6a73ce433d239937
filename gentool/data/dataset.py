"""The prepared images of a source, as training and evaluation use them. Reads no files itself."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import DataError, UsageError
from gentool.core.images import ImageShape, Pixels
from gentool.core.rng import data_order, derive_key, permute
from gentool.data.badfiles import BadFile
from gentool.data.intake import Intake
from gentool.data.preprocessing import Preprocessing

Rows = NDArray[np.int64]
Index = int | slice | list[int] | NDArray[Any]
_AT_ONCE = 2**18


class ImageArray(Protocol):
    """Images by row number: a numpy array, or images that are read when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all images together, (N, H, W, C)."""

    def __len__(self) -> int:
        """Return the number of images."""

    def __getitem__(self, index: Index, /) -> Pixels:
        """Return one image, uint8 (H, W, C), for a number, else several, uint8 (B, H, W, C).

        Other indices are a slice, numbers of rows, or a boolean mask (N,).
        """


@dataclass(frozen=True)
class Dataset:
    """Prepared images.

    Attributes:
        name: Short name of the source.
        images: The images as models see them, uint8 (N, H, W, C): the centre window of ``stored``.
        stored: The images with their margin, uint8 (N, H + h, W + w, C).
        labels: Class index per image, int64 (N,), or None.
        classes: Class names.
        preprocessing: How the images were prepared.
        hashes: 64 bits of the SHA-256 of each image's source (the bytes of its file), uint64
            (N,). A split depends on them, so renaming and copying files does not change it.
            Empty when streaming.
        fingerprint: SHA-256 of the stored pixels and labels, the same on every machine. When
            streaming, a hash of the source's fingerprint and the preprocessing.
        bad: (path, reason) of the files that were left out; grows when streaming.
        describe: Returns the name of the image in a row, for messages.
        listed: Returns the names of all images in order, faster than ``describe`` for each; None
            for data sets without such a way.
        intake: What the source took and passed over.
        repeats: Weight of each image, float32 (N,), or None if all weights are 1.
        notes: What the user should know about the preparation, one sentence each.
        stamp: When streaming, what changes with the files even if the fingerprint does not.
        with_empty: The same images with the classes that were left out, as no image has them; None
            if there are none. Older versions of gentool trained models on it.
        older_fingerprint: When streaming, the fingerprint that older versions of gentool gave these
            images, without a spot check of their contents.
        streamed: Whether an image is decoded each time it is read, which takes long. Otherwise
            the pixels are in memory or in a memory-mapped file.
    """

    name: str
    images: ImageArray
    stored: ImageArray
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    hashes: NDArray[np.uint64]
    fingerprint: str
    bad: Sequence[BadFile]
    describe: Callable[[int], str]
    listed: Callable[[], Iterator[str]] | None = None
    intake: Intake = field(default_factory=Intake)
    repeats: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()
    stamp: str = ""
    with_empty: "Dataset | None" = None
    older_fingerprint: str = ""
    streamed: bool = False

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> ImageShape:
        """Shape of one of ``images``."""
        return self.preprocessing.shape

    @property
    def version(self) -> str:
        """What changes with the pixels or labels: the key of what is computed from them."""
        return f"{self.fingerprint}|{self.stamp}" if self.stamp else self.fingerprint

    def names(self) -> Iterator[str]:
        """Return the names of all images, in order."""
        return map(self.describe, range(len(self))) if self.listed is None else self.listed()

    @property
    def whole(self) -> "Subset":
        """The subset that contains all images."""
        return Subset(self, np.arange(len(self)))

    def as_before(self, fingerprint: object) -> "Dataset":
        """Return the images as a data set with this fingerprint, or its beginning, if they can be.

        That is ``with_empty``, or the images with ``older_fingerprint``, where an older version of
        gentool used it, else the data set itself.
        """
        if not isinstance(fingerprint, str) or not fingerprint:
            return self
        found: Dataset | None = self
        while found is not None:
            for known in filter(None, (found.fingerprint, found.older_fingerprint)):
                if known.startswith(fingerprint):
                    return replace(found, fingerprint=known)
            found = found.with_empty
        return self

    def split(self, holdout: float, *, keep_classes: bool = True) -> "Split":
        """Return the training images and the held-out images.

        Args:
            holdout: Fraction of the images to hold out. The split depends on the content of the
                files, so identical files are always on the same side.
            keep_classes: Whether at least one image of each class stays in training. Older versions
                of gentool did not see to this.

        Raises:
            UsageError: the images are streamed, so that their content has not been read.
        """
        if holdout == 0:
            return Split(self.whole, Subset(self, np.empty(0, dtype=np.int64)))
        if len(self.hashes) != len(self):
            raise UsageError(
                f"--holdout {holdout:g} is chosen by the content of the images, which is not read "
                "in advance when they are streamed. Use --cache disk, or --holdout 0"
            )
        kept_out = self.hashes < np.uint64(holdout * 2**63) * np.uint64(2)
        if keep_classes and self.labels is not None:
            kept_out &= ~np.isin(self.hashes, _one_of_each(self.hashes, self.labels, kept_out))
        sides = (np.flatnonzero(side) for side in (~kept_out, kept_out))
        return Split(*(Subset(self, rows) for rows in sides))


@dataclass(frozen=True)
class Subset:
    """Some images of a data set.

    Attributes:
        dataset: All images.
        rows: Row numbers of these images in ``dataset``, int64 (N,); a number may be repeated.
    """

    dataset: Dataset
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def name(self) -> str:
        """Short name of the source."""
        return self.dataset.name

    @property
    def names(self) -> list[str]:
        """Name of each image, for messages."""
        return [self.dataset.describe(row) for row in self.rows.tolist()]

    @property
    def images(self) -> ImageArray:
        """The images as models see them, uint8 (N, H, W, C)."""
        return _Selection(self.dataset.images, self.rows)

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """Class index per image, int64 (N,), or None."""
        return None if self.dataset.labels is None else self.dataset.labels[self.rows]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their indices."""
        return self.dataset.classes

    @property
    def weights(self) -> NDArray[np.float32] | None:
        """Weight of each image, float32 (N,), or None if all weights are 1."""
        return None if self.dataset.repeats is None else self.dataset.repeats[self.rows]

    def some(self, count: int) -> "Subset":
        """Return ``count`` of the images, or all if fewer: a fixed random choice, sorted.

        It is random, since files are often sorted by class.
        """
        if len(self) <= count:
            return self
        return Subset(self.dataset, np.sort(self.rows[data_order(0, 0, count, len(self))]))

    def repeated(self, seed: int) -> "Subset":
        """Return these images, each repeated by its weight.

        With weight 2.5 each image occurs twice, and half of the images of that weight, chosen by
        the seed, once more. One image of each class stays, however small its weight.

        Raises:
            DataError: the weights are so small that no image is left.
        """
        if self.weights is None:
            return self
        times = times_in_epoch(self.rows, self.weights, seed)
        if len(self) and not times.any():
            raise DataError(
                f"with the weights of {self.name}, none of {len(self):,} images is left. Use "
                "larger weights"
            )
        if self.labels is not None:
            times[_first_of_lost(self.labels, times > 0)] = 1
        return Subset(self.dataset, np.repeat(self.rows, times))


class Split(NamedTuple):
    """The two sides of a data set.

    Attributes:
        train: The images to train on.
        held_out: The images that are kept out of training.
    """

    train: Subset
    held_out: Subset


class _Selection:
    """The images in some rows of an ``ImageArray``; nothing is read before it is indexed."""

    def __init__(self, images: ImageArray, rows: Rows) -> None:
        self._images, self._rows = images, rows

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all images together, (N, H, W, C)."""
        return len(self._rows), *self._images.shape[1:]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Index, /) -> Pixels:
        return self._images[self._rows[index]]


def _one_of_each(
    hashes: NDArray[np.uint64], labels: NDArray[np.int64], kept_out: NDArray[np.bool_]
) -> NDArray[np.uint64]:
    """Return the hashes that must not be held out, so that each class has an image in training.

    Of a class that is held out completely it is the largest one, which would be the first to be in
    training with a smaller hold-out.
    """
    order = np.lexsort((hashes, labels))
    ends = np.flatnonzero(np.diff(labels[order], append=-1))
    last = order[ends]  # the image with the largest hash of each class
    return hashes[last[~np.isin(labels[last], labels[~kept_out])]]


def _first_of_lost(labels: NDArray[np.int64], kept: NDArray[np.bool_]) -> Rows:
    """Return the position of the first image of each class that has none among those kept."""
    lost, first = np.unique(labels, return_index=True)
    return first[~np.isin(lost, labels[kept])].astype(np.int64)


def times_in_epoch(rows: Rows, weights: NDArray[np.float32], seed: int) -> NDArray[np.int32]:
    """Return how often each image occurs, int32 (N,)."""
    times = np.floor(weights).astype(np.int32)
    share = weights - times
    key = derive_key(seed, "repeats")
    for value in np.unique(share[share > 0]):
        same = np.flatnonzero(share == value)
        count = round(float(value) * len(same))
        for start in range(0, count, _AT_ONCE):  # in pieces: ten million at once take much memory
            once_more = np.arange(start, min(start + _AT_ONCE, count))
            times[same[permute(once_more, len(same), key)]] += 1
    return times
