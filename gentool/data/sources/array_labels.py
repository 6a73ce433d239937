"""Classes of images in a ``.npz``: an array of labels beside that of the images."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from gentool.data.labels.values import label_of

Classes = tuple[tuple[str, ...], NDArray[np.int32]]  # their names, and the class of each image
NAME_ARRAYS = frozenset({"class_names", "label_names", "target_names", "classes", "names"})
MOST_BYTES = 2**26  # of an array of labels, unpacked
_GENERAL = (
    "labels", "label", "y", "targets", "target", "classes", "onehot", "one_hot", "labels_onehot",
)  # fmt: skip
_PARTNERS = {
    "x_train": ("y_train",), "X_train": ("y_train", "Y_train"), "X": ("Y",), "arr_0": ("arr_1",),
    "train_images": ("train_labels",),
}  # fmt: skip


def labels_beside(name: str, arrays: Iterable[str]) -> list[str]:
    """Return the arrays that may hold the labels of the images in array ``name``."""
    there = set(arrays)
    return [other for other in (*_PARTNERS.get(name, ()), *_GENERAL) if other in there]


def parse_labels(data: bytes, count: int) -> Classes | None:
    """Return class names and the class of each image, int32 (N,).

    None if it is no array of one whole number or text for each image, and no array of one row for
    each image that marks its class with 1. Nothing is unpickled.

    Args:
        data: An ``.npy`` file.
        count: The number N of images.
    """
    array = _parse(data)
    if array is None or array.shape[:1] != (count,):
        return None
    if array.ndim == 2 and array.shape[1] > 1:
        return _of_marks(array)
    if array.shape not in ((count,), (count, 1)):
        return None
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array % 1 == 0).all():
        array = array.astype(np.int64)
    if array.dtype.kind not in "iubU":
        return None
    values, places = np.unique(array.reshape(-1), return_inverse=True)
    names = _names(values.tolist())
    return (names, places.astype(np.int32)) if len(set(names)) == len(values) else None


def with_names(found: Classes, data: bytes) -> Classes | None:
    """Return classes that are numbered from 0 with the names in an array; None if it has none.

    Args:
        found: The classes.
        data: An ``.npy`` file.
    """
    classes, labels = found
    array = _parse(data)
    if array is None or array.ndim != 1 or array.dtype.kind != "U":
        return None
    names = _names(array.tolist())
    if len(set(names)) < len(array) or not all(name.isdecimal() for name in classes):
        return None
    numbers = [int(name) for name in classes]
    if max(numbers) >= len(names):
        return None
    return tuple(names[number] for number in numbers), labels


def _parse(data: bytes) -> NDArray[Any] | None:
    """Return an array; bytes are read as text. None if it is damaged or has Python's objects."""
    try:
        array: NDArray[Any] = npy.read_array(io.BytesIO(data), allow_pickle=False)
        return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    except (ValueError, EOFError, SyntaxError):
        return None


def _of_marks(array: NDArray[Any]) -> Classes | None:
    """Return the classes of rows that each mark one column with 1, called by their numbers."""
    if array.dtype.kind not in "iubf":
        return None
    marked = array == 1
    if not (marked | (array == 0)).all() or not (marked.sum(axis=1) == 1).all():
        return None
    values, places = np.unique(marked.argmax(axis=1), return_inverse=True)
    return tuple(map(str, values.tolist())), places.astype(np.int32)


def _names(values: Sequence[object]) -> tuple[str, ...]:
    """Return the distinct names of classes; an empty text has none."""
    return tuple(name for value in values if (name := label_of(value)) is not None)
