"""Where images come from: a folder, a zip of one, or a built-in procedural set.

A source finds and names images and hands out their bytes; what happens to the bytes is
``intake``'s business. Archives are read member by member and never extracted.
"""

import hashlib
import os
import zipfile
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gentool.data.intake import Policy, decode, open_image
from gentool.data.procedural import BUILTIN, ProceduralSet
from gentool.errors import DataError, UsageError
from gentool.images import Pixels, pil_mode, to_pil

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
BUILTIN_PREFIX = "builtin:"
_MAX_BUILTIN = 2**32


class Loaded(NamedTuple):
    """A prepared image, and 64 bits of the SHA-256 of what it was made from."""

    pixels: Pixels
    content_hash: int


class Source(ABC):
    """Images by number.

    Attributes:
        name: Short name for folders and messages.
        paths: Path of every image inside the source, sorted; () for procedural sets.
        classes: Class names, sorted; () without classes.
        labels: Index into ``classes`` per image, int64 (N,), or None.
        fingerprint: Changes when the images do; cheap to compute.
    """

    name: str
    paths: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    labels: NDArray[np.int64] | None = None
    fingerprint: str

    def __len__(self) -> int:
        return len(self.paths)

    def describe(self, index: int) -> str:
        """What to call image ``index`` in a message."""
        return self.paths[index]

    @abstractmethod
    def load(self, index: int, policy: Policy) -> Loaded:
        """Image ``index``, prepared; BadImage, OSError and others if it cannot be read."""

    @abstractmethod
    def open(self, index: int) -> Image.Image:
        """Image ``index`` as it is, upright, for looking at; raises like ``load``."""

    def _label_by_folder(self) -> None:
        """Use top-level folders as classes when every image stands in one of at least two."""
        tops = [PurePosixPath(p).parts for p in self.paths]
        if all(len(parts) > 1 for parts in tops):
            names = sorted({parts[0] for parts in tops})
            if len(names) > 1:
                rank = {name: k for k, name in enumerate(names)}
                self.classes = tuple(names)
                self.labels = np.array([rank[parts[0]] for parts in tops], dtype=np.int64)


class FileSource(Source):
    """A source whose images are encoded files."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The bytes of file ``index``; OSError or zipfile errors if it cannot be read."""

    def load(self, index: int, policy: Policy) -> Loaded:
        """Image ``index``, prepared."""
        content = self.read(index)
        return Loaded(decode(content, policy), content_hash(content))

    def open(self, index: int) -> Image.Image:
        """Image ``index`` as it is."""
        return open_image(self.read(index))


def content_hash(content: bytes) -> int:
    """64 bits of the SHA-256: what a holdout split goes by, so that it outlives renaming."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little")


class FolderSource(FileSource):
    """A folder, searched deeply; hidden files and folders are passed over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.resolve().name or "root"
        found: list[str] = []
        digest = hashlib.sha256()
        for top, folders, files in os.walk(folder):
            folders[:] = sorted(f for f in folders if not _is_hidden(f))
            found += [(Path(top) / f).relative_to(folder).as_posix() for f in files if _is_image(f)]
        self.paths = tuple(sorted(found))
        if not self.paths:
            raise _no_images(f"the folder {folder}")
        for path in self.paths:
            digest.update(os.fsencode(path) + b"\0" + _stamp(folder / path))
        self.fingerprint = digest.hexdigest()
        self._label_by_folder()

    def read(self, index: int) -> bytes:
        """The bytes of file ``index``."""
        return (self.folder / self.paths[index]).read_bytes()


