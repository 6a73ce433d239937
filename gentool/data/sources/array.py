"""Images of a ``.npz``: one array uint8 (N, H, W, C), as ``sample -o samples.npz`` writes it.

The array is called ``images`` or ``arr_0``. Nothing is unpickled. An array is refused before it
is unpacked if it claims more than 8 GiB, or if it is suspiciously larger than when packed.
"""

import hashlib
import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from gentool.core.atomic_files import open_regular
from gentool.core.errors import DataError
from gentool.core.images import MODES, Pixels
from gentool.core.pil_images import to_pil
from gentool.data.sources.archive_index import MAX_RATIO, Stored
from gentool.data.sources.base import Decoded, Source, image_hash
from gentool.data.sources.zip import find_members, read_member

_NAMES = ("images.npy", "arr_0.npy")
_MOST_BYTES = 2**33  # of all images, unpacked
_SMALL = 2**26  # bytes up to which the ratio of unpacked to packed size does not matter
_MOST_SIDE = 2**13


class ArraySource(Source):
    """The images of a ``.npz``, in memory.

    Args:
        path: The file.

    Raises:
        DataError: it contains no such array, or is damaged.
        OSError: the file cannot be opened.
    """

    access = "threads"

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        with open_regular(path) as file:
            try:
                self._images = _read(file)
            except (ValueError, EOFError, SyntaxError, MemoryError) as error:
                raise DataError(f"{path} contains no readable images: {error!s:.200}") from error
        self.paths = [f"{k:06d}" for k in range(len(self._images))]
        shape = "x".join(map(str, self._images.shape))
        digest = hashlib.sha256(f"npz {shape}".encode())
        digest.update(self._images.data)
        self.fingerprint = digest.hexdigest()

    def open(self, index: int) -> Decoded:
        """Return image ``index``, not prepared."""
        image = to_pil(self._images[index])
        return Decoded(image, image_hash(image))


def is_array_file(path: Path) -> bool:
    """Return whether a file is a zip with an array of images, judged by its content."""
    with open_regular(path) as file:
        if file.read(4) != b"PK\3\4":
            return False
        try:
            return bool(find_members(file, _NAMES))
        except ValueError:
            return False


def _read(file: BinaryIO) -> Pixels:
    """Return the array, uint8 (N, H, W, C).

    Raises:
        ValueError: it is not an array of images, or damaged.
    """
    found = find_members(file, _NAMES)
    stored = next(found[name] for name in _NAMES if name in found)
    _, packed, size, _, _ = stored
    if size > _MOST_BYTES or (size > _SMALL and size > MAX_RATIO * max(packed, 1)):
        raise ValueError(f"its {packed:,} bytes claim to unpack to {size:,}")
    return _parse(read_member(file, stored), stored)


def _parse(data: bytes, stored: Stored) -> Pixels:
    """Return the array of an ``.npy`` file in memory, without copying it if it is in C order."""
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    header: Any = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(
        version
    )
    if header is None:
        raise ValueError(f"its array has the unknown format {version}")
    shape, by_columns, dtype = header(stream)
    sides = len(shape) == 4 and all(1 <= side <= _MOST_SIDE for side in shape[1:3])
    if dtype != np.uint8 or not sides or shape[0] < 1 or shape[3] not in MODES.values():
        raise ValueError(
            f"its array is {dtype} of shape {shape!s:.60}; images are uint8 (N, H, W, C) with C 1, "
            "3 or 4"
        )
    if int(np.prod(shape, dtype=object)) != stored[2] - stream.tell():
        raise ValueError("the length of its array does not match its header")
    flat = np.frombuffer(data, dtype=np.uint8, offset=stream.tell())
    images: Pixels = np.ascontiguousarray(flat.reshape(shape, order="F" if by_columns else "C"))
    return images
