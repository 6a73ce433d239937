"""Levels: which values of deep images become black and white.

Deep images have more than 8 bits per value: integers with 16 or 32 bits, or floating point. A set
of them has one scale, so that equal values give equal pixels in all images. Opens no file.
"""

import math
from dataclasses import dataclass

from gentool.core.errors import UsageError
from gentool.core.registry import name_error

AUTO, FULL = "auto", "full"


@dataclass(frozen=True)
class Levels:
    """The scale of deep images.

    Attributes:
        low: The value that becomes black; it is also black below.
        high: The value that becomes white; it is also white above.
    """

    low: float
    high: float

    def __str__(self) -> str:
        return f"{_short(self.low)}:{_short(self.high)}"


def parse_levels(word: str) -> Levels | None:
    """Return the levels of ``LOW:HIGH``; None for ``full``, the range of each image's type.

    Raises:
        UsageError: it is neither, or HIGH is not above LOW.
    """
    if word == FULL:
        return None
    low, colon, high = word.partition(":")
    if not colon:
        names = [AUTO, FULL]
        raise name_error("choice of levels", word, names, "choices: auto, full, or LOW:HIGH")
    try:
        found = Levels(float(low), float(high))
    except ValueError:
        raise UsageError(
            f"levels '{word:.40}': LOW and HIGH are numbers, such as 0:4095 or -1024:3071"
        ) from None
    if not (math.isfinite(found.low) and math.isfinite(found.high) and found.low < found.high):
        raise UsageError(f"levels '{word:.40}': HIGH must be above LOW, for example 0:4095")
    return found


def _short(value: float) -> str:
    """Return a number in few digits, from which the same number is read again."""
    whole = float(value).is_integer() and abs(value) < 1e15
    return str(int(value)) if whole else repr(value)
