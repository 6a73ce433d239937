"""The parts of PNG, JPEG and WebP files, found without a decoder.

Only headers of parts are read, so that a broken or huge part costs nothing. A walk ends at the
first part that is damaged or cut short.
"""

import mmap
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
SCAN, COMMENT = 0xDA, 0xFE  # markers of a JPEG (ITU-T T.81, table B.1)
_NO_BODY = {0x01, *range(0xD0, 0xD9)}
_END = 0xD9

Data = bytes | mmap.mmap


class Part(NamedTuple):
    """A chunk of a PNG or WebP, or a segment of a JPEG.

    Attributes:
        kind: The type of a chunk, such as ``b"tEXt"``; the marker of a segment, one byte.
        start: Offset of its first byte in the file.
        body: Offset of its content.
        end: Offset after its content.
        stop: Offset of the next part.
    """

    kind: bytes
    start: int
    body: int
    end: int
    stop: int


def mapped(file: BinaryIO) -> mmap.mmap:
    """Map a file that is not empty into memory, for the functions of this module."""
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def png_chunks(data: Data) -> Iterator[Part]:
    """Yield the whole chunks of a PNG up to its end (PNG 1.2, 3.2)."""
    start = len(PNG_MAGIC)
    while start + 12 <= len(data):
        kind = bytes(data[start + 4 : start + 8])
        end = start + 8 + int.from_bytes(data[start : start + 4], "big")
        if end + 4 > len(data) or not kind.isalpha():
            return
        yield Part(kind, start, start + 8, end, end + 4)
        if kind == b"IEND":
            return
        start = end + 4


def jpeg_segments(data: Data) -> Iterator[Part]:
    """Yield the segments of a JPEG up to its first scan, whose header is the last (T.81, B.1)."""
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF:
        marker = data[start + 1]
        if marker == 0xFF or marker in _NO_BODY:
            start += 1 if marker == 0xFF else 2
            continue
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if marker in (0, _END) or end < start + 4 or end > len(data):
            return
        yield Part(bytes([marker]), start, start + 4, end, end)
        if marker == SCAN:
            return
        start = end


def webp_chunks(data: Data) -> Iterator[Part]:
    """Yield the whole chunks of a WebP (RFC 9649, 2.3)."""
    start, last = 12, min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while start + 8 <= last:
        end = start + 8 + int.from_bytes(data[start + 4 : start + 8], "little")
        if end > last:
            return
        yield Part(bytes(data[start : start + 4]), start, start + 8, end, end + (end - start) % 2)
        start = end + (end - start) % 2
