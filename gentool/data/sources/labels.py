"""Where the labels of a source come from: a file, top folders, or nowhere; and the reason.

Works on names and bytes that the caller has read; only ``find_labels`` and ``label_file`` access
files themselves. ``gentool.data.labels`` reads the files.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import DataError, UsageError
from gentool.data.badfiles import MAX_BAD
from gentool.data.intake import NO_CLASSES, Intake, Passed
from gentool.data.labels.assigning import Given, assign
from gentool.data.labels.columns import NoColumn, choose_columns
from gentool.data.labels.files import (
    LABEL_FILES,
    LabelFile,
    beside,
    label_file,
    looks_like_labels,
    not_used,
    splits_of,
)
from gentool.data.labels.folders import Labels, Tops, alike, are_numbered, by_folder
from gentool.data.labels.json_tables import Nothing
from gentool.data.labels.layouts import (
    Place,
    common_folders,
    doubts,
    inside_classes,
    layout_of,
    suspicions,
)
from gentool.data.labels.tables import Table

__all__ = ["FROM_FOLDERS", "LABEL_FILES", "NO_LABELS", "Found", "LabelFile", "Labelling", "Labels",
           "Root", "beside", "by_folder", "find_labels", "label_file", "labels_key",
           "looks_like_labels", "refuse_labels"]  # fmt: skip

FROM_FOLDERS, NO_LABELS = "folders", "none"
_MOST_LISTED = 50  # files that may have labels; more are captions and alike, one for each image
_TOOLS_FILE = "dataset.json"
_NUMBERED = (
    f"the folders are numbered by the tool that wrote {_TOOLS_FILE} (--labels {FROM_FOLDERS} "
    "makes them classes)"
)


class Found(NamedTuple):
    """The labels of a source.

    Attributes:
        classes: Class names; () without labels.
        labels: Index into ``classes`` per kept image, int32 (M,), or None.
        kept: Which images are kept, bool (N,); None if all are.
        notes: What the user should know about the labels, one sentence each.
        mark: What labels add to a fingerprint; nothing if the image names determine them.
        origin: Where the labels come from, such as the name of a file; "" without labels.
        warnings: Sentences on suspicious classes, of interest where classes are learned.
    """

    classes: tuple[str, ...] = ()
    labels: NDArray[np.int32] | None = None
    kept: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()
    mark: bytes = NO_LABELS.encode()
    origin: str = ""
    warnings: tuple[str, ...] = ()

    def intake(
        self, taken: int, passed: tuple[Passed, ...], lost: tuple[str, ...], *, own: bool
    ) -> Intake:
        """Return the intake notes of a source with these labels.

        Args:
            taken: Number of images.
            passed: What was passed over.
            lost: Warnings about folders of which no image is taken.
            own: Whether all images were made by gentool.
        """
        notes = (*self.notes, *_in_parquet(passed))
        return Intake(taken, passed, self.origin, notes, lost, self.warnings, own)


@dataclass(frozen=True)
class Root:
    """The folder that the names of images begin at, in a file system or in an archive.

    Attributes:
        place: Where it is; its last folders may be written before a name in a file of labels.
        file: Returns the file with this name in it, or None.
        listed: Returns the files in it that look like files of labels.
    """

    place: Place
    file: Callable[[str], LabelFile | None]
    listed: Callable[[], Iterable[LabelFile]]

    @classmethod
    def of_folder(cls, folder: Path) -> "Root":
        """Return the root of the images in a folder."""

        def listed() -> Iterable[LabelFile]:
            try:
                with os.scandir(folder) as entries:
                    names = sorted(e.name for e in entries if looks_like_labels(e.name))
            except OSError:
                return []
            files = [label_file(folder / name) for name in names[:_MOST_LISTED]]
            return [*(file for file in files if file is not None), *beside(folder)]

        place = Place(str(folder), packed=False)
        return cls(place, lambda name: label_file(folder / name), listed)


@dataclass(frozen=True)
class Labelling:
    """Where a source's labels come from.

    Attributes:
        root: The root of the images.
        files: The files to try, in this order.
        column: The column of labels that is asked for, or None.
        wish: The given choice, or None.
        max_bad: Share of the images that may have no label; they are left out.
    """

    root: Root
    files: tuple[LabelFile, ...] = ()
    column: str | None = None
    wish: str | None = None
    max_bad: float = MAX_BAD

    @property
    def key(self) -> str:
        """Changes when the choice or a file changes."""
        chosen = [file.key for file in self.files] or [self.wish or FROM_FOLDERS]
        return _key(chosen, self.column, self.max_bad)

    def of(self, names: Sequence[str]) -> Found:
        """Return the labels of the images called ``names``.

        Raises:
            DataError: the file and the images do not match, the file cannot be read, or the images
                cannot have the labels that are asked for.
        """
        if self.wish == NO_LABELS:
            return Found()
        if self.wish == FROM_FOLDERS:
            return self._from_folders(names)
        if self.wish is not None:
            file = self.files[0]
            try:
                return self._from_file(file, names)
            except DataError as error:
                if (told := file.only_lists()) is not None:
                    raise told from error
                raise
        found, used = self._found(names)
        unused = [file for file in self.root.listed() if file.name != used]
        return found._replace(notes=(*found.notes, *not_used(unused, names)))

    def _found(self, names: Sequence[str]) -> tuple[Found, str | None]:
        """Return the labels that nobody asked for, and the name of the file that they are from."""
        for file in self.files:
            table = file.table()
            if table is Nothing.STATED:
                return Found(notes=(_stated(file, names),)), file.name
            if not isinstance(table, Nothing) and _is_about(file, table, names):
                return self._from_file(file, names), file.name
        return self._from_folders(names), None

    def _from_file(self, file: LabelFile, names: Sequence[str]) -> Found:
        """Return the labels that a file gives."""
        table = file.table(self.column)
        if isinstance(table, Nothing):
            raise DataError(
                f"{file.name} has no labels in it. Give a file of path,label, '{FROM_FOLDERS}' or "
                f"'{NO_LABELS}'"
            )
        try:
            given, root = Given(file.name, table, self.column), Path(self.root.place.path)
            found = assign(given, names, str(root.absolute()), self.max_bad)
        except ValueError as error:
            raise file.not_a_table(error) from error
        mark = json.dumps(found.classes).encode()
        kept = _kept(Labels(found.classes, found.labels), mark, found.notes, file.name)
        told = doubts(found.classes, found.labels[found.labels >= 0], found.column)
        return kept._replace(warnings=tuple(told))

    def _from_folders(self, names: Sequence[str]) -> Found:
        """Return the top folders as labels, or none and the reason.

        Raises:
            DataError: top folders are asked for and cannot be classes.
        """
        asked = self.wish == FROM_FOLDERS
        allowed = self.max_bad if asked else min(self.max_bad, MAX_BAD)
        common = common_folders(names)
        found = by_folder(names, allowed, common)
        if found is None:
            tops = Tops.of(names, common)
            reason = tops.why_no_classes()
            if asked:
                raise DataError(f"--labels {FROM_FOLDERS}: {reason}")
            return Found(notes=(f"{NO_CLASSES}{reason}",) if tops.folders else ())
        if not asked and self._are_of_the_tool(found.classes):
            return Found(notes=(f"{NO_CLASSES}{_NUMBERED}",))
        layout = "" if asked else layout_of(found.classes, common, self.root.place)
        if layout:
            return Found(notes=(f"{NO_CLASSES}{layout}",))
        notes: tuple[str, ...] = ()
        if (found.labels < 0).any():
            tops = Tops.of(names, common)
            notes = (
                f"{tops.loose:,} of {tops.total:,} images left out, as they are in no class "
                f"folder; the first is {tops.first:.200}",
            )
        mark = f"below {common}".encode("utf-8", "surrogateescape") if common else b""
        kept = _kept(found, mark, notes, "the folders", marked=False)
        return kept._replace(warnings=(*inside_classes(names, common), *kept.warnings))

    def _are_of_the_tool(self, folders: Iterable[str]) -> bool:
        """Return whether folders are those that StyleGAN's tool writes, with its file."""
        return are_numbered(folders) and any(f.name == _TOOLS_FILE for f in self.files)


