"""Choose one scale for the deep images of a set from a sample of them.

Integers without negative values get the number of bits that the largest value needs: 8, 10, 12, 14
or 16, and each number of bits above. If the largest value is in the upper half of the range of the
type, the levels are this range. Floating point gets [0, 1] or [0, 255] if the values use a good
part of it, else the range of the values. The range of the values is also taken for negative ones.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gentool.core.messages import WARNING
from gentool.data.deep_images import DeepValues, deep_values, is_dark_wide_colour, is_wide_colour
from gentool.data.levels import AUTO, FULL, Levels, parse_levels
from gentool.data.reading import Sample
from gentool.data.sources.table import BuiltinSource

_DEPTHS = (8, 10, 12, 14, 16)
_USED = 1 / 16  # share of [0, 1] that floating point must reach for these levels
_RARE = 0.01  # percent of the values that may be outliers
_FAR = 1.0  # outliers are this many usual ranges away from the usual values
_RAISED = 0.5  # floating point whose values all lie above this part of the largest gets LOW > 0
_TOLD = 0.01  # share of values outside the levels from which a note says so


def resolve_levels(sample: Sample, word: str | None) -> tuple[str, list[str]]:
    """Return ``full`` or ``LOW:HIGH``, and sentences on it.

    Args:
        sample: Some of the images; they are read unless the levels are ``full``.
        word: ``auto`` or None to choose, ``full`` or ``LOW:HIGH``.

    Raises:
        UsageError: the levels are not allowed.
        DataError: no image of the sample can be read.
    """
    given = None if word in (None, AUTO, FULL) else parse_levels(str(word))
    if word == FULL or isinstance(sample.source, BuiltinSource):
        return str(given or FULL), []
    count = wide = dark = 0
    deep: list[DeepValues] = []
    for image in sample.images():
        count += 1
        found = deep_values(image)
        wide += found is None and is_wide_colour(image)
        dark += found is None and is_dark_wide_colour(image)
        deep += [] if found is None else [found]
    notes = []
    if wide:
        notes.append(f"{wide:,} of {count:,} inspected images have 16 bits per colour, of which "
                     "the upper 8 are used")  # fmt: skip
    if dark:
        notes.append(f"{WARNING}{dark:,} of them become nearly black, as they use few of the 16 "
                     "bits: save them as RGB PNG, or with 8 bits")  # fmt: skip
    if not deep:
        return str(given or FULL), notes
    levels, why = (given, "") if given else choose_levels(deep)
    more = "" if given else f"{why} (choose others with --levels)"
    notes.insert(0, f"levels {levels or FULL}: {_said(deep, count)}{more}")
    if levels is not None and (told := _outside(deep, levels)):
        notes.insert(1, told)
    return str(levels or FULL), notes


def choose_levels(deep: Sequence[DeepValues]) -> tuple[Levels | None, str]:
    """Return the levels for the values of some deep images, and why, as a clause or empty.

    None stands for ``full``.

    Args:
        deep: The values of each image, at least one.
    """
    floats = [values for values in deep if not values.white]
    whole = [values for values in deep if values.white]
    low, high = min(v.low for v in deep), max(v.high for v in deep)
    if floats and whole and max(v.high for v in floats) <= 1 and low >= 0:
        return None, ", of which floating point keeps [0, 1]"
    if low < 0 or not whole:
        return _of_range(deep, low, high), ""
    white = max(values.white for values in whole)
    if high > white / 2:
        return Levels(0.0, white), ", which use the range of their type"
    bits = max(1, math.ceil(math.log2(math.floor(high) + 1)))
    depth = next((depth for depth in _DEPTHS if depth >= bits), bits)
    return Levels(0.0, 2.0**depth - 1), f", which need {depth} bits"


def _of_range(deep: Sequence[DeepValues], low: float, high: float) -> Levels:
    """Return levels for floating point, or for integers of which some are negative."""
    if low >= 0 and _USED < high <= 1:
        return Levels(0.0, 1.0)
    if low >= 0 and 127.5 < high <= 255 and low <= high * _RAISED:
        return Levels(0.0, 255.0)
    low, high = _without_outliers(np.concatenate([values.some for values in deep]), low, high)
    if 0 <= low <= high * _RAISED:
        low = 0.0
    if high <= low:
        return Levels(low, low + 1.0)
    step = 10.0 ** (math.floor(math.log10(high - low)) - 2)
    return Levels(_rounded(low, step, math.floor), _rounded(high, step, math.ceil))


def _without_outliers(some: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    """Return the range without a few values that are far from all others.

    One value far below all others stands for pixels that were not measured, such as -9999.
    """
    if low < 0:
        rest = some[some > low]
        if len(rest) and rest.min() - low > high - rest.min() > 0:
            low, some = float(rest.min()), rest
    first, last = np.percentile(some, [_RARE, 100 - _RARE])
    usual = last - first
    if usual > 0:
        low = first if first - low > _FAR * usual else low
        high = last if high - last > _FAR * usual else high
    return float(low), float(high)


def _rounded(value: float, step: float, towards: Callable[[float], int]) -> float:
    """Return ``value`` as a multiple of ``step``, without the noise of its division."""
    return float(f"{towards(round(value / step, 6)) * step:.12g}")


def _said(deep: Sequence[DeepValues], count: int) -> str:
    """Return which values the deep ones among ``count`` inspected images have."""
    low, high = min(v.low for v in deep), max(v.high for v in deep)
    which = f"all {count:,}" if len(deep) == count else f"{len(deep):,} of {count:,}"
    return f"{which} inspected have values of {_number(low)} to {_number(high)}"


def _outside(deep: Sequence[DeepValues], levels: Levels) -> str:
    """Return a sentence on values outside the levels; empty if there are few."""
    some = np.concatenate([values.some for values in deep])
    below, above = (some < levels.low).mean(), (some > levels.high).mean()
    parts = [
        f"{share:.0%} of the inspected values are {side}"
        for share, side in ((below, f"below {levels.low:g} and become black"),
                            (above, f"above {levels.high:g} and become white"))
        if share > _TOLD
    ]  # fmt: skip
    return " and ".join(parts)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
