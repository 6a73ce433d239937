"""Open encoded images without decoding pixels: the limits of size, the frames, the orientation.

A file has one image, or a frame of its animation for each. Pages of a TIFF are frames too, except
thumbnails and masks. A JPEG has one image, even if a preview or a second view follows it.
"""

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

from PIL import Image, ImageOps, JpegImagePlugin, TiffImagePlugin, features

from gentool.data.avif_films import filled, whole_frames
from gentool.data.decoder_warnings import ignored_decoder_warnings
from gentool.data.icons import picture_in_icon
from gentool.data.kinds import HEAD_BYTES, ends_early, image_format
from gentool.data.metadata import is_progressive, without_metadata
from gentool.data.targa import is_targa, without_alpha
from gentool.data.tiff_tags import without_tags

_OPTIONAL = {"AVIF": "avif", "JPEG2000": "jpg_2000"}  # formats that not every Pillow decodes
FORMATS = (
    "PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "QOI", "DDS", "SGI", "PCX", "TGA", "ICO",
    "PSD",
    *(name for name, codec in _OPTIONAL.items() if features.check(codec)),
)  # fmt: skip
_MOST_PIXELS = 2**26  # 8192 x 8192: larger images need much memory and are mostly attacks
_MOST_COEFFICIENTS = 3 * 2**29  # bytes that the decoder of a progressive JPEG may take for them
_REDUCTIONS = (2, 4, 8)  # the sides of a JPEG can be decoded smaller by these factors
ANIMATED = frozenset({"GIF", "WEBP", "PNG", "TIFF", "AVIF"})  # formats of several frames
_MOST_FRAMES = 10**6
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE = 254, 255  # TIFF 6.0
_AUXILIARY, _REDUCED = 1 | 4, 2  # a thumbnail or a mask; a thumbnail by the older tag
_DESCRIBED, _FULL_SIZE = "gentool description", "gentool size"  # keys in an image's info
_EXIF_KEYS = ("exif", "Raw profile type exif")  # in an image's info
_SUB_IFDS = (34665, 34853, 40965)  # EXIF, GPS and interoperability directories (EXIF 2.32, 4.6.3)


class BadImage(Exception):
    """A file cannot become an image; the message says why."""


@dataclass(frozen=True)
class Described:
    """What a file says about its image.

    Attributes:
        format: Name of the file format, or ``drawn`` for an image without a file.
        size: (width, height) of the upright image in pixels, before a JPEG is decoded smaller.
        has_frames: Whether the file has further frames, which are not read.
    """

    format: str
    size: tuple[int, int]
    has_frames: bool = False


def description(image: Image.Image) -> Described:
    """Return what the file of a decoded image says about it."""
    found = image.info.get(_DESCRIBED)
    if not isinstance(found, Described):
        return Described("drawn", image.size)
    upright = (image.width > image.height) == (found.size[0] > found.size[1])
    return found if upright else replace(found, size=found.size[::-1])


def describe(image: Image.Image, described: Described) -> None:
    """Have ``description`` return this for an image."""
    image.info[_DESCRIBED] = described


def frame_numbers(data: bytes) -> list[int]:
    """Return the numbers of the frames of a file that are images.

    If the file is cut short, the last number is that of the frame that is cut. An unreadable file
    has one frame; the error is reported when it is decoded.
    """
    kind = image_format(data[:HEAD_BYTES])
    if kind not in ANIMATED:
        return [0]
    try:
        with ignored_decoder_warnings():
            image = _open_frame(data, kind, 0)
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                return _pages(image)
            return list(range(_count(image, data, kind)))
    except Exception:  # decoders raise almost anything on broken data
        return [0]


def _pages(image: TiffImagePlugin.TiffImageFile) -> list[int]:
    """Return the numbers of the pages of a TIFF that are no thumbnails and no masks."""
    pages: list[int] = []
    for number in count():
        try:
            image.seek(number)
        except EOFError:
            break
        except Exception:  # the file is cut here, or already in the pixels of the page before
            whole = not pages or _readable(image, pages[-1:])
            return [*pages, number] if whole else pages
        if not _is_auxiliary(image):
            pages.append(number)
    return pages or [0]


