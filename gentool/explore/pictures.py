"""Pictures that the page asks for, as JSON: where each starts, and how it is moved from there.

The page is not trusted: each value is checked, and nothing in it names a file.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gentool.core.errors import UsageError
from gentool.core.options import Scalar
from gentool.core.rng import MAX_SEED

MOST_PICTURES = 256  # in one request
_MOST_KEYS, _MOST_MOVES, _FURTHEST = 64, 64, 100.0
_PHOTO = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Sample:
    """A sample of a seed, with the options by which it is drawn."""

    seed: int
    index: int
    class_name: str | None = None
    drawing: tuple[tuple[str, Scalar], ...] = ()


@dataclass(frozen=True)
class Photo:
    """A photo that was dropped on the page, as the model reconstructs it."""

    name: str


@dataclass(frozen=True)
class Between:
    """A place on the path through other pictures, from 0 at the first to K - 1 at the last."""

    keys: tuple["Picture", ...]
    at: float


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        start: Where it starts.
        by: How directions are found.
        moves: Numbers of directions, each with a distance in standard deviations.
    """

    start: Sample | Photo | Between
    by: str = "principal"
    moves: tuple[tuple[int, float], ...] = ()


def parse_pictures(value: object) -> list[Picture]:
    """Return the pictures in a list of JSON objects.

    Raises:
        UsageError: it is no such list, or too long.
    """
    rows = _list(value, "pictures", MOST_PICTURES)
    if not rows:
        raise UsageError("no pictures are given")
    return [parse_picture(row) for row in rows]


def parse_picture(value: object, *, inner: bool = False) -> Picture:
    """Return the picture in a JSON object.

    Args:
        value: The object.
        inner: Whether it is a key of a path, which is no path itself.

    Raises:
        UsageError: it is no such object.
    """
    row = _object(value, "a picture", ("start", "by", "moves"))
    moves = _list(row.get("moves", []), "moves", _MOST_MOVES)
    by = row.get("by", "principal")
    if not isinstance(by, str) or len(by) > 40:
        raise UsageError("'by' is not the name of a kind of directions")
    return Picture(_start(row.get("start"), inner=inner), by, tuple(map(_move, moves)))


def _start(value: object, *, inner: bool) -> Sample | Photo | Between:
    row = _object(value, "a start", ("seed", "index", "class", "drawing", "photo", "keys", "at"))
    if "photo" in row:
        name = row["photo"]
        if not isinstance(name, str) or not _PHOTO.fullmatch(name):
            raise UsageError("a photo is named by 16 hexadecimal digits")
        return Photo(name)
    if "keys" in row:
        keys = _list(row["keys"], "keys", _MOST_KEYS)
        if inner or len(keys) < 2:
            raise UsageError("a path needs at least two pictures, which are no paths themselves")
        at = _number(row.get("at"), "at", 0.0, len(keys) - 1.0)
        return Between(tuple(parse_picture(key, inner=True) for key in keys), at)
    name = row.get("class")
    if name is not None and (not isinstance(name, str) or len(name) > 10_000):
        raise UsageError("a class is named by a text")
    return Sample(
        _whole(row.get("seed"), "seed", MAX_SEED), _whole(row.get("index"), "index", 2**53), name,
        _drawing(row.get("drawing", {})),
    )  # fmt: skip


def _drawing(value: object) -> tuple[tuple[str, Scalar], ...]:
    if not isinstance(value, dict) or len(value) > 20:
        raise UsageError("'drawing' is not an object of options")
    for name, setting in value.items():
        if type(setting) not in (int, float) or not math.isfinite(setting):
            raise UsageError(f"{name:.40} is not a number")
    return tuple(sorted(value.items()))


def _move(value: object) -> tuple[int, float]:
    row = _list(value, "a move", 2)
    if len(row) != 2:
        raise UsageError("a move is the number of a direction and a distance")
    return _whole(row[0], "direction", 4095), _number(row[1], "move", -_FURTHEST, _FURTHEST)


def _object(value: object, what: str, known: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or not set(value) <= set(known):
        raise UsageError(f"{what} is an object with {', '.join(known)}")
    return value


def _list(value: object, what: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise UsageError(f"{what}: give a list of at most {most}")
    return value


def _whole(value: object, what: str, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise UsageError(f"{what} is {value!s:.40}; allowed: 0 to {most:,}")
    return value


def _number(value: object, what: str, low: float, high: float) -> float:
    if type(value) not in (int, float) or not low <= float(str(value)) <= high:
        raise UsageError(f"{what} is {value!s:.40}; allowed: {low:g} to {high:g}")
    return float(str(value))
