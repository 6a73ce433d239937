"""Open encoded images without decoding pixels: the limits of size, the frames, the orientation."""

import contextlib
import io
import re

from PIL import Image, ImageOps, JpegImagePlugin, features

from gentool.data.decoder_warnings import ignored_decoder_warnings
from gentool.data.kinds import HEAD_BYTES, image_format
from gentool.data.metadata import is_progressive, without_metadata
from gentool.data.tiff_tags import without_tags

_OPTIONAL = {"AVIF": "avif", "JPEG2000": "jpg_2000"}  # formats that not every Pillow decodes
FORMATS = (
    "PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM",
    *(name for name, codec in _OPTIONAL.items() if features.check(codec)),
)  # fmt: skip
_MOST_PIXELS = 2**26  # 8192 x 8192: larger images need much memory and are mostly attacks
_MOST_COEFFICIENTS = 3 * 2**29  # bytes that the decoder of a progressive JPEG may take for them
_REDUCTIONS = (2, 4, 8)  # the sides of a JPEG can be decoded smaller by these factors
_SUB_IFDS = (34665, 34853, 40965)  # EXIF, GPS and interoperability directories (EXIF 2.32, 4.6.3)


class BadImage(Exception):
    """A file cannot become an image; the message says why."""


def frame_count(data: bytes) -> int:
    """Return the number of frames of an encoded image.

    An unreadable image counts as one frame; the error is reported when it is decoded.
    """
    try:
        with ignored_decoder_warnings():
            return max(1, int(getattr(open_encoded(data), "n_frames", 1)))
    except Exception:  # decoders raise almost anything on broken data
        return 1


def open_encoded(data: bytes, frame: int = 0) -> Image.Image:
    """Open a frame of an image without decoding its pixels; a large JPEG will be decoded smaller.

    Raises:
        BadImage: it claims too many pixels.
        EOFError: there is no such frame.
    """
    kind, plain = image_format(data[:HEAD_BYTES]), without_metadata(data)
    try:
        image = _open(plain.data, kind)
        if frame:
            image.seek(frame)
    except (BadImage, EOFError):
        raise
    except Exception:  # damaged tags of a TIFF raise almost anything
        if kind != "TIFF":
            raise
        image = _open(without_tags(data), kind)
        if frame:
            image.seek(frame)
    image.info.update(plain.info)
    _check_size(image)
    if kind == "TIFF":
        _forget_directories(image)
    return image


def _open(data: bytes, kind: str | None) -> Image.Image:
    """Open the first frame of an image without metadata.

    Raises:
        BadImage: it claims too many pixels.
    """
    image: Image.Image
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        if kind != "JPEG":
            raise BadImage(_too_large(_claimed_size(data, error))) from error
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        _reduce(image, data)
    _check_size(image)
    return image


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
    factory = Image.OPEN[image_format(data[:HEAD_BYTES]) or ""][0]
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
    with contextlib.suppress(Exception):  # damaged EXIF data raise almost anything
        ImageOps.exif_transpose(image, in_place=True)
