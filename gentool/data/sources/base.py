"""What a source is: images by number, with names, labels and a fingerprint. Opens nothing itself.

A source finds and names images and hands out their bytes; what happens to the bytes is
``intake``'s business.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gentool.core.errors import DataError
from gentool.core.images import Pixels
from gentool.data.origin import origin_of
from gentool.data.preprocessing import Policy, decode, open_image

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
MAX_FILE = 2**30  # bytes of one image file; more is not read into memory
Access = Literal["processes", "threads", "sequential"]


class Loaded(NamedTuple):
    """A prepared image, and 64 bits of the SHA-256 of what it was made from."""

    pixels: Pixels
    content_hash: int


class Source(ABC):
    """Images by number.

    Attributes:
        name: Short name for folders and messages.
        paths: Path of every image inside the source, sorted; empty where images have none.
        classes: Class names; () without classes.
        labels: Index into ``classes`` per image, int32 (N,), or None.
        fingerprint: Changes when the images or labels do; cheap to compute.
        access: How ``load`` may be called: pickled into worker processes, from threads, or in
            order 0, 1, 2 ... by one thread, for streams (any other order works, slowly).
        repeats: Weight of each image, float32 (N,), where sources are joined with weights.
    """

    name: str
    paths: Sequence[str] = ()
    classes: tuple[str, ...] = ()
    labels: NDArray[np.int32] | None = None
    fingerprint: str
    access: Access = "processes"
    repeats: NDArray[np.float32] | None = None

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

    def read_modes(self, images: Pixels) -> NDArray[np.int64] | None:
        """Which mode each picture (N, H, W, C) shows, for sets that know a rule; else None."""
        return None


class FileSource(Source):
    """A source whose images are encoded files."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The bytes of file ``index``; BadImage or OSError if it cannot be read."""

    def load(self, index: int, policy: Policy) -> Loaded:
        """Image ``index``, prepared."""
        content = self.read(index)
        return Loaded(decode(content, policy), source_hash(content))

    def open(self, index: int) -> Image.Image:
        """Image ``index`` as it is."""
        return open_image(self.read(index))


def content_hash(content: bytes) -> int:
    """64 bits of the SHA-256: what a holdout split goes by, so that it outlives renaming."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little")


def source_hash(content: bytes) -> int:
    """The hash of the file that an encoded image was made from, where it says so, else its own."""
    origin = origin_of(content)
    return content_hash(content) if origin is None else origin


def image_hash(image: Image.Image) -> int:
    """``content_hash`` of an image that comes without a file."""
    return content_hash(f"{image.mode} {image.size} ".encode() + image.tobytes())


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(name: str) -> bool:
    """Whether a file of this name (without folders) counts as an image."""
    return not is_hidden(name) and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def no_images(where: str) -> DataError:
    """The error for a place without a single image."""
    return DataError(
        f"no images in {where} (searched deeply for {', '.join(sorted(IMAGE_SUFFIXES))}, any case)"
    )
