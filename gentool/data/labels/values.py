"""From the cells of a column to labels: whole numbers, texts, or nothing."""

import re
import unicodedata
from collections.abc import Sequence

from gentool.data.labels.tables import readable

Label = int | str
_WHOLE = re.compile(r"[+-]?\d{1,18}(\.0*)?")
_EMPTY = frozenset({"", "nan"})


def label_of(cell: object) -> str | None:
    """Return the label in a cell as text; None for an empty cell.

    Raises:
        ValueError: the cell has several labels or an object.
    """
    if isinstance(cell, list | tuple) and len(cell) == 1:
        cell = cell[0]
    if cell is None:
        return None
    if isinstance(cell, list | tuple | dict):
        raise ValueError(f"{cell!r:.60} is not one class")
    word = unicodedata.normalize("NFC", readable(str(cell))).strip()
    return None if word.casefold() in _EMPTY else word


def name_of(cell: object) -> str:
    """Return the name of an image in a cell; an image of the hub is an object with a path."""
    if isinstance(cell, dict):
        cell = next((cell[key] for key in ("path", "file_name", "filename") if key in cell), None)
    return "" if cell is None else str(cell)


def as_labels(words: Sequence[str | None]) -> list[Label | None]:
    """Return labels as whole numbers if all of them are; 3.0 is 3. Others stay texts.

    In a column of numbers that are not all whole, nothing is changed.
    """
    distinct = {word for word in words if word is not None}
    whole = {word for word in distinct if _WHOLE.fullmatch(word)}
    table: dict[str | None, Label | None] = {None: None}
    if whole == distinct:
        table |= {word: int(word.partition(".")[0]) for word in distinct}
    elif any(_is_fraction(word) for word in distinct - whole):
        table |= {word: word for word in distinct}
    else:
        table |= {word: word.partition(".")[0] if word in whole else word for word in distinct}
    return [table[word] for word in words]


def _is_fraction(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
