"""Read the directory of a zip file directly into compact columns.

It serves archives of millions of members; the standard library's reader would keep an object
for each. Zip64 is read; anything unusual is a DataError. (APPNOTE.TXT 6.3.10, section 4.3)
"""

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import BinaryIO, NamedTuple

from gentool.core.errors import DataError
from gentool.data.sources.archive_index import Members, Stored

STORED, DEFLATED = 0, 8
_ENCRYPTED, _UTF8 = 0x1, 0x800
_UNICODE_PATH = 0x7075  # extra field with the name in UTF-8 and the CRC-32 of the other name
_END, _END64, _LOCATOR = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_ENTRY = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s22xHH")
LOCAL_SIZE = _LOCAL.size
_FULL32, _FULL16 = 0xFFFFFFFF, 0xFFFF
_MAX_DIRECTORY = 2**36
_END_SIZE = 22
_MAX_LINK = 2**16


class _Entry(NamedTuple):
    name: str
    flags: int
    mode: int
    stored: Stored
    time: int


def list_zip(file: BinaryIO, members: Members) -> None:
    """Add all members of an open zip to ``members``.

    Raises:
        DataError: it is not an intact zip, it is refused (see ``Members``), it is encrypted, or
            it uses a compression method that is not supported.
    """
    try:
        for entry in _entries(file):
            if stat.S_ISLNK(entry.mode):
                if entry.stored[2] > _MAX_LINK:
                    raise members.refuse(entry.name, "is a link with a target that is too long")
                target = read_member(file, entry.stored)
                members.check_link(entry.name, os.fsdecode(target))
                members.add_link(entry.name)
                continue
            wanted = members.wants(entry.name)
            if wanted is None:
                continue
            if entry.flags & _ENCRYPTED:
                raise DataError(
                    f"{members.archive} is encrypted. Unpack it and give the folder, or pack it "
                    "again without a password"
                )
            if entry.stored[4] not in (STORED, DEFLATED):
                raise members.refuse(
                    entry.name, f"is packed with method {entry.stored[4]}; only stored "
                    "and deflated members can be read"
                )  # fmt: skip
            members.add(wanted, entry.stored, entry.time)
    except (ValueError, struct.error) as error:
        raise DataError(f"{members.archive} is not a readable zip: {error}") from error


def iterate_members(file: BinaryIO) -> Iterator[tuple[str, Stored]]:
    """Yield the names and places of those members of an open zip that can be read.

    Raises:
        ValueError: it is damaged.
    """
    try:
        for entry in _entries(file):
            if entry.stored[4] in (STORED, DEFLATED) and not entry.flags & _ENCRYPTED:
                yield entry.name, entry.stored
    except struct.error as error:
        raise ValueError(str(error)) from error


def read_member(file: BinaryIO, stored: Stored) -> bytes:
    """Read the bytes of a member from an open file.

    Raises:
        ValueError: the member is damaged.
    """
    offset, packed, _, _, _ = stored
    file.seek(offset)
    file.seek(offset + local_length(file.read(LOCAL_SIZE)))
    return unpack(file.read(packed), stored)


def read_head(file: BinaryIO, stored: Stored, size: int) -> bytes:
    """Return up to ``size`` bytes from the start of a member, b"" if it is damaged."""
    offset, packed, _, _, method = stored
    file.seek(offset)
    try:
        file.seek(offset + local_length(file.read(LOCAL_SIZE)))
        data = file.read(min(packed, 2 * size))
        if method == DEFLATED:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size)
    except (ValueError, zlib.error):
        return b""
    return data[:size]


def local_length(header: bytes) -> int:
    """Return the bytes from the start of a local header to the data, given its fixed part.

    Raises:
        ValueError: the header is damaged.
    """
    if len(header) < LOCAL_SIZE or header[:4] != b"PK\3\4":
        raise ValueError("its header is damaged")
    _, name, extra = _LOCAL.unpack(header)
    return LOCAL_SIZE + int(name) + int(extra)


def unpack(data: bytes, stored: Stored) -> bytes:
    """Return the decompressed bytes of a member, after checking length and CRC.

    Raises:
        ValueError: the data are damaged, or length or CRC are wrong.
    """
    _, packed, size, crc, method = stored
    if len(data) != packed:
        raise ValueError("the archive is cut short")
    if method == DEFLATED:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
        except zlib.error as error:
            raise ValueError(f"its compressed data are damaged: {error}") from None
    if len(data) != size:
        raise ValueError("its length does not match the archive")
    if zlib.crc32(data) != crc:
        raise ValueError("its checksum (CRC) is wrong")
    return data


