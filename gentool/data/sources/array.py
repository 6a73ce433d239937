"""Images of a ``.npy``, or of a ``.npz`` as ``sample -o samples.npz`` writes it.

The images are one array uint8, (N, H, W, C) or (N, H, W). In a ``.npz`` it has one of the names in
``_NAMES``, or is the only array of images; an array of labels beside it gives classes. Nothing is
unpickled. An array is refused before it is
unpacked if it claims more than 8 GiB, or if it is suspiciously larger than when packed.
"""

import hashlib
import io
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from gentool.core.atomic_files import open_regular
from gentool.core.errors import DataError
from gentool.core.images import MODES, Pixels
from gentool.core.pil_images import to_pil
from gentool.data.intake import Intake, Passed
from gentool.data.labels.layouts import suspicions
from gentool.data.sources.archive_index import MAX_RATIO, Stored
from gentool.data.sources.array_labels import MOST_BYTES, labels_beside, parse_labels
from gentool.data.sources.base import Decoded, Source, image_hash
from gentool.data.sources.selection import is_image
from gentool.data.sources.zip import iterate_members, read_head, read_member

NOT_USED = "array that is not used"
_NAMES = ("images", "arr_0", "x_train", "train_images", "X_train", "X", "x", "data", "imgs")
_MOST_BYTES = 2**33  # of all images, unpacked
_SMALL = 2**26  # bytes up to which the ratio of unpacked to packed size does not matter
_MOST_SIDE = 2**13
_MOST_ARRAYS = 10_000
_HEADER_BYTES = 2**12
_MAGIC = b"\x93NUMPY"
_RECIPE = "gentool"  # the array with the recipe, in files that gentool wrote


class _Header(NamedTuple):
    """The header of an array.

    Attributes:
        shape: Its shape.
        by_columns: Whether it is in Fortran's order.
        dtype: Its type.
        size: Bytes of the header.
    """

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype[Any]
    size: int


class ArraySource(Source):
    """The images of a ``.npy`` or ``.npz``, in memory.

    Args:
        path: The file.

    Raises:
        DataError: it contains no such array, or is damaged.
        OSError: the file cannot be opened.
    """

    access = "threads"
    _suspicions: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        with open_regular(path) as file:
            try:
                self._images, self._others, found = _read(file)
            except (ValueError, EOFError, SyntaxError, MemoryError) as error:
                raise DataError(f"{path} contains no readable images: {error!s:.300}") from error
        self.paths = [f"{k:06d}" for k in range(len(self._images))]
        shape = "x".join(map(str, self._images.shape))
        digest = hashlib.sha256(f"npz {shape}".encode())
        digest.update(self._images.data)
        if found is not None:
            self.classes, self.labels = found
            self._suspicions = tuple(suspicions(*found))
            digest.update(repr(self.classes).encode() + found[1].tobytes())
        self.fingerprint = digest.hexdigest()

    @property
    def intake(self) -> Intake:
        """What was taken, and which arrays are not used."""
        row = Passed(NOT_USED, len(self._others), min(self._others, default=""))
        return Intake(
            taken=len(self),
            passed=(row,) if self._others else (),
            classes_from="an array of labels" if self.classes else "",
            class_warnings=self._suspicions,
        )

    def open(self, index: int) -> Decoded:
        """Return image ``index``, not prepared."""
        image = to_pil(self._images[index])
        return Decoded(image, image_hash(image))


def is_array_file(path: Path) -> bool:
    """Return whether a file is an array, or a zip of arrays without images, by its content."""
    with open_regular(path) as file:
        head = file.read(len(_MAGIC))
        if head == _MAGIC:
            return True
        return head.startswith(b"PK\3\4") and bool(_arrays(file))


def _arrays(file: BinaryIO) -> dict[str, Stored]:
    """Return the arrays in a zip by name; none if its first member is no array, or one an image."""
    found: dict[str, Stored] = {}
    try:
        for name, stored in iterate_members(file):
            if is_image(name) or len(found) > _MOST_ARRAYS:
                return {}
            if name.endswith(".npy"):
                found[name.removesuffix(".npy")] = stored
            elif not found:
                return {}
    except ValueError:
        return {}
    return found


