"""Preprocessing: what is done to every image file before a model sees it.

The steps, in order:

1. Only the formats in ``FORMATS`` are opened. Metadata that pixels do not need are removed first.
   A JPEG of more than 67 million pixels is decoded at a half, a quarter or an eighth of its
   sides; other images of that size are refused.
2. The image is turned upright as its EXIF tag says; damaged EXIF data are ignored.
3. An ICC profile is converted to sRGB; a broken profile is ignored.
4. Images with more than 8 bits are scaled to 8 bits by their levels (``deep_images``), which are
   the same for all images of a set.
5. The image is converted to the wanted colour mode. Transparent images are laid on the
   background unless alpha is kept.
6. It is cropped in the centre, padded or stretched to the wanted shape, with an antialiasing
   filter. If alpha is kept, colours are premultiplied by alpha during resizing. Every pixel of
   alpha 0 becomes black, at any size and in the padding: what editors leave behind invisible
   pixels must not be learned, and 0 is what premultiplied colours are there. Pixels of partial
   alpha keep their colour, which is visible.
"""

import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError

from gentool.core.errors import UsageError
from gentool.core.images import MODES, ImageShape, Pixels, hide_colours
from gentool.core.pil_images import lay_on, pil_mode
from gentool.core.registry import name_error
from gentool.data.decoder_warnings import ignored_decoder_warnings
from gentool.data.deep_images import (
    deep_colour,
    is_deep_grey,
    raw_mode,
    remember_low_bits,
    remember_white,
    require_values,
    with_levels,
    with_values_of,
)
from gentool.data.encoded import (
    FORMATS,
    BadImage,
    describe,
    description,
    open_encoded,
    turn_upright,
)
from gentool.data.kinds import is_cut, why_unreadable
from gentool.data.levels import FULL, Levels, parse_levels
from gentool.data.metadata import MOST_PROFILE

VERSION = 3  # part of the cache key: raise it when the same file would give other pixels
# What a message says where the images of an older run or model seem to be others.
HIDDEN_COLOURS = "gentool reads pixels of alpha 0 as black; older versions kept hidden colours"
FITS = ("crop", "pad", "stretch")
_ALPHA_MODES = {"RGBA", "LA", "PA", "RGBa", "La"}


@dataclass(frozen=True)
class Preprocessing:
    """The settings of preprocessing; the steps that never change are listed in the module.

    Attributes:
        shape: Shape of the images that a model sees.
        fit: ``crop`` the centre, ``pad`` with the background, or ``stretch``.
        background: Colour behind transparent images and in the padding (where alpha is kept,
            padding is transparent): a colour's name or #rrggbb.
        margin: Images are stored larger than ``shape`` by this fraction, 0 to 1, so that training
            can cut out a window at random.
        levels: The scale of deep images; None for the range of each image's type.
    """

    shape: ImageShape
    fit: str = "crop"
    background: str = "white"
    margin: float = 0.0
    levels: Levels | None = None

    @property
    def stored_shape(self) -> ImageShape:
        """The shape with its margin; each side is larger by an even number of pixels."""
        sides = (self.shape.height, self.shape.width)
        height, width = (side + 2 * round(side * self.margin / 2) for side in sides)
        return ImageShape(height, width, self.shape.channels)

    @property
    def words(self) -> str:
        """Short description for people, without the version."""
        more = f", margin {self.margin:g}" if self.margin else ""
        more += f", levels {self.levels}" if self.levels else ""
        return f"{self.shape}, {self.fit}, on {self.background}{more}"

    def __str__(self) -> str:
        return f"{self.words}, policy {VERSION}"


def make_preprocessing(
    shape: ImageShape,
    fit: str = "crop",
    background: str = "white",
    margin: float = 0.0,
    levels: str = FULL,
) -> Preprocessing:
    """Return settings of preprocessing after checking the given values.

    Raises:
        UsageError: there is no such fit or colour, the margin is not from 0 to 1, or the levels
            are neither ``full`` nor LOW:HIGH.
    """
    if fit not in FITS:
        raise name_error("fit", fit, list(FITS), f"choices: {', '.join(FITS)}")
    try:
        ImageColor.getrgb(background)
    except (ValueError, AttributeError):
        raise UsageError(
            f"background '{background:.40}' is not a colour. Write a name such as white, or #rrggbb"
        ) from None
    if not 0 <= margin <= 1:
        raise UsageError(f"margin is {margin:g}; allowed: 0 to 1")
    return Preprocessing(shape, fit, background, margin, parse_levels(levels))


def decode(data: bytes, preprocessing: Preprocessing, frame: int | None = None) -> Pixels:
    """Decode and prepare one encoded image, and return it as uint8 (H, W, C).

    Raises:
        BadImage: the data are not in one of ``FORMATS``, cut short, too large, or otherwise broken.
    """
    return convert(open_image(data, frame), preprocessing)


