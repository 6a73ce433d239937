"""From a table of labels and the names of images to the class of each image."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import DataError
from gentool.data.labels.columns import Columns, choose_columns, is_marked
from gentool.data.labels.matching import Match, Rows, match_rows
from gentool.data.labels.tables import Table
from gentool.data.labels.values import Label, as_labels, label_of, name_of

_FILE_COLUMN = "--labels FILE:COLUMN"


class Assigned(NamedTuple):
    """The class of each image.

    Attributes:
        classes: Class names.
        labels: Index into ``classes`` per image, int32 (N,); -1 for an image without a label.
        notes: What the user should know, one sentence each.
        column: Name of the column of labels; "" if it has none.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int32]
    notes: tuple[str, ...]
    column: str


class Given(NamedTuple):
    """A file of labels and how it is used.

    Attributes:
        file: Its name, for messages.
        table: Its table.
        asked: The column that is asked for, or None.
    """

    file: str
    table: Table
    asked: str | None


def assign(given: Given, names: Sequence[str], root: str, max_bad: float) -> Assigned:
    """Return the class of each image.

    Args:
        given: The file of labels.
        names: Names of the images.
        root: Path of the place that the names begin at.
        max_bad: Share of the images that may have no label, and of rows that may fit no image.

    Raises:
        DataError: the file and the images do not match.
        ValueError: a row cannot be used.
    """
    file, table, asked = given
    columns = choose_columns(file, table, names, asked)
    rows = _rows(given, columns)
    rows, match = _without_header(rows, match_rows(names, rows, root))
    found = [None if k < 0 else rows.labels[k] for k in match.row.tolist()]
    if not any(label is not None for label in found):
        raise _nothing_fits(rows, names, match)
    notes = [
        *_unlabelled(rows, names, match, found, max_bad),
        *_unused(rows, len(names), match, max_bad),
    ]
    classes, labels = ranked(found)
    word = "class" if len(classes) == 1 else "classes"
    first = f"{len(classes):,} {word} from {file}, {_which(table, columns)}"
    column = table.columns[columns.label] if table.named and not columns.marks else ""
    return Assigned(classes, labels, (first, *notes), column)


def _which(table: Table, columns: Columns) -> str:
    """Return in words which column has the labels, or that each column is a class."""
    if columns.marks:
        return f"a column for each, marked with 1 ({_FILE_COLUMN} takes one of them)"
    name = table.columns[columns.label] if table.named else ""
    return f"column {name or columns.label + 1}"


def ranked(found: Iterable[Label | None]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Return class names, numbers by value before texts, and labels, int32 (N,); -1 for None."""
    seen: dict[Label | None, int] = {}
    numbers = np.fromiter((seen.setdefault(label, len(seen)) for label in found), np.int32)
    ordered = sorted(
        (label for label in seen if label is not None),
        key=lambda label: (isinstance(label, str), label),
    )
    place: dict[Label | None, int] = {label: k for k, label in enumerate(ordered)}
    rank = np.array([place.get(label, -1) for label in seen], dtype=np.int32)
    return tuple(str(label) for label in ordered), rank[numbers]


def share_for(count: int, total: int) -> float:
    """Return the smallest ``--max-bad``, in whole percents, that allows ``count`` of ``total``."""
    return min(math.ceil(100 * count / total) / 100, 1)


def _rows(given: Given, columns: Columns) -> Rows:
    """Return the names and labels of all rows.

    Raises:
        ValueError: a row cannot be used.
    """
    names, words, numbers = list[str](), list[str | None](), list[int]()
    for number, cells in given.table.rows():
        try:
            words.append(label_of(_label(given.table, columns, cells)))
        except ValueError as error:
            raise ValueError(f"row {number}: {error}") from None
        names.append(name_of(cells[columns.name]))
        numbers.append(number)
    return Rows(given.file, names, as_labels(words), numbers, given.table.first)


def _label(table: Table, columns: Columns, cells: Sequence[object]) -> object:
    """Return the label in a row: a cell, or the name of the column that is marked."""
    if not columns.marks:
        return cells[columns.label]
    return next(table.columns[k].strip() for k in columns.marks if is_marked(cells[k]))


def _without_header(rows: Rows, match: Match) -> tuple[Rows, Match]:
    """Leave out the first row if it fits no image and so must be a header in unknown words.

    It is a row like the others if its name is a number or its label that of another row.
    """
    if not rows.first or match.unused[:1] != [0]:
        return rows, match
    if rows.names[0].strip().isdecimal() or rows.labels[0] in rows.labels[1:]:
        return rows, match
    words = [None if label is None else str(label) for label in rows.labels[1:]]
    labels = [None, *as_labels(words)]
    return rows._replace(labels=labels), Match(match.row, match.unused[1:])


def _nothing_fits(rows: Rows, names: Sequence[str], match: Match) -> DataError:
    """Return the error for a file of labels that has a label for no image."""
    if not rows.names:
        return DataError(f"{rows.file} has no rows. Write one for each image: path,label")
    if (match.row >= 0).any():
        return DataError(
            f"{rows.file} has no label for {len(names):,} of {len(names):,} images: the column is "
            "empty. Ask for another with --labels FILE:COLUMN"
        )
    k = match.unused[0] if match.unused else 0
    return DataError(
        f"{rows.file} has no label for {len(names):,} of {len(names):,} images: row "
        f"{rows.numbers[k]} names {rows.names[k]:.100}, the first image is {names[0]:.100}. "
        "Write paths relative to the root of the source, or give --labels none"
    )


def _unlabelled(
    rows: Rows, names: Sequence[str], match: Match, found: list[Label | None], max_bad: float
) -> list[str]:
    """Return a note on images without a label.

    Raises:
        DataError: there are more than ``max_bad`` allows.
    """
    without = [k for k, label in enumerate(found) if label is None]
    if not without:
        return []
    empty = [rows.numbers[match.row[k]] for k in without if match.row[k] >= 0]
    first = names[without[0]][:200] + (f" ({len(empty):,} empty, row {empty[0]})" if empty else "")
    total = len(names)
    if len(without) > max_bad * total:
        raise DataError(
            f"{rows.file} has no label for {len(without):,} of {total:,} images; the first is "
            f"{first}; --max-bad is {max_bad:g}. Write a row for each, leave them out with "
            f"--max-bad {share_for(len(without), total):g}, or choose --labels folders or none"
        )
    verb = "is" if len(without) == 1 else "are"
    return [
        f"{len(without):,} of {total:,} images {verb} left out, as {rows.file} has no label for "
        f"them; the first is {first}"
    ]


def _unused(rows: Rows, images: int, match: Match, max_bad: float) -> list[str]:
    """Return a note on rows for images that are not there.

    Raises:
        DataError: there are more than ``max_bad`` allows.
    """
    if not match.unused:
        return []
    count, k = len(match.unused), match.unused[0]
    first = f"{rows.names[k]:.200} (row {rows.numbers[k]})"
    word = "image that does" if count == 1 else "images that do"
    told = f"{rows.file} names {count:,} {word} not exist; the first is {first}"
    total = max(images, len(rows.names))
    if count > max_bad * total:
        raise DataError(
            f"{told}; --max-bad is {max_bad:g}. Its paths must be relative to the root of the "
            f"source. Remove these rows, or allow them with --max-bad {share_for(count, total):g}"
        )
    return [told]