def find_labels(given: str | None, root: Root, max_bad: float = MAX_BAD) -> Labelling:
    """Return where labels come from.

    That is the given choice, else a label file at the root, else the top folders.

    Args:
        given: ``folders``, ``none``, or the path of a file of labels, to which ``:COLUMN`` may be
            added; the name of a file at the root will do. None to choose.
        root: The root of the images.
        max_bad: Share of the images that may have no label.

    Raises:
        DataError: the given file does not exist.
    """
    if given in (FROM_FOLDERS, NO_LABELS):
        return Labelling(root, wish=given, max_bad=max_bad)
    if given is None:
        files = (root.file(name) for name in LABEL_FILES)
        return Labelling(root, tuple(f for f in files if f is not None), max_bad=max_bad)
    found = _on_disk(given)
    if found is None:
        inside = ((root.file(name), column) for name, column in splits_of(given))
        found = next(((file, column) for file, column in inside if file is not None), None)
    if found is None:
        there = [file.asked_as for file in root.listed()]
        raise DataError(
            f"there is no file of labels at {given:.200}. Give a CSV of path,label, a "
            f"dataset.json, '{FROM_FOLDERS}' or '{NO_LABELS}'"
            + (f"; here is {', '.join(there[:3])}" if there else "")
        )
    return Labelling(root, (found[0],), found[1], given, max_bad)


