"""The files in a run folder that tell what the run was trained on.

``intake.json`` has the intake notes of the images. ``images.index`` has the name, class and part of
the content hash of each image, about 15 bytes for each, so that a command that continues the run
with other images can say which. Neither changes how a run continues, and both may be missing.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gentool.checkpoint import LoadedModel
from gentool.core.atomic_files import INTAKE_NAME, put
from gentool.core.messages import WARNING
from gentool.core.version import __version__
from gentool.data import Dataset
from gentool.data.intake import Intake
from gentool.data.sources.index import Index, Names

LIST_NAME = "images.index"
_MOST_LISTED = 10**7  # images; for more, the list would take long to write
_DAMAGE = (ValueError, KeyError, IndexError, TypeError, OverflowError, AttributeError)
_SAME = "the files are the same, but they are prepared or read in another way"
_NOT_COMPARED = (
    "no image came or went, but sizes, times or contents of the files or the way of reading "
    "differ; the contents of streamed images are not compared one by one"
)
_NAME = 80  # most characters of a name in a message


@dataclass(frozen=True)
class Kind:
    """Images that differ in the same way from those of a run: how many, and the first."""

    count: int = 0
    first: str = ""

    def told(self, verb: str) -> str:
        """Return how many, with a verb, and the name of the first."""
        name = self.first if len(self.first) <= _NAME else f"...{self.first[3 - _NAME :]}"
        which = "the first " if self.count > 1 else ""
        return f"{self.count:,} {verb}" + (f" ({which}{name})" if self.count else "")


@dataclass(frozen=True)
class Changes:
    """How the images of a run differ from those that it has now.

    Attributes:
        came: Images with a name that the run does not have.
        went: Images of the run with a name that there is no more.
        changed: Images with the name of one, and another content.
        moved: Images with the name and content of one, and another class.
        compared: Whether the contents were compared; those of streamed images are not known.
    """

    came: Kind = Kind()
    went: Kind = Kind()
    changed: Kind = Kind()
    moved: Kind = Kind()
    compared: bool = True

    def __str__(self) -> str:
        if not any(kind.count for kind in (self.came, self.went, self.changed, self.moved)):
            return _SAME if self.compared else _NOT_COMPARED
        parts = [
            self.came.told("image came" if self.came.count == 1 else "images came"),
            self.went.told("went"),
            *([self.changed.told("changed")] if self.changed.count else []),
            *([self.moved.told("changed class")] if self.moved.count else []),
        ]
        return ", ".join(parts)


def write_run_data(folder: Path, dataset: Dataset) -> None:
    """Write both files, unless they are there and of these images.

    A file with one of these names that no run wrote stays as it is.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    notes, listed = folder / INTAKE_NAME, folder / LIST_NAME
    if _may_write(notes, read_notes(folder), dataset):
        told = {
            "made_by": "gentool train",
            "gentool": __version__,
            "data": dataset.name,
            "images": len(dataset),
            "classes": list(dataset.classes),
            "fingerprint": dataset.fingerprint,
            "notes": list(dataset.notes),
            "intake": dataset.intake.as_json(),
        }
        put(notes, json.dumps(told, indent=1).encode())
    index = _open_list(folder)
    known = None if index is None else {"fingerprint": index.fingerprint}
    if index is not None and index.stamp != (dataset.stamp or None):
        known = {}
    if _may_write(listed, known, dataset) and len(dataset) <= _MOST_LISTED:
        _index_of(dataset).save(listed)


def rewritten_since(folder: Path, dataset: Dataset) -> str:
    """Return a sentence if the files of streamed images were written again since a run began.

    Only a few of their contents are compared, so that other images may not have been noticed.
    """
    index = _open_list(folder)
    if index is None or not dataset.streamed or index.fingerprint != dataset.fingerprint:
        return ""
    if index.stamp is None or index.stamp == dataset.stamp:
        return ""
    return (
        f"{WARNING}files of {dataset.name:.80} were written or copied since the last command of "
        "this run, with equal names, sizes and times. Of streamed images only a few are compared, "
        "and these are the same; --cache disk compares all"
    )


def read_notes(folder: Path) -> dict[str, Any] | None:
    """Return what ``intake.json`` in a run folder holds, or None if no run wrote one."""
    try:
        found = json.loads((folder / INTAKE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(found, dict) and found.get("made_by") == "gentool train"
    return found if ours else None


def notes_of(loaded: LoadedModel) -> Intake | None:
    """Return the intake notes of the run that a model is in; None where they are not there."""
    found, data = read_notes(loaded.path.parent), loaded.header["training"].get("data")
    if found is None or not isinstance(data, dict):
        return None
    if found.get("fingerprint") != data.get("fingerprint"):
        return None
    try:
        return Intake.of_json(found["intake"])
    except (KeyError, TypeError, ValueError):
        return None


def _may_write(path: Path, known: Mapping[str, object] | None, dataset: Dataset) -> bool:
    """Return whether a file must be written: it is missing, or a run wrote it for other images."""
    if known is None:
        return not os.path.lexists(path)
    return known.get("fingerprint") != dataset.fingerprint


def changes_since(folder: Path, fingerprint: object, dataset: Dataset) -> Changes | None:
    """Return how the images differ from those of the run in a folder.

    Args:
        folder: The run folder.
        fingerprint: The fingerprint of the run's images, or its beginning.
        dataset: The images that there are now.

    Returns:
        The differences; None if the images of the run are not known.
    """
    index = _open_list(folder)
    if index is None or not index.fingerprint.startswith(str(fingerprint)):
        return None
    try:
        before = dict(_rows(index))
    except _DAMAGE:
        return None
    now = dict(_rows(_index_of(dataset)))
    shared = [(name, before[name], row) for name, row in now.items() if name in before]
    compared = len(index.columns["hashes"]) > 0 and len(dataset.hashes) > 0
    same = [row for row in shared if not compared or row[1][0] == row[2][0]]
    return Changes(
        came=_kind([name for name in now if name not in before]),
        went=_kind([name for name in before if name not in now]),
        changed=_kind([name for name, old, new in shared if compared and old[0] != new[0]]),
        moved=_kind([name for name, old, new in same if old[1] != new[1]]),
        compared=compared,
    )


def _kind(names: list[bytes]) -> Kind:
    return Kind(len(names), os.fsdecode(names[0])) if names else Kind()


def _open_list(folder: Path) -> Index | None:
    try:
        return Index.open(folder / LIST_NAME)
    except (OSError, *_DAMAGE):
        return None


def _index_of(dataset: Dataset) -> Index:
    """Return the list of the images of a data set; the hashes are those of their files."""
    names = Names.of(os.fsencode(name).replace(b"\0", b"?") for name in dataset.names())
    columns: dict[str, NDArray[Any]] = {"hashes": dataset.hashes.astype(np.uint32)}
    labels = None if dataset.labels is None else dataset.labels.astype(np.int32)
    stamp = dataset.stamp or None
    return Index(names, labels, dataset.classes, dataset.fingerprint, columns, stamp=stamp)


def _rows(index: Index) -> Iterator[tuple[bytes, tuple[int, str]]]:
    """Yield the name of each image with its hash and class; 0 and "" if these are not known."""
    hashes = index.columns["hashes"].tolist() or [0] * len(index)
    classes = [""] * len(index)
    if index.labels is not None:
        classes = [index.classes[k] for k in index.labels.tolist()]
    yield from zip(index.names.raws(), zip(hashes, classes, strict=True), strict=True)
