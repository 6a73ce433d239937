"""Deep images: grey with 16 or 32 bits or floating point, 16-bit colour in PNG, and arrays.

Pillow holds the grey ones in its modes ``I;16``, ``I`` and ``F``. Of 16-bit colour it decodes only
the upper 8 bits of each value. ``remember_low_bits`` keeps the lower bits beside the image if the
upper ones alone would be dark. ``image_of_values`` does so for arrays.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gentool.data.encoded import BadImage, open_encoded, turn_upright
from gentool.data.levels import Levels

_BAND = 2**22  # pixels that are scaled at once
_BITS_PER_SAMPLE, _SAMPLE_FORMAT, _UNSIGNED = 258, 339, 1  # TIFF 6.0
_NO_DATA = 42113  # a tag of GDAL: the value of pixels that were not measured
_WHITE = "gentool white"  # key in an image's info: the value that means white
_EMPTY = "gentool empty"  # key in an image's info: the value of pixels that were not measured
_DEEP_COLOUR = "gentool deep colour"  # key in an image's info: the values, (H, W, C)
_WIDE = "gentool wide"  # key in an image's info: whether Pillow left out the lower 8 bits
_LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}  # Pillow's names of raw data
_HALF = 128  # upper bytes below this use less than half of the range
_SAMPLED = 4096  # values of an image that are kept to find its usual range
_FILL = 1e30  # values beyond this stand for pixels that were not measured
_FAR = 0.01  # share of the pixels outside the levels from which an image is told about
_DARK = 16  # images whose largest value is below this part of the range are nearly black


@dataclass(frozen=True)
class DeepValues:
    """The values of a deep image, without those that are not finite or mean "not measured".

    Attributes:
        low: The smallest value.
        high: The largest value.
        white: The largest value of the type, for integers; 0 for floating point.
        some: Some of the values, float64 (N,), spread evenly over the image.
    """

    low: float
    high: float
    white: float
    some: NDArray[np.float64]


def is_deep_grey(image: Image.Image) -> bool:
    """Return whether an image has one value of more than 8 bits per pixel."""
    return image.mode.startswith("I;16") or image.mode in ("I", "F")


def is_wide_colour(image: Image.Image) -> bool:
    """Return whether an image comes from a file with 16 bits per colour, which Pillow reduced."""
    return bool(image.info.get(_WIDE))


def is_dark_wide_colour(image: Image.Image) -> bool:
    """Return whether an image is nearly black because Pillow reduced its 16 bits per colour."""
    if not is_wide_colour(image) or _DEEP_COLOUR in image.info:
        return False
    return 0 < int(np.asarray(image)[..., :3].max()) < 256 // _DARK


def remember_white(image: Image.Image) -> None:
    """Write into ``image.info`` what only a freshly opened file knows about its values."""
    if image.mode not in ("I", "F"):
        return
    tags: Any = getattr(image, "tag_v2", {})
    if image.mode == "I":
        image.info[_WHITE] = _white_of_integers(tags)
    try:
        image.info[_EMPTY] = float(str(tags[_NO_DATA]).strip("\0 "))
    except (KeyError, ValueError):
        return


def _white_of_integers(tags: Any) -> float:
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    if bits <= 16:
        return 65535.0
    return float(2**32 - 1 if tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED else 2**31 - 1)


def raw_mode(image: Image.Image) -> str:
    """Return Pillow's name for the raw data of an image that was opened, not yet loaded."""
    tiles: Any = getattr(image, "tile", None) or [("", (), 0, None)]
    options = tiles[0][3]
    mode = options[0] if isinstance(options, tuple) and options else options
    return mode if isinstance(mode, str) else ""


def remember_low_bits(image: Image.Image, raw: str, data: bytes) -> None:
    """Keep the 16-bit values of a colour image if less than half of their range is used.

    Args:
        image: The image, decoded and not yet turned.
        raw: Its ``raw_mode``.
        data: The file.
    """
    if ";16" not in raw or image.mode not in ("RGB", "RGBA", "LA"):
        return
    image.info[_WIDE] = True
    upper = np.asarray(image)
    if raw not in _LOW_BYTES or image.format != "PNG" or int(upper[..., :3].max()) >= _HALF:
        return
    lower: Any = open_encoded(data)
    lower.tile = [tile._replace(args=_LOW_BYTES[raw]) for tile in lower.tile]
    lower.load()
    turned = image.copy()
    for half in (turned, lower):
        turn_upright(half)
    image.info[_DEEP_COLOUR] = np.asarray(turned).astype(np.uint16) * 256 + np.asarray(lower)


def image_of_values(values: NDArray[Any], white: float) -> Image.Image:
    """Return a deep image with some values.

    Args:
        values: uint16, int32, uint32 or float32 (H, W, C) with C = 1 (grey), 3 (RGB) or 4 (RGBA).
        white: The largest value of the type that the values were stored in; 0 for floating point.
    """
    if values.shape[2] > 1:
        top = white or _white_of_floats(np.nanmax(values, initial=0.0))
        image = Image.fromarray(_scaled(values, Levels(0.0, top)))
        image.info.update({_DEEP_COLOUR: values, _WHITE: white})
        return image
    grey = np.ascontiguousarray(values[:, :, 0])
    image = Image.fromarray(grey.view(np.int32) if grey.dtype == np.uint32 else grey)
    if image.mode == "I":
        image.info[_WHITE] = white
    return image


