"""Remove metadata from encoded images, so that they never keep pixels from being read.

Decoders refuse whole images because of metadata: text of megabytes, as image generators write it,
compressed text that unpacks to more than they allow, EXIF data or profiles that are damaged. None
of these is needed for the pixels. So decoders get the file without them. What says how pixels are
meant (orientation and colour profile) is taken out here, within limits.

An animated WebP that is cut short is reduced to its whole frames, as its decoder refuses it.
"""

import re
import zlib
from typing import NamedTuple

from gentool.core.image_parts import SCAN, Part, jpeg_segments, png_chunks, webp_chunks
from gentool.data.kinds import HEAD_BYTES, image_format

MOST_PROFILE = 2**22  # bytes of an ICC profile
_MOST_TEXT = 2**20  # bytes of XMP or of EXIF data written as text, unpacked
_PNG_PIXELS = {b"tRNS"}  # chunks that are needed, beside the critical ones
_PNG_FRAMES = {b"acTL", b"fcTL", b"fdAT"}  # of an animation (APNG 1.0)
_ACTL_BYTES = 8
_XMP_CHUNK, _EXIF_CHUNK = b"XML:com.adobe.xmp", b"Raw profile type exif"
_JFIF, _EXIF, _ICC, _ADOBE = (
    (b"JFIF\0", 14),
    (b"Exif\0\0", 6),
    (b"ICC_PROFILE\0", 14),
    (b"Adobe", 12),
)
_XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0"
_AVIF_EXIF = re.compile(rb"infe(?:\x02.{7}|\x03.{9})(Exif)", re.DOTALL)  # ISO/IEC 23008-12, A.2.1


class Plain(NamedTuple):
    """An encoded image without metadata.

    Attributes:
        data: The file without metadata.
        info: What was taken out and matters, with the keys of Pillow's ``Image.info``.
    """

    data: bytes
    info: dict[str, bytes | str]


def without_metadata(data: bytes) -> Plain:
    """Return an encoded image without metadata; unchanged in formats that need no change."""
    kind = image_format(data[:HEAD_BYTES])
    if kind == "PNG":
        return _plain_png(data)
    if kind == "JPEG":
        return _plain_jpeg(data)
    if kind == "WEBP":
        return Plain(_whole_frames(data), {})
    if kind == "AVIF":
        return Plain(_without_avif_exif(data), {})
    return Plain(data, {})


def _plain_png(data: bytes) -> Plain:
    """Remove all chunks that are not needed for pixels."""
    info: dict[str, bytes | str] = {}
    dropped, stop, needed = [], 8, _PNG_PIXELS
    if any(p.kind == b"acTL" and p.end - p.body == _ACTL_BYTES for p in png_chunks(data)):
        needed = _PNG_PIXELS | _PNG_FRAMES  # else the picture is a still
    for part in png_chunks(data):
        stop = part.stop
        if part.kind[:1].isupper() or part.kind in needed:
            continue
        dropped.append(part)
        crc = int.from_bytes(data[part.end : part.stop], "big")
        if part.kind in _PNG_READERS and zlib.crc32(data[part.start + 4 : part.end]) == crc:
            info |= _PNG_READERS[part.kind](data[part.body : part.end])
    rest = data[stop + 4 : stop + 8]  # the type of a chunk that is cut short
    if rest[:1].islower() and rest.isalpha() and rest not in needed:
        dropped.append(Part(rest, stop, stop + 8, len(data), len(data)))
    return Plain(_without(data, dropped), info)


def _read_profile(body: bytes) -> dict[str, bytes | str]:
    """Return the profile of an iCCP chunk, if it is not damaged or too large."""
    _, _, rest = body.partition(b"\0")
    profile = _inflated(rest[1:], MOST_PROFILE) if rest[:1] == b"\0" else None
    return {"icc_profile": profile} if profile else {}


def _read_exif(body: bytes) -> dict[str, bytes | str]:
    return {"exif": b"Exif\0\0" + body}


def _read_text(body: bytes) -> dict[str, bytes | str]:
    """Return EXIF data of a tEXt chunk, as ImageMagick writes them."""
    key, _, text = body.partition(b"\0")
    if key != _EXIF_CHUNK or len(text) > _MOST_TEXT:
        return {}
    return {_EXIF_CHUNK.decode(): text.decode("latin-1")}


def _read_packed_text(body: bytes) -> dict[str, bytes | str]:
    """Return EXIF data of a zTXt chunk."""
    key, _, rest = body.partition(b"\0")
    if key != _EXIF_CHUNK or rest[:1] != b"\0":
        return {}
    text = _inflated(rest[1:], _MOST_TEXT)
    return {} if text is None else {key.decode(): text.decode("latin-1")}


