"""Tar files: listing their members, and decompressing a compressed tar into the cache folder.

The standard library reads the headers once; after that, images are read at their offsets.
"""

import bz2
import gzip
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from gentool.core.errors import DataError
from gentool.data.sources.archive_index import MAX_RATIO, Members

BLOCK_BYTES = 2**20
SMALL_BYTES = 2**26  # bytes up to which the ratio of unpacked to packed size does not matter
_LATEST = 2**40  # seconds since 1970: any later time is damaged
KEPT_FREE_BYTES = 2**30  # bytes that must stay free on the disk
_MAGICS = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"BZh": "bzip2"}


def compression(head: bytes) -> str | None:
    """Return ``gzip``, ``xz`` or ``bzip2``, judged by the first bytes of a file, else None."""
    return next((kind for magic, kind in _MAGICS.items() if head.startswith(magic)), None)


def is_tar(file: BinaryIO) -> bool:
    """Return whether an open file begins with a tar header."""
    file.seek(0)
    try:
        tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def list_tar(file: BinaryIO, members: Members) -> None:
    """Add all members of an open, uncompressed tar to ``members``.

    Raises:
        DataError: it is not an intact tar, or it is refused (see ``Members``).
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as archive:
            while (found := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined] # frees the object of each member
                _take(found, members, end)
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise ValueError("it is damaged or cut short after its last readable member")
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise DataError(f"{members.archive} is not a readable tar: {error}") from error


def _take(found: tarfile.TarInfo, members: Members, end: int) -> None:
    if found.issym():
        members.check_link(found.name, found.linkname)
        members.add_link(found.name)
        return
    members.check(found.name)
    if found.islnk():
        members.check(found.linkname)
        members.add_link(found.name)
        return
    if not found.isfile():
        return
    wanted = members.wants(found.name)
    if wanted is None:
        return
    if found.issparse():
        raise members.refuse(found.name, "is a sparse file (tar --sparse)")
    if found.offset_data + found.size > end:
        raise DataError(f"{members.archive} is cut short inside its member {found.name:.200}")
    stored = (found.offset_data, found.size, found.size, 0, 0)
    members.add(wanted, stored, _seconds(found.mtime))


def _seconds(time: float) -> int:
    """Return a time in whole seconds, 0 for a damaged one."""
    return int(time) if abs(time) < _LATEST else 0


def unpack_tar(path: Path, kind: str, place: Path) -> Path:
    """Decompress a tar to ``place``, unless that was done before, and return ``place``.

    Raises:
        DataError: the file is damaged, is suspiciously larger unpacked, or does not fit.
    """
    if place.exists():
        os.utime(place)
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=".building-", dir=place.parent)
        try:
            with os.fdopen(handle, "wb") as out, _opened(path, kind) as packed:
                _copy(packed, out, path, place.parent)
            Path(scratch).replace(place)
        finally:
            Path(scratch).unlink(missing_ok=True)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a damaged {kind} file: {error}") from error
    except OSError as error:
        raise DataError(
            f"cannot unpack {path} to {place.parent}: {error.strerror or error}. Set GENTOOL_CACHE "
            "to a folder with enough space, or unpack it and give the folder"
        ) from error
    return place


def _opened(path: Path, kind: str) -> BinaryIO:
    """Open a compressed file as a stream of its decompressed bytes."""
    module = {"gzip": gzip, "xz": lzma, "bzip2": bz2}[kind]
    return cast(BinaryIO, module.open(path, "rb"))


def _copy(packed: BinaryIO, out: BinaryIO, path: Path, folder: Path) -> None:
    """Decompress within the space on the disk and ``MAX_RATIO`` times the size of the file."""
    largest = max(SMALL_BYTES, MAX_RATIO * path.stat().st_size)
    done = 0
    while data := packed.read(BLOCK_BYTES):
        done += len(data)
        if done > largest:
            raise DataError(
                f"{path} is refused: it unpacks to more than {MAX_RATIO} times its size"
            )
        if (
            done % (64 * BLOCK_BYTES) < BLOCK_BYTES
            and shutil.disk_usage(folder).free < KEPT_FREE_BYTES
        ):
            raise DataError(
                f"{folder} has too little space to unpack {path}. Set GENTOOL_CACHE to a folder "
                "with enough space, or unpack it and give the folder"
            )
        out.write(data)
