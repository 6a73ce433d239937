"""Intake: what is done to every image file before a model sees it.

The policy, in order:

1. Only formats on the list are opened, and no image of more than 67 million pixels.
2. The frame is turned upright as its EXIF tag says.
3. An ICC profile is converted to sRGB; a broken one is ignored.
4. Deep grey is scaled to 8 bits, never clipped: 16-bit and 32-bit grey by the range of their
   kind, floating point from [0, 1] if it stays within, else from [0, 255].
5. The image gets the wanted colour mode; transparency is laid on the background unless alpha is
   kept.
6. It is cropped in the centre, padded or stretched to the wanted shape, with an antialiasing
   filter; under alpha, colours are premultiplied meanwhile.
"""

import io
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError

from gentool.core.errors import UsageError
from gentool.core.images import MODES, ImageShape, Pixels, lay_on, pil_mode
from gentool.core.registry import name_error

POLICY_VERSION = 2  # raise when the same file would become other pixels: it keys the cache
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
FITS = ("crop", "pad", "stretch")
_ALPHA_MODES = {"RGBA", "LA", "PA", "RGBa", "La"}
_MOST_PIXELS = 2**26  # 8192 x 8192: what more would take is memory, and it is mostly an attack
_BAND = 2**22  # pixels of deep grey scaled at once
_MOST_PROFILE = 2**22  # bytes of an ICC profile
_BITS_PER_SAMPLE, _SAMPLE_FORMAT, _UNSIGNED = 258, 339, 1  # TIFF 6.0
_WHITE = "gentool white"  # key in an image's info: the value that means white


class BadImage(Exception):
    """One file that cannot become an image; the text says why."""


@dataclass(frozen=True)
class Policy:
    """What intake does, beside what it always does.

    Attributes:
        shape: Of the images that a model sees.
        fit: ``crop`` the centre, ``pad`` with the background, or ``stretch``.
        background: What transparency is laid on and padding is made of: a colour's name or #rrggbb.
        margin: Images are stored larger than ``shape`` by this share, so that training can cut a
            window of it at random.
    """

    shape: ImageShape
    fit: str = "crop"
    background: str = "white"
    margin: float = 0.0

    @property
    def stored_shape(self) -> ImageShape:
        """The shape with its margin, an even number of pixels more on each axis."""
        sides = (self.shape.height, self.shape.width)
        height, width = (side + 2 * round(side * self.margin / 2) for side in sides)
        return ImageShape(height, width, self.shape.channels)

    @property
    def words(self) -> str:
        """What it makes of images, for people."""
        more = f", margin {self.margin:g}" if self.margin else ""
        return f"{self.shape}, {self.fit}, on {self.background}{more}"

    def __str__(self) -> str:
        return f"{self.words}, policy {POLICY_VERSION}"


def make_policy(
    shape: ImageShape, fit: str = "crop", background: str = "white", margin: float = 0.0
) -> Policy:
    """A policy of words that were given.

    Raises:
        UsageError: no such fit or colour, or a margin beyond 0 to 1.
    """
    if fit not in FITS:
        raise name_error("fit", fit, list(FITS), f"choices: {', '.join(FITS)}")
    try:
        ImageColor.getrgb(background)
    except (ValueError, AttributeError):
        raise UsageError(
            f"background '{background:.40}' is no colour. Write a name such as white, or #rrggbb"
        ) from None
    if not 0 <= margin <= 1:
        raise UsageError(f"margin {margin:g}: allowed: 0 to 1")
    return Policy(shape, fit, background, margin)


def decode(data: bytes, policy: Policy, frame: int = 0) -> Pixels:
    """One encoded image as uint8 (H, W, C).

    Raises:
        BadImage: not one of ``FORMATS``, cut short, too large, or otherwise broken.
    """
    return convert(open_image(data, frame), policy)


def convert(image: Image.Image, policy: Policy) -> Pixels:
    """One decoded image as uint8 (H, W, C)."""
    shape = policy.stored_shape
    ready = _to_mode(image, shape.channels, policy.background)
    fitted = _fit(ready, (shape.width, shape.height), policy)
    return np.asarray(fitted, dtype=np.uint8).reshape(shape.height, shape.width, shape.channels)


