"""What a run says about itself in words: how long it takes, how far it came, what its score means.

Only numbers that were measured are used, and every function depends on its arguments alone.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from gentool.core.progress_bar import clock

SCORE, REAL, PSNR = "fd_random", "fd_random/real", "psnr"  # names in the log
SPEED = "images_per_second"
_ENOUGH = 0.9  # fraction of the usual number of images from which a run is not called short
_STEPS_OF_MINUTES = ((60, 5), (240, 10), (math.inf, 60))  # up to so many minutes, multiples of


@dataclass(frozen=True)
class Measured:
    """What the log of a run says in the end; None for what was not measured.

    Attributes:
        seconds: Seconds that the run took, over all its commands.
        speed: Median of the images per second.
        score: The last Frechet distance of samples to the images.
        real: The same distance of other images of the data.
        psnr: PSNR of reconstructions of training images, in dB.
    """

    seconds: float | None = None
    speed: float | None = None
    score: float | None = None
    real: float | None = None
    psnr: float | None = None

    def scores(self) -> dict[str, float]:
        """Return the scores that were measured, by their names in the log."""
        found = {SCORE: self.score, REAL: self.real, PSNR: self.psnr}
        return {name: value for name, value in found.items() if value is not None}


def read_measured(records: Iterable[Mapping[str, Any]]) -> Measured:
    """Return what the lines of a log say in the end."""
    last: dict[str, float] = {}
    speeds = []
    for record in records:
        last |= {k: float(v) for k, v in record.items() if _is_number(v)}
        if _is_number(record.get(SPEED)) and record[SPEED] > 0:
            speeds.append(float(record[SPEED]))
    return Measured(
        last.get("seconds"), median(speeds) if speeds else None, last.get(SCORE), last.get(REAL),
        last.get(PSNR),
    )  # fmt: skip


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


# --- the budget ---------------------------------------------------------------------------------


def budget_words(images: int | None, minutes: float | None) -> str:
    """Return the budget in words.

    Args:
        images: The budget in images; None if it is in minutes.
        minutes: The budget in minutes; None if it is in images.
    """
    if images is not None:
        return f"{images:,} images"
    assert minutes is not None
    return f"{minutes:g} minute{'s' * (minutes != 1)}"


def pace_words(
    images: int | None, minutes: float | None, seen: float, left: float, speed: float
) -> str:
    """Return the budget in images and in minutes, by the measured speed.

    Args:
        images: The budget in images; None if it is in minutes.
        minutes: The budget in minutes; None if it is in images.
        seen: Images seen so far.
        left: Estimated seconds left.
        speed: Images per second.
    """
    given = budget_words(images, minutes)
    pace = f"at {speed:,.3g} images/s"
    if images is not None:
        return f"{given}, {about_time(left)} more {pace}"
    return f"{given}, about {_two_digits(seen + left * speed):,} images {pace}"


def about_time(seconds: float) -> str:
    """Return a time in words, such as ``about 40 minutes``."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} second{'s' * (round(seconds) > 1)}"
    if seconds < 100 * 60:
        return f"about {round(seconds / 60)} minutes"
    hours = seconds / 3600
    return f"about {hours:.1f} hours" if hours < 10 else f"about {hours:,.0f} hours"


def _two_digits(value: float) -> int:
    """Return a number rounded to two digits that count: 13,217 becomes 13,000."""
    whole = max(1, round(value))
    return round(whole, 2 - len(str(whole)))


# --- the figure of the bar ----------------------------------------------------------------------


def figure_of(score: float | None, psnr: float | None) -> tuple[str, str]:
    """Return the number that tells most about the run, with its direction, and a shorter form.

    Both are empty before anything was measured.

    Args:
        score: The last Frechet distance of samples to the images.
        psnr: The last PSNR of reconstructions, in dB.
    """
    if score is not None:
        return f"FD-random {score:.3g}, lower is better", f"FD-random {score:.3g}"
    if psnr is not None:
        return f"PSNR {psnr:.1f} dB, higher is better", f"PSNR {psnr:.1f} dB"
    return "", ""


def status_lines(
    images: int, speed: float | None, left: float | None, figure: tuple[str, str], losses: str
) -> list[str]:
    """Return what stands beside the bar, from the longest form to the shortest.

    Args:
        images: Images seen.
        speed: Images per second, if it is known.
        left: Seconds left, if that is known.
        figure: From ``figure_of``.
        losses: The losses in words.
    """
    seen = f"{images:,} images"
    pace = "" if speed is None else f"{speed:,.0f} images/s"
    rest = "" if left is None else f"{clock(left)} left"
    long, short = figure
    forms = (
        (seen, pace, rest, long, losses),
        (seen, pace, rest, long),
        (pace, rest, long),
        (pace, rest, short),
        (rest, short),
        (rest,),
    )
    return ["  ".join(filter(None, form)) for form in forms]


# --- the end of a run ---------------------------------------------------------------------------


def length_words(
    preset: str, images: int, usual: int, measured: Measured, *, in_minutes: bool,
    python: bool = False,
) -> str:  # fmt: skip
    """Return how many images the run saw of those that such a run usually sees, and how to go on.

    Args:
        preset: Name of the preset.
        images: Images seen.
        usual: Images that a finished run usually sees; see ``presets.usual_images``.
        measured: The time and the speed of the run.
        in_minutes: Whether the budget of the run is in minutes.
        python: Whether settings are named as arguments of ``gentool.train``, not as flags.
    """
    in_words = "{}={}" if python else "--{} {}"
    if images >= _ENOUGH * usual:
        return f"{images:,} images seen, enough: {preset} usually needs {usual:,} for such a set"
    told = f"{images:,} of the {usual:,} images that {preset} usually needs"
    if measured.speed is None:
        return f"{told}: go on with {in_words.format('images', usual)}"
    more = (usual - images) / measured.speed
    if not in_minutes or measured.seconds is None:
        return f"{told}: go on with {in_words.format('images', usual)} ({about_time(more)})"
    minutes = _round_up((measured.seconds + more) / 60)
    return f"{told}: go on with {in_words.format('minutes', minutes)}"


def _round_up(minutes: float) -> int:
    """Return a round number of minutes that is not smaller."""
    step = next(step for most, step in _STEPS_OF_MINUTES if minutes <= most)
    return math.ceil(minutes / step) * step


def score_words(measured: Measured) -> list[str]:
    """Return sentences on the score and on the reconstructions: what they are, what is good."""
    words = []
    if measured.score is not None:
        real = "" if measured.real is None else f", real images get {measured.real:.3g}"
        words.append(f"FD-random {measured.score:.3g}, distance to the data: lower is better{real}")
    if measured.psnr is not None:
        words.append(
            f"PSNR {measured.psnr:.1f} dB of reconstructed training images: higher is better"
        )
    return words
