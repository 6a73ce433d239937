"""Collect the members of an archive, check them, and make a sorted index of them.

The archive is refused if the name of a member points outside, or if a member claims to unpack to
more than an image can be. Nothing is ever extracted, but such an archive is probably an attack.
Reads no member itself.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterator
from itertools import compress, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import DataError
from gentool.data.badfiles import MAX_BAD
from gentool.data.sources.base import MAX_FILE, is_hidden, is_image, no_images
from gentool.data.sources.index import Index, Names
from gentool.data.sources.labels import (
    LABEL_FILES,
    LabelFile,
    Root,
    beside,
    find_labels,
    looks_like_labels,
)

MAX_RATIO = 200  # largest ratio of unpacked to packed size ...
_RATIO_FROM = 2**24  # ... for members that unpack to more bytes than this
_MOST_LABEL_FILES = 1000
Stored = tuple[int, int, int, int, int]  # offset, packed bytes, unpacked bytes, CRC-32, method


class Members:
    """The images and label files of an archive, collected one by one.

    Args:
        archive: The archive's name, for messages.
    """

    def __init__(self, archive: str) -> None:
        self.archive = archive
        self.names: list[bytes] = []
        self.offsets, self.crcs = array("Q"), array("I")
        self.stored, self.sizes, self.methods = array("I"), array("I"), array("B")
        self.label_files: dict[bytes, Stored] = {}

    def wants(self, name: str) -> tuple[bytes, bool] | None:
        """Return the name in its plain form and whether it is an image, or None to skip the member.

        The name is UTF-8 with surrogateescape. Images and label files are wanted.

        Raises:
            DataError: the name points outside the archive.
        """
        parts = self.check(name)
        if name.endswith("/") or not parts or any(map(is_hidden, parts)):
            return None
        image = is_image(parts[-1])
        if not image and not self._may_have_labels(parts):
            return None
        return "/".join(parts).encode("utf-8", "surrogateescape"), image

    def _may_have_labels(self, parts: list[str]) -> bool:
        """Return whether a member may be a file of labels; of many small ones few are kept."""
        if parts[-1] in LABEL_FILES:
            return True
        return looks_like_labels(parts[-1]) and len(self.label_files) < _MOST_LABEL_FILES

    def check(self, name: str) -> list[str]:
        """Return the parts of a member's name.

        Raises:
            DataError: the name points outside the archive.
        """
        parts = name.replace("\\", "/").split("/")
        if name[:1] in ("/", "\\") or ".." in parts or name[1:3] in (":\\", ":/"):
            raise self.refuse(name, "points outside the archive")
        return [part for part in name.split("/") if part not in ("", ".")]

    def check_link(self, name: str, target: str) -> None:
        """Check the target of a link; links are otherwise skipped.

        Raises:
            DataError: the link points outside the archive.
        """
        depth = len(self.check(name)) - 1
        if target[:1] in ("/", "\\") or target[1:3] in (":\\", ":/"):
            raise self.refuse(name, "is a link that points outside the archive")
        for part in target.replace("\\", "/").split("/"):
            depth += -1 if part == ".." else part not in ("", ".")
            if depth < 0:
                raise self.refuse(name, "is a link that points outside the archive")

    def add(self, name: bytes, stored: Stored, *, image: bool) -> None:
        """Add a member that ``wants`` accepted.

        Raises:
            DataError: it claims to be too large, or to unpack to far more than it takes.
        """
        offset, packed, size, crc, method = stored
        if size > MAX_FILE or packed > MAX_FILE:
            raise self.refuse(name.decode(errors="replace"), f"claims to be {size:,} bytes long")
        if size > _RATIO_FROM and size > MAX_RATIO * max(packed, 1):
            raise self.refuse(
                name.decode(errors="replace"), f"claims to unpack {packed:,} bytes to {size:,}"
            )
        if not image:
            self.label_files[name] = stored
            return
        self.names.append(name)
        self.offsets.append(offset)
        self.stored.append(packed)
        self.sizes.append(size)
        self.crcs.append(crc)
        self.methods.append(method)

    def refuse(self, name: str, why: str) -> DataError:
        """Return the error for a member because of which the archive is refused."""
        return DataError(
            f"{self.archive} is refused: its member {name[:200]} {why}. "
            "Pack the images again, from a folder"
        )

    def index(
        self, labels: str | None, read: Callable[[Stored], bytes], max_bad: float = MAX_BAD
    ) -> Index:
        """Return the sorted index of the images; of two members with one name the later one counts.

        Args:
            labels: As in ``find_labels``.
            read: Returns the bytes of a member.
            max_bad: Share of the images that may have no label; they are left out.

        Raises:
            DataError: there is no image, or the labels do not match.
        """
        if not self.names:
            raise no_images(self.archive)
        order = _sorted_order(self.names)
        top = self._common_top(self.names[order[0]], self.names[order[-1]])
        names = Names.of(self.names[k][top:] for k in order)
        columns: dict[str, NDArray[Any]] = {
            "offset": np.frombuffer(self.offsets, np.uint64)[order],
            "stored": np.frombuffer(self.stored, np.uint32)[order],
            "size": np.frombuffer(self.sizes, np.uint32)[order],
            "crc": np.frombuffer(self.crcs, np.uint32)[order],
            "method": np.frombuffer(self.methods, np.uint8)[order],
        }
        digest = hashlib.sha256()
        for k in order:
            digest.update(self.names[k] + f"\0{self.sizes[k]}\0{self.crcs[k]}\0".encode())

        inside = self._root(self.names[order[0]][:top], read)
        found = find_labels(labels, inside, max_bad).of(names)
        digest.update(found.mark)
        if found.kept is not None:
            names = Names.of(compress(names.raws(), found.kept))
            columns = {name: column[found.kept] for name, column in columns.items()}
        return Index(names, found.labels, found.classes, digest.hexdigest(), columns, found.notes)

    def _root(self, top: bytes, read: Callable[[Stored], bytes]) -> Root:
        """Return the folder ``top`` inside the archive as the root of the images."""

        def file(name: str) -> LabelFile | None:
            stored = self.label_files.get(top + name.encode("utf-8", "surrogateescape"))
            if stored is None:
                return None
            return LabelFile(name, "inside", stored[2], lambda: read(stored), name)

        def listed() -> Iterator[LabelFile]:
            for member in sorted(self.label_files):
                name = member.removeprefix(top)
                if member.startswith(top) and b"/" not in name:
                    found = file(name.decode("utf-8", "surrogateescape"))
                    if found is not None:
                        yield found
            yield from beside(Path(self.archive))

        place = self.archive.rpartition(".")[0].removesuffix(".tar")
        return Root(f"{place}/{top.decode('utf-8', 'surrogateescape')}", file, listed)

    def _common_top(self, first: bytes, last: bytes) -> int:
        """Return the length in bytes of the leading folders that all names have in common.

        The first and the last of the sorted names suffice to find them. A folder with a label file
        is the root, so that its subfolders are not included.
        """
        top: list[bytes] = []
        for a, b in zip(first.split(b"/")[:-1], last.split(b"/")[:-1], strict=False):
            if a != b or self._labels_in(top):
                break
            top.append(a)
        return len(b"".join(part + b"/" for part in top))

    def _labels_in(self, folder: list[bytes]) -> bool:
        return any(b"/".join([*folder, name.encode()]) in self.label_files for name in LABEL_FILES)


def _sorted_order(names: list[bytes]) -> list[int]:
    """Return the positions of the names in sorted order; of equal names only the last is kept."""
    order = sorted(range(len(names)), key=names.__getitem__)
    kept = [a for a, b in pairwise(order) if names[a] != names[b]]
    return [*kept, order[-1]]
