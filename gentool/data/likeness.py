"""Find images that are nearly equal: by a hash of their shape and by their colours.

The hash has one bit for each of the 64 lowest frequencies of a discrete cosine transform: whether
it is above the median (the perceptual hash of D. Krawetz and of the library ImageHash). Of each
image 72 bytes are kept.
"""

import math
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gentool.core.images import Pixels

MOST_IMAGES = 2**20  # of which descriptions are kept; further images are not compared
_SIDE = 64  # larger images are thinned out to less than twice this side first
_BITS, _GRID = 8, 4  # sides of the hash, and of the grid of colours
_LUMA = {1: (1.0,), 3: (0.299, 0.587, 0.114), 4: (0.299, 0.587, 0.114, 0.5)}  # ITU-R BT.601
_NEAR_BITS = 4  # near hashes differ in at most this many of 64 bits
_BANDS = 5  # _NEAR_BITS + 1: two near hashes agree in at least one band (pigeonhole principle)
_WINDOW = 8  # comparisons per hash in a band's bucket, so that a million white pages stay cheap
_NEAR_COLOURS = 2.0  # near images: the largest mean difference of their colours, of 255


class Alike(NamedTuple):
    """How many images are nearly equal to an earlier one.

    Attributes:
        total: The number of these images.
        first: The number of the first of them; -1 for none.
        twin: The number of the image that it is nearly equal to.
    """

    total: int
    first: int
    twin: int


class Likeness:
    """Descriptions of prepared images, to find those that are nearly equal.

    Attributes:
        count: How many images are described.
    """

    def __init__(self) -> None:
        self._hashes: list[NDArray[np.uint64]] = []
        self._colours: list[NDArray[np.uint8]] = []
        self._numbers: list[NDArray[np.int64]] = []
        self.count = 0

    def add(self, pixels: Pixels, numbers: NDArray[np.int64]) -> None:
        """Describe images uint8 (B, H, W, C) with their numbers, int64 (B,)."""
        room = MOST_IMAGES - self.count
        if room <= 0 or not len(pixels):
            return
        hashes, colours = describe_images(pixels[:room])
        self._hashes.append(hashes)
        self._colours.append(colours)
        self._numbers.append(numbers[:room])
        self.count += len(hashes)

    def find(self, without: NDArray[np.int64]) -> Alike:
        """Return how many images are nearly equal to an earlier one.

        Args:
            without: Numbers of images that are not compared, int64, sorted.
        """
        if not self.count:
            return Alike(0, -1, -1)
        numbers = np.concatenate(self._numbers)
        kept = ~np.isin(numbers, without)
        numbers, hashes = numbers[kept], np.concatenate(self._hashes)[kept]
        colours = np.concatenate(self._colours)[kept]
        twin = np.full(len(hashes), -1, dtype=np.int64)
        for a, b in near_pairs(hashes, _WINDOW):
            far = np.abs(colours[a].astype(np.int16) - colours[b]).mean(axis=1) > _NEAR_COLOURS
            early, late = np.minimum(a, b)[~far], np.maximum(a, b)[~far]
            twin[late] = early
        found = np.flatnonzero(twin >= 0)
        if not len(found):
            return Alike(0, -1, -1)
        return Alike(len(found), int(numbers[found[0]]), int(numbers[twin[found[0]]]))


def describe_images(pixels: Pixels) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Return the hashes, uint64 (B,), and the colours, uint8 (B, 16 C), of images (B, H, W, C)."""
    step = max(1, min(pixels.shape[1:3]) // _SIDE)
    values = pixels[:, ::step, ::step].astype(np.float32)
    count, height, width, channels = values.shape
    rows, columns = (_cosines(side) for side in (height, width))
    across = np.kron(columns, np.array(_LUMA[channels], dtype=np.float32)).T
    low = (values.reshape(-1, width * channels) @ across).reshape(count, height, _BITS)
    low = np.round(np.matmul(rows, low).reshape(count, -1))  # so that noise of rounding is 0
    bits = np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)
    rows, columns = (_means(side) for side in (height, width))
    means = np.matmul(rows, values.reshape(count, height, -1)).reshape(-1, width, channels)
    colours = np.matmul(columns, means).reshape(count, -1)
    return bits.view(">u8").ravel().astype(np.uint64), np.round(colours).astype(np.uint8)


@cache
def _cosines(side: int) -> NDArray[np.float32]:
    """Return the lowest frequencies of the cosine transform, float32 (8, side)."""
    angles = np.outer(np.arange(_BITS), np.arange(side) + 0.5) * math.pi / side
    return np.cos(angles).astype(np.float32)


@cache
def _means(side: int) -> NDArray[np.float32]:
    """Return the matrix that takes the means over four parts of a side, float32 (4, side)."""
    part = np.arange(side) * _GRID // side
    matrix = (part == np.arange(_GRID)[:, None]).astype(np.float32)
    means: NDArray[np.float32] = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return means


def near_pairs(
    hashes: NDArray[np.uint64], window: int = 32
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield pairs of positions in ``hashes``, uint64 (N,), whose hashes differ in at most 4 bits.

    The 64 bits are cut into five bands. Near hashes agree in at least one band, so only hashes
    with an equal band are compared, after sorting: O(N log N). Each hash is compared with the
    next ``window`` hashes of equal band. This may miss pairs where very many hashes share a band,
    but equal hashes are adjacent and are always linked.

    Yields:
        The first positions of some pairs and the second ones, int64 (P,) each.
    """
    edges = np.linspace(0, 64, _BANDS + 1).astype(int)
    for low, high in pairwise(edges):
        band = (hashes >> np.uint64(low)) & np.uint64(2 ** int(high - low) - 1)
        order = np.lexsort((hashes, band))
        for step in range(1, min(window, len(order) - 1) + 1):
            a, b = order[:-step], order[step:]
            same = band[a] == band[b]
            if not same.any():
                break
            a, b = a[same], b[same]
            close = np.bitwise_count(hashes[a] ^ hashes[b]) <= _NEAR_BITS
            if close.any():
                yield a[close], b[close]
