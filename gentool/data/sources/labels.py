"""Labels: from top folders, from ``dataset.json`` in StyleGAN's form, or from a CSV of path,label.

Works on names and bytes that the caller has read; only ``find_labels`` and ``label_file`` access
files themselves.
"""

import csv
import io
import json
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import DataError, UsageError
from gentool.data.sources.base import MAX_FILE

LABEL_FILES = ("dataset.json", "labels.csv")  # searched at a source's root, in this order
FROM_FOLDERS, NO_LABELS = "folders", "none"

Label = int | str


class Labels(NamedTuple):
    """Class names and labels.

    Attributes:
        classes: Class names.
        labels: Index into ``classes`` per image, int32 (N,).
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int32]


@dataclass(frozen=True)
class Labelling:
    """Where a source's labels come from.

    Attributes:
        name: Name of the label file, for messages and for its form (``.json``, else CSV); or
            ``folders``, or ``none``.
        key: Changes when the file changes.
        read: Returns the file's bytes; None if there is no file.
    """

    name: str
    key: str
    read: Callable[[], bytes] | None = None

    def of(self, names: Sequence[str]) -> Labels | None:
        """Return the labels of the images called ``names``, or None if they have no labels.

        Raises:
            DataError: the file and the images do not match, or the file cannot be read.
        """
        if self.read is not None:
            told = _parse(self.name, self.read())
            return by_folder(names) if told is None else _match(self.name, names, told)
        return by_folder(names) if self.key == FROM_FOLDERS else None

    def mark(self, found: Labels | None) -> bytes:
        """Return what labels add to a fingerprint; nothing if the image names determine them."""
        if self.key == FROM_FOLDERS:
            return b""
        if found is None:
            return NO_LABELS.encode()
        return json.dumps(found.classes).encode() + found.labels.tobytes()


def find_labels(given: str | None, at_root: Callable[[str], Labelling | None]) -> Labelling:
    """Return where labels come from.

    That is the given choice, else a label file at the root, else the top folders.

    Args:
        given: ``folders``, ``none``, the path of a .csv or .json file, or None.
        at_root: Takes a file name; returns that label file at the root of the source, or None.

    Raises:
        DataError: the given file does not exist.
    """
    if given in (FROM_FOLDERS, NO_LABELS):
        return Labelling(given, given)
    if given is not None:
        path = Path(given).expanduser()
        found = label_file(path)
        if found is None:
            raise DataError(
                f"there is no file of labels at {given:.200}. Give a CSV of path,label, a "
                f"dataset.json, '{FROM_FOLDERS}' or '{NO_LABELS}'"
            )
        return found
    for name in LABEL_FILES:
        found = at_root(name)
        if found is not None:
            return found
    return Labelling(FROM_FOLDERS, FROM_FOLDERS)


def refuse_labels(spec: str, given: str | None) -> None:
    """Check that no labels are given for a source that has its own.

    Raises:
        UsageError: labels are given.
    """
    if given is not None:
        raise UsageError(
            f"{spec:.200} has its own labels; --labels works only with a folder or an archive"
        )


def label_file(path: Path) -> Labelling | None:
    """Return the label file at ``path``, or None if there is none."""
    try:
        info = path.stat()
        if not path.is_file():
            return None
    except (OSError, ValueError):
        return None

    def read() -> bytes:
        if info.st_size > MAX_FILE:
            raise DataError(f"{path} is too large for a file of labels")
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error

    return Labelling(path.name, f"{path.absolute()} {info.st_size} {info.st_mtime_ns}", read)


def by_folder(names: Iterable[str]) -> Labels | None:
    """Return top folders as classes, or None.

    It is None unless every image is in a top folder and there are at least two such folders.
    """
    found: dict[str, int] = {}
    numbers = array("i")
    for name in names:
        top, slash, _ = name.partition("/")
        if not slash:
            return None
        numbers.append(found.setdefault(top, len(found)))
    if len(found) < 2:
        return None
    return _ranked(list(found), sorted(found), np.frombuffer(numbers, np.int32))


def _ranked(found: list[str], classes: list[str], numbers: NDArray[np.int32]) -> Labels:
    """Return labels that index ``classes``, from ``numbers`` that index ``found``."""
    place = {name: k for k, name in enumerate(classes)}
    rank = np.array([place[name] for name in found], dtype=np.int32)
    return Labels(tuple(classes), rank[numbers])


def _parse(name: str, data: bytes) -> dict[str, Label] | None:
    """Return path -> label from a label file; None for a dataset.json without labels."""
    try:
        if name.lower().endswith(".json"):
            return _parse_json(json.loads(data))
        return _parse_csv(data.decode("utf-8-sig", "surrogateescape"))
    except (ValueError, TypeError, csv.Error, RecursionError) as error:
        kind = (
            "JSON in the format of StyleGAN"
            if name.lower().endswith(".json")
            else "a CSV of path,label"
        )
        raise DataError(f"{name} is not {kind}: {error!s:.200}") from error


def _parse_json(whole: object) -> dict[str, Label] | None:
    told = whole.get("labels") if isinstance(whole, dict) else None
    if told is None:
        return None
    pairs = told.items() if isinstance(told, dict) else told
    found: dict[str, Label] = {}
    for pair in pairs:
        path, label = pair
        if not isinstance(path, str) or isinstance(label, bool) or not isinstance(label, int | str):
            raise ValueError(f"{pair!r:.80} is not a path and one class")
        found[_plain(path)] = label
    return found


def _parse_csv(text: str) -> dict[str, Label] | None:
    found: dict[str, Label] = {}
    for number, row in enumerate(csv.reader(io.StringIO(text, newline=""), strict=True)):
        if not row or (number == 0 and [c.strip().lower() for c in row] == ["path", "label"]):
            continue
        if len(row) != 2:
            raise ValueError(f"row {number + 1} has {len(row)} columns instead of 2")
        found[_plain(row[0])] = row[1].strip()
    if all(isinstance(v, str) and v.isdecimal() and len(v) < 19 for v in found.values()):
        return {path: int(label) for path, label in found.items()}
    return found


def _plain(path: str) -> str:
    return path.replace("\\", "/").removeprefix("./")


def _match(file: str, names: Sequence[str], told: dict[str, Label]) -> Labels:
    numbers, found, missing, first = array("i"), dict[Label, int](), 0, ""
    for name in names:
        label = told.pop(_plain(name), None)
        if label is None:
            missing, first = missing + 1, first or name
        else:
            numbers.append(found.setdefault(label, len(found)))
    if missing:
        raise DataError(
            f"{file} has no label for {missing:,} of {len(names):,} images; the first is "
            f"{first}. Its paths must be relative to the root of the source"
        )
    if told:
        raise DataError(
            f"{file} names {len(told):,} images that do not exist; the first is "
            f"{next(iter(told))}. Its paths must be relative to the root of the source"
        )
    ordered = sorted(found, key=lambda label: (isinstance(label, str), label))
    words = [str(label) for label in found]
    return _ranked(words, [str(label) for label in ordered], np.frombuffer(numbers, np.int32))
