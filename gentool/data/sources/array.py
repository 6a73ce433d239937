"""Images of a ``.npy``, or of a ``.npz`` as ``sample -o samples.npz`` writes it.

The images are one array of numbers, (N, H, W, C) or (N, H, W). Numbers of more than 8 bits are deep
images, which ``--levels`` scales. In a ``.npz`` the array has one of the names in ``_NAMES``, or is
the only array of images; an array of labels beside it gives classes. Nothing is unpickled. An array
is refused before it is unpacked if it claims more than 8 GiB, or if it is suspiciously larger than
when packed.
"""

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gentool.core.atomic_files import open_regular
from gentool.core.errors import DataError
from gentool.core.images import MODES
from gentool.core.pil_images import to_pil
from gentool.data.deep_images import image_of_values, require_values
from gentool.data.intake import Intake, Passed
from gentool.data.labels.layouts import doubts
from gentool.data.sources.archive_index import MAX_RATIO, Stored
from gentool.data.sources.array_header import HEADER_BYTES, MAGIC, Header, is_single, parse_header
from gentool.data.sources.array_labels import (
    MOST_BYTES,
    NAME_ARRAYS,
    Classes,
    labels_beside,
    parse_labels,
    with_names,
)
from gentool.data.sources.base import Decoded, Source, image_hash
from gentool.data.sources.selection import is_image
from gentool.data.sources.zip import iterate_members, read_head, read_member

NOT_USED = "array that is not used"
_NAMES = ("images", "arr_0", "x_train", "train_images", "X_train", "X", "x", "data", "imgs")
_MOST_BYTES = 2**33  # of all images, unpacked
_SMALL = 2**26  # bytes up to which the ratio of unpacked to packed size does not matter
_MOST_SIDE = 2**13
_MOST_ARRAYS = 10_000
_MOST_ITEM = 8  # bytes of a number
_RECIPE = "gentool"  # the array with the recipe, in files that gentool wrote


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
                self._kept, self._white = kept_as(self._images)
            except (ValueError, EOFError, SyntaxError, MemoryError) as error:
                raise DataError(f"{path} contains no readable images: {error!s:.300}") from error
        self.paths = [f"{k:06d}" for k in range(len(self._images))]
        shape = "x".join(map(str, self._images.shape))
        kind = "" if self._images.dtype == np.uint8 else f" {self._images.dtype}"
        digest = hashlib.sha256(f"npz {shape}{kind}".encode())
        digest.update(self._images.data)
        if found is not None:
            self.classes, self.labels = found
            self._suspicions = tuple(doubts(*found))
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
        values = self._images[index]
        if values.dtype == np.uint8:
            image = to_pil(values)
            return Decoded(image, image_hash(image))
        image = image_of_values(values.astype(self._kept), self._white)
        require_values(image)
        return Decoded(image, image_hash(image))


def is_array_file(path: Path) -> bool:
    """Return whether a file is an array, or a zip of arrays without images, by its content."""
    with open_regular(path) as file:
        head = file.read(len(MAGIC))
        if head == MAGIC:
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
) -> tuple[NDArray[Any], list[str], Classes | None]:
    """Return the array of images, (N, H, W, C), the names of other arrays, and the classes.

    Raises:
        ValueError: there is no array of images, or it is damaged.
    """
    file.seek(0)
    if file.read(len(MAGIC)) == MAGIC:
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
            rest = [left for left in others if left != other]
            return images, *_named(file, arrays, rest, found)
    return images, others, None


def _named(
    file: BinaryIO, arrays: dict[str, Stored], others: list[str], found: Classes
) -> tuple[list[str], Classes]:
    """Return the arrays that are still not used, and the classes with the names beside them."""
    for other in others:
        if other.lower() in NAME_ARRAYS and arrays[other][2] <= MOST_BYTES:
            named = with_names(found, read_member(file, arrays[other]))
            if named is not None:
                return [left for left in others if left != other], named
    return others, found