def deep_colour(image: Image.Image) -> NDArray[Any] | None:
    """Return the values of a deep image of colours, (H, W, C); None for other images."""
    found: NDArray[Any] | None = image.info.get(_DEEP_COLOUR)
    return found


def with_values_of(image: Image.Image, changed: Image.Image) -> Image.Image:
    """Return ``changed`` with what ``image`` knows about its values, which Pillow may drop."""
    keys = (_WHITE, _EMPTY, _DEEP_COLOUR, _WIDE)
    changed.info.update({key: image.info[key] for key in keys if key in image.info})
    return changed


def with_levels(image: Image.Image, levels: Levels | None) -> Image.Image:
    """Return a deep image with 8 bits; other images are returned as they are.

    Args:
        image: The image, upright.
        levels: The values that become 0 and 255. None is the range of the type: of 16-bit and
            32-bit integers the whole range, of floating point [0, 1] if no value is above 1, else
            [0, 255], and of 16-bit colour the upper 8 bits.
    """
    if is_deep_grey(image):
        return _to_eight_bits(image, levels)
    colour = deep_colour(image)
    if levels is None or colour is None:
        return image
    alpha = np.asarray(image)[..., 3:]
    if colour.dtype == np.uint16:
        alpha = (colour[..., 3:] // 257).astype(np.uint8)
    return Image.fromarray(np.concatenate([_scaled(colour[..., :3], levels), alpha], axis=-1))


def _to_eight_bits(image: Image.Image, levels: Levels | None) -> Image.Image:
    used = levels or Levels(0.0, _white(image))
    return Image.fromarray(np.concatenate([_scaled(band, used) for band in _bands(image)]))


def _scaled(values: NDArray[Any], levels: Levels) -> NDArray[np.uint8]:
    """Return values with ``levels.low`` as 0 and ``levels.high`` as 255, uint8."""
    scaled = (values.astype(np.float64) - levels.low) / (levels.high - levels.low) * 255
    return np.clip(np.round(np.nan_to_num(scaled)), 0, 255).astype(np.uint8)


def _white(image: Image.Image) -> float:
    """Return the value that means white in a deep grey image without levels."""
    if image.mode != "F":
        return float(image.info.get(_WHITE, 65535.0))
    return _white_of_floats(max(float(np.nanmax(rows, initial=0.0)) for rows in _bands(image)))


def _white_of_floats(top: float) -> float:
    """Return the value that means white in floating point whose largest value is ``top``."""
    return 1.0 if top <= 1 else 255.0


def _bands(image: Image.Image) -> Iterator[NDArray[Any]]:
    """Yield the values of a deep grey image in bands of rows, so that they do not fill the memory.

    A conversion to float64 takes eight bytes per pixel, hence a few million pixels at a time.
    """
    unsigned = image.mode == "I" and image.info.get(_WHITE) == 2**32 - 1
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        band = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        # Pillow stores unsigned values in signed integers
        yield band.view(np.uint32) if unsigned else band


def _measured(values: NDArray[Any], empty: float | None) -> NDArray[Any]:
    """Return the values, flat, that are finite and do not mean "not measured"."""
    flat = values.ravel()
    if flat.dtype.kind == "f":
        flat = flat[np.abs(flat) < _FILL]  # NaN compares false
    return flat if empty is None else flat[flat != empty]


def deep_values(image: Image.Image) -> DeepValues | None:
    """Return the values of a deep image; None if it is not deep, or has no usable value."""
    if is_deep_grey(image):
        white = 0.0 if image.mode == "F" else float(image.info.get(_WHITE, 65535.0))
        bands = _bands(image)
    elif (colour := deep_colour(image)) is not None:
        white, bands = float(image.info.get(_WHITE, 65535.0)), iter([colour[..., :3]])
    else:
        return None
    empty, found = image.info.get(_EMPTY), []
    for values in bands:
        if len(known := _measured(values, empty)):
            step = max(1, image.width * image.height // _SAMPLED)
            found.append((known.min(), known.max(), known[::step].astype(np.float64)))
    if not found:
        return None
    lows, highs, some = zip(*found, strict=True)
    return DeepValues(float(min(lows)), float(max(highs)), white, np.concatenate(some))


def require_values(image: Image.Image) -> None:
    """Check that a deep image has a value to be shown; it would be black without a note.

    Raises:
        BadImage: it has none.
    """
    colour = deep_colour(image)
    floating = image.mode == "F" or (colour is not None and colour.dtype.kind == "f")
    gaps = is_deep_grey(image) and _EMPTY in image.info
    if (floating or gaps) and deep_values(image) is None:
        raise BadImage("it has no values: all are NaN, infinite or marked as missing")


def outside(image: Image.Image, levels: Levels | None) -> bool:
    """Return whether the levels suit a deep image badly.

    That is so if many of its pixels are outside of them; without levels, if all are nearly black.
    """
    found = deep_values(image)
    if found is None:
        return is_dark_wide_colour(image)
    if levels is None:
        return found.white > 0 and found.high < found.white / _DARK and found.high > 0
    beyond = (found.some < levels.low) | (found.some > levels.high)
    return bool(beyond.mean() > _FAR)
