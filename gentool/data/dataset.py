"""The prepared images of a source, as training and evaluation use them. Reads no files itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import DataError, UsageError
from gentool.core.images import ImageShape, Pixels
from gentool.core.rng import derive_key, permute
from gentool.data.badfiles import BadFile

Rows = NDArray[np.int64]
_AT_ONCE = 2**18


@dataclass(frozen=True)
class Dataset:
    """Prepared images.

    Attributes:
        name: Short name of the source.
        images: uint8 (N, H, W, C): a memory-mapped array, an array, or ``StreamedImages``, which
            is not an array but can be indexed like one. If there is a margin, the centre window.
        stored: The same images with their margin, uint8 (N, H + h, W + w, C).
        labels: Class index per image, int64 (N,), or None.
        classes: Class names.
        shape: Shape of one of ``images``.
        hashes: 64 bits of the SHA-256 of each image's source (the bytes of its file), uint64
            (N,). A split depends on them, so renaming and copying files does not change it.
            Empty when streaming.
        fingerprint: SHA-256 of the stored pixels and labels, the same on every machine. When
            streaming, a hash of the source's fingerprint and the policy.
        bad: (path, reason) of the files that were left out; grows when streaming.
        repeats: Weight of each image, float32 (N,), or None if all weights are 1.
        notes: What the user should know about the preparation, one sentence each.
    """

    name: str
    images: Pixels
    stored: Pixels
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    shape: ImageShape
    hashes: NDArray[np.uint64]
    fingerprint: str
    bad: Sequence[BadFile]
    repeats: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def split(self, holdout: float) -> tuple[Rows, Rows]:
        """Return the row numbers of the training images and of the held-out images, both int64.

        Args:
            holdout: Fraction of the images to hold out. The split depends on the content of the
                files, so identical files are always on the same side.

        Raises:
            UsageError: the images are streamed, so that their content has not been read.
        """
        if holdout == 0:
            return np.arange(len(self)), np.empty(0, dtype=np.int64)
        if len(self.hashes) != len(self):
            raise UsageError(
                f"--holdout {holdout:g} is chosen by the content of the images, which is not read "
                "in advance when they are streamed. Use --cache disk, or --holdout 0"
            )
        kept_out = self.hashes < np.uint64(holdout * 2**63) * np.uint64(2)
        return np.flatnonzero(~kept_out), np.flatnonzero(kept_out)

    def training_rows(self, holdout: float, seed: int) -> Rows:
        """Return the row numbers of the training images, int64, each repeated by its weight.

        With weight 2.5 each image occurs twice, and half of the images of that weight, chosen by
        the seed, once more.

        Raises:
            UsageError: as in ``split``.
            DataError: the weights are so small that no image is left.
        """
        return self.repeated(self.split(holdout)[0], seed)

    def repeated(self, rows: Rows, seed: int) -> Rows:
        """Return ``rows`` with each row number repeated by its weight, as in ``training_rows``."""
        if self.repeats is None:
            return rows
        repeated = _repeat(rows, self.repeats[rows], seed)
        if len(rows) and not len(repeated):
            raise DataError(
                f"with the weights of {self.name}, none of {len(rows):,} images is left. Use "
                "larger weights"
            )
        return repeated


def _repeat(rows: Rows, weights: NDArray[np.float32], seed: int) -> Rows:
    times = np.floor(weights).astype(np.int32)
    share = weights - times
    key = derive_key(seed, "repeats")
    for value in np.unique(share[share > 0]):
        same = np.flatnonzero(share == value)
        count = round(float(value) * len(same))
        for start in range(0, count, _AT_ONCE):  # in pieces: ten million at once take much memory
            once_more = np.arange(start, min(start + _AT_ONCE, count))
            times[same[permute(once_more, len(same), key)]] += 1
    return np.repeat(rows, times)