def convert(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    """Prepare one decoded image, and return it as uint8 (H, W, C) in the stored shape."""
    shape = preprocessing.stored_shape
    ready = _to_mode(
        with_levels(image, preprocessing.levels), shape.channels, preprocessing.background
    )
    fitted = _fit(ready, (shape.width, shape.height), preprocessing)
    pixels = np.asarray(fitted, dtype=np.uint8)
    return hide_colours(pixels.reshape(shape.height, shape.width, shape.channels))


def _fit(image: Image.Image, size: tuple[int, int], preprocessing: Preprocessing) -> Image.Image:
    """Return ``image`` at ``size`` (width, height); Pillow premultiplies RGBA while it resizes."""
    if image.size == size:
        return image
    if preprocessing.fit == "crop":
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    if preprocessing.fit == "stretch":
        return image.resize(size, Image.Resampling.LANCZOS)
    inside = ImageOps.contain(image, size, Image.Resampling.LANCZOS)
    ground = Image.new("RGB", size, preprocessing.background).convert(image.mode)
    if image.mode == "RGBA":
        ground.putalpha(0)  # ``hide_colours`` makes it black
    ground.paste(inside, ((size[0] - inside.width) // 2, (size[1] - inside.height) // 2))
    return ground


def open_image(data: bytes, frame: int | None = None) -> Image.Image:
    """Decode one frame (by default the first), turn it upright and convert it to sRGB.

    ``description`` returns what the file says about the image.

    Raises:
        BadImage: as in ``decode``, or there is no such frame.
    """
    if not data:
        raise BadImage("the file is empty")
    try:
        with ignored_decoder_warnings():
            image = open_encoded(data, frame)
            described, raw = description(image), raw_mode(image)
            image.load()
            remember_white(image)
            require_values(image)
            if not frame:
                remember_low_bits(image, raw, data)
            turn_upright(image)
            found = with_values_of(image, _to_srgb(image))
            describe(found, described)
            return found
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(why_unreadable(data, FORMATS)) from None
    except (EOFError, IndexError) as error:
        missing = f", or has no frame {frame}" if frame else ""
        raise BadImage(f"it is cut short{missing}") from error
    except Exception as error:  # decoders raise almost anything on broken data
        line = _one_line(error)
        raise BadImage(f"it is cut short ({line})" if is_cut(data, str(error)) else line) from error


def _one_line(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _to_srgb(image: Image.Image) -> Image.Image:
    """Convert an image from its ICC profile to sRGB; unchanged if it has no usable profile."""
    if image.mode == "LAB":
        profile: Any = ImageCms.createProfile("LAB")
    else:
        found = image.info.get("icc_profile")
        if not isinstance(found, bytes) or len(found) > MOST_PROFILE:
            return image
        if image.mode not in ("RGB", "RGBA", "L", "CMYK"):
            return image
        profile = io.BytesIO(found)
    try:
        if image.mode == "RGBA":
            alpha = image.getchannel("A")
            converted = _through(image.convert("RGB"), profile)
            converted.putalpha(alpha)
            return converted
        return _through(image, profile)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image if image.mode != "LAB" else image.convert("L")


def _through(image: Image.Image, profile: Any) -> Image.Image:
    """Convert ``image`` from ``profile`` to sRGB; grey stays grey."""
    target = ImageCms.createProfile("sRGB")
    found = ImageCms.profileToProfile(image, profile, target, outputMode="RGB")
    assert found is not None
    return found.convert("L") if image.mode == "L" else found


def _to_mode(image: Image.Image, channels: int, background: str) -> Image.Image:
    """Convert ``image``, which has at most 8 bits, to the mode with ``channels`` channels."""
    if has_alpha(image):
        image = image.convert("RGBA")
        if channels != MODES["rgba"]:
            image = lay_on(image, background)
    wanted = pil_mode(channels)
    return image if image.mode == wanted else image.convert(wanted)


def has_alpha(image: Image.Image) -> bool:
    """Return whether the image can hold transparency."""
    return image.mode in _ALPHA_MODES or "transparency" in image.info


@dataclass(frozen=True)
class Probe:
    """Sizes and colours of a sample of images.

    Attributes:
        sizes: (width, height) of each image in its file, in pixels.
        mode: ``grey``, ``rgb`` or ``rgba``.
        reason: Why this mode was chosen, for a message.
    """

    sizes: tuple[tuple[int, int], ...]
    mode: str
    reason: str


def probe(images: Iterable[Image.Image]) -> Probe:
    """Return the sizes of the images, and the smallest colour mode that holds all of them.

    Transparency counts only if a pixel uses it. RGB with three equal channels counts as grey.
    """
    sizes, kinds = [], Counter[str]()
    for image in images:
        sizes.append(description(image).size)
        if has_alpha(image):
            rgba = image.convert("RGBA")
            if np.asarray(rgba)[..., 3].min() < 255:
                kinds["rgba"] += 1
                continue
        kinds["grey" if _is_grey(image) else "rgb"] += 1
    if kinds["rgba"]:
        return Probe(tuple(sizes), "rgba", f"{kinds['rgba']} of {len(sizes)} inspected use alpha")
    if kinds["rgb"]:
        return Probe(tuple(sizes), "rgb", f"{kinds['rgb']} of {len(sizes)} inspected have colour")
    return Probe(tuple(sizes), "grey", f"all {len(sizes)} inspected are grey")


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("1", "L", "LA") or is_deep_grey(image):
        return True
    colour = deep_colour(image)
    rgb = np.asarray(image.convert("RGB")) if colour is None else colour[..., :3]
    return bool((rgb == rgb[..., :1]).all())
