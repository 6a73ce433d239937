"""Choose the column of names and the column of labels of a table."""

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from gentool.core.errors import DataError
from gentool.data.labels.tables import Row, Table
from gentool.data.labels.values import name_of
from gentool.data.labels.words import (
    INDEX_WORDS,
    LABEL_WORDS,
    NAME_WORDS,
    OTHER_WORDS,
    fold_word,
    has_image_suffix,
)

_SHOWN = 12  # most columns that a message names
_MARKS = {
    "1": True, "1.0": True, "true": True, "0": False, "0.0": False, "-1": False, "-1.0": False,
    "false": False,
}  # fmt: skip


class Columns(NamedTuple):
    """The columns that are used.

    Attributes:
        name: Position of the column of names.
        label: Position of the column of labels.
        fits: Whether one of the first rows names an image.
        known: Whether the column of names is called like one.
        marks: Positions of the columns that are classes themselves, where each row marks one of
            them with 1 and the others with 0; empty if ``label`` has the labels.
    """

    name: int
    label: int
    fits: bool
    known: bool
    marks: tuple[int, ...] = ()


class NoColumn(DataError):
    """No column is the label, or several could be.

    Attributes:
        several: Whether several columns have the name of a label.
        columns: The columns that may be asked for.
        fits: Whether one of the first rows names an image.
    """

    several = False
    fits = False
    columns: tuple[str, ...] = ()


def choose_columns(file: str, table: Table, names: Iterable[str], asked: str | None) -> Columns:
    """Return the columns of names and labels.

    Args:
        file: Name of the file, for messages.
        table: Its table.
        names: Names of all images.
        asked: Name of the column of labels, or its number counted from 1; None to choose it.

    Raises:
        NoColumn: no column can be the label, or several can and none is asked for.
        DataError: there is no such column.
    """
    rows = table.sample()
    if not rows:
        raise DataError(
            f"{file} has no rows below its header. Write one for each image: path,label"
        )
    named = [fold_word(column) for column in table.columns]
    label = None if asked is None else find_column(file, table, asked)
    name, fits = _name_column(table, named, rows, names, label)
    if label is None:
        try:
            label = _label_column(file, table, named, rows, name)
        except NoColumn as error:
            if marks := _one_hot(table, named, name):
                return Columns(name, marks[0], fits, named[name] in NAME_WORDS, marks)
            error.fits = fits
            raise
    elif label == name:
        raise DataError(
            f"{file}: the column {asked:.40} has the names of the images. "
            f"{_allowed(table, [k for k in range(len(named)) if k != name])}"
        )
    return Columns(name, label, fits, named[name] in NAME_WORDS)


def find_column(file: str, table: Table, asked: str) -> int:
    """Return the position of a column that is asked for by its name or number.

    Raises:
        DataError: there is none, or the name fits several.
    """
    everything = range(len(table.columns))
    for fold in (str, str.strip, fold_word):
        wanted = fold(asked)
        found = [k for k in everything if wanted and fold(table.columns[k]) == wanted]
        if len(found) > 1:
            raise DataError(
                f"{file} has {len(found)} columns called {asked:.40}. Ask for one by its number: "
                f"{file}:{found[0] + 1}"
            )
        if found:
            return found[0]
    if asked.isdecimal() and 1 <= int(asked) <= len(table.columns):
        return int(asked) - 1
    raise DataError(f"{file} has no column {asked:.40}. {_allowed(table, everything)}")


def _name_column(
    table: Table, named: list[str], rows: list[Row], names: Iterable[str], label: int | None
) -> tuple[int, bool]:
    """Return the column whose cells are names of images, and whether one of them is there.

    That is the column with most names of images in it. Of equal columns, it is the one with the
    name of such a column, then the one with suffixes, then the first.
    """
    cells = [{_stem(row[k]) for _, row in rows} - {""} for k in range(len(named))]
    wanted = set().union(*cells)
    there = {stem for stem in map(_stem, names) if stem in wanted}

    def rank(column: int) -> tuple[bool, int, int, int, int]:
        word = named[column]
        order = NAME_WORDS.index(word) if word in NAME_WORDS else len(NAME_WORDS)
        suffixes = sum(has_image_suffix(name_of(row[column])) for _, row in rows)
        return (column == label, -len(cells[column] & there), order, -suffixes, column)

    able = [k for k in range(len(named)) if named[k] not in LABEL_WORDS] or list(range(len(named)))
    chosen = min(able, key=rank)
    if label is not None and cells[label] & there and not cells[chosen] & there:
        chosen = label
    return chosen, bool(cells[chosen] & there)


