"""Choose the shape of the training images (height, width and colour mode) from a sample of them."""

import math

import numpy as np

from gentool.core.errors import UsageError
from gentool.core.images import (
    MAX_SIDE,
    MIN_SIDE,
    MODES,
    SIDE_MULTIPLE,
    ImageShape,
    side_problem,
)
from gentool.data.encoded import description
from gentool.data.fitting import better_size, given_words, lost_words, median_aspect, nearest_aspect
from gentool.data.preprocessing import Probe, probe
from gentool.data.reading import Sample
from gentool.data.sources.table import BuiltinSource

_SQUARE_BAND = 0.25  # images count as square if |log(width / height)| is below this


def parse_size(word: str) -> tuple[int, int]:
    """Return (height, width) of a size: ``64`` -> (64, 64); ``48x64`` -> (48, 64).

    Raises:
        UsageError: not a size, or a side that is not a multiple of 4 from 16 to 512.
    """
    parts = word.lower().split("x")
    if len(parts) > 2 or not all(p.strip().isdecimal() for p in parts):
        raise UsageError(f"'{word:.40}' is not a size. Write 64, or HEIGHTxWIDTH such as 48x64")
    sides = [int(p) for p in parts]
    for side in sides:
        if problem := side_problem(side):
            raise UsageError(f"size {word:.40}: {problem}")
    return sides[0], sides[-1]


def resolve_shape(
    sample: Sample, size: str | None, mode: str | None, largest_side: int, fit: str = "crop"
) -> tuple[ImageShape, list[str]]:
    """Return the training shape; a size or mode that is None is chosen from the images.

    Args:
        sample: Some of the images; they are read unless both size and mode are given.
        size: As in ``parse_size``, or None to choose one.
        mode: ``grey``, ``rgb`` or ``rgba``, or None to choose one.
        largest_side: Limit for a chosen size. Square images get at most this side; other images
            get sides whose geometric mean is at most this.
        fit: How the images get the shape, for the sentences.

    Returns:
        The shape, and one sentence for each choice that was made here.

    Raises:
        UsageError: the size or mode is not allowed.
        DataError: no image of the sample can be read.
    """
    if mode is not None and mode not in MODES:
        raise UsageError(f"there is no colour mode '{mode}'. Choose from {', '.join(MODES)}")
    given = parse_size(size) if size else None
    if isinstance(sample.source, BuiltinSource):
        own = sample.source.procedural
        found = Probe(
            ((own.default_side, own.default_side),),
            next(name for name, channels in MODES.items() if channels == own.channels),
            "the mode of this data set",
        )
    elif given and mode:
        return ImageShape(*given, MODES[mode]), []
    else:
        found = probe(sample.images())
    notes = []
    height, width = given or _choose_size(found, largest_side)
    if not given:
        reason = _size_reason(found, (height, width), fit, largest_side)
        notes.append(f"size {height}x{width}: {reason}")
    if mode is None:
        mode = found.mode
        notes.append(f"mode {mode}: {found.reason}")
    return ImageShape(height, width, MODES[mode]), notes


def about_given_size(sample: Sample, size: str | None, fit: str, largest_side: int) -> list[str]:
    """Return sentences on a size that was given: whether it cuts or enlarges the images much.

    Args:
        sample: Some of the images; they are read unless ``size`` is None.
        size: As in ``parse_size``, or None if none was given.
        fit: How the images get the shape.
        largest_side: As in ``resolve_shape``, for the size that is recommended.

    Raises:
        UsageError: the size is not allowed.
        DataError: no image of the sample can be read.
    """
    if size is None or isinstance(sample.source, BuiltinSource):
        return []
    shape = parse_size(size)
    sizes = [description(image).size for image in sample.images()]
    return given_words(sizes, shape, fit, largest_side)


def _choose_size(found: Probe, largest_side: int) -> tuple[int, int]:
    """Return (height, width) for the images, limited by their size.

    ``largest_side`` limits the side of a square, else the geometric mean of both sides. Images of
    one size that is allowed keep it. Images that are nearly square become square. For all others
    it is the shape with the nearest aspect. No side is below 16.
    """
    if len(set(found.sizes)) == 1:
        ((columns, rows),) = set(found.sizes)
        if not (side_problem(rows) or side_problem(columns) or rows * columns > largest_side**2):
            return rows, columns
    width, height = (float(np.median(side)) for side in zip(*found.sizes, strict=True))
    if abs(math.log(median_aspect(found.sizes))) < _SQUARE_BAND:
        side = _round_side(min(width, height, largest_side))
        return side, side
    return nearest_aspect(found.sizes, largest_side)


def _round_side(side: float) -> int:
    """Round down to a multiple of 8 (of 4 below 32), within 16 to 512."""
    step = SIDE_MULTIPLE if side < 32 else 2 * SIDE_MULTIPLE
    return int(min(max(side // step * step, MIN_SIDE), MAX_SIDE))


def _size_reason(found: Probe, shape: tuple[int, int], fit: str, largest_side: int) -> str:
    sizes = sorted(set(found.sizes), key=lambda s: (s[0] * s[1], s))
    (w0, h0), (w1, h1) = sizes[0], sizes[-1]
    if len(sizes) == 1 and (h0, w0) == shape:
        return "the size of the images"
    which = f"{h0}x{w0}" if len(sizes) == 1 else f"{h0}x{w0} to {h1}x{w1}"
    lost = lost_words(found.sizes, shape, fit)
    better = better_size(found.sizes, shape, fit, largest_side)
    return f"the images are {which}{lost}{better or ' (choose another with --size)'}"
