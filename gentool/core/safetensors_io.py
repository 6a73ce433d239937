"""The one reader of safetensors files: strict, bounded, and for strangers' files above all.

The format is eight bytes of length, a JSON table with a dtype, shape and place for every tensor,
and the tensors' bytes (https://github.com/safetensors/safetensors). Everything in the table is
checked before any tensor is read: nothing that it says can make the reader allocate more than a
few times the file's own size, and nothing in the file names code to import or run.
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
_MAX_HEADER_BYTES = 8 * 2**20
_MAX_SIDES = 8  # of a tensor
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_LOOKED_AT = 2**16  # bytes at each end of a zip
_PICKLE = (
    "a pickle (PyTorch's own format), which can run code when opened. gentool opens only its own "
    "safetensors files"
)
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8}  # bytes per number


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, with the system's errors as gentool's own."""
    try:
        with open_regular(path) as file:
            yield file
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}") from error


def read_table(path: Path, file: BinaryIO) -> tuple[dict[str, Any], Table]:
    """Metadata and table of tensors; leaves ``file`` where the tensors begin.

    Raises:
        ModelFileError: anything but a safetensors file in its full length.
    """
    size = os.fstat(file.fileno()).st_size
    start = file.read(64)
    foreign = _zip_kind(file, start) or _foreign(start, size)
    length = int.from_bytes(start[:8], "little") if len(start) >= 8 else 0
    if foreign or not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
        raise ModelFileError(f"{path} is {foreign or 'not a gentool model file, or cut short'}")
    file.seek(8)
    table = parse(path, file.read(length))
    meta = table.pop("__metadata__", {}) if isinstance(table, dict) else None
    if not isinstance(meta, dict):
        raise ModelFileError(f"{path} is a safetensors file, but not one of gentool's")
    return meta, _check_table(path, table, size - 8 - length)


def parse(path: Path, data: bytes) -> Any:
    """The value of a file's JSON text.

    Raises:
        ModelFileError: it is none, or not strict and bounded.
    """
    try:
        return parse_json(data)
    except ValueError as error:
        raise ModelFileError(f"{path}: its header is damaged. Copy or download it again") from error


def load(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    """The tensors of a whole file whose table was found good, on the CPU.

    Raises:
        ModelFileError: the library does not agree.
    """
    try:
        return safetensors.torch.load(data)
    except (ValueError, safetensors.SafetensorError) as error:
        raise ModelFileError(f"cannot read {path}: {error}") from error


def dump(tensors: dict[str, torch.Tensor]) -> tuple[Table, memoryview]:
    """The table, without metadata, and the bytes of tensors on any device; see ``load``."""
    data = safetensors.torch.save(
        {k: tensors[k].detach().to("cpu").contiguous() for k in sorted(tensors)}
    )
    start = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:start]), memoryview(data)[start:]


def read_foreign(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file of another program, on the CPU.

    Raises:
        ModelFileError: as in ``read_table``.
    """
    with opened(path) as file:
        read_table(path, file)
        file.seek(0)
        return load(path, file.read())


def _foreign(start: bytes, size: int) -> str | None:
    """What a file is when it plainly is no safetensors file."""
    if size == 0:
        return "empty"
    if start[8:9] == b"{":  # first: the length before it may begin with any byte at all
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
    """What a zip holds, by the names of its members at both ends; None if the file is no zip."""
    if start[8:9] == b"{" or not start.startswith(_ZIP):
        return None
    file.seek(0)
    names = file.read(_LOOKED_AT)
    file.seek(max(0, file.seek(0, os.SEEK_END) - _LOOKED_AT))
    names += file.read()
    if b"data.pkl" in names:  # torch.save
        return _PICKLE
    if b".npy" in names:
        return "a .npz file of arrays, not a model file"
    return "a zip archive, not a model file. Unpack it if a model file is inside"


def is_torch_pickle(path: Path) -> bool:
    """Whether a file is a zip that ``torch.save`` made.

    Raises:
        ModelFileError: it cannot be read.
    """
    with opened(path) as file:
        return _zip_kind(file, file.read(64)) == _PICKLE


def _check_table(path: Path, table: Mapping[str, Any], room: int) -> dict[str, Any]:
    """Every tensor within the file, nothing overlapping, no holes."""
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
        raise ModelFileError(f"{path}: its table of tensors is damaged") from error
    spans.sort()
    ends = [0, *(end for _, end in spans)]
    if [begin for begin, _ in spans] != ends[:-1] or ends[-1] != room:
        raise ModelFileError(f"{path} is cut short or has been changed. Copy or download it again")
    return dict(table)
