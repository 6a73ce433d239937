"""The hash of the file that a packed image was made from, stored inside its PNG.

``data pack`` changes the bytes of every file, but a hold-out split depends on these bytes. So
each packed PNG carries the hash of its source file in a text chunk right after its header (PNG
1.2, 11.3.4.3).
"""

import re
import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AFTER_HEADER = len(_SIGNATURE) + 25  # the chunk IHDR is always 25 bytes long
_KEY = b"gentool-source\0"
_LENGTH = len(_KEY) + 16
_SEARCHED = 2**12  # bytes: other programs may insert their own chunks before this one
_CHUNK = re.compile(
    re.escape(struct.pack(">I", _LENGTH) + b"tEXt" + _KEY) + b"([0-9a-f]{16})(.{4})", re.DOTALL
)


def with_origin(png: bytes, mark: int) -> bytes:
    """Return the PNG with ``mark``, the 64-bit hash of its source file, added as a text chunk."""
    assert png.startswith(_SIGNATURE)
    body = b"tEXt" + _KEY + f"{mark:016x}".encode()
    chunk = struct.pack(">I", _LENGTH) + body + struct.pack(">I", zlib.crc32(body))
    return png[:_AFTER_HEADER] + chunk + png[_AFTER_HEADER:]


def origin_of(content: bytes) -> int | None:
    """Return the 64-bit source hash in an encoded image; None if it is missing or damaged."""
    if not content.startswith(_SIGNATURE):
        return None
    found = _CHUNK.search(content, _AFTER_HEADER, _SEARCHED)
    if found is None:
        return None
    words, checksum = found.groups()
    whole = zlib.crc32(b"tEXt" + _KEY + words) == int.from_bytes(checksum, "big")
    return int(words, 16) if whole else None
