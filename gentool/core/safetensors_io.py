"""Reading and writing of safetensors files; the reader is safe for files that are not trusted.

The format is eight bytes of length, a JSON table with the dtype, shape and byte offsets of every
tensor, and the bytes of the tensors (https://github.com/safetensors/safetensors). The whole table
is checked before any tensor is read, so a file cannot make the reader allocate more than a few
times the size of the file. Nothing in a file can name code to import or run.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch

from gentool.core.atomic_files import open_regular
from gentool.core.errors import ModelFileError
from gentool.core.strict_json import parse_json

Table = dict[str, Any]
DTYPES = {torch.float32: "F32", torch.int64: "I64"}  # of the tensors that gentool writes
_MAX_HEADER_BYTES = 8 * 2**20
_MAX_SIDES = 8  # dimensions of a tensor
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_LOOKED_AT = 2**16  # bytes to read at each end of a zip
_PICKLE = (
    "a pickle (PyTorch's own format), which can run code when it is opened. gentool opens only its "
    "own safetensors files"
)
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8}  # bytes per number


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading.

    Raises:
        ModelFileError: The system cannot open or read the file.
    """
    try:
        with open_regular(path) as file:
            yield file
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}") from error


def read_table(path: Path, file: BinaryIO) -> tuple[dict[str, Any], Table]:
    """Return the metadata and the table of tensors; leave ``file`` at the first tensor.

    Raises:
        ModelFileError: It is not a complete safetensors file.
    """
    size = os.fstat(file.fileno()).st_size
    start = file.read(64)
    foreign = _zip_kind(file, start) or _foreign(start, size)
    length = int.from_bytes(start[:8], "little") if len(start) >= 8 else 0
    if foreign or not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
        raise ModelFileError(f"{path} is {foreign or 'not a gentool model file, or is cut short'}")
    file.seek(8)
    table = parse(path, file.read(length))
    meta = table.pop("__metadata__", {}) if isinstance(table, dict) else None
    if not isinstance(meta, dict):
        raise ModelFileError(f"{path} is a safetensors file that gentool did not write")
    return meta, _check_table(path, table, size - 8 - length)


def parse(path: Path, data: bytes) -> Any:
    """Return the value of the JSON text in a file; see ``parse_json``.

    Raises:
        ModelFileError: The text is not JSON, or breaks the limits of ``parse_json``.
    """
    try:
        return parse_json(data)
    except ValueError as error:
        raise ModelFileError(
            f"the header of {path} is damaged. Copy or download the file again"
        ) from error


def load(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors, on the CPU, of a whole file whose table has been checked.

    Raises:
        ModelFileError: The safetensors library refuses the file.
    """
    try:
        return safetensors.torch.load(data)
    except (ValueError, safetensors.SafetensorError) as error:
        raise ModelFileError(f"cannot read {path}: {error}") from error


def dump(tensors: dict[str, torch.Tensor]) -> tuple[Table, memoryview]:
    """Return the table (without metadata) and the bytes of tensors, which may be on any device."""
    data = safetensors.torch.save(
        {k: tensors[k].detach().to("cpu").contiguous() for k in sorted(tensors)}
    )
    start = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:start]), memoryview(data)[start:]


def read_foreign(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors, on the CPU, of a safetensors file that another program wrote.

    Raises:
        ModelFileError: It cannot be read, or is not a complete safetensors file.
    """
    with opened(path) as file:
        read_table(path, file)
        file.seek(0)
        return load(path, file.read())


def _foreign(start: bytes, size: int) -> str | None:
    """Return a description of a file that cannot be a safetensors file; None if it may be one."""
    if size == 0:
        return "empty"
    if start[8:9] == b"{":  # comes first: the length in bytes 0 to 7 may be any bytes
        return None
    lowered = start.lstrip().lower()
    if start[:1] == b"\x80":
        return _PICKLE
    if lowered.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not a model file. Download the file itself"
    if lowered.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself. Run 'git lfs pull'"
    return "not a gentool model file"


def _zip_kind(file: BinaryIO, start: bytes) -> str | None:
    """Return a description of a zip, from the names of its members; None if it is not a zip.

    Only the bytes at both ends of the file are searched for names.
    """
    if start[8:9] == b"{" or not start.startswith(_ZIP):
        return None
    file.seek(0)
    names = file.read(_LOOKED_AT)
    file.seek(max(0, file.seek(0, os.SEEK_END) - _LOOKED_AT))
    names += file.read()
    if b"data.pkl" in names:  # written by torch.save
        return _PICKLE
    if b".npy" in names:
        return "a .npz file of arrays, not a model file"
    return "a zip archive, not a model file. Unpack it if a model file is inside"


def is_torch_pickle(path: Path) -> bool:
    """Return whether a file is a zip that ``torch.save`` wrote.

    Raises:
        ModelFileError: The file cannot be read.
    """
    with opened(path) as file:
        return _zip_kind(file, file.read(64)) == _PICKLE


def _check_table(path: Path, table: Mapping[str, Any], room: int) -> dict[str, Any]:
    """Check that the tensors fill ``room`` bytes exactly, without overlaps or gaps.

    Returns:
        The table.

    Raises:
        ModelFileError: They do not, or a row of the table is malformed.
    """
    spans = []
    try:
        for name, row in table.items():
            begin, end = row["data_offsets"]
            shape = row["shape"]
            whole = type(shape) is list and len(shape) <= _MAX_SIDES
            whole = whole and all(type(n) is int and n >= 0 for n in [*shape, begin, end])
            if not whole or end - begin != _SIZES[row["dtype"]] * math.prod(shape):
                raise ValueError(name)
            spans.append((begin, end))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"the table of tensors in {path} is damaged. Copy or download the file again"
        ) from error
    spans.sort()
    ends = [0, *(end for _, end in spans)]
    if [begin for begin, _ in spans] != ends[:-1] or ends[-1] != room:
        raise ModelFileError(f"{path} is cut short or was changed. Copy or download it again")
    return dict(table)
