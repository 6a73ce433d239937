"""Walk through a folder and all its subfolders, and find the images in it."""

import hashlib
import heapq
import os
import re
from array import array
from collections.abc import Iterator
from pathlib import Path

from gentool.core.atomic_files import LOG_NAME, LOG_START, PREVIEWS_NAME, STATE_NAME, open_regular
from gentool.data.intake import LITTER, NO_SUFFIX, OWN, OWN_RUN, Tally
from gentool.data.kinds import HEAD_BYTES
from gentool.data.sources.base import MAX_FILE
from gentool.data.sources.changes import change_of
from gentool.data.sources.labels import LABEL_FILES, looks_like_labels
from gentool.data.sources.own_pictures import OwnPictures
from gentool.data.sources.selection import find_images, is_image, reason_of, why_skipped

_OF_A_RUN = {
    PREVIEWS_NAME: re.compile(r"\d{9}(-reconstructions)?\.png|\.[0-9a-f]{16}\.\d+\.tmp"),
    "snapshots": re.compile(r"\d{12}\.safetensors|\.[0-9a-f]{16}\.\d+\.tmp"),
}  # folders in a run folder, and the names of all files that a run writes there
Entry = tuple[bytes, "os.DirEntry[bytes]"]


class Walk:
    """One walk through a folder in the order of the sorted paths.

    It keeps the entries of only one folder per level in memory. A folder that several links lead
    to is walked once. Links to folders that the walk reaches anyway are not followed.

    Args:
        root: The folder.
        take_own: Whether pictures that gentool made are images like others.
        nameless: Whether files without a suffix are taken if they are images, instead of files
            with the suffix of an image.
    """

    def __init__(self, root: bytes, *, take_own: bool = False, nameless: bool = False) -> None:
        self.root = root
        self.digest, self.changes = hashlib.sha256(), hashlib.sha256()
        self.folders: list[bytes] = []
        self.times = array("q")
        self.tally = Tally()
        self.nameless = 0  # files without a suffix
        self.own = 0  # pictures that gentool made
        self._take_own, self._take_nameless = take_own, nameless
        self._finder = OwnPictures[bytes](bytes, self.head, self._whole)
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

    def head(self, name: bytes) -> bytes:
        """Return the first bytes of a file below the root, b"" if it cannot be read."""
        return self._read(name, HEAD_BYTES)

    def _whole(self, name: bytes) -> bytes:
        return self._read(name, MAX_FILE)

    def _read(self, name: bytes, size: int) -> bytes:
        try:
            with open_regular(Path(os.fsdecode(os.path.join(self.root, name)))) as file:  # noqa: PTH118
                return file.read(size)
        except OSError:
            return b""

    def _noted(self, name: bytes, entry: "os.DirEntry[bytes]") -> bytes:
        """Add a file to the fingerprint and to the stamp, and return its name."""
        size_and_time, change = _stamps(entry)
        self.digest.update(name + b"\0" + size_and_time)
        self.changes.update(change)
        return name

    def _enter(self, name: bytes) -> Iterator[Entry]:
        """Return images and folders directly in folder ``name``, sorted; nothing if seen before."""
        where = os.path.join(self.root, name)  # noqa: PTH118 - bytes
        info = os.stat(where)  # noqa: PTH116 - bytes
        if (info.st_dev, info.st_ino) in self._seen:
            return iter(())
        with os.scandir(where) as entries:
            listed = list(entries)
        is_run = _is_run(where, listed)
        if is_run:
            self.tally.add(OWN_RUN, os.fsdecode(name) or ".")
        folders: list[Entry] = []
        files: list[Entry] = []
        others: list[Entry] = []
        for entry in listed:
            whole = name + entry.name
            if reason := why_skipped(os.fsdecode(entry.name)):
                if not is_run:
                    self.tally.add(reason, os.fsdecode(whole))
            elif self._leads_on(entry):
                if not (is_run and _is_of_a_run(entry)):
                    folders.append((whole + b"/", entry))
            elif not _is_folder(entry):
                (files if is_image(os.fsdecode(entry.name)) else others).append((whole, entry))
        self._seen.add((info.st_dev, info.st_ino))
        self.folders.append(name)
        self.times.append(info.st_mtime_ns)
        found = self._chosen(files, others, counted=not is_run)
        return iter(sorted([*folders, *found], key=lambda pair: pair[0]))

    def _chosen(self, files: list[Entry], others: list[Entry], *, counted: bool) -> list[Entry]:
        """Return the images of one folder; count what is passed over.

        Args:
            files: Files with the suffix of an image.
            others: All other files.
            counted: Whether the other files are counted.
        """
        nameless = [(n, e) for n, e in others if reason_of(os.fsdecode(n)) == NO_SUFFIX]
        self.nameless += len(nameless)
        if self._take_nameless:
            images = find_images([name for name, _ in nameless], self.head)
            files, others = [pair for pair in nameless if pair[0] in images], [
                pair for pair in others if pair[0] not in images
            ]  # fmt: skip
        for name, _ in others if counted else ():
            word = os.fsdecode(name)
            last = word.rpartition("/")[2]
            if last not in LABEL_FILES and not looks_like_labels(last):  # the labels tell of these
                self.tally.add(reason_of(word), word)
        if self._take_own:
            return files
        own = self._finder.among(_newest_first(files))
        self.own += len(own)
        for name in own:
            self.tally.add(OWN, os.fsdecode(name))
        return [pair for pair in files if pair[0] not in own]

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
        return any(why_skipped(part) for part in inside)


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


def _is_of_a_run(entry: "os.DirEntry[bytes]") -> bool:
    """Return whether a folder in a run folder holds only what a run writes there."""
    names = _OF_A_RUN.get(os.fsdecode(entry.name))
    if names is None:
        return False
    try:
        with os.scandir(entry.path) as inside:
            words = [os.fsdecode(file.name) for file in inside]
    except OSError:
        return False
    return all(names.fullmatch(word) or why_skipped(word) == LITTER for word in words)


def _is_folder(entry: "os.DirEntry[bytes]") -> bool:
    """Return whether the entry is a folder or a link to one; False for circular links."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _newest_first(files: list[Entry]) -> Iterator[bytes]:
    """Yield the names of files, the newest first; sorts only as far as they are asked for."""
    heap = [(-_time(entry), name) for name, entry in files]
    heapq.heapify(heap)
    while heap:
        yield heapq.heappop(heap)[1]


def _time(entry: "os.DirEntry[bytes]") -> int:
    """Return the time of a file in nanoseconds, 0 if it cannot be read."""
    try:
        return entry.stat().st_mtime_ns
    except OSError:
        return 0


def _stamps(entry: "os.DirEntry[bytes]") -> tuple[bytes, bytes]:
    """Return size and time of a file, and its change; nothing if reading it will fail as well."""
    try:
        info = entry.stat()
    except OSError:
        return b"\0", b"\0"
    return f"{info.st_size} {info.st_mtime_ns}\0".encode(), f"{change_of(info)}\0".encode()
