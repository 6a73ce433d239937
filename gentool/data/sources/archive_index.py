"""Collect the members of an archive, check them, and make a sorted index of them.

The archive is refused if the name of a member points outside, or if a member claims to unpack to
more than an image can be. Nothing is ever extracted, but such an archive is probably an attack.
Reads no member itself.
"""

import hashlib
import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import compress, groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import DataError
from gentool.data.badfiles import MAX_BAD
from gentool.data.intake import LINKS, NO_SUFFIX, OWN, Tally
from gentool.data.labels.layouts import Place
from gentool.data.sources.base import MAX_FILE
from gentool.data.sources.index import Index, Names
from gentool.data.sources.labels import (
    LABEL_FILES,
    LabelFile,
    Root,
    beside,
    find_labels,
    looks_like_labels,
)
from gentool.data.sources.own_pictures import OwnPictures
from gentool.data.sources.selection import (
    find_images,
    is_image,
    no_images,
    reason_of,
    why_skipped,
    with_kind,
)

MAX_RATIO = 200  # largest ratio of unpacked to packed size ...
_RATIO_FROM = 2**24  # ... for members that unpack to more bytes than this
_MOST_LABEL_FILES = 1000
Stored = tuple[int, int, int, int, int]  # offset, packed bytes, unpacked bytes, CRC-32, method


class Wanted(NamedTuple):
    """A member that is collected.

    Attributes:
        name: Its name in its plain form, in bytes.
        kind: ``image``, ``labels``, or ``nameless`` for a file without a suffix.
    """

    name: bytes
    kind: str


@dataclass(frozen=True)
class Reading:
    """How the members of an archive are read while its index is made.

    Attributes:
        whole: Returns the bytes of a member; raises ValueError if it is damaged.
        head: Returns the first bytes of a member, b"" if it is damaged.
    """

    whole: Callable[[Stored], bytes]
    head: Callable[[Stored], bytes]


class _Columns:
    """Names and places of members, in a few dozen bytes for each."""

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.offsets, self.crcs = array("Q"), array("I")
        self.stored, self.sizes, self.methods = array("I"), array("I"), array("B")
        self.times = array("q")

    def add(self, name: bytes, stored: Stored, time: int) -> None:
        """Add one member of the archive to the index."""
        offset, packed, size, crc, method = stored
        self.names.append(name)
        self.offsets.append(offset)
        self.stored.append(packed)
        self.sizes.append(size)
        self.crcs.append(crc)
        self.methods.append(method)
        self.times.append(time)

    def place(self, k: int) -> Stored:
        """Return where member ``k`` is."""
        return (self.offsets[k], self.stored[k], self.sizes[k], self.crcs[k], self.methods[k])

    def arrays(self, order: list[int]) -> dict[str, NDArray[Any]]:
        """Return the columns in an order."""
        return {
            "offset": np.frombuffer(self.offsets, np.uint64)[order],
            "stored": np.frombuffer(self.stored, np.uint32)[order],
            "size": np.frombuffer(self.sizes, np.uint32)[order],
            "crc": np.frombuffer(self.crcs, np.uint32)[order],
            "method": np.frombuffer(self.methods, np.uint8)[order],
            "time": np.frombuffer(self.times, np.int64)[order],
        }


