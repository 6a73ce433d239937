"""Files of tensors with a JSON header and a checksum, as safetensors files.

A file has exactly one metadata key, ``gentool``, which holds the header as JSON with sorted keys.
safetensors writes several metadata keys in random order; with one key, equal content gives equal
bytes. The header holds a sha256 of the rest of the content, to detect damaged files. It is not a
signature, because anybody who writes a file can write its checksum, too.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from gentool.core.atomic_files import put
from gentool.core.errors import ModelFileError
from gentool.core.safetensors_io import Table, dump, parse, read_table

_KEY, _CHECKSUM = "gentool", "content_sha256"
_CHUNK_BYTES = 2**20


def write_sealed(path: Path, tensors: dict[str, torch.Tensor], header: Mapping[str, Any]) -> None:
    """Write a file atomically: an old file stays until the new one is complete.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    table, block = dump(tensors)
    whole = dict(header)
    digest = _begin_digest(whole, table)
    digest.update(block)
    whole[_CHECKSUM] = digest.hexdigest()
    words = json.dumps(whole, sort_keys=True, allow_nan=False)
    top = json.dumps({"__metadata__": {_KEY: words}, **dict(sorted(table.items()))}).encode()
    top += b" " * (-len(top) % 8)  # align the tensors to 8 bytes
    put(path, len(top).to_bytes(8, "little"), top, block, sync=True)


def read_start(path: Path, file: BinaryIO) -> tuple[Any, Table]:
    """Return the JSON value of the header and the table of tensors, without the checksum test.

    ``file`` is left at the first tensor.

    Raises:
        ModelFileError: It is not a safetensors file, or has no header.
    """
    meta, table = read_table(path, file)
    words = meta.get(_KEY)
    if not isinstance(words, str):
        raise ModelFileError(f"{path} is a safetensors file that gentool did not write")
    return parse(path, words.encode("utf-8", "surrogatepass")), table


def check_rest(path: Path, file: BinaryIO, header: Mapping[str, Any], table: Table) -> None:
    """Compare a file, read on from its first tensor in little memory, with its checksum.

    Raises:
        ModelFileError: The file is damaged, or has no checksum.
    """
    digest = _begin_digest(header, table)
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    _compare(path, header, digest.hexdigest())


def read_rest(path: Path, file: BinaryIO, header: Mapping[str, Any], table: Table) -> bytes:
    """Return the bytes of a whole file, of which ``file`` stands at the first tensor.

    Raises:
        ModelFileError: The file is damaged, or has no checksum.
    """
    start = file.tell()
    file.seek(0)
    data = file.read()  # read only once: a training run may replace the file at any time
    digest = _begin_digest(header, table)
    digest.update(memoryview(data)[start:])
    _compare(path, header, digest.hexdigest())
    return data


def _begin_digest(header: Mapping[str, Any], table: Table) -> "hashlib._Hash":
    """Start the sha256 with the header (without the checksum) and the table of tensors.

    The caller adds the bytes of the tensors.
    """
    said = {k: v for k, v in header.items() if k != _CHECKSUM}
    return hashlib.sha256(json.dumps([said, table], sort_keys=True).encode())


def _compare(path: Path, header: Mapping[str, Any], found: str) -> None:
    """Compare the checksum in a header with the one that was computed.

    Raises:
        ModelFileError: They differ, or the header has none.
    """
    if _CHECKSUM not in header:
        raise ModelFileError(
            f"{path} has no checksum: an older gentool wrote it, or it was changed. Train it again"
        )
    if header[_CHECKSUM] != found:
        raise ModelFileError(
            f"{path} is damaged: its content does not match the sha256 in its header. "
            "Copy or download it again"
        )