def _is_auxiliary(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Return whether a page of a TIFF is a thumbnail or a mask (TIFF 6.0, NewSubfileType)."""
    new, old = image.tag_v2.get(_NEW_SUBFILE_TYPE), image.tag_v2.get(_SUBFILE_TYPE)
    return (isinstance(new, int) and bool(new & _AUXILIARY)) or old == _REDUCED


def _count(image: Image.Image, data: bytes, kind: str) -> int:
    """Return the number of frames of an animation, including one that is cut short."""
    try:
        promised = int(getattr(image, "n_frames", 1))
    except Exception:  # a GIF that is cut inside of a header
        return _readable(image, range(_MOST_FRAMES)) + 1
    if kind == "AVIF" and (whole := whole_frames(data)) is not None:
        return whole + 1
    if kind == "WEBP" and ends_early(data):  # only its whole frames are given to the decoder
        return promised + 1
    if promised == 1 or not ends_early(data):
        return max(1, promised)
    return min(promised, _readable(image, range(promised)) + 1)


def _readable(image: Image.Image, numbers: Sequence[int]) -> int:
    """Return how many of some frames can be decoded before the first that cannot."""
    for done, number in enumerate(numbers):
        try:
            image.seek(number)
            image.load()
        except Exception:  # decoders raise almost anything on broken data
            return done
    return len(numbers)


def _has_frames(image: Image.Image, data: bytes, kind: str | None) -> bool:
    """Return whether a file has further frames, without counting them."""
    if kind not in ANIMATED:
        return False
    try:
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            return image.is_animated and len(_pages(_tiff(data, 0))) > 1
        if kind == "GIF":  # finding out moves on in the file
            image = _open(data, kind)
        return bool(getattr(image, "is_animated", False))
    except Exception:  # decoders raise almost anything on broken data
        return False


def open_encoded(data: bytes, frame: int | None = None) -> Image.Image:
    """Open a frame of an image without decoding its pixels; a large JPEG will be decoded smaller.

    Args:
        data: The file.
        frame: A number of ``frame_numbers``; None for the first of them.

    Raises:
        BadImage: it claims too many pixels.
        EOFError: there is no such frame.
    """
    kind = image_format(data[:HEAD_BYTES])
    image = _open_frame(data, kind, frame or 0)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if frame is None and _is_auxiliary(image):
            image = _tiff(data, _pages(image)[0])
        _forget_directories(image)
    _check_size(image)
    has_frames = frame is None and _has_frames(image, data, kind)
    size = image.info.pop(_FULL_SIZE, image.size)
    name = "ICO" if kind == "ICO" else image.format or ("TGA" if is_targa(data) else "")
    describe(image, Described(name, size, has_frames))
    return image


def _open_frame(data: bytes, kind: str | None, frame: int) -> Image.Image:
    """Open a frame of an image; its metadata are removed, as far as no pixel needs them."""
    if kind == "TIFF":
        return _tiff(data, frame)
    if kind == "ICO" and (picture := picture_in_icon(data)) is not None:
        return _open_frame(picture, image_format(picture), 0)
    if kind == "AVIF" and (whole := whole_frames(data)) is not None:
        if frame >= whole:
            raise EOFError
        data = filled(data)
    plain = without_metadata(data)
    image = _open(plain.data, kind)
    if frame:
        image.seek(frame)
    image.info.update(plain.info)
    return image if kind or not without_alpha(data) else image.convert("RGB")


def _tiff(data: bytes, page: int) -> TiffImagePlugin.TiffImageFile:
    """Open a page of a TIFF, without its metadata if they are damaged."""
    try:
        image = _open(data, "TIFF")
        image.seek(page)
    except (BadImage, EOFError):
        raise
    except Exception:  # damaged tags raise almost anything
        image = _open(without_tags(data), "TIFF")
        image.seek(page)
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    return image


def _open(data: bytes, kind: str | None) -> Image.Image:
    """Open the first frame of an image without metadata.

    Raises:
        BadImage: it claims too many pixels.
    """
    image: Image.Image
    try:
        image = Image.open(io.BytesIO(data), formats=_formats_of(data))
    except Image.DecompressionBombError as error:
        if kind != "JPEG":
            raise BadImage(_too_large(_claimed_size(data, error))) from error
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        _reduce(image, data)
    _check_size(image)
    return image


def _formats_of(data: bytes) -> tuple[str, ...]:
    """Return the formats that a file may have: a TGA is known only by its end."""
    return FORMATS if is_targa(data) else tuple(name for name in FORMATS if name != "TGA")


def _reduce(image: JpegImagePlugin.JpegImageFile, data: bytes) -> None:
    """Have a JPEG above the limit of pixels decoded smaller, as little as necessary.

    The result depends on nothing but the file, so it is the same for all training sizes.

    Raises:
        BadImage: it is progressive, and its decoder would take too much memory.
    """
    width, height = image.size
    if width * height <= _MOST_PIXELS:
        return
    if is_progressive(data):
        most = [max(layer[k] for layer in image.layer) for k in (1, 2)]
        layers = sum(layer[1] * layer[2] for layer in image.layer) / (most[0] * most[1])
        need = 2 * width * height * layers
        if need > _MOST_COEFFICIENTS:
            raise BadImage(
                f"it is a progressive JPEG of {height}x{width} pixels, for which a decoder takes "
                f"{need / 1e9:.1f} GB: make it smaller, or save it as a JPEG that is not "
                "progressive"
            )
    for factor in _REDUCTIONS:
        if -(-width // factor) * -(-height // factor) <= _MOST_PIXELS:
            image.info[_FULL_SIZE] = (width, height)
            image.draft(None, (max(1, width // factor), max(1, height // factor)))
            return


def _check_size(image: Image.Image) -> None:
    """Check the number of pixels of an image that is not decoded yet.

    Raises:
        BadImage: it is too large.
    """
    if image.width * image.height > _MOST_PIXELS:
        raise BadImage(_too_large(f"{image.height}x{image.width}"))


def _too_large(size: str) -> str:
    return (
        f"it has {size} pixels, more than {_MOST_PIXELS:,}: make it smaller, or save it as a JPEG, "
        "which can be decoded smaller"
    )


def _claimed_size(data: bytes, error: Exception) -> str:
    """Return the size of an image that Pillow refuses to open, or its number of pixels."""
    factory = Image.OPEN["TGA" if is_targa(data) else image_format(data[:HEAD_BYTES]) or ""][0]
    try:
        width, height = factory(io.BytesIO(data), "").size
    except Exception:  # some decoders refuse it too, and any may fail on broken data
        found = re.search(r"\d{6,}", str(error))
        return f"{int(found[0]):,}" if found else "too many"
    return f"{height}x{width}"


def _forget_directories(image: Image.Image) -> None:
    """Remove the parts of a TIFF's EXIF data that its decoder reads and no pixel needs."""
    if not isinstance(image.info.get("xmp", b""), bytes):
        del image.info["xmp"]
    with contextlib.suppress(Exception):  # damaged EXIF data raise almost anything
        exif = image.getexif()
        for tag in _SUB_IFDS:
            exif.pop(tag, None)


def turn_upright(image: Image.Image) -> None:
    """Turn a decoded image as its EXIF data say, unless they are damaged."""
    if image.info.get("xmp"):  # has an orientation too, which counts if EXIF data have none
        _forget_damaged_exif(image)
    with contextlib.suppress(Exception):  # damaged EXIF data raise almost anything
        ImageOps.exif_transpose(image, in_place=True)


def _forget_damaged_exif(image: Image.Image) -> None:
    """Remove EXIF data that cannot be read, as Pillow reads no XMP after an error in them."""
    copy = Image.new("L", (1, 1))
    copy.info = {key: image.info[key] for key in _EXIF_KEYS if key in image.info}
    try:
        copy.getexif()
    except Exception:  # damaged EXIF data raise almost anything
        for key in copy.info:
            del image.info[key]