def _entries(file: BinaryIO) -> Iterator[_Entry]:
    """Yield all entries of the central directory."""
    size, count, offset, shift = _find_directory(file)
    file.seek(offset + shift)
    directory = file.read(size)
    if len(directory) != size:
        raise ValueError("its directory is cut short")
    place = 0
    for _ in range(count):
        (magic, _, system, _, _, flags, method, time, day, crc, packed, full, name_size, extra_size,
         comment_size, _, _, attributes, start) = _ENTRY.unpack_from(directory, place)  # fmt: skip
        if magic != b"PK\1\2":
            raise ValueError("its directory is damaged")
        name_at = place + _ENTRY.size
        extra_at = name_at + name_size
        place = extra_at + extra_size + comment_size
        raw = directory[name_at:extra_at].split(b"\0")[0]
        name = _name(raw, flags, directory[extra_at : extra_at + extra_size])
        if _FULL32 in (packed, full, start):
            extra = directory[extra_at : extra_at + extra_size]
            full, packed, start = _widened(extra, full, packed, start)
        if start + shift + packed > offset + shift:
            raise ValueError("a member overlaps its directory")
        mode = attributes >> 16 if system == 3 else 0  # 3: made on Unix
        stored = (start + shift, packed, full, crc, method)
        yield _Entry(name, flags, mode, stored, _seconds(day, time))


def _seconds(day: int, time: int) -> int:
    """Return a date and a time of a zip (4.4.6) in seconds since 1970, without a time zone."""
    try:
        found = datetime(
            1980 + (day >> 9), day >> 5 & 15, day & 31,
            time >> 11, time >> 5 & 63, 2 * (time & 31), tzinfo=UTC,
        )  # fmt: skip
    except ValueError:  # no such date
        return 0
    return int(found.timestamp())


def _name(raw: bytes, flags: int, extra: bytes) -> str:
    """Return the name of a member.

    It is UTF-8 if its flag says so, if an extra field does (4.6.9), or if it is valid UTF-8, since
    many programs write UTF-8 without the flag; else it is in code page 437.
    """
    if flags & _UTF8:
        return os.fsdecode(raw)
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, place)
        field = extra[place + 4 : place + 4 + length]
        if kind == _UNICODE_PATH and field[1:5] == zlib.crc32(raw).to_bytes(4, "little"):
            raw = field[5:].split(b"\0")[0]
        place += 4 + length
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp437")


def _find_directory(file: BinaryIO) -> tuple[int, int, int, int]:
    """Find the central directory.

    Returns:
        Its size in bytes, its number of entries, its offset in the archive, and the number of
        bytes before the archive.
    """
    tail_at, tail, at = _find_end(file)
    if at < 0:
        raise ValueError("it has no directory and is probably cut short")
    count, size, offset = struct.unpack_from("<H2L", tail, at + 10)
    ends_at = tail_at + at
    if tail[max(at - 20, 0) : at].startswith(_LOCATOR):
        (end64_at,) = struct.unpack_from("<Q", tail, at - 12)
        for candidate in (end64_at, ends_at - 20 - 56):  # the second if bytes precede the archive
            file.seek(candidate)
            end64 = file.read(56)
            if end64.startswith(_END64):
                count, size, offset = struct.unpack_from("<3Q", end64, 32)
                ends_at = candidate
                break
        else:
            raise ValueError("its zip64 directory is damaged")
    shift = ends_at - size - offset
    if shift < 0 or size > min(ends_at, _MAX_DIRECTORY) or count * _ENTRY.size > size:
        raise ValueError("its directory is damaged")
    return size, count, offset, shift


def _find_end(file: BinaryIO) -> tuple[int, bytes, int]:
    """Return (offset of the tail, tail of the file, position of the end record in it or -1).

    The record's comment must reach to the end of the file, since it may contain the record's
    magic itself.
    """
    end = file.seek(0, os.SEEK_END)
    tail_at = max(0, end - _END_SIZE - _FULL16)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(_END, 0, max(0, len(tail) - _END_SIZE + len(_END)))
    while at >= 0 and int.from_bytes(tail[at + 20 : at + 22], "little") != len(tail) - at - 22:
        at = tail.rfind(_END, 0, at + len(_END) - 1)
    return tail_at, tail, at


def is_zip(file: BinaryIO) -> bool:
    """Return whether an open file begins like a zip or ends like one."""
    file.seek(0)
    return file.read(4) == b"PK\3\4" or _find_end(file)[2] >= 0


def _widened(extra: bytes, *values: int) -> list[int]:
    """Return ``values`` with each value that exceeds 32 bits replaced from the extra field 1."""
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, place)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra, place + 4))
            found = [next(wide, None) if v == _FULL32 else v for v in values]
            if None in found:
                break
            return [v for v in found if v is not None]
        place += 4 + length
    if 0xFFFFFFFF in values:
        raise ValueError("a zip64 entry is damaged")
    return list(values)
