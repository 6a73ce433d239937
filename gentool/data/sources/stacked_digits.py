"""``builtin:modes``: exactly 1,000 equally likely modes, which a rule recognises in an image.

Stacked digits measure how many modes a generator covers: three digits, one in each colour
channel, make a number from 000 to 999 (StackedMNIST, Metz et al. 2017, arXiv:1611.02163, appendix
D). In the paper a classifier counts the modes, and makes errors. Here the digits are those of a
pocket calculator: seven segments that are lit or not, drawn with varied position, size, thickness
and brightness. The rule compares each channel with the undistorted digits.

``gentool train gan --data builtin:modes``, ``gentool evaluate MODEL --data builtin:modes``
"""

from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from gentool.core.images import Pixels
from gentool.data.sources.procedural import Factors, Plane, ProceduralSet

MODES = 1000
UNREADABLE = -1
# (x, y) of both ends of the segments top, upper left, upper right, middle, lower left, lower
# right and bottom, in a box that is 1 wide and 2 high.
_SEGMENTS = np.array([
    [[0, 0], [1, 0]], [[0, 0], [0, 1]], [[1, 0], [1, 1]], [[0, 1], [1, 1]],
    [[0, 1], [0, 2]], [[1, 1], [1, 2]], [[0, 2], [1, 2]],
], dtype=np.float64)  # fmt: skip
_LIT = ("012456", "25", "02346", "02356", "1235", "01356", "013456", "025", "0123456", "012356")
_LIT_SEGMENTS = [sorted({int(c) for c in word}) for word in _LIT]
_WIDE = 0.3  # width of a digit, as a fraction of the image's shorter side; its height is twice that
_PEN = 0.1  # thickness of a segment, as a fraction of the shorter side
_SHIFT = 0.1  # largest shift of a digit from the middle along each axis, as the same fraction
_PLACES = 7  # positions along each axis at which the rule tries each digit
_LIKE_ENOUGH = 0.75  # smallest correlation with an undistorted digit


class Modes(ProceduralSet):
    """Three seven-segment digits, one each in red, green and blue."""

    name = "modes"
    version = 1
    channels = 3
    default_side = 32
    default_count = 50_000
    multiple_of = MODES
    classes = ()

    def factors(self, index: int) -> Factors:
        """Return the number, and per channel position, width, thickness and brightness.

        Lengths are fractions of the image's shorter side.
        """
        numbers = iter(self._numbers(index, 15))
        found: Factors = {"number": f"{index % MODES:03d}"}
        for channel in "rgb":
            found |= {
                f"{channel}_x": _SHIFT * (2 * next(numbers) - 1),
                f"{channel}_y": _SHIFT * (2 * next(numbers) - 1),
                f"{channel}_wide": _WIDE * (0.9 + 0.2 * next(numbers)),
                f"{channel}_pen": _PEN * (0.8 + 0.4 * next(numbers)),
                f"{channel}_bright": 0.7 + 0.3 * next(numbers),
            }
        return found

    def render(self, index: int, height: int, width: int) -> Pixels:
        """Return image ``index``; each channel is one bright digit on black."""
        factors = self.factors(index)
        planes = []
        for digit, channel in zip(f"{index % MODES:03d}", "rgb", strict=True):
            x, y, wide, pen, bright = (
                float(factors[f"{channel}_{name}"]) for name in ("x", "y", "wide", "pen", "bright")
            )
            planes.append(bright * _draw(int(digit), height, width, (x, y), wide, pen))
        pixels: Pixels = np.round(255 * np.stack(planes, axis=-1)).astype(np.uint8)
        return pixels

    def read(self, images: Pixels) -> NDArray[np.int64]:
        """Return the number that each image shows, as ``read_modes`` does."""
        return read_modes(images)


def _draw(
    digit: int, height: int, width: int, shift: tuple[float, float], wide: float, pen: float
) -> Plane:
    """Return the coverage of each pixel by a digit, 0 to 1, float64 (height, width).

    ``shift``, ``wide`` and ``pen`` are fractions of the shorter side.
    """
    side = min(height, width)
    x = (np.arange(width) + 0.5 - width / 2) / side - shift[0]
    y = (np.arange(height) + 0.5 - height / 2) / side - shift[1]
    squared = np.full((height, width), np.inf)
    for (left, top), (right, bottom) in (_SEGMENTS[_LIT_SEGMENTS[digit]] - (0.5, 1.0)) * wide:
        across = np.clip(np.maximum(left - x, x - right), 0, None)
        down = np.clip(np.maximum(top - y, y - bottom), 0, None)
        squared = np.minimum(squared, (across**2)[None, :] + (down**2)[:, None])
    cover: Plane = np.clip((pen / 2 - np.sqrt(squared)) * side + 0.5, 0, 1)  # antialiased
    return cover


def read_modes(images: Pixels) -> NDArray[np.int64]:
    """Return the number that each image shows.

    Args:
        images: uint8 (N, H, W, 3).

    Returns:
        int64 (N,), 0 to 999, or ``UNREADABLE`` (-1) if a channel resembles no digit.
    """
    count, height, width, _ = images.shape
    planes = np.moveaxis(images, 3, 1).reshape(-1, height * width).astype(np.float32)
    planes -= planes.mean(axis=1, keepdims=True)
    planes /= np.linalg.norm(planes, axis=1, keepdims=True) + 1e-6
    likeness = (planes @ _templates(height, width).T).reshape(len(planes), 10, -1).max(axis=2)
    digits = likeness.argmax(axis=1).reshape(count, 3)
    readable = (likeness.max(axis=1) >= _LIKE_ENOUGH).reshape(count, 3).all(axis=1)
    numbers: NDArray[np.int64] = np.where(readable, digits @ (100, 10, 1), UNREADABLE)
    return numbers


@lru_cache(maxsize=4)
def _templates(height: int, width: int) -> NDArray[np.float32]:
    """Return the undistorted digits at all positions, float32 (10 * positions, H * W).

    Each row has mean 0 and norm 1.
    """
    places = np.linspace(-_SHIFT, _SHIFT, _PLACES)
    drawn = [
        _draw(digit, height, width, (x, y), _WIDE, _PEN).ravel()
        for digit in range(10)
        for x, y in product(places, places)
    ]
    rows = np.stack(drawn).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def coverage(numbers: NDArray[np.int64]) -> dict[str, float]:
    """Return scores of the numbers, int64 (N,), that ``read_modes`` found.

    "modes" is how many of the 1,000 modes occur. "modes kl" is the KL divergence of the readable
    images from the uniform distribution, sum_k p_k log(1000 p_k), in nats. For n images of a
    perfect generator it is not 0 but about 999 / 2n, which is 0.05 for 10,000. "modes unreadable"
    is the fraction of unreadable images.
    """
    counts = np.bincount(numbers[numbers >= 0], minlength=MODES)
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return {
        "modes": float((counts > 0).sum()),
        "modes kl": float((shares * np.log(MODES * shares)).sum()),
        "modes unreadable": float((numbers < 0).mean()),
    }
