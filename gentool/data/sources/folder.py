"""Folders of images, including all subfolders. An index of a large folder is kept.

Up to ``TRUSTED_ABOVE`` images, name, size and time of every file are read each time. For a larger
set the index is used again as long as the modification times of all folders are the same. These
change when files are added, removed or renamed, but not when a file is overwritten in place;
``refresh`` lists all files again.
"""

import errno
import os
import stat
from collections.abc import Iterator
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import DataError
from gentool.data.badfiles import MAX_BAD
from gentool.data.encoded import BadImage
from gentool.data.intake import Intake
from gentool.data.kinds import HEAD_BYTES
from gentool.data.sources.base import MAX_FILE, FileSource
from gentool.data.sources.index import Index, Names, index_place, keep, look_up
from gentool.data.sources.labels import LABEL_FILES, Labelling, Root, find_labels
from gentool.data.sources.own_pictures import refuse_own
from gentool.data.sources.selection import no_images, with_kind
from gentool.data.sources.walk import Walk

TRUSTED_ABOVE = 200_000
_READ_AS = 2  # raised when the same folder gives another index, as after a new rule for labels
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class FolderSource(FileSource):
    """The images in a folder and its subfolders.

    Passed over are hidden files, what systems leave behind, and what gentool itself made, since
    results may be written into the folder that is read.

    Args:
        folder: The folder.
        labels: As in ``find_labels``.
        refresh: Whether to ignore an existing index.
        max_bad: Share of the images that may have no label; they are left out.
        take_own: Whether pictures that gentool made are images like others.

    Raises:
        DataError: there is no image, or the labels do not match.
        OSError: the folder itself cannot be listed.
    """

    def __init__(
        self,
        folder: Path,
        labels: str | None = None,
        *,
        refresh: bool = False,
        max_bad: float = MAX_BAD,
        take_own: bool = False,
    ) -> None:
        wish = _Wish(labels, max_bad)
        place = place_in(folder, labels, max_bad, take_own=take_own)
        index = None if refresh else _trusted(folder, place, wish)
        self.folder = folder
        self.name = folder.resolve().name or "root"
        if index is None:
            index = keep(build_index(folder, wish, take_own=take_own), place)
        self.index = index
        self._takes_own = take_own or self.index.intake.own
        self._start()

    def _start(self) -> None:
        self.paths = self.index.names
        self.classes, self.labels = self.index.classes, self.index.labels
        self.notes = self.index.intake.notes
        self.fingerprint, self.stamp = self.index.fingerprint, self.index.stamp

    @property
    def intake(self) -> Intake:
        """What was taken and passed over."""
        return self.index.intake

    def names(self) -> Iterator[str]:
        """Return the names of all images, in order."""
        return iter(self.paths)

    def read(self, index: int) -> bytes:
        """Return the bytes of file ``index``."""
        content = self._content(index)
        return content if self._takes_own else refuse_own(content)

    def head(self, index: int) -> bytes:
        """Return the first ``HEAD_BYTES`` bytes of file ``index``."""
        return self._content(index, HEAD_BYTES)

    def _content(self, index: int, size: int = -1) -> bytes:
        """Return the first ``size`` bytes of file ``index``, or all."""
        path = self.folder / self.paths[index]
        try:
            file = os.open(path, _OPEN)  # does not block if the file is a named pipe
        except FileNotFoundError as error:
            if not path.is_symlink():
                raise
            target = os.fspath(path.readlink())
            message = f"it is a link to {target:.200}, where there is nothing"
            raise FileNotFoundError(errno.ENOENT, message, str(path)) from error
        with os.fdopen(file, "rb") as stream:
            info = os.fstat(file)
            if not stat.S_ISREG(info.st_mode):
                raise BadImage("it is not a regular file")
            if info.st_size > MAX_FILE:
                raise BadImage(f"the file is larger than {MAX_FILE >> 20} MB")
            return stream.read(size)

    def time(self, index: int) -> float | None:
        """Return when file ``index`` was last written."""
        try:
            return (self.folder / self.paths[index]).stat().st_mtime
        except OSError:
            return None

    def __getstate__(self) -> dict[str, object]:
        return {
            "folder": self.folder,
            "name": self.name,
            "index": self.index,
            "_takes_own": self._takes_own,
        }

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._start()


