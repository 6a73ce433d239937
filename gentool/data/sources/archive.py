"""Archives of images: .zip, .tar and compressed tars, read member by member without extracting.

A compressed tar is first decompressed to a plain tar in the cache folder. The index of a large
archive is kept there too; its name depends on the file's path, size, times and number on the disk.
A member is read from its offset in the file, from any process or thread.
"""

import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from gentool.core.atomic_files import open_regular
from gentool.core.errors import DataError
from gentool.data.badfiles import MAX_BAD
from gentool.data.encoded import BadImage
from gentool.data.intake import Intake
from gentool.data.kinds import HEAD_BYTES
from gentool.data.sources.archive_index import Members, Reading, Stored
from gentool.data.sources.base import FileSource
from gentool.data.sources.changes import stamp_of_file
from gentool.data.sources.index import Index, index_place, keep, look_up
from gentool.data.sources.labels import labels_key
from gentool.data.sources.own_pictures import refuse_own
from gentool.data.sources.tar import compression, is_tar, list_tar, unpack_tar
from gentool.data.sources.zip import (
    LOCAL_SIZE,
    is_zip,
    list_zip,
    local_length,
    read_head,
    read_member,
    unpack,
)

_READ_AS = 3  # raised when the same archive gives another index, as after a new rule for labels


class ArchiveSource(FileSource):
    """The images of a .zip or .tar; leading folders that all images have in common are removed.

    Args:
        path: The archive.
        labels: As in ``find_labels``; if None, a label file inside is used if there is one.
        refresh: Whether to ignore an existing index.
        max_bad: Share of the images that may have no label; they are left out.
        take_own: Whether pictures that gentool made are images like others.

    Raises:
        DataError: it is no intact archive of images, or it is refused (see ``Members``).
        OSError: the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        labels: str | None = None,
        *,
        refresh: bool = False,
        max_bad: float = MAX_BAD,
        take_own: bool = False,
    ) -> None:
        self.name = path.stem.removesuffix(".tar") or path.stem
        self.stamp = stamp_of_file(path.stat())
        self.path, self.is_zip = _plain_archive(path)
        place = place_of_index(path, labels_key(labels, max_bad), take_own)
        index = None if refresh else look_up(place)
        if index is None:
            index = keep(self.index_of(str(path), labels, max_bad, take_own), place)
        self.index = index
        self._takes_own = take_own or self.index.intake.own
        self._start()

    @property
    def intake(self) -> Intake:
        """What was taken and passed over."""
        return self.index.intake

    def _start(self) -> None:
        self.paths = self.index.names
        self.classes, self.labels = self.index.classes, self.index.labels
        self.notes = self.index.intake.notes
        self.fingerprint = self.index.fingerprint
        self._columns = [
            self.index.columns[c] for c in ("offset", "stored", "size", "crc", "method")
        ]
        self._file: _File | None = None
        self._opening = threading.Lock()

    def index_of(self, name: str, labels: str | None, max_bad: float, take_own: bool) -> Index:
        """List the members, read the labels, and return a new index."""
        members = Members(name)
        with open_regular(self.path) as file:
            (list_zip if self.is_zip else list_tar)(file, members)

            def read(stored: Stored, size: int | None = None) -> bytes:
                file.seek(stored[0])
                return file.read(stored[1] if size is None else min(size, stored[1]))

            reading = Reading(read, lambda stored: read(stored, HEAD_BYTES))
            if self.is_zip:
                reading = Reading(
                    partial(read_member, file), lambda stored: read_head(file, stored, HEAD_BYTES)
                )
            try:
                return members.index(labels, reading, max_bad, take_own=take_own)
            except ValueError as error:
                raise DataError(f"the labels in {name} cannot be read: {error}") from error

    def names(self) -> Iterator[str]:
        """Return the names of all images, in order."""
        return iter(self.paths)

    def read(self, index: int) -> bytes:
        """Return the bytes of member ``index``."""
        content = self._member(index)
        return content if self._takes_own else refuse_own(content)

    def time(self, index: int) -> float | None:
        """Return when member ``index`` was last written; a zip has no time zone, so it is UTC."""
        return float(self.index.columns["time"][index])

    def spot_check(self) -> str:
        """Return a hash of the times of all members and the contents of some.

        The fingerprint of a zip has the checksum of each member, so that nothing is missing in it.
        """
        if self.is_zip:
            return ""
        times = hashlib.sha256(self.index.columns["time"].tobytes()).hexdigest()
        return f"{times} {super().spot_check()}"

    def _member(self, index: int) -> bytes:
        offset, packed, size, crc, method = (int(column[index]) for column in self._columns)
        file = self._opened()
        if not self.is_zip:
            data = file.read_at(offset, size)
            if len(data) != size:
                raise BadImage("the archive is cut short")
            return data
        try:
            start = offset + local_length(file.read_at(offset, LOCAL_SIZE))
            return unpack(file.read_at(start, packed), (offset, packed, size, crc, method))
        except ValueError as error:
            raise BadImage(str(error)) from None

    def _opened(self) -> "_File":
        if self._file is None:
            with self._opening:
                if self._file is None:
                    self._file = _File(self.path)
        return self._file

    def __getstate__(self) -> dict[str, object]:
        kept = ("name", "path", "is_zip", "index", "_takes_own")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._start()


class _File:
    """An open file that several threads may read; it closes with the last reference to it."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb", buffering=0)
        self._lock = threading.Lock()

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``offset``."""
        if sys.platform != "win32":
            return os.pread(self._file.fileno(), size, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)

    def __del__(self) -> None:
        self._file.close()


def is_archive(path: Path) -> bool:
    """Return whether the file is a zip or a tar, compressed or not, judged by its content."""
    with open_regular(path) as file:
        return compression(file.read(8)) is not None or is_tar(file) or is_zip(file)


def begins_as_archive(path: Path) -> bool:
    """Return whether a file begins as a zip or a tar, compressed or not.

    Files in the safetensors format are excluded, as their first bytes may be anything. An image
    with a zip appended counts as an image.
    """
    with open_regular(path) as file:
        head = file.read(9)
        if head[8:] == b"{":  # safetensors: its first eight bytes are a length and may be anything
            return False
        return (
            head.startswith((b"PK\3\4", b"PK\5\6")) or compression(head) is not None or is_tar(file)
        )


def _plain_archive(path: Path) -> tuple[Path, bool]:
    """Return the file to read from, and whether it is a zip (else it is a plain tar).

    A compressed tar is decompressed first.
    """
    with open_regular(path) as file:
        kind = compression(file.read(8))
        if kind is None:
            return path, not is_tar(file)
    info = path.stat()
    key = index_place("unpacked", path.resolve(), stamp_of_file(info))
    plain = unpack_tar(path, kind, key.with_name(key.name + ".tar"))
    with open_regular(plain) as file:
        if not is_tar(file):
            raise DataError(f"{path} is a {kind} file, but it does not contain a tar archive")
    return plain, False


def place_of_index(path: Path, labels: str, take_own: bool = False) -> Path:
    """Return the path where the index of this archive with these choices is kept."""
    info = path.stat()
    key = (path.resolve(), stamp_of_file(info), labels, take_own, _READ_AS)
    return index_place("archive", *key)