def _read_international_text(body: bytes) -> dict[str, bytes | str]:
    """Return XMP of an iTXt chunk."""
    key, _, rest = body.partition(b"\0")
    flag, method, parts = rest[:1], rest[1:2], rest[2:].split(b"\0", 2)
    if key != _XMP_CHUNK or len(parts) != 3:
        return {}
    text: bytes | None = parts[2] if len(parts[2]) <= _MOST_TEXT else None
    if flag != b"\0":
        text = _inflated(parts[2], _MOST_TEXT) if method == b"\0" else None
    return {} if text is None else {"xmp": text}


_PNG_READERS = {
    b"iCCP": _read_profile,
    b"eXIf": _read_exif,
    b"tEXt": _read_text,
    b"zTXt": _read_packed_text,
    b"iTXt": _read_international_text,
}


def _inflated(packed: bytes, most: int) -> bytes | None:
    """Return unpacked data, or None if they are damaged or take more than ``most`` bytes."""
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(packed, most)
    except zlib.error:
        return None
    return None if unpacker.unconsumed_tail else found


def _plain_jpeg(data: bytes) -> Plain:
    """Remove all application segments and comments but JFIF, Adobe's and colour profiles.

    An index of further images in the file (MPF) is also removed: the photo is the first one.
    """
    exif, info, dropped = b"", dict[str, bytes | str](), []
    for part in jpeg_segments(data):
        marker = part.kind[0]
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            continue
        body = data[part.body : part.end]
        if any(marker == kept and _begins(body, words) for kept, words in _KEPT_SEGMENTS):
            continue
        dropped.append(part)
        if marker == 0xE1 and _begins(body, _EXIF):
            exif += body[len(_EXIF[0]) :] if exif else body
        elif marker == 0xE1 and body.startswith(_XMP_SEGMENT):
            info["xmp"] = body[len(_XMP_SEGMENT) :]
    if exif:
        info["exif"] = exif
    return Plain(_without(data, dropped), info)


_KEPT_SEGMENTS = ((0xE0, _JFIF), (0xE2, _ICC), (0xEE, _ADOBE))


def _begins(body: bytes, words: tuple[bytes, int]) -> bool:
    """Return whether a segment begins with some bytes, and has a least length."""
    return body.startswith(words[0]) and len(body) >= words[1]


def _without(data: bytes, dropped: list[Part]) -> bytes:
    """Return ``data`` without some parts, which are in order."""
    if not dropped:
        return data
    starts = [0, *(part.stop for part in dropped)]
    stops = [*(part.start for part in dropped), len(data)]
    return b"".join(data[a:b] for a, b in zip(starts, stops, strict=True))


def is_progressive(data: bytes) -> bool:
    """Return whether a JPEG has several scans, so that its decoder keeps all coefficients."""
    components = 0
    for part in jpeg_segments(data):
        marker = part.kind[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if marker in (0xC2, 0xC6, 0xCA, 0xCE):
                return True
            components = data[part.body + 5] if part.end > part.body + 5 else 0
        if marker == SCAN:
            return part.end > part.body and data[part.body] < components
    return False


def _whole_frames(data: bytes) -> bytes:
    """Return a WebP that is cut short with only its whole chunks, if these include a frame.

    Anything else is returned as it is.
    """
    if len(data) >= 8 + int.from_bytes(data[4:8], "little"):
        return data
    parts = list(webp_chunks(data))
    if not parts or parts[0].kind != b"VP8X":
        return data
    if not any(part.kind in (b"ANMF", b"VP8 ", b"VP8L") for part in parts):
        return data
    body = b"".join(
        data[part.start : part.stop] for part in parts if part.kind not in (b"EXIF", b"XMP ")
    )
    body += b"\0" * (len(body) % 2)
    flags = body[8] & ~0x0C  # VP8X promises EXIF and XMP by these two bits
    size = (4 + len(body)).to_bytes(4, "little")
    return b"RIFF" + size + b"WEBP" + body[:8] + bytes([flags]) + body[9:]


def _without_avif_exif(data: bytes) -> bytes:
    """Return an AVIF whose EXIF item has another type; its orientation is a property (irot)."""
    if b"Exif" not in data:
        return data
    places = [found.start(1) for found in _AVIF_EXIF.finditer(data)]
    if not places:
        return data
    changed = bytearray(data)
    for place in places:
        changed[place : place + 4] = b"skip"
    return bytes(changed)
