"""Recognise files that only list the names of classes, and say of no image which it has."""

import json

from gentool.data.labels.tables import decode_text
from gentool.data.labels.words import has_image_suffix

_MOST_BYTES = 2**20
_WORDS = ("class", "categor", "label", "names")  # in the name of a text that lists classes


def lists_classes(name: str, data: bytes) -> bool:
    """Return whether a file lists classes: a list of texts, or texts with their numbers.

    Args:
        name: The file's name.
        data: Its bytes.
    """
    if len(data) > _MOST_BYTES:
        return False
    try:
        text = decode_text(data).lstrip("\ufeff")
        if text.lstrip()[:1] in ("{", "["):
            return _are_classes(json.loads(text))
    except (ValueError, RecursionError):
        return False
    words = [line.strip() for line in text.splitlines() if line.strip()]
    plain = not any(set(";,|\t") & set(word) or has_image_suffix(word) for word in words)
    return len(words) > 1 and plain and any(part in name.lower() for part in _WORDS) and not any(
        word.rpartition(" ")[2].isdecimal() for word in words
    )  # fmt: skip


def _are_classes(whole: object) -> bool:
    if isinstance(whole, list):
        return len(whole) > 1 and all(map(_is_word, whole))
    if not isinstance(whole, dict) or not whole:
        return False
    if len(whole) == 1:
        (value,) = whole.values()
        return isinstance(value, list | dict) and _are_classes(value)
    numbered = all(key.isdecimal() and _is_word(value) for key, value in whole.items())
    numbers = [value for key, value in whole.items() if _is_word(key) and type(value) is int]
    if len(numbers) == len(whole):
        return sorted(numbers) in (list(range(len(whole))), list(range(1, len(whole) + 1)))
    return numbered and sorted(map(int, whole)) in (
        list(range(len(whole))), list(range(1, len(whole) + 1)),
    )  # fmt: skip


def _is_word(value: object) -> bool:
    return isinstance(value, str) and not has_image_suffix(value)
