"""Folders of images, searched deeply. Reads the folder; writes an index of a large one.

Every file is looked at (name, size, time) each time, up to ``TRUSTED_ABOVE`` of them. Of a
larger set the index is trusted while every folder in it keeps its own time, which changes
when files come, go or are renamed, but not when one is written over in place: ``refresh``
looks at all of them again.
"""

import hashlib
import os
import stat
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gentool.core.atomic_files import LOG_NAME, LOG_START, PREVIEWS_NAME, STATE_NAME, open_regular
from gentool.data.preprocessing import BadImage
from gentool.data.sources.base import MAX_FILE, FileSource, is_hidden, is_image, no_images
from gentool.data.sources.index import Index, Names, index_place, keep, look_up
from gentool.data.sources.labels import Labelling, find_labels, label_file

TRUSTED_ABOVE = 200_000
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class FolderSource(FileSource):
    """A folder, searched deeply; hidden files and folders are passed over.

    So are the previews of a training run, which may write into the folder that it reads.

    Args:
        folder: Where.
        labels: As for ``find_labels``.
        refresh: Trust no index.

    Raises:
        DataError: no image in it, or labels that do not match.
        OSError: the folder itself cannot be listed.
    """

    def __init__(self, folder: Path, labels: str | None = None, *, refresh: bool = False) -> None:
        labelling = find_labels(labels, lambda name: label_file(folder / name))
        place = index_place("folder", os.path.realpath(folder), labelling.key)
        index = None if refresh else _trusted(folder, place)
        self.folder = folder
        self.name = folder.resolve().name or "root"
        self.index = index or keep(_build(folder, labelling), place)
        self.paths = self.index.names
        self.classes = self.index.classes
        self.labels = self.index.labels
        self.fingerprint = self.index.fingerprint

    def read(self, index: int) -> bytes:
        """The bytes of file ``index``."""
        path = self.folder / self.paths[index]
        file = os.open(path, _OPEN)  # without waiting for the other end, should it be a pipe
        with os.fdopen(file, "rb") as stream:
            info = os.fstat(file)
            if not stat.S_ISREG(info.st_mode):
                raise BadImage("not a regular file")
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
    """The index of a large folder, if the folders in it are as old as it says."""
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
    """Look at every file."""
    walk = _Walk(os.fsencode(folder))
    names = Names.of(walk.files())
    if not names:
        raise no_images(f"the folder {folder}")
    found = labelling.of(names)
    walk.digest.update(labelling.mark(found))
    folders = Names.of(walk.folders)
    columns: dict[str, NDArray[Any]] = {
        "folders": folders.buffer,
        "folder starts": folders.starts,
        "folder times": np.frombuffer(walk.times, np.int64),
    }
    classes, labels = found or ((), None)
    return Index(names, labels, classes, walk.digest.hexdigest(), columns)


class _Walk:
    """One walk in the order of the sorted paths, with the memory of one folder at a time.

    Folders behind links are walked once; links to what lies in the tree anyway are not.
    """

    def __init__(self, root: bytes) -> None:
        self.root = root
        self.digest = hashlib.sha256()
        self.folders: list[bytes] = []
        self.times = array("q")
        self._real = os.path.realpath(root)
        self._seen: set[tuple[int, int]] = set()

    def files(self) -> Iterator[bytes]:
        """Names of all images below the root, which are noted in ``digest`` as they come.

        A folder that cannot be listed is given as a name that ends in a slash; reading it fails
        for the same reason, so that it is reported as a file would be.
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
        """Put the file's name, size and time into the fingerprint."""
        self.digest.update(name + b"\0" + _stamp(entry))
        return name

    def _enter(self, name: bytes) -> Iterator[tuple[bytes, "os.DirEntry[bytes]"]]:
        """Images and folders directly in folder ``name``, sorted; nothing if it was seen."""
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
        """Whether this is a folder to walk."""
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
    """Whether a folder is that of a training run, by its state or, before the first, its log."""
    names = {entry.name for entry in entries}
    if os.fsencode(PREVIEWS_NAME) not in names:
        return False
    if os.fsencode(STATE_NAME) in names:
        return True
    try:
        with open_regular(Path(os.fsdecode(folder), LOG_NAME)) as file:
            return file.read(len(LOG_START)) == LOG_START
    except OSError:  # there is none
        return False


def _is_folder(entry: "os.DirEntry[bytes]") -> bool:
    """Whether it is a folder or a link to one; a link in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _stamp(entry: "os.DirEntry[bytes]") -> bytes:
    """Size and time of a file, or nothing if it cannot be looked at (reading tells why)."""
    try:
        info = entry.stat()
    except OSError:
        return b"\0"
    return f"{info.st_size} {info.st_mtime_ns}\0".encode()
