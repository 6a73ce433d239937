"""What a shape does to images of other sizes: which share is cut, padded, stretched or enlarged.

Sizes of images are (width, height) as in Pillow; shapes are (height, width) as in ``--size``.
"""

import math
from collections.abc import Sequence

import numpy as np

from gentool.core.images import MAX_SIDE, MIN_SIDE, SIDE_MULTIPLE
from gentool.core.messages import WARNING

Sizes = Sequence[tuple[int, int]]
_LONGEST = 2.0  # beyond this aspect, cropping loses less than the smaller shape saves
_NEAR = 0.01  # of shapes that cut almost equally little, the largest is taken
_TOLD = 0.01  # share of the images from which it is told what is cut
_MUCH = 0.1  # share from which a better size is named
_GAIN = 0.05  # by how much a better size is better
_ENLARGED = 2.0  # enlarging images by more than this is told


def median_aspect(sizes: Sizes) -> float:
    """Return the median of width / height."""
    return float(np.median([width / height for width, height in sizes]))


def lost_share(size: tuple[int, int], shape: tuple[int, int]) -> float:
    """Return the share of an image that is cut to get the aspect of ``shape``, 0 to 1.

    If the image is padded instead, it is the share of the result that is padding.
    """
    (width, height), (rows, columns) = size, shape
    first, second = width * rows, height * columns
    return 1 - min(first, second) / max(first, second)


def mean_lost_share(sizes: Sizes, shape: tuple[int, int]) -> float:
    """Return the mean of ``lost_share``."""
    return float(np.mean([lost_share(size, shape) for size in sizes]))


def nearest_aspect(sizes: Sizes, largest_side: int) -> tuple[int, int]:
    """Return the allowed (height, width) that has the median aspect of the images, or almost.

    The aspect is limited to 1:2 and 2:1. The geometric mean of both sides is at most
    ``largest_side``, and no side is larger than that of the images, unless it would be below 16.
    """
    width, height = (float(np.median(side)) for side in zip(*sizes, strict=True))
    aspect = min(max(median_aspect(sizes), 1 / _LONGEST), _LONGEST)
    enlarged = max(1.0, MIN_SIDE / min(width, height))
    rows, columns = (_allowed(side * enlarged) for side in (height, width))
    area = max(largest_side, MIN_SIDE) ** 2
    shapes = [(h, w) for h in rows for w in columns if h * w <= area]
    lost = {(h, w): 1 - min(aspect * h / w, w / (aspect * h)) for h, w in shapes}
    least = min(lost.values())
    good = [shape for shape in shapes if lost[shape] <= least + _NEAR]
    return max(good, key=lambda shape: (shape[0] * shape[1], -lost[shape]))


def _allowed(most: float) -> range:
    """Return the sides that are allowed, up to ``most``; at least the smallest one."""
    return range(MIN_SIDE, int(min(max(most, MIN_SIDE), MAX_SIDE)) + 1, SIDE_MULTIPLE)


def lost_words(sizes: Sizes, shape: tuple[int, int], fit: str) -> str:
    """Return what happens to the images besides a change of scale, as a clause; empty if little."""
    lost = mean_lost_share(sizes, shape)
    if lost < _TOLD:
        return ""
    mean = "" if len(set(sizes)) == 1 else " in the mean"
    if fit == "crop":
        return f", of which {lost:.0%} is cut{mean}"
    if fit == "pad":
        return f", and {lost:.0%} of each result is padding{mean}"
    return f", and one side is stretched by {1 / (1 - lost) - 1:.0%}{mean}"


def better_size(sizes: Sizes, shape: tuple[int, int], fit: str, largest_side: int) -> str:
    """Return what would be better for images of which much is lost, as a clause; else empty."""
    lost = mean_lost_share(sizes, shape)
    if lost < _MUCH:
        return ""
    height, width = better = nearest_aspect(sizes, largest_side)
    if (less := mean_lost_share(sizes, better)) <= lost - _GAIN:
        verb = {"crop": "cuts", "pad": "pads"}.get(fit, "stretches")
        return f": --size {height}x{width} {verb} {less:.0%}"
    return ": --fit pad keeps them whole" if fit == "crop" else ""


def given_words(sizes: Sizes, shape: tuple[int, int], fit: str, largest_side: int) -> list[str]:
    """Return warnings on a size that was given: what it cuts, and whether it enlarges much."""
    rows, columns = shape
    told = []
    largest = max(largest_side, math.isqrt(rows * columns))
    if mean_lost_share(sizes, shape) >= _MUCH:
        width, height = (int(np.median(side)) for side in zip(*sizes, strict=True))
        lost = lost_words(sizes, shape, fit)
        better = better_size(sizes, shape, fit, largest)
        turned = (rows > columns and height < width) or (rows < columns and height > width)
        order = "; SIZE is HEIGHTxWIDTH" if turned else ""
        told.append(
            f"{WARNING}--size {rows}x{columns}: the images are {height} high and {width} wide"
            f"{lost}{better}{order}"
        )
    factors = [_factor(size, shape, fit) for size in sizes]
    if (factor := float(np.median(factors))) > _ENLARGED:
        told.append(
            f"{WARNING}--size {rows}x{columns} enlarges the images {factor:.1f} times, which adds "
            "no detail and takes more time"
        )
    return told


def _factor(size: tuple[int, int], shape: tuple[int, int], fit: str) -> float:
    """Return by how much an image is enlarged; below 1 it gets smaller."""
    (width, height), (rows, columns) = size, shape
    choose = min if fit == "pad" else max
    return choose(rows / height, columns / width)