def _fit(image: Image.Image, size: tuple[int, int], policy: Policy) -> Image.Image:
    """``image`` at ``size``; Pillow premultiplies RGBA while it resizes."""
    if image.size == size:
        return image
    if policy.fit == "crop":
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    if policy.fit == "stretch":
        return image.resize(size, Image.Resampling.LANCZOS)
    inside = ImageOps.contain(image, size, Image.Resampling.LANCZOS)
    ground = Image.new("RGB", size, policy.background).convert(image.mode)
    if image.mode == "RGBA":
        ground.putalpha(0)
    ground.paste(inside, ((size[0] - inside.width) // 2, (size[1] - inside.height) // 2))
    return ground


def open_image(data: bytes, frame: int = 0) -> Image.Image:
    """Decode a frame, the first unless said, turned upright.

    Raises:
        BadImage: as in ``decode``, or no such frame.
    """
    if not data:
        raise BadImage("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about metadata, or about size: see below
            image = _open(data)
            if frame:
                image.seek(frame)
            image.load()
            if image.mode in ("I", "F"):
                image.info[_WHITE] = _white(image)
            ImageOps.exif_transpose(image, in_place=True)
            return _to_srgb(image)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(f"not a {', '.join(FORMATS)} image") from None
    except (EOFError, IndexError) as error:
        raise BadImage(f"cut short, or without frame {frame}") from error
    except Exception as error:  # decoders raise almost anything on broken data
        raise BadImage(_one_line(error)) from error


def frame_count(data: bytes) -> int:
    """How many frames an encoded image has; 1 if it cannot be read, which intake then says."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return max(1, int(getattr(_open(data), "n_frames", 1)))
    except Exception:  # decoders raise almost anything on broken data
        return 1


def _open(data: bytes) -> Image.Image:
    """The header of an image, whose pixels are not decoded yet.

    Raises:
        BadImage: it claims too many pixels.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise BadImage(f"more than {_MOST_PIXELS:,} pixels") from error
    if image.width * image.height > _MOST_PIXELS:
        raise BadImage(f"{image.height}x{image.width}: more than {_MOST_PIXELS:,} pixels")
    return image


def _one_line(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _white(image: Image.Image) -> float:
    """The value that means white in an image of 32-bit integers or of floats."""
    tags: Any = getattr(image, "tag_v2", {})
    if image.mode == "F":
        top = max(float(np.nanmax(rows, initial=0.0)) for rows in _bands(image))
        return 1.0 if top <= 1 else 255.0
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    if bits <= 16:
        return 65535.0
    return float(2**32 - 1 if tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED else 2**31 - 1)


def _to_srgb(image: Image.Image) -> Image.Image:
    """``image`` in the colours of its ICC profile, as sRGB; as it is without a usable one."""
    if image.mode == "LAB":
        profile: Any = ImageCms.createProfile("LAB")
    else:
        found = image.info.get("icc_profile")
        if not isinstance(found, bytes) or len(found) > _MOST_PROFILE:
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
    """``image`` from ``profile`` to sRGB; grey stays grey."""
    target = ImageCms.createProfile("sRGB")
    found = ImageCms.profileToProfile(image, profile, target, outputMode="RGB")
    assert found is not None
    return found.convert("L") if image.mode == "L" else found


def _to_mode(image: Image.Image, channels: int, background: str) -> Image.Image:
    """``image`` in the mode with ``channels`` channels, deep grey scaled, never clipped."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = _to_eight_bits(image)
    if has_alpha(image):
        image = image.convert("RGBA")
        if channels != MODES["rgba"]:
            image = lay_on(image, background)
    wanted = pil_mode(channels)
    return image if image.mode == wanted else image.convert(wanted)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit or float grey as 8 bits: the full range of its kind becomes 0 to 255."""
    white = float(image.info.get(_WHITE, 65535.0))
    parts = []
    for values in _bands(image):
        if image.mode == "I" and white == 2**32 - 1:
            values = values.view(np.uint32)  # Pillow keeps unsigned numbers in signed ones
        scaled = np.nan_to_num(values.astype(np.float64) / white * 255)
        parts.append(np.clip(np.round(scaled), 0, 255).astype(np.uint8))
    return Image.fromarray(np.concatenate(parts))


def _bands(image: Image.Image) -> Iterator[NDArray[Any]]:
    """The values of an image, a few million at a time: eight bytes each would fill the memory."""
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        yield np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))


def has_alpha(image: Image.Image) -> bool:
    """Whether the image can hold transparency."""
    return image.mode in _ALPHA_MODES or "transparency" in image.info


@dataclass(frozen=True)
class Probe:
    """What a sample of decoded images looks like: (width, height) of each, and the colours."""

    sizes: tuple[tuple[int, int], ...]
    mode: str
    reason: str


def probe(images: Iterable[Image.Image]) -> Probe:
    """Look at a sample: sizes, and the smallest colour mode that holds all of them.

    Transparency counts only if a pixel uses it; RGB whose three channels agree is grey.
    """
    sizes, kinds = [], Counter[str]()
    for image in images:
        sizes.append(image.size)
        if has_alpha(image):
            rgba = image.convert("RGBA")
            if np.asarray(rgba)[..., 3].min() < 255:
                kinds["rgba"] += 1
                continue
        kinds["grey" if _is_grey(image) else "rgb"] += 1
    if kinds["rgba"]:
        return Probe(tuple(sizes), "rgba", f"{kinds['rgba']} of {len(sizes)} looked at use alpha")
    if kinds["rgb"]:
        return Probe(tuple(sizes), "rgb", f"{kinds['rgb']} of {len(sizes)} looked at have colour")
    return Probe(tuple(sizes), "grey", f"all {len(sizes)} looked at are grey")


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;16"):
        return True
    rgb = np.asarray(image.convert("RGB"))
    return bool((rgb == rgb[..., :1]).all())
