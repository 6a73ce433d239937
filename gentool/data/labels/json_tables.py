"""Read the bytes of a JSON or JSON lines file of labels as a table."""

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from itertools import islice

from gentool.data.labels.tables import Row, Table, decode_text, text_table
from gentool.data.labels.words import NAME_WORDS, fold_word

_PAIR = ("path", "label")
_BOXES = frozenset({"annotations", "categories"})  # a file of the COCO data set has both


OBJECTS = "it describes objects in images, not one class for each image. Write a CSV of path,label"


class ObjectsError(ValueError):
    """A JSON file has the boxes or outlines of objects."""


class Nothing(Enum):
    """A JSON file that has no labels.

    Attributes:
        STATED: It says so, as StyleGAN's tool writes it: ``{"labels": null}``.
        UNKNOWN: It is about something else.
    """

    STATED = auto()
    UNKNOWN = auto()


def read_table(name: str, data: bytes, asked: str | None = None) -> Table | Nothing:
    """Return the table that a file of labels contains; JSON is recognised by its first letter.

    Args:
        name: The file's name.
        data: Its bytes.
        asked: The name of the column that is wanted, or None.

    Raises:
        ValueError: it contains no table.
    """
    text = decode_text(data)
    ending = name.lower().rpartition(".")[2]
    begins = text.lstrip("\ufeff \t\r\n")[:1]
    if ending in ("jsonl", "ndjson"):
        return _json_lines(text)
    if ending == "json" or begins in ("{", "["):
        try:
            return _json_table(_loads(text))
        except json.JSONDecodeError:
            lines = [line for line in text.split("\n") if line.strip()]
            if len(lines) < 2 or not lines[0].rstrip().endswith(("}", "]")):
                raise
            return _json_lines(text)
    return text_table(text, asked)


def _loads(text: str) -> object:
    return json.loads(text.lstrip("\ufeff"), object_pairs_hook=_without_conflicts)


def _without_conflicts(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the object of these pairs.

    Raises:
        ValueError: a key occurs twice with different values.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if found[key] != value:
                told = f"{value!r:.40} and {found[key]!r:.40}"
                raise ValueError(f"{key!r:.80} has different labels: {told}")
    return found


def _json_lines(text: str) -> Table:
    records: list[tuple[int, object]] = []
    for number, line in enumerate(text.lstrip("\ufeff").split("\n"), 1):
        if not line.strip():
            continue
        try:
            records.append((number, _loads(line)))
        except json.JSONDecodeError as error:
            raise ValueError(f"row {number} is not JSON: {error}") from error
    if not records:
        raise ValueError("it is empty")
    return _of_records(records)


def _json_table(whole: object) -> Table | Nothing:
    """Return the table of a JSON file in one of the forms that are in use."""
    if isinstance(whole, list):
        return _of_records(list(enumerate(whole, 1))) if whole else Nothing.UNKNOWN
    if not isinstance(whole, dict):
        raise ValueError("it is one value, not a list of images")
    if whole.keys() >= _BOXES:
        raise ObjectsError(OBJECTS)
    columns = {fold_word(key) for key in whole}
    if columns & set(NAME_WORDS) and len(columns) > 1 and (table := _of_columns(whole)):
        return table
    if "labels" in whole:
        return _of_labels(whole["labels"])
    lists = [value for value in whole.values() if isinstance(value, list) and value]
    if len(lists) == 1 and all(isinstance(entry, dict) for entry in lists[0]):
        return _of_records(list(enumerate(lists[0], 1)))
    if not whole or lists:
        return Nothing.UNKNOWN
    return _of_records([(k, _pair(path, told)) for k, (path, told) in enumerate(whole.items(), 1)])


def _of_columns(whole: Mapping[str, object]) -> Table | None:
    """Return the table of an object of columns, as pandas writes it; None if it is none."""
    columns = [list(v.values()) if isinstance(v, dict) else v for v in whole.values()]
    lists = [column for column in columns if isinstance(column, list)]
    if len(lists) < len(columns) or len({len(column) for column in lists}) != 1:
        return None
    rows = list(zip(*lists, strict=True))

    def numbered() -> Iterator[Row]:
        yield from enumerate(rows, 1)

    return Table(tuple(whole), True, numbered)


def _of_labels(told: object) -> Table | Nothing:
    """Return the table of ``labels`` in StyleGAN's dataset.json.

    Raises:
        ValueError: it is not a list of pairs or an object.
    """
    if told is None or told == [] or told == {}:
        return Nothing.STATED
    if isinstance(told, dict):
        told = [[path, label] for path, label in told.items()]
    if not isinstance(told, list):
        raise ValueError(f"labels are {told!r:.40}, not a list of [path, label]")
    for entry in told:
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], bool):
            raise ValueError(f"{entry!r:.80} is not a path and one class")
    return _of_records(list(enumerate(told, 1)))


def _pair(path: str, told: object) -> object:
    """Return a record of a path and what an object says about it: a label, or further columns."""
    return {"": path, **told} if isinstance(told, dict) else {"": path, _PAIR[1]: told}


def _of_records(records: Sequence[tuple[int, object]]) -> Table:
    """Return the table of objects with the same keys, or of pairs [path, label].

    Raises:
        ValueError: a record is neither.
    """
    pairs = not isinstance(records[0][1], dict)
    for number, record in records:
        if pairs != isinstance(record, list) or (isinstance(record, list) and len(record) != 2):
            raise ValueError(f"row {number}, {record!r:.80}, is not a path and one label")
        if isinstance(record, list) and not isinstance(record[0], str):
            raise ValueError(f"row {number}, {record!r:.80}, does not begin with a path")
    columns = _PAIR if pairs else tuple(_keys(records))

    def rows() -> Iterator[Row]:
        for number, record in records:
            if isinstance(record, dict):
                yield number, [record.get(column) for column in columns]
            elif isinstance(record, list):
                yield number, record

    return Table(columns, True, rows)


def _keys(records: Sequence[tuple[int, object]]) -> dict[str, None]:
    """Return the keys of all records, in order of their first occurrence."""
    found: dict[str, None] = {}
    for _, record in islice(records, None):
        if isinstance(record, dict):
            found.update(dict.fromkeys(record))
    return found
