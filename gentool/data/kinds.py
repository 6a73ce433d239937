"""Recognise what a file is by its first bytes, to say what it is when it cannot be used.

Opens no file.
"""

import re

from gentool.core.image_parts import png_chunks
from gentool.data.icons import is_icon

HEAD_BYTES = 1024  # of a file, which suffice for every function here but ``is_cut``
_TAIL_BYTES = 1024
_NAMED = 2  # formats that a message names

UNREAD_SUFFIXES = frozenset({  # of images that gentool, or the Pillow here, does not read
    ".heic", ".heif", ".jxl", ".avif", ".jp2", ".psb", ".svg", ".cur", ".exr", ".hdr", ".eps",
    ".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf",
    ".rw2", ".dcm", ".nii", ".fits", ".xcf",
})  # fmt: skip
_LFS = b"version https://git-lfs.github.com/spec/"
_ANNEX = re.compile(rb"(\.\./)*(\.git)?/annex/objects/")  # a pointer of git-annex
_IMAGES = (
    ("PNG", b"\x89PNG\r\n\x1a\n"), ("JPEG", b"\xff\xd8\xff"), ("GIF", b"GIF8"), ("BMP", b"BM"),
    ("TIFF", b"II*\0"), ("TIFF", b"MM\0*"), ("JPEG2000", b"\0\0\0\x0cjP  \r\n"),
    ("JPEG2000", b"\xff\x4f\xff\x51"), ("QOI", b"qoif"), ("DDS", b"DDS "), ("SGI", b"\x01\xda"),
    ("PSD", b"8BPS\0\1"),
)  # fmt: skip
_PCX = re.compile(rb"\x0a[\x00\x02\x03\x05]\x01[\x01\x02\x04\x08]")
_NETPBM = re.compile(rb"P[1-6][\s#]")
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC",
           b"hevx": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"mif1": "HEIC",
           b"msf1": "HEIC"}  # fmt: skip
_OTHERS = (
    (b"\xff\x0a", "a JPEG XL image"), (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"8BPS", "a Photoshop document"), (b"\0\0\2\0\1\0", "a cursor"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"), (b"gimp xcf", "a GIMP drawing"),
    (b"FUJIFILM", "a raw photo"), (b"SIMPLE  =", "a FITS image"), (b"%!PS", "a PostScript file"),
    (b"%PDF", "a PDF document"), (b"\x89HDF", "an HDF5 file"), (b"\x93NUMPY", "a NumPy array"),
    (b"PAR1", "a Parquet table"), (b"ARROW1", "an Arrow table"), (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"), (b"PK\3\4", "a zip archive"),
    (b"PK\5\6", "an empty zip archive"), (b"\x1f\x8b", "a gzip file"), (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\0", "an xz file"), (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"\x1aE\xdf\xa3", "a film (Matroska or WebM)"), (b"FLV\1", "a film (Flash)"),
    (b"\0\0\1\xba", "a film (MPEG)"), (b"\0\0\1\xb3", "a film (MPEG)"),
    (b"OggS", "an Ogg film or sound"), (b"ID3", "a sound (MP3)"), (b"\x80\2", "a Python pickle"),
    (b"\x80\3", "a Python pickle"), (b"\x80\4", "a Python pickle"), (b"\x80\5", "a Python pickle"),
    (b"\0\5\x16\7", "a file of metadata that macOS left there"),
    (b"SQLite format 3\0", "an SQLite database"),
)  # fmt: skip
_CUT_SHORT = re.compile(
    r"truncated|cut short|unexpected end|reached EOF|expected to read|not enough image data|"
    r"buffer is not large enough",
    re.IGNORECASE,
)


def image_format(head: bytes) -> str | None:
    """Return the format of an image, such as ``PNG`` or ``HEIC``; None for anything else.

    The result may be a format that gentool does not read.
    """
    for name, magic in _IMAGES:
        if head.startswith(magic) and (name != "BMP" or _is_bitmap(head)):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, 64, 4))]
        known = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
        return "AVIF" if "AVIF" in known else next(iter(known), None)
    if _PCX.match(head):
        return "PCX"
    if is_icon(head):
        return "ICO"
    return "PPM" if _NETPBM.match(head) else None


def _is_bitmap(head: bytes) -> bool:
    """Return whether the header after ``BM`` has a plausible size, as text may start so too."""
    return int.from_bytes(head[14:18], "little") in (12, 16, 40, 52, 56, 64, 108, 124)


def name_kind(head: bytes) -> str | None:
    """Return what a file is in words, such as ``an HTML page``; None if that is unknown."""
    if not head:
        return "an empty file"
    if not head.strip(b"\0"):
        return "a file of zeros, as a download or a copy that was stopped leaves it"
    if head.startswith(_LFS):
        return "a Git LFS pointer instead of the file itself (fetch it with git lfs pull)"
    if _ANNEX.match(head):
        return "a git-annex pointer instead of the file itself (fetch it with git annex get)"
    if kind := image_format(head):
        article = "an" if kind[0] in "AHI" else "a"
        return f"{article} {kind} image"
    for magic, words in _OTHERS:
        if head.startswith(magic):
            return words
    if head[4:8] == b"ftyp":
        return "a film (MP4 or QuickTime)"
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"WAVE"):
        return "a film (AVI)" if head[8:12] == b"AVI " else "a sound (WAV)"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[8:9] == b"{" and head[:8].endswith(b"\0\0\0\0"):
        return "a file of tensors (safetensors)"
    return _kind_of_text(head)


def _kind_of_text(head: bytes) -> str | None:
    """Return what a text is in words; None for bytes that are no text."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:512].lower()
    if re.search(rb"<svg[\s>]", start):
        return "an SVG drawing"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")):
        return "an HTML page, as a failed download leaves it"
    if b"<html" in start or b"<!doctype html" in start:
        return "an HTML page, as a failed download leaves it"
    if start.startswith(b"<?xml"):
        return "an XML file, as a failed download may leave it"
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or len(head) < HEAD_BYTES:
            return None
    if re.search(rb"[\0-\x08\x0e-\x1a]", head):
        return None
    return "a JSON text" if start.startswith((b"{", b"[")) else "a text"


def why_unreadable(data: bytes, formats: tuple[str, ...]) -> str:
    """Return the reason why bytes are not recognised as an image of one of ``formats``."""
    head = data[:HEAD_BYTES]
    kind, words = image_format(head), name_kind(head)
    if kind in formats:
        return f"it is cut short: {words} of only {len(data):,} bytes, without a whole header"
    allowed = f"not a {', '.join(formats[:_NAMED])} or other image that can be read"
    if words is None:
        return f"it is {allowed}"
    advice = ": convert it" if kind or words.endswith(("image", "cursor", "photo")) else ""
    return f"it is {words}, {allowed}{advice}"


def ends_early(data: bytes) -> bool:
    """Return whether the parts of a PNG or WebP say that the file is cut short."""
    kind = image_format(data[:HEAD_BYTES])
    if kind == "PNG":
        return not any(part.kind == b"IEND" for part in png_chunks(data))
    if kind == "WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return False


def is_cut(data: bytes, message: str) -> bool:
    """Return whether the bytes of an image that a decoder refused with a message end too early."""
    kind = image_format(data[:HEAD_BYTES])
    if kind == "WEBP":
        return ends_early(data)
    if kind in ("JPEG", "JPEG2000") and data.rfind(b"\xff\xd9", -_TAIL_BYTES) < 0:
        return True
    return _CUT_SHORT.search(message) is not None