def _stem(cell: object) -> str:
    """Return the last part of a path without suffix and leading zeros, in lower case."""
    word = name_of(cell).replace("\\", "/").rpartition("/")[2].strip()
    if not word.isascii():
        word = unicodedata.normalize("NFC", word)
    word = word.casefold()
    if has_image_suffix(word):
        word = word.rpartition(".")[0]
    return word.lstrip("0") or word[:1]


def _label_column(file: str, table: Table, named: list[str], rows: list[Row], name: int) -> int:
    """Return the column of labels.

    Raises:
        NoColumn: there is none, or there are several.
    """
    others = [k for k in range(len(named)) if k != name and not _is_index(k, table, named, rows)]
    labels = [k for k in others if named[k] in LABEL_WORDS]
    if len(labels) > 1 and _say_the_same(labels, table.rows()):
        return min(labels, key=lambda k: (all(_is_number(row[k]) for _, row in rows), k))
    if len(labels) == 1:
        return labels[0]
    able = [k for k in others if named[k] not in OTHER_WORDS and named[k] not in NAME_WORDS]
    if not labels and len(able) == 1:
        return able[0]
    why = "several columns that could be the label" if labels or able else "no column of labels"
    error = NoColumn(f"{file} has {why}. {_allowed(table, labels or others)}")
    error.several = bool(labels)
    error.columns = tuple(_called(table, k) for k in labels or others)
    raise error


def _one_hot(table: Table, named: list[str], name: int) -> tuple[int, ...]:
    """Return the columns of which each row marks exactly one; none if there are no such columns.

    They are all columns with nothing but marks in them. At least two of them are marked somewhere.
    """
    able = [k for k in range(len(named)) if named[k] not in (*OTHER_WORDS, "") and k != name]
    for _, row in table.sample():
        able = [k for k in able if is_marked(row[k]) is not None]
    if len(able) < 2 or len({named[k] for k in able}) < len(able):
        return ()
    used = set()
    for _, row in table.rows():
        marked = [k for k in able if is_marked(row[k])]
        if len(marked) != 1 or any(is_marked(row[k]) is None for k in able):
            return ()
        used.add(marked[0])
    return tuple(able) if len(used) > 1 else ()


def is_marked(cell: object) -> bool | None:
    """Return whether a cell marks its column: with 1 or true, not with 0, -1, false; else None."""
    return _MARKS.get(str(cell).strip().casefold())


def _is_index(column: int, table: Table, named: list[str], rows: list[Row]) -> bool:
    """Return whether a column only numbers the rows."""
    if table.named and named[column] not in INDEX_WORDS:
        return False
    if len(table.columns) < 3:
        return False
    try:
        numbers = [int(str(row[column])) for _, row in (rows if table.named else rows[1:])]
    except ValueError:
        return False
    return all(b - a == 1 for a, b in pairwise(numbers)) and (table.named or column == 0)


def _say_the_same(columns: list[int], rows: Iterable[Row]) -> bool:
    """Return whether the columns divide the rows into the same classes, as a name and a number."""
    told = {tuple(str(row[k]) for k in columns) for _, row in rows}
    each = [len({labels[k] for labels in told}) for k in range(len(columns))]
    return len(told) > 1 and set(each) == {len(told)}


def _is_number(cell: object) -> bool:
    try:
        float(str(cell))
    except ValueError:
        return False
    return True


def _allowed(table: Table, columns: Sequence[int]) -> str:
    """Return a sentence that says which columns may be asked for."""
    names = [_called(table, k) for k in columns[:_SHOWN]]
    more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
    if not names:
        return "Its only column has the names of the images"
    return f"Ask for one with --labels FILE:COLUMN; columns: {', '.join(names)}{more}"


def _called(table: Table, column: int) -> str:
    """Return what a column is asked for by: its name if only it has this name, else its number."""
    name = table.columns[column].strip()
    alone = sum(name == other.strip() for other in table.columns) == 1
    return name if name and alone else str(column + 1)