def place_in(folder: Path, labels: str | None, max_bad: float, *, take_own: bool = False) -> Path:
    """Return the path where the index of this folder with these choices is kept."""
    real = os.path.realpath(folder)
    return index_place("folder", real, labels, max_bad, take_own, _READ_AS)


class _Wish(NamedTuple):
    """Which labels are asked for; see ``FolderSource``."""

    labels: str | None
    max_bad: float

    def below(self, top: Path) -> Labelling:
        """Return where the labels of the images in the folder ``top`` come from."""
        return find_labels(self.labels, Root.of_folder(top), self.max_bad)


def _trusted(folder: Path, place: Path, wish: _Wish) -> Index | None:
    """Return the index of a large folder if the times of all folders in it are unchanged.

    The file of labels must be unchanged, too.
    """
    index = look_up(place)
    if index is None or len(index) <= TRUSTED_ABOVE:
        return None
    columns = index.columns
    folders = Names(columns["folders"], columns["folder starts"], len(columns["folder times"]))
    root = os.fsencode(folder)
    try:
        for name, time in zip(folders.raws(), columns["folder times"].tolist(), strict=True):
            if os.stat(os.path.join(root, name)).st_mtime_ns != time:  # noqa: PTH116, PTH118
                return None
        inside = os.fsdecode(columns["label root"].tobytes())
        if wish.below(folder / inside).key != os.fsdecode(columns["label key"].tobytes()):
            return None
    except (OSError, DataError):
        return None
    return index


def _label_root(folder: Path, names: Names) -> str:
    """Return the folders that all names begin with, with a slash at the end.

    As in an archive, a folder with a file of labels is the root, so that its subfolders are not
    included.
    """
    top = ""
    first, last = (name.split("/")[:-1] for name in (names[0], names[-1]))
    for a, b in zip(first, last, strict=False):
        if a != b or any((folder / top / name).is_file() for name in LABEL_FILES):
            break
        top += f"{a}/"
    return top


def build_index(folder: Path, wish: _Wish, *, take_own: bool) -> Index:
    """Read the names, sizes and times of all files, and return a new index."""
    walk, names, own = _search(folder, take_own=take_own)
    inside = _label_root(folder, names)
    labelling = wish.below(folder / inside)
    found = labelling.of([n.removeprefix(inside) for n in names] if inside else names)
    walk.digest.update(found.mark)
    if found.kept is not None:
        names = Names.of(compress(names.raws(), found.kept))
    folders = Names.of(walk.folders)
    columns: dict[str, NDArray[Any]] = {
        "folders": folders.buffer,
        "folder starts": folders.starts,
        "folder times": np.frombuffer(walk.times, np.int64),
        "label root": np.frombuffer(os.fsencode(inside), np.uint8),
        "label key": np.frombuffer(os.fsencode(labelling.key), np.uint8),
    }
    passed = with_kind(walk.tally.passed(), lambda name: walk.head(os.fsencode(name)))
    intake = found.intake(len(names), passed, walk.tally.lost_folders(names), own=own)
    digest = walk.digest.hexdigest()
    stamp = walk.changes.hexdigest()
    return Index(names, found.labels, found.classes, digest, columns, intake, stamp)


def _search(folder: Path, *, take_own: bool) -> tuple[Walk, Names, bool]:
    """Find the images in a folder.

    Returns:
        The walk that found them, their names, and whether all are gentool's own pictures. These
        are taken if there are no others, and so are files without a suffix.

    Raises:
        DataError: there is no image.
    """
    root = os.fsencode(folder)
    walk = Walk(root, take_own=take_own)
    if names := Names.of(walk.files()):
        return walk, names, False
    if walk.nameless:
        again = Walk(root, take_own=take_own, nameless=True)
        if names := Names.of(again.files()):
            return again, names, False
    if walk.own:
        again = Walk(root, take_own=True)
        return again, Names.of(again.files()), True
    raise no_images(str(folder), walk.tally, packed=False)
