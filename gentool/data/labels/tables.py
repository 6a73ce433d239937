"""Read the bytes of a file of labels as a table: text in columns, JSON and JSON lines."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from gentool.data.labels.words import LABEL_WORDS, NAME_WORDS, fold_word, has_image_suffix

Row = tuple[int, Sequence[object]]  # number of the row as an editor shows it, and its cells
_SAMPLED = 100  # rows by which the form of a table is recognised
_BLANKS = " "  # stands for runs of spaces and tabs
_FIRST_BLANK = "first blank"  # a name without spaces, and a label that may contain some
_SEPARATORS = ("\t", ";", ",", "|", _BLANKS)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
# How spreadsheets, parquet, pickles, images, gzip and databases begin.
_BINARY = (
    b"PK\3\4", b"\xd0\xcf\x11\xe0", b"PAR1", b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5", b"\x89PNG",
    b"\xff\xd8\xff", b"\x1f\x8b", b"SQLite",
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Rows of cells.

    Attributes:
        columns: Name of every column; "" for a column without a name.
        named: Whether the file names its columns.
        rows: Yields every row with its number. Raises ValueError for a row that does not fit.
        first: Number of the first row if that may be a header in unknown words, else 0.
    """

    columns: tuple[str, ...]
    named: bool
    rows: Callable[[], Iterator[Row]]
    first: int = 0

    def sample(self) -> list[Row]:
        """Return the first rows."""
        return list(islice(self.rows(), _SAMPLED))


def decode_text(data: bytes) -> str:
    """Return the text of a file: UTF-8, or UTF-16 and UTF-32, which are recognised.

    Bytes that are not UTF-8 are kept as surrogates, as Python does for file names.

    Raises:
        ValueError: it is not a text.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding)
    head = data[:1000]
    if not head.startswith(_BINARY):
        if 0 not in head:
            return data.decode("utf-8", "surrogateescape")
        if head[1::2].count(0) > len(head) // 4:
            return data.decode("utf-16-le")
        if head[0::2].count(0) > len(head) // 4:
            return data.decode("utf-16-be")
    raise ValueError("it is not a text file. Save a spreadsheet as CSV")


def readable(text: str) -> str:
    """Return a text in which bytes that were no UTF-8 are read as the usual Windows encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    return text


def text_table(text: str, asked: str | None = None) -> Table:
    """Return a table that is written as text; separator, header and count line are recognised.

    Args:
        text: The whole text.
        asked: The name of the column that is wanted, by which a header is recognised too.

    Raises:
        ValueError: it is no table of at least two columns.
    """
    text, separator = _declared_separator(text)
    if not text.strip():
        raise ValueError("it is empty")
    separator = separator or _find_separator(text)
    head = list(islice(_records(text, separator), _SAMPLED))
    skipped = 0
    while len(head) > 1 and _is_preamble(head[0][1], head[1][1]):
        head, skipped = head[1:], skipped + 1
    width = _width([cells for _, cells in head])
    if width < 2:
        number, cells = head[0]
        raise ValueError(f"row {number} has {len(cells)} columns; needed are a name and a label")
    columns = _header([cells for _, cells in head], width, asked)
    start = skipped + (columns is not None)

    def rows() -> Iterator[Row]:
        for number, cells in islice(_records(text, separator), start, None):
            yield number, _fitted(cells, width, number)

    if columns is None:
        number, cells = head[0]
        perhaps_header = len(head) > 1 and not any(map(has_image_suffix, cells))
        return Table(("",) * width, False, rows, number if perhaps_header else 0)
    return Table(columns, True, rows)


def _declared_separator(text: str) -> tuple[str, str | None]:
    """Return the text without the line ``sep=;`` that spreadsheets write, and the separator.

    The ``#`` before a header is removed too.
    """
    text = text.lstrip("\ufeff")
    first, _, rest = text.partition("\n")
    word = first.strip().strip('"').lower()
    if word.startswith("sep=") and len(word) == 5:
        return "\n" + rest, word[4]
    second = rest.partition("\n")[0]
    used = [sign for sign in "\t;,|" if sign in second]
    # A comment has no columns, and more comments may follow it.
    is_header = not second.startswith("#") and (not used or any(sign in first for sign in used))
    words = re.split(r"[\s;,|#]+", first) if first.startswith("#") and is_header else []
    if any(map(_is_known, words)):
        return text.lstrip("# "), None
    return text, None