def _choose(file: BinaryIO, arrays: dict[str, Stored]) -> str:
    """Return the name of the array of images in a zip.

    Raises:
        ValueError: there is none, or several without one of the usual names.
    """
    if len(arrays) == 1:
        return next(iter(arrays))
    headers = {name: _header_in(file, stored) for name, stored in arrays.items()}
    good = [name for name, header in headers.items() if header and _problem(header) is None]
    good = [name for name in good if _is_of_bytes(headers[name])] or good
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


def _header_in(file: BinaryIO, stored: Stored) -> Header | None:
    try:
        return parse_header(read_head(file, stored, HEADER_BYTES))
    except (ValueError, EOFError, SyntaxError):
        return None


def _is_of_bytes(header: Header | None) -> bool:
    return header is not None and header.dtype == np.uint8


def _problem(header: Header) -> str | None:
    """Return why an array is not one of images, with the next step, or None if it is."""
    shape, channels = header.shape, tuple(MODES.values())
    what = f"its array is {header.dtype} of shape {shape!s:.60}"
    if is_single(shape):
        flat = " or rows of pixels (then use .reshape)" if len(shape) == 2 else ""
        return f"{what}, a single image{flat}; join several with numpy.stack to (N, H, W, C)"
    grey = len(shape) == 3
    sides = len(shape) in (3, 4) and all(1 <= side <= _MOST_SIDE for side in shape[1:3])
    numbers = header.dtype.kind in "buif" and header.dtype.itemsize <= _MOST_ITEM
    if numbers and sides and shape[0] >= 1 and (grey or shape[3] in channels):
        return None
    allowed = "images are numbers of shape (N, H, W) or (N, H, W, C) with C 1, 3 or 4"
    if len(shape) == 4 and shape[3] not in channels and shape[1] in channels:
        return f"{what}; {allowed}: move the channels with .transpose(0, 2, 3, 1)"
    if header.dtype == object:
        return f"{what}, as of images of different sizes; save them as files, or at one size"
    return f"{what}; {allowed}"


def kept_as(images: NDArray[Any]) -> tuple[np.dtype[Any], float]:
    """Return the type that the values of a deep image get, and the largest value of theirs.

    It is 0 for floating point. Whole numbers of 64 bits get 32, as far as their values allow.

    Raises:
        ValueError: they do not.
    """
    dtype = images.dtype
    if dtype.kind == "f" or dtype == np.uint8:
        return np.dtype(np.float32 if dtype.kind == "f" else dtype), 0.0
    if dtype.itemsize == np.int64().itemsize:
        low, high = int(images.min()), int(images.max())
        fits = (
            t for t in (np.int32, np.uint32) if low >= np.iinfo(t).min <= high <= np.iinfo(t).max
        )
        found = next(fits, None)
        if found is None:
            raise ValueError(f"its values from {low} to {high} need more than 32 bits")
        return np.dtype(found), float(np.iinfo(found).max)
    kept = dtype if dtype in (np.uint16, np.uint32) else np.dtype(np.int32)
    return kept, float(np.iinfo(dtype).max)


def _parse(data: bytes) -> NDArray[Any]:
    """Return the images of an ``.npy`` file in memory, without copying them if in C order.

    Truth values become 0 and 255.

    Raises:
        ValueError, EOFError, SyntaxError: it is damaged, or no array of images.
    """
    header = parse_header(data)
    if (problem := _problem(header)) is not None:
        raise ValueError(problem)
    size = int(np.prod(header.shape, dtype=object)) * header.dtype.itemsize
    if size != len(data) - header.size:
        raise ValueError("the length of its array does not match its header")
    flat = np.frombuffer(data, dtype=header.dtype, offset=header.size)
    order: Any = "F" if header.by_columns else "C"
    images: NDArray[Any] = np.ascontiguousarray(flat.reshape(header.shape, order=order))
    if images.dtype == bool:
        images = images * np.uint8(255)
    images = images.astype(images.dtype.newbyteorder("="), copy=False)
    return images if images.ndim == 4 else images[..., None]
