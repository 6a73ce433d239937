"""Folders of images, including all subfolders. An index of a large folder is kept.

Up to ``TRUSTED_ABOVE`` images, name, size and time of every file are read each time. For a larger
set the index is used again as long as the modification times of all folders are the same. These
change when files are added, removed or renamed, but not when a file is overwritten in place;
``refresh`` reads all files again.
"""

import hashlib
import os
import stat
from array import array
from collections.abc import Iterator
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gentool.core.atomic_files import LOG_NAME, LOG_START, PREVIEWS_NAME, STATE_NAME, open_regular
from gentool.data.badfiles import MAX_BAD
from gentool.data.preprocessing import BadImage
from gentool.data.sources.base import MAX_FILE, FileSource, is_hidden, is_image, no_images
from gentool.data.sources.index import Index, Names, index_place, keep, look_up
from gentool.data.sources.labels import Labelling, Root, find_labels

TRUSTED_ABOVE = 200_000
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class FolderSource(FileSource):
    """The images in a folder and its subfolders; hidden files and folders are skipped.

    Previews of a training run are skipped too, since a run may write into the folder it reads.

    Args:
        folder: The folder.
        labels: As in ``find_labels``.
        refresh: Whether to ignore an existing index.
        max_bad: Share of the images that may have no label; they are left out.

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
    ) -> None:
        labelling = find_labels(labels, Root.of_folder(folder), max_bad)
        place = index_place("folder", os.path.realpath(folder), labelling.key)
        index = None if refresh else _trusted(folder, place)
        self.folder = folder
        self.name = folder.resolve().name or "root"
        self.index = index or keep(_build(folder, labelling), place)
        self.paths = self.index.names
        self.classes = self.index.classes
        self.labels = self.index.labels
        self.notes = self.index.notes
        self.fingerprint = self.index.fingerprint

    def read(self, index: int) -> bytes:
        """Return the bytes of file ``index``."""
        path = self.folder / self.paths[index]
        file = os.open(path, _OPEN)  # does not block if the file is a named pipe
        with os.fdopen(file, "rb") as stream:
            info = os.fstat(file)
            if not stat.S_ISREG(info.st_mode):
                raise BadImage("it is not a regular file")
            if info.st_size > MAX_FILE:
                raise BadImage(f"the file is larger than {MAX_FILE >> 20} MB")
            return stream.read()

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "name": self.name, "index": self.index}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.paths = self.index.names
        self.classes, self.labels = self.index.classes, self.index.labels
        self.fingerprint = self.index.fingerprint


def _trusted(folder: Path, place: Path) -> Index | None:
    """Return the index of a large folder if the times of all folders in it are unchanged."""
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
    except OSError:
        return None
    return index


def _build(folder: Path, labelling: Labelling) -> Index:
    """Read the names, sizes and times of all files, and return a new index."""
    walk = _Walk(os.fsencode(folder))
    names = Names.of(walk.files())
    if not names:
        raise no_images(f"the folder {folder}")
    found = labelling.of(names)
    walk.digest.update(found.mark)
    if found.kept is not None:
        names = Names.of(compress(names.raws(), found.kept))
    folders = Names.of(walk.folders)
    columns: dict[str, NDArray[Any]] = {
        "folders": folders.buffer,
        "folder starts": folders.starts,
        "folder times": np.frombuffer(walk.times, np.int64),
    }
    digest = walk.digest.hexdigest()
    return Index(names, found.labels, found.classes, digest, columns, found.notes)


class _Walk:
    """One walk through a folder in the order of the sorted paths.

    It keeps the entries of only one folder per level in memory. A folder that several links lead
    to is walked once. Links to folders that the walk reaches anyway are not followed.
    """

    def __init__(self, root: bytes) -> None:
        self.root = root
        self.digest = hashlib.sha256()
        self.folders: list[bytes] = []
        self.times = array("q")
        self._real = os.path.realpath(root)
        self._seen: set[tuple[int, int]] = set()

    def files(self) -> Iterator[bytes]:
        """Yield the names of all images below the root, and add each to ``digest``.

        A folder that cannot be listed is yielded as a name with a final slash. Reading that name
        fails too, so that the folder is reported like a bad file.
        """
        levels = [self._enter(b"")]
        while levels:
            for name, entry in levels[-1]:
                if name.endswith(b"/"):
                    try:
                        levels.append(self._enter(name))
                    except OSError:
                        yield self._noted(name, entry)
                        continue
                    break
                yield self._noted(name, entry)
            else:
                levels.pop()

    def _noted(self, name: bytes, entry: "os.DirEntry[bytes]") -> bytes:
        """Add the name, size and time of a file to the fingerprint, and return the name."""
        self.digest.update(name + b"\0" + _stamp(entry))
        return name

    def _enter(self, name: bytes) -> Iterator[tuple[bytes, "os.DirEntry[bytes]"]]:
        """Return images and folders directly in folder ``name``, sorted; nothing if seen before."""
        where = os.path.join(self.root, name)  # noqa: PTH118 - bytes
        info = os.stat(where)  # noqa: PTH116 - bytes
        if (info.st_dev, info.st_ino) in self._seen:
            return iter(())
        found = []
        with os.scandir(where) as entries:
            listed = list(entries)
        previews = os.fsencode(PREVIEWS_NAME) if _is_run(where, listed) else None
        for entry in listed:
            word = os.fsdecode(entry.name)
            if is_hidden(word) or entry.name == previews:
                continue
            if self._leads_on(entry):
                found.append((name + entry.name + b"/", entry))
            elif is_image(word) and not _is_folder(entry):
                found.append((name + entry.name, entry))
        self._seen.add((info.st_dev, info.st_ino))
        self.folders.append(name)
        self.times.append(info.st_mtime_ns)
        return iter(sorted(found, key=lambda pair: pair[0]))

    def _leads_on(self, entry: "os.DirEntry[bytes]") -> bool:
        """Return whether this entry is a folder, or a link to one, that must be walked."""
        if entry.is_dir(follow_symlinks=False):
            return True
        if not (entry.is_symlink() and _is_folder(entry)):
            return False
        target = os.path.realpath(entry.path)
        if target == self._real:
            return False
        if not target.startswith(self._real.rstrip(b"/") + b"/"):
            return True
        inside = os.fsdecode(target[len(self._real) :]).split("/")
        return any(is_hidden(part) for part in inside)


def _is_run(folder: bytes, entries: "list[os.DirEntry[bytes]]") -> bool:
    """Return whether a folder is that of a training run.

    It is recognised by its state file or, before the first state is written, by its log.
    """
    names = {entry.name for entry in entries}
    if os.fsencode(PREVIEWS_NAME) not in names:
        return False
    if os.fsencode(STATE_NAME) in names:
        return True
    try:
        with open_regular(Path(os.fsdecode(folder), LOG_NAME)) as file:
            return file.read(len(LOG_START)) == LOG_START
    except OSError:  # there is no log
        return False


def _is_folder(entry: "os.DirEntry[bytes]") -> bool:
    """Return whether the entry is a folder or a link to one; False for circular links."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _stamp(entry: "os.DirEntry[bytes]") -> bytes:
    """Return size and time of a file; if they cannot be read, reading it reports the error."""
    try:
        info = entry.stat()
    except OSError:
        return b"\0"
    return f"{info.st_size} {info.st_mtime_ns}\0".encode()
