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
    sample: Sample, size: str | None, mode: str | None, largest_side: int
) -> tuple[ImageShape, list[str]]:
    """Return the training shape; a size or mode that is None is chosen from the images.

    Args:
        sample: Some of the images; they are read unless both size and mode are given.
        size: As in ``parse_size``, or None to choose one.
        mode: ``grey``, ``rgb`` or ``rgba``, or None to choose one.
        largest_side: Limit for a chosen size. Square images get at most this side; other images
            get sides whose geometric mean is at most this.

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
        notes.append(f"size {height}x{width}: {_size_reason(found, height, width)}")
    if mode is None:
        mode = found.mode
        notes.append(f"mode {mode}: {found.reason}")
    return ImageShape(height, width, MODES[mode]), notes


def _choose_size(found: Probe, largest_side: int) -> tuple[int, int]:
    """Return (height, width) with the aspect of the images, limited by their size.

    ``largest_side`` limits the side of a square, else the geometric mean of both sides. The
    aspect is limited to 1:2 and 2:1. No side is below 16.
    """
    width, height = (float(np.median(side)) for side in zip(*found.sizes, strict=True))
    aspect = float(np.median([w / h for w, h in found.sizes]))
    if abs(math.log(aspect)) < _SQUARE_BAND:
        side = _round_side(min(width, height, largest_side))
        return side, side
    # Beyond 1:2, cropping loses less than the smaller shape saves.
    stretch = math.sqrt(min(max(aspect, 0.5), 2.0))
    scale = min(largest_side, width / stretch, height * stretch)
    return _round_side(scale / stretch), _round_side(scale * stretch)


def _round_side(side: float) -> int:
    """Round down to a multiple of 8 (of 4 below 32), within 16 to 512."""
    step = SIDE_MULTIPLE if side < 32 else 2 * SIDE_MULTIPLE
    return int(min(max(side // step * step, MIN_SIDE), MAX_SIDE))


def _size_reason(found: Probe, height: int, width: int) -> str:
    sizes = sorted(set(found.sizes), key=lambda s: s[0] * s[1])
    if len(sizes) == 1:
        own_width, own_height = sizes[0]
        if (own_height, own_width) == (height, width):
            return "the size of the images"
        return f"the images are {own_height}x{own_width} (choose another with --size)"
    (w0, h0), (w1, h1) = sizes[0], sizes[-1]
    return f"the images are {h0}x{w0} to {h1}x{w1} (choose another with --size)"
