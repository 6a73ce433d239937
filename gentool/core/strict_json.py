"""A strict JSON parser of bounded cost, for text that is not trusted.

JSON parsers differ in how they read repeated keys and numbers that no float can hold, so text
with either is refused. A parsed value needs up to a hundred times the memory of its text, so the
number of values is bounded before parsing.
"""

import json
import math
from itertools import chain
from typing import Any

_MAX_VALUES = 250_000
_MAX_DIGITS = 20
_MAX_DEPTH = 16


def parse_json(data: bytes) -> Any:
    """Return the value of a JSON text in UTF-8.

    Raises:
        ValueError: The text is not JSON, repeats a key, has a number that is not finite, an
            integer of more than 20 characters or more than about 250,000 values, or is nested
            16 levels deep or more.
    """
    if sum(data.count(mark) for mark in (b"{", b"[", b",")) > _MAX_VALUES:
        raise ValueError("it has more values than a header may have")
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_once,
            parse_constant=_finite,
            parse_float=_finite,
            parse_int=_short_int,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check_depth(value)
    return value


def _check_depth(value: object) -> None:
    """Limit the depth far below that of the parser, because writing needs more stack than reading.

    Raises:
        ValueError: The value is nested too deeply.
    """
    level: list[object] = [value]
    for _ in range(_MAX_DEPTH):
        inner = [v.values() if isinstance(v, dict) else v
                 for v in level if isinstance(v, dict | list)]  # fmt: skip
        if not inner:
            return
        level = list(chain.from_iterable(inner))
    raise ValueError("it is nested too deeply")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _finite(word: str) -> float:
    if not math.isfinite(value := float(word)):
        raise ValueError("a number is not finite")
    return value


def _short_int(word: str) -> int:
    if len(word) > _MAX_DIGITS:
        raise ValueError("a number has too many digits")
    return int(word)
