"""Icons (.ico): several pictures of one thing in different sizes, of which the largest is taken.

Opens no file.
"""

import struct
from typing import NamedTuple

_MAGIC = b"\0\0\1\0"
_ENTRY = struct.Struct("<4B2H2I")
_PNG = b"\x89PNG"


class _Entry(NamedTuple):
    """A picture in an icon: its size, its bits for a pixel, and where it is."""

    width: int
    height: int
    bits: int
    size: int
    offset: int


def is_icon(head: bytes) -> bool:
    """Return whether first bytes are those of an icon: its first picture is after its table."""
    count = int.from_bytes(head[4:6], "little")
    if not head.startswith(_MAGIC) or not count or len(head) < 6 + _ENTRY.size or head[9]:
        return False
    return int.from_bytes(head[18:22], "little") >= 6 + count * _ENTRY.size


def picture_in_icon(data: bytes) -> bytes | None:
    """Return the largest picture of an icon if it is a PNG; None if it is one of Windows."""
    count = int.from_bytes(data[4:6], "little")
    table = data[6 : 6 + count * _ENTRY.size]
    found = [_entry(row) for row in _ENTRY.iter_unpack(table[: len(table) // 16 * 16])]
    best = max(found, key=lambda entry: (entry.width * entry.height, entry.bits))
    picture = data[best.offset : best.offset + best.size]
    return picture if picture.startswith(_PNG) else None


def _entry(row: tuple[int, ...]) -> _Entry:
    width, height, _, _, _, bits, size, offset = row
    return _Entry(width or 256, height or 256, bits, size, offset)