def _records(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of every row that is not empty.

    Raises:
        ValueError: a quoted cell does not end.
    """
    if separator == _FIRST_BLANK:
        for number, line in enumerate(io.StringIO(text, newline=None), 1):
            if line.strip():
                yield number, line.strip().split(None, 1)
        return
    lines: Iterator[str] = io.StringIO(text, newline="")
    blanks = separator == _BLANKS
    if blanks:
        lines = (line.replace("\t", " ").strip() + "\n" for line in io.StringIO(text, newline=None))
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=blanks)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(f"row {reader.line_num}: {error}") from error


def _find_separator(text: str) -> str:
    """Return the separator of columns.

    That is the one by which the first row has known words, else the one by which all rows have
    equally many columns, else the one by which more cells are names of images.
    """
    best, best_rank = ",", (False, False, -1, 0)
    for order, separator in enumerate((*_SEPARATORS, _FIRST_BLANK)):
        try:
            rows = [cells for _, cells in islice(_records(text, separator), _SAMPLED)]
        except ValueError:
            continue
        while len(rows) > 1 and _is_preamble(rows[0], rows[1]):
            rows = rows[1:]
        if separator == _FIRST_BLANK and not all(has_image_suffix(row[0]) for row in rows[1:]):
            continue
        width = _width(rows)
        if width < 2:
            continue
        body = rows[1:] if len(rows[0]) == width - 1 else rows
        even = sum(len(_trimmed(row)) <= width <= len(row) for row in body) == len(body)
        known = any(map(_is_known, rows[0])) and not any(map(has_image_suffix, rows[0]))
        known = known and max(map(len, rows[1:] or rows)) > 1
        names = sum(has_image_suffix(cell) for row in rows for cell in row)
        rank = (known, even, names, -order)
        if rank > best_rank:
            best, best_rank = separator, rank
    return best


def _is_preamble(first: list[str], second: list[str]) -> bool:
    """Return whether the first row precedes the table: a count of rows, or a comment."""
    cells = _trimmed(first)
    alone = len(cells) == 1 and len(_trimmed(second)) > 1
    if alone and (cells[0].strip().isdecimal() or cells[0].lstrip().startswith("#")):
        return True
    return first[0].lstrip().startswith("#") and not any(_is_known(cell) for cell in first)


def _width(rows: list[list[str]]) -> int:
    """Return the number of columns that most rows have, without empty columns at the end."""
    counted = Counter(len(row) for row in rows[1:] or rows)
    width = max(counted, key=lambda size: (counted[size], size))
    used = max((len(_trimmed(row)) for row in rows if len(row) <= width), default=0)
    named = len(_trimmed(rows[0]))
    if not any(map(_is_known, rows[0])):
        return used
    if any(fold_word(cell) in NAME_WORDS for cell in rows[0]) and not _are_numbers(rows[1:]):
        return named  # a longer row has a cell too many; row names beside names are numbers
    return max(used, named)


def _are_numbers(rows: list[list[str]]) -> bool:
    """Return whether the first cells are whole numbers."""
    return all(row[0].strip().isdecimal() for row in rows)


def _header(rows: list[list[str]], width: int, asked: str | None) -> tuple[str, ...] | None:
    """Return the names of the columns if the first row has them, else None."""
    first = [cell.strip() for cell in rows[0]]
    short = len(_trimmed(first)) == width - 1 and len(rows) > 1 and len(_trimmed(rows[1])) == width
    if short and not any(has_image_suffix(cell) for cell in first):
        return ("", *_trimmed(first))
    if any(has_image_suffix(cell) for cell in first):
        return None
    columns = tuple([*first, *[""] * width][:width])
    if any(_is_known(cell) for cell in first) or (asked is not None and asked in first):
        return columns
    body = rows[1:]
    for column in range(width if body else 0):
        cells = [row[column] for row in body if column < len(row)]
        if 2 * sum(map(has_image_suffix, cells)) > len(body):
            return columns
    return None


def _is_known(cell: str) -> bool:
    word = fold_word(cell)
    return word in NAME_WORDS or word in LABEL_WORDS


def _trimmed(cells: Sequence[str]) -> list[str]:
    """Return the cells without empty ones at the end."""
    count = len(cells)
    while count and not cells[count - 1].strip():
        count -= 1
    return list(cells[:count])


def _fitted(cells: list[str], width: int, number: int) -> list[str]:
    """Return a row with as many cells as the table has columns; missing ones are empty.

    Raises:
        ValueError: it has more.
    """
    if len(_trimmed(cells)) > width:
        raise ValueError(
            f"row {number} has {len(_trimmed(cells))} columns instead of {width}. Put a cell that "
            "contains the separator in quotes"
        )
    return list(islice(chain(cells, [""] * width), width))