class ZipSource(FileSource):
    """A .zip of a folder; a single folder at its top is looked through."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path} is not a readable zip: {error}") from error
        members = sorted(
            (m for m in self._archive.infolist() if not m.is_dir() and _is_member(m.filename)),
            key=lambda m: m.filename,
        )
        if not members:
            raise _no_images(str(path))
        self._members = members
        digest = hashlib.sha256()
        for m in members:
            digest.update(f"{m.filename}\0{m.file_size}\0{m.CRC}\0".encode())
        self.fingerprint = digest.hexdigest()
        self.paths = _without_common_top([m.filename for m in members])
        self._label_by_folder()

    def read(self, index: int) -> bytes:
        """The bytes of member ``index``."""
        return self._archive.read(self._members[index])


class BuiltinSource(Source):
    """A procedural set: images are drawn, never read."""

    def __init__(self, procedural: ProceduralSet, count: int) -> None:
        self.name = procedural.name
        self.procedural = procedural
        self.classes = procedural.classes
        self._count = count
        self.fingerprint = f"{procedural.name}-v{procedural.version}-{count}"

    def __len__(self) -> int:
        return self._count

    @cached_property
    def labels(self) -> NDArray[np.int64]:  # type: ignore[override]
        """The label of every image, worked out when first asked for."""
        return np.array([self.procedural.label(i) for i in range(self._count)], dtype=np.int64)

    def describe(self, index: int) -> str:
        """What to call image ``index`` in a message."""
        return f"{BUILTIN_PREFIX}{self.name} image {index}"

    def load(self, index: int, policy: Policy) -> Loaded:
        """Image ``index``, drawn at the wanted size."""
        shape = policy.shape
        drawn = self.procedural.render(index, shape.height, shape.width)
        return Loaded(_match_channels(drawn, shape.channels), content_hash(self._id(index)))

    def open(self, index: int) -> Image.Image:
        """Image ``index`` at the set's own size."""
        side = self.procedural.default_side
        return to_pil(self.procedural.render(index, side, side))

    def _id(self, index: int) -> bytes:
        return self.describe(index).encode()


def _match_channels(drawn: Pixels, channels: int) -> Pixels:
    """A drawn image in another colour mode than its own."""
    if drawn.shape[2] == channels:
        return drawn
    converted = to_pil(drawn).convert(pil_mode(channels))
    return np.asarray(converted, dtype=np.uint8).reshape(*drawn.shape[:2], channels)


def is_folder(path: Path) -> bool:
    """Whether a folder stands at ``path``; no for a name that no file can have."""
    try:
        return path.is_dir()
    except OSError:
        return False


def open_source(spec: str) -> Source:
    """The source that ``spec`` names: a folder, a .zip, or ``builtin:NAME[:COUNT]``.

    Raises:
        DataError: nothing there, no images in it, or not a zip.
        UsageError: no such built-in set or count.
    """
    if spec.startswith(BUILTIN_PREFIX):
        return _open_builtin(spec.removeprefix(BUILTIN_PREFIX))
    path = Path(spec).expanduser()
    try:
        if path.is_dir():
            return FolderSource(path)
        if path.is_file():
            if zipfile.is_zipfile(path):
                return ZipSource(path)
            raise DataError(
                f"{spec} is a file but not a zip. Give a folder, a .zip or {_builtins()}"
            )
    except OSError as error:  # a name that no file can have, or a folder that may not be read
        raise DataError(f"cannot read {spec:.200}: {error.strerror}") from error
    raise DataError(
        f"nothing at {spec:.200}. Give a folder of images, a .zip of one, or {_builtins()}"
    )


def _open_builtin(words: str) -> BuiltinSource:
    name, _, count_word = words.partition(":")
    procedural = BUILTIN.get(name)
    if not count_word:
        return BuiltinSource(procedural, procedural.default_count)
    digits = len(count_word) <= 20 and count_word.isdecimal()
    if not digits or not 1 <= int(count_word) <= _MAX_BUILTIN:
        raise UsageError(
            f"builtin:{name}:{count_word:.20}: after the name stands how many images, "
            f"1 to {_MAX_BUILTIN}, for example builtin:{name}:10000"
        )
    return BuiltinSource(procedural, int(count_word))


def _builtins() -> str:
    return " or ".join(f"{BUILTIN_PREFIX}{name}" for name in BUILTIN)


def _no_images(where: str) -> DataError:
    return DataError(
        f"no images in {where} (searched deeply for {', '.join(sorted(IMAGE_SUFFIXES))}, any case)"
    )


def _stamp(path: Path) -> bytes:
    """Size and time of a file, or nothing if it cannot be looked at (intake reports why)."""
    try:
        info = path.stat()
    except OSError:
        return b"\0"
    return f"{info.st_size} {info.st_mtime_ns}\0".encode()


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_image(name: str) -> bool:
    return not _is_hidden(name) and Path(name).suffix.lower() in IMAGE_SUFFIXES


def _is_member(name: str) -> bool:
    *folders, last = PurePosixPath(name).parts or ("",)
    return _is_image(last) and not any(_is_hidden(f) for f in folders)


def _without_common_top(names: list[str]) -> tuple[str, ...]:
    """Member names without a single folder that all of them share."""
    parts = [PurePosixPath(n).parts for n in names]
    while all(len(p) > 1 and p[0] == parts[0][0] for p in parts):
        parts = [p[1:] for p in parts]
    return tuple("/".join(p) for p in parts)
