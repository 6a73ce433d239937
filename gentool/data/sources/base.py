"""The base classes of sources. A source gives images by number, names, labels and a fingerprint.

A source finds and names images and returns their bytes; ``preprocessing`` turns the bytes into
pixels. This module opens no file itself.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gentool.core.images import Pixels
from gentool.data.deep_images import deep_colour, outside
from gentool.data.encoded import Described, description
from gentool.data.intake import Intake
from gentool.data.origin import origin_of
from gentool.data.preprocessing import Preprocessing, convert, open_image

MAX_FILE = 2**30  # bytes of one image file; larger files are not read into memory
_SPOTS = 64  # images whose contents a spot check reads
Access = Literal["processes", "threads", "sequential"]


class Loaded(NamedTuple):
    """A prepared image.

    Attributes:
        pixels: uint8 (H, W, C).
        content_hash: 64 bits of the SHA-256 of the file (or image) that it was made from.
        unsuited: Whether the levels suit the values of this deep image badly.
        described: What its file says about it; None if it was made for the wanted size.
    """

    pixels: Pixels
    content_hash: int
    unsuited: bool = False
    described: Described | None = None


class Decoded(NamedTuple):
    """An image that was opened, not prepared.

    Attributes:
        image: The image, upright.
        content_hash: As in ``Loaded``.
    """

    image: Image.Image
    content_hash: int


class Source(ABC):
    """Images by number.

    Attributes:
        name: Short name for folders and messages.
        paths: Path of every image inside the source, sorted; empty if images have no paths.
        classes: Class names; () without classes.
        labels: Index into ``classes`` per image, int32 (N,), or None.
        fingerprint: Changes when the images or labels change; cheap to compute.
        stamp: What the file system tells about changes (see ``changes``). Equal fingerprints with
            another stamp may have other images. None where the fingerprint tells everything.
        reread: Whether the content of every file is compared with the cache even if the stamp is
            known.
        access: How ``load`` may be called. ``processes``: the source may be pickled into worker
            processes. ``threads``: from threads of one process. ``sequential``: a stream, which
            one thread reads in the order 0, 1, 2 ...; any other order works but is slow.
        repeats: Weight of each image, float32 (N,), if sources are joined with weights, else None.
        notes: What the user should know about the images and labels, one sentence each.
    """

    name: str
    paths: Sequence[str] = ()
    classes: tuple[str, ...] = ()
    labels: NDArray[np.int32] | None = None
    fingerprint: str
    stamp: str | None = None
    reread: bool = False
    access: Access = "processes"
    repeats: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def describe(self, index: int) -> str:
        """Return the name of image ``index`` for messages."""
        return self.paths[index]

    def names(self) -> Iterator[str]:
        """Return what ``describe`` returns for each image, in order."""
        return map(self.describe, range(len(self)))

    @property
    def intake(self) -> Intake:
        """What was taken and passed over, and where the classes come from."""
        origin = "the data set" if self.classes else ""
        return Intake(taken=len(self), classes_from=origin, notes=self.notes)

    @abstractmethod
    def open(self, index: int) -> Decoded:
        """Return image ``index``, not prepared.

        Raises:
            BadImage: the image is broken. OSError and other errors are possible too.
        """

    def load(self, index: int, preprocessing: Preprocessing) -> Loaded:
        """Return image ``index``, prepared.

        It raises the same errors as ``open``.
        """
        return self.prepare(index, self.open(index), preprocessing)

    def prepare(self, index: int, decoded: Decoded, preprocessing: Preprocessing) -> Loaded:
        """Return image ``index`` prepared, where ``open`` has returned ``decoded``."""
        image = decoded.image
        unsuited = outside(image, preprocessing.levels)
        pixels = convert(image, preprocessing)
        return Loaded(pixels, decoded.content_hash, unsuited, description(image))

    def proof(self, index: int) -> int | None:
        """Return the content hash of image ``index`` without decoding it.

        It is None if the hash alone does not decide the pixels, or needs decoding. It raises the
        same errors as ``open``.
        """
        return None

    def time(self, index: int) -> float | None:
        """Return when image ``index`` was last written, in seconds since 1970, if it is known."""
        return None

    def spot_check(self) -> str:
        """Return what changes with the contents of some images, where the fingerprint may not.

        Streamed images are told apart by it, as their contents are not read in advance.
        """
        return ""

    def read_modes(self, images: Pixels) -> NDArray[np.int64] | None:
        """Return the mode that each image shows, int64 (N,), or None if the set has no rule for it.

        Args:
            images: uint8 (N, H, W, C).
        """
        return None


class FileSource(Source):
    """A source whose images are encoded files."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """Return the bytes of file ``index``.

        Raises:
            BadImage: the file cannot be used.
            OSError: the file cannot be read.
        """

    def head(self, index: int) -> bytes:
        """Return at least the first ``HEAD_BYTES`` bytes of file ``index``; errors as in ``read``.

        A source that can read a part of a file overrides this.
        """
        return self.read(index)

    def open(self, index: int) -> Decoded:
        """Return image ``index``, not prepared."""
        content = self.read(index)
        return Decoded(open_image(content), source_hash(content))

    def spot_check(self) -> str:
        """Return a hash of the contents of some files, spread evenly over the source."""
        return hash_of_some(self.read, len(self))

    def proof(self, index: int) -> int | None:
        """Return the content hash of file ``index``; None if the file carries another hash."""
        content = self.read(index)
        return content_hash(content) if origin_of(content) is None else None


def hash_of_some(read: Callable[[int], bytes], count: int) -> str:
    """Return a hash of the contents of a few of ``count`` images, spread evenly.

    Args:
        read: Returns the bytes of an image; an image that it cannot read counts as empty.
        count: The number of images.
    """
    digest = hashlib.sha256()
    for index in sorted({k * (count - 1) // max(_SPOTS - 1, 1) for k in range(_SPOTS)}):
        try:
            digest.update(hashlib.sha256(read(index)).digest())
        except Exception:  # whatever a broken file or a server raises
            digest.update(b"bad")
    return digest.hexdigest()


def content_hash(content: bytes) -> int:
    """Return 64 bits of the SHA-256; splits use it, as it does not change with a file's name."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little")


def source_hash(content: bytes) -> int:
    """Return the source hash that a packed PNG carries, else the hash of ``content`` itself."""
    origin = origin_of(content)
    return content_hash(content) if origin is None else origin


def image_hash(image: Image.Image) -> int:
    """Return ``content_hash`` of an image that has no file."""
    colour = deep_colour(image)
    more = b"" if colour is None else colour.tobytes()
    return content_hash(f"{image.mode} {image.size} ".encode() + image.tobytes() + more)