class Members:
    """The images and label files of an archive, collected one by one.

    Args:
        archive: The archive's name, for messages.
    """

    def __init__(self, archive: str) -> None:
        self.archive = archive
        self.label_files: dict[bytes, Stored] = {}
        self._images, self._nameless = _Columns(), _Columns()
        self._tally = Tally()
        self._skipped: set[str] = set()  # folders that were counted

    def wants(self, name: str) -> Wanted | None:
        """Return how a member is wanted, or None to skip it, which is counted.

        The name is UTF-8 with surrogateescape. A backslash separates folders, as in archives that
        some programs write on Windows.

        Raises:
            DataError: the name points outside the archive.
        """
        parts = self.check(name)
        if name.endswith(("/", "\\")) or not parts:
            return None
        for depth, part in enumerate(parts, start=1):
            if reason := why_skipped(part):
                top = "/".join(parts[:depth])
                if depth == len(parts) or top not in self._skipped:
                    self._tally.add(reason, top)
                if depth < len(parts):
                    self._skipped.add(top)
                return None
        whole = "/".join(parts)
        if is_image(parts[-1]):
            kind = "image"
        elif self._may_have_labels(parts):
            kind = "labels"
        else:
            reason = reason_of(whole)
            self._tally.add(reason, whole)
            if reason != NO_SUFFIX:
                return None
            kind = "nameless"
        return Wanted(os.fsencode(whole), kind)

    def add_link(self, name: str) -> None:
        """Count a link, which is skipped, unless its name would be skipped anyway."""
        if not any(map(why_skipped, self.check(name))):
            self._tally.add(LINKS, name)

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
        return [part for part in parts if part not in ("", ".")]

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

    def add(self, wanted: Wanted, stored: Stored, time: int) -> None:
        """Add a member that ``wants`` accepted.

        Args:
            wanted: What ``wants`` returned.
            stored: Where it is.
            time: When it was last written, in seconds since 1970.

        Raises:
            DataError: it claims to be too large, or to unpack to far more than it takes.
        """
        _, packed, size, _, _ = stored
        name = wanted.name.decode(errors="replace")
        if size > MAX_FILE or packed > MAX_FILE:
            raise self.refuse(name, f"claims to be {size:,} bytes long")
        if size > _RATIO_FROM and size > MAX_RATIO * max(packed, 1):
            raise self.refuse(name, f"claims to unpack {packed:,} bytes to {size:,}")
        if wanted.kind == "labels":
            self.label_files[wanted.name] = stored
        else:
            columns = self._images if wanted.kind == "image" else self._nameless
            columns.add(wanted.name, stored, time)

    def refuse(self, name: str, why: str) -> DataError:
        """Return the error for a member because of which the archive is refused."""
        return DataError(
            f"{self.archive} is refused: its member {name[:200]} {why}. "
            "Pack the images again, from a folder"
        )

    def index(
        self,
        labels: str | None,
        reading: Reading,
        max_bad: float = MAX_BAD,
        *,
        take_own: bool = False,
    ) -> Index:
        """Return the sorted index of the images; of two members with one name the later one counts.

        Args:
            labels: As in ``find_labels``.
            reading: Reads members.
            max_bad: Share of the images that may have no label; they are left out.
            take_own: Whether pictures that gentool made are images like others.

        Raises:
            DataError: there is no image, or the labels do not match.
        """
        columns, order, own = self._chosen(reading, take_own=take_own)
        raw = columns.names
        top = self._common_top(raw[order[0]], raw[order[-1]])
        names = Names.of(raw[k][top:] for k in order)
        digest = hashlib.sha256()
        for k in order:
            digest.update(raw[k] + f"\0{columns.sizes[k]}\0{columns.crcs[k]}\0".encode())

        inside = self._root(raw[order[0]][:top], reading)
        found = find_labels(labels, inside, max_bad).of(names)
        digest.update(found.mark)
        arrays = columns.arrays(order)
        if found.kept is not None:
            names = Names.of(compress(names.raws(), found.kept))
            arrays = {name: column[found.kept] for name, column in arrays.items()}
        rows = self._tally.passed()
        if columns is self._nameless:  # all that are images are taken
            rows = tuple(row for row in rows if row.reason != NO_SUFFIX)
        passed = with_kind(rows, lambda name: self._head_of_nameless(name, reading))
        lost = self._tally.lost_folders(Names.of(raw[k] for k in order))
        intake = found.intake(len(names), passed, lost, own=own)
        return Index(names, found.labels, found.classes, digest.hexdigest(), arrays, intake)

    def _root(self, top: bytes, reading: Reading) -> Root:
        """Return the folder ``top`` inside the archive as the root of the images."""

        def file(name: str) -> LabelFile | None:
            stored = self.label_files.get(top + name.encode("utf-8", "surrogateescape"))
            if stored is None:
                return None
            return LabelFile(name, "inside", stored[2], lambda: reading.whole(stored), name)

        def listed() -> Iterator[LabelFile]:
            for member in sorted(self.label_files):
                name = member.removeprefix(top)
                if member.startswith(top) and b"/" not in name:
                    found = file(name.decode("utf-8", "surrogateescape"))
                    if found is not None:
                        yield found
            yield from beside(Path(self.archive))

        folder = str(Path(self.archive).with_suffix("")).removesuffix(".tar")
        place = Place(f"{folder}/{top.decode('utf-8', 'surrogateescape')}", packed=True)
        return Root(place, file, listed)

    def _head_of_nameless(self, name: str, reading: Reading) -> bytes:
        raw = os.fsencode(name)
        names = self._nameless.names
        return reading.head(self._nameless.place(names.index(raw))) if raw in names else b""

    def _chosen(self, reading: Reading, *, take_own: bool) -> tuple[_Columns, list[int], bool]:
        """Choose the members that are the images of the archive.

        Returns:
            The columns they are in, their positions in sorted order, and whether all are gentool's
            own pictures. These are taken if there are no others, and so are files without a
            suffix.
        """
        images = self._images
        if images.names:
            order = _sorted_order(images.names)
            if take_own:
                return images, order, False
            rest = self._without_own(order, reading)
            return images, rest or order, not rest
        nameless = self._nameless
        if nameless.names:
            order = _sorted_order(nameless.names)
            found = find_images(order, lambda k: reading.head(nameless.place(k)))
            if found:
                return nameless, [k for k in order if k in found], False
        raise no_images(self.archive, self._tally, packed=True)

    def _without_own(self, order: list[int], reading: Reading) -> list[int]:
        """Return the positions of images that gentool did not make; the others are counted."""
        images = self._images

        def whole(k: int) -> bytes:
            try:
                return reading.whole(images.place(k))
            except ValueError:
                return b""

        def folder(k: int) -> bytes:
            return images.names[k].rpartition(b"/")[0]

        finder = OwnPictures(
            images.names.__getitem__, lambda k: reading.head(images.place(k)), whole
        )
        own: set[int] = set()
        for _, group in groupby(order, key=folder):
            own |= finder.among(group)
        rest = [k for k in order if k not in own] if own else order
        for k in own if rest else ():
            self._tally.add(OWN, os.fsdecode(images.names[k]))
        return rest

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
