"""Classes of images in a ``.npz``: an array of labels beside that of the images."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from gentool.data.labels.values import label_of

MOST_BYTES = 2**26  # of an array of labels, unpacked
_GENERAL = ("labels", "label", "y", "targets", "target", "classes")
_PARTNERS = {
    "x_train": ("y_train",), "X_train": ("y_train", "Y_train"), "X": ("Y",), "arr_0": ("arr_1",),
    "train_images": ("train_labels",),
}  # fmt: skip


def labels_beside(name: str, arrays: Iterable[str]) -> list[str]:
    """Return the arrays that may hold the labels of the images in array ``name``."""
    there = set(arrays)
    return [other for other in (*_PARTNERS.get(name, ()), *_GENERAL) if other in there]


def parse_labels(data: bytes, count: int) -> tuple[tuple[str, ...], NDArray[np.int32]] | None:
    """Return class names and the class of each image, int32 (N,).

    None if it is no array of one whole number or text for each image. Nothing is unpickled.

    Args:
        data: An ``.npy`` file.
        count: The number N of images.
    """
    try:
        array: NDArray[Any] = npy.read_array(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, SyntaxError):
        return None
    if array.shape not in ((count,), (count, 1)) or array.dtype.kind not in "iubU":
        return None
    values, places = np.unique(array.reshape(-1), return_inverse=True)
    names = _names(values.tolist())
    return (names, places.astype(np.int32)) if len(set(names)) == len(values) else None


def _names(values: Sequence[object]) -> tuple[str, ...]:
    """Return the distinct names of classes; an empty text has none."""
    return tuple(name for value in values if (name := label_of(value)) is not None)
