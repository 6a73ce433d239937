"""The header of a ``.npy`` file: the shape and type of its array. Opens no file."""

import io
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from gentool.core.images import MODES

HEADER_BYTES = 2**12  # of a file, which are enough for its header
MAGIC = b"\x93NUMPY"


class Header(NamedTuple):
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


def parse_header(data: bytes) -> Header:
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
    return Header(shape, by_columns, dtype, stream.tell())


def is_single(shape: tuple[int, ...]) -> bool:
    """Return whether the shape of an array is that of one image."""
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in MODES.values())