def labels_key(given: str | None, max_bad: float) -> str:
    """Return what changes when a choice of labels, or its file outside the source, changes."""
    if given is None or given in (FROM_FOLDERS, NO_LABELS):
        return _key([given or ""], None, max_bad)
    found = _on_disk(given)
    return (
        _key([given], None, max_bad) if found is None else _key([found[0].key], found[1], max_bad)
    )


def _key(chosen: Sequence[str], column: str | None, max_bad: float) -> str:
    words = [*chosen, *([] if column is None else [column])]
    return "\0".join(words if max_bad == MAX_BAD else [*words, f"{max_bad:g}"])


def _on_disk(given: str) -> tuple[LabelFile, str | None] | None:
    """Return the file that ``FILE`` or ``FILE:COLUMN`` names, and the column."""
    for name, column in splits_of(given):
        try:
            file = label_file(Path(name).expanduser())
        except RuntimeError:  # there is no such home folder
            file = None
        if file is not None:
            return file, column
    return None


def refuse_labels(spec: str, given: str | None) -> None:
    """Check that no labels are given for a source that has its own.

    Raises:
        UsageError: labels are given.
    """
    if given is not None and spec.endswith(".npy"):
        raise UsageError(
            f"{spec:.200} is an array; --labels works with a folder or an archive. Save images "
            "and labels in one file: numpy.savez('set.npz', images=..., labels=...)"
        )
    if given is not None:
        raise UsageError(
            f"{spec:.200} has its own labels; --labels works only with a folder or an archive"
        )


def _is_about(file: LabelFile, table: Table, names: Sequence[str]) -> bool:
    """Return whether a file that nobody asked for has labels of images.

    Raises:
        NoColumn: several of its columns could be the label.
    """
    try:
        columns = choose_columns(file.name, table, names, None)
    except NoColumn as error:
        if error.several or file.name == "labels.csv":
            raise
        return False
    except ValueError as error:
        raise file.not_a_table(error) from error
    return columns.fits or columns.known or file.name == "labels.csv"


def _in_parquet(passed: Iterable[Passed]) -> list[str]:
    """Return a sentence on a table of metadata in a form that is not read, with what to do."""
    return [
        f"{row.first:.100} is not read, as it is a Parquet table. For labels, save it as CSV: "
        f"python -c \"import pandas; pandas.read_parquet('{row.first:.100}').to_csv("
        "'metadata.csv', index=False)\""
        for row in passed
        if row.reason == ".parquet" and PurePosixPath(row.first).name == "metadata.parquet"
    ]


def _stated(file: LabelFile, names: Sequence[str]) -> str:
    """Return the note on a dataset.json that says that there are no labels."""
    folders = by_folder(names)
    told = f"{NO_CLASSES}{file.name} says that there are none"
    if folders is None:
        return told
    return f"{told} (--labels {FROM_FOLDERS} makes the {len(folders.classes):,} folders classes)"


def _kept(
    found: Labels, mark: bytes, notes: tuple[str, ...], origin: str, *, marked: bool = True
) -> Found:
    """Return labels without the images that have none."""
    if twins := alike(found.classes):
        notes = (*notes, f"classes with nearly the same name: {' and '.join(twins[:3])}")
    kept = found.labels >= 0
    labels = found.labels[kept]
    mark += labels.tobytes() if marked else b""
    warnings = tuple(suspicions(found.classes, labels))
    if kept.all():
        return Found(found.classes, labels, None, notes, mark, origin, warnings)
    mark += np.packbits(kept).tobytes()
    return Found(found.classes, labels, kept, notes, mark, origin, warnings)