def _read(
    file: BinaryIO,
) -> tuple[Pixels, list[str], tuple[tuple[str, ...], NDArray[np.int32]] | None]:
    """Return the array of images, uint8 (N, H, W, C), the names of other arrays, and the classes.

    Raises:
        ValueError: there is no array of images, or it is damaged.
    """
    file.seek(0)
    if file.read(len(_MAGIC)) == _MAGIC:
        file.seek(0)
        return _parse(file.read(_MOST_BYTES)), [], None
    arrays = _arrays(file)
    name = _choose(file, arrays)
    _, packed, size, _, _ = arrays[name]
    if size > _MOST_BYTES or (size > _SMALL and size > MAX_RATIO * max(packed, 1)):
        raise ValueError(f"its {packed:,} bytes claim to unpack to {size:,}")
    images = _parse(read_member(file, arrays[name]))
    others = [other for other in arrays if other != name and _RECIPE not in arrays]
    for other in labels_beside(name, others):
        if arrays[other][2] > MOST_BYTES:
            continue
        if (found := parse_labels(read_member(file, arrays[other]), len(images))) is not None:
            return images, [rest for rest in others if rest != other], found
    return images, others, None


def _choose(file: BinaryIO, arrays: dict[str, Stored]) -> str:
    """Return the name of the array of images in a zip.

    Raises:
        ValueError: there is none, or several without one of the usual names.
    """
    if len(arrays) == 1:
        return next(iter(arrays))
    good = [name for name, stored in arrays.items() if _is_of_images(file, stored)]
    usual = [name for name in _NAMES if name in good]
    if usual:
        return usual[0]
    if len(good) == 1:
        return good[0]
    if good:
        raise ValueError(
            f"it has several arrays of images ({', '.join(good):.100}); save the one to use as a "
            ".npy, or call it images"
        )
    named = [name for name in _NAMES if name in arrays]
    return named[0] if named else next(iter(arrays))  # to say what is wrong with it


def _is_of_images(file: BinaryIO, stored: Stored) -> bool:
    try:
        header = _parse_header(read_head(file, stored, _HEADER_BYTES))
    except (ValueError, EOFError, SyntaxError):
        return False
    return _problem(header) is None


def _parse_header(data: bytes) -> _Header:
    """Return the header at the start of an ``.npy`` file.

    Raises:
        ValueError, EOFError, SyntaxError: it is damaged.
    """
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    header: Any = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(
        version
    )
    if header is None:
        raise ValueError(f"its array has the unknown format {version}")
    shape, by_columns, dtype = header(stream)
    return _Header(shape, by_columns, dtype, stream.tell())


def _problem(header: _Header) -> str | None:
    """Return why an array is not one of images, with the next step, or None if it is."""
    shape, channels = header.shape, tuple(MODES.values())
    what = f"its array is {header.dtype} of shape {shape!s:.60}"
    if len(shape) == 3 and shape[2] in channels:
        return f"{what}, a single image; give an array (N, H, W, C) of several"
    grey = len(shape) == 3
    sides = len(shape) in (3, 4) and all(1 <= side <= _MOST_SIDE for side in shape[1:3])
    if header.dtype == np.uint8 and sides and shape[0] >= 1 and (grey or shape[3] in channels):
        return None
    allowed = "images are uint8 (N, H, W) or (N, H, W, C) with C 1, 3 or 4"
    if len(shape) == 4 and shape[3] not in channels and shape[1] in channels:
        return f"{what}; {allowed}: move the channels with .transpose(0, 2, 3, 1)"
    if header.dtype != np.uint8 and len(shape) in (3, 4):
        return f"{what}; {allowed}: scale the values to 0...255 and use .astype('uint8')"
    return f"{what}; {allowed}"


def _parse(data: bytes) -> Pixels:
    """Return the images of an ``.npy`` file in memory, without copying them if in C order.

    Raises:
        ValueError, EOFError, SyntaxError: it is damaged, or no array of images.
    """
    header = _parse_header(data)
    if (problem := _problem(header)) is not None:
        raise ValueError(problem)
    if int(np.prod(header.shape, dtype=object)) != len(data) - header.size:
        raise ValueError("the length of its array does not match its header")
    flat = np.frombuffer(data, dtype=np.uint8, offset=header.size)
    order: Any = "F" if header.by_columns else "C"
    images: Pixels = np.ascontiguousarray(flat.reshape(header.shape, order=order))
    return images if images.ndim == 4 else images[..., None]
