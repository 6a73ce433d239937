"""The index: what a source knows about every image, in at most a few dozen bytes per image.

Names are kept sorted and front-coded in one buffer: each name is stored as the number of bytes it
has in common with the name before, and the rest. Every 16th name is stored in full, and its
offset is kept. Labels and offsets are plain arrays. A large index is one file in the cache
folder. It is memory-mapped, so that ten million images open at once and worker processes share
the memory pages. Small indexes stay in memory.
"""

import contextlib
import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from gentool.core.atomic_files import replacing
from gentool.core.errors import DataError
from gentool.data.intake import Intake
from gentool.data.paths import cache_folder

KEPT_ABOVE = 2000  # images; for fewer, finding them again costs less than a file
_BLOCK = 16  # names per block; the first of a block is stored in full
_MAGIC = b"gentool-index-2\n"
_ALIGN = 64
_MAX_HEADER = 2**28

Columns = Mapping[str, NDArray[Any]]


class Names(Sequence[str]):
    """Names by number, decoded when read; equal to any sequence of the same names.

    Args:
        buffer: Front-coded names, uint8.
        starts: Offset of each block of ``_BLOCK`` names in ``buffer``, uint64.
        count: Number of names.
    """

    def __init__(self, buffer: NDArray[np.uint8], starts: NDArray[np.uint64], count: int) -> None:
        self.buffer, self.starts, self._count = buffer, starts, count

    @classmethod
    def of(cls, names: Iterable[bytes]) -> "Names":
        """Encode names; sorted names take little space.

        Raises:
            ValueError: a name contains a zero byte.
        """
        out, starts, count, last = bytearray(), array("Q"), 0, b""
        for name in names:
            shared = 0
            if count % _BLOCK:
                shared = _shared(last, name)
            else:
                starts.append(len(out))
            if 0 in name:
                raise ValueError(f"a name has a zero byte: {name!r:.80}")
            out.append(shared)
            out += name[shared:]
            out.append(0)
            count, last = count + 1, name
        return cls(np.frombuffer(out, np.uint8), np.frombuffer(starts, np.uint64), count)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self[k] for k in range(*index.indices(self._count)))
        return os.fsdecode(self.raw(index))

    def raw(self, index: int) -> bytes:
        """Return name ``index`` as bytes.

        Raises:
            IndexError: there is no such name.
            ValueError: the index is damaged.
        """
        if not -self._count <= index < self._count:
            raise IndexError(f"there is no name {index}; the index has {self._count}")
        index %= self._count
        for number, name in enumerate(self._block(index // _BLOCK)):
            if number == index % _BLOCK:
                return name
        raise ValueError("the index is damaged")

    def raws(self) -> Iterator[bytes]:
        """Yield all names as bytes."""
        for block in range(len(self.starts)):
            yield from self._block(block)

    def __iter__(self) -> Iterator[str]:
        return map(os.fsdecode, self.raws())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        few = ", ".join(map(repr, self[:3]))
        return f"<{len(self)} names: {few}{', ...' if len(self) > 3 else ''}>"

    def _block(self, block: int) -> Iterator[bytes]:
        ends = len(self.starts)
        stop = int(self.starts[block + 1]) if block + 1 < ends else len(self.buffer)
        coded = self.buffer[int(self.starts[block]) : stop].tobytes()
        place, name = 0, b""
        while place < len(coded):
            end = coded.index(0, place + 1)
            name = name[: coded[place]] + coded[place + 1 : end]
            place = end + 1
            yield name


def _shared(a: bytes, b: bytes) -> int:
    """Return how many leading bytes two names have in common, at most 255."""
    top = min(len(a), len(b), 255)
    differ = int.from_bytes(a[:top], "big") ^ int.from_bytes(b[:top], "big")
    return top - (differ.bit_length() + 7) // 8


@dataclass(frozen=True)
class Index:
    """What is known about the images of a source.

    Attributes:
        names: Names of the images, sorted.
        labels: Index into ``classes`` per image, int32 (N,), or None.
        classes: Class names.
        fingerprint: Changes when the images or labels change.
        columns: Further arrays of the source, by name.
        intake: What was taken and passed over.
        stamp: The stamp of the images' files (see ``changes``); None if it is not kept here.
        file: The file that is memory-mapped; None if the index is in memory only.
    """

    names: Names
    labels: NDArray[np.int32] | None
    classes: tuple[str, ...]
    fingerprint: str
    columns: Columns = field(default_factory=dict)
    intake: Intake = field(default_factory=Intake)
    stamp: str | None = None
    file: Path | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in self._arrays().values())

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {"names": self.names.buffer, "starts": self.names.starts}
        if self.labels is not None:
            arrays["labels"] = self.labels
        return arrays | {f"own {name}": column for name, column in self.columns.items()}

    def save(self, path: Path) -> "Index":
        """Write the index and return it memory-mapped.

        Raises:
            OSError: it cannot be written.
        """
        arrays, entries, place = self._arrays(), [], 0
        for name, values in arrays.items():
            entries.append([name, values.dtype.str, place, len(values)])
            place += -(-values.nbytes // _ALIGN) * _ALIGN
        meta = {"count": len(self), "classes": self.classes, "fingerprint": self.fingerprint,
                "stamp": self.stamp, "intake": self.intake.as_json(), "arrays": entries,
                "bytes": place}  # fmt: skip
        header = json.dumps(meta).encode()
        lead = _MAGIC + len(header).to_bytes(8, "little") + header
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as out:
            out.write(lead.ljust(-(-len(lead) // _ALIGN) * _ALIGN, b"\0"))
            for values in arrays.values():
                out.write(np.ascontiguousarray(values).view(np.uint8).data)
                out.write(bytes(-values.nbytes % _ALIGN))
        return Index.open(path)

    @staticmethod
    def open(path: Path) -> "Index":
        """Memory-map an index file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not an index, was cut short or is damaged.
        """
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ValueError(f"{path} is not an index")
            length = int.from_bytes(file.read(8), "little")
            header = file.read(min(length, _MAX_HEADER))
            start = -(-file.tell() // _ALIGN) * _ALIGN
        try:
            meta = json.loads(header)
            if path.stat().st_size != start + int(meta["bytes"]):
                raise ValueError(f"{path} is cut short")
            mapped = np.memmap(path, np.uint8, "r", start) if meta["bytes"] else np.empty(0, "u1")
            arrays = {
                name: np.asarray(mapped[place : place + size * np.dtype(kind).itemsize]).view(kind)
                for name, kind, place, size in meta["arrays"]
            }
            names = Names(arrays.pop("names"), arrays.pop("starts"), int(meta["count"]))
            labels = arrays.pop("labels", None)
            if len(names.starts) != -(-len(names) // _BLOCK):
                raise ValueError(f"{path} is damaged")
            own = {name.removeprefix("own "): values for name, values in arrays.items()}
            intake = Intake.of_json(meta["intake"])
            classes, fingerprint = tuple(meta["classes"]), meta["fingerprint"]
            return Index(names, labels, classes, fingerprint, own, intake, meta["stamp"], path)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged") from error

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle only the path if there is a file; a worker process maps the file again."""
        if self.file is not None:
            return _reopen, (self.file, self.fingerprint)
        own = (
            self.labels, self.classes, self.fingerprint, dict(self.columns), self.intake, self.stamp
        )  # fmt: skip
        names = (self.names.buffer, self.names.starts, len(self.names))
        return _rebuild, (names, own)


def _reopen(path: Path, fingerprint: str) -> Index:
    index = Index.open(path)
    if index.fingerprint != fingerprint:
        raise DataError("the images were changed while they were in use. Run the command again")
    return index


def _rebuild(names: tuple[Any, ...], own: tuple[Any, ...]) -> Index:
    return Index(Names(*names), *own)


def _tell_the_same(known: Index, index: Index) -> bool:
    """Return whether two indexes agree in all that their images and files decide."""
    return (
        known.fingerprint == index.fingerprint
        and known.stamp == index.stamp
        and len(known) == len(index)
        and known.intake == index.intake
    )


def index_place(*key: object) -> Path:
    """Return the path where the index for ``key`` is kept."""
    words = "\0".join(map(str, key)).encode("utf-8", "surrogateescape")
    return cache_folder() / f"index-{hashlib.sha256(words).hexdigest()[:16]}"


def look_up(place: Path) -> Index | None:
    """Open the index at ``place`` and mark it as used now; return None if none is usable."""
    try:
        index = Index.open(place)
    except (OSError, ValueError):
        return None
    with contextlib.suppress(OSError):
        os.utime(place)
    return index


def keep(index: Index, place: Path) -> Index:
    """Save a large index and return it memory-mapped.

    A small index is returned unchanged, and so is any index if the cache cannot be written.
    """
    if len(index) <= KEPT_ABOVE:
        return index
    known = look_up(place)
    if known is not None and _tell_the_same(known, index):
        return known
    try:
        return index.save(place)
    except OSError:  # an unwritable cache is reported when images are written to it
        return index
