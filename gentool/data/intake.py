"""Intake: what is done to every image file before a model sees it.

The policy, in order: open only formats on the list; turn as the EXIF tag says; scale 16-bit
grey to 8 bits; convert to the wanted colour mode (transparency is laid on white unless alpha
is kept); crop the centre to the wanted shape; scale with an antialiasing filter.
"""

import io
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gentool.images import MODES, ImageShape, Pixels, lay_on, pil_mode

POLICY_VERSION = 1  # raise when the same file would become other pixels: it keys the cache
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_ALPHA_MODES = {"RGBA", "LA", "PA", "RGBa", "La"}


class BadImage(Exception):
    """One file that cannot become an image; the text says why."""


@dataclass(frozen=True)
class Policy:
    """What intake does, beside what it always does.

    Attributes:
        shape: Of the prepared images.
    """

    shape: ImageShape

    def __str__(self) -> str:
        return f"{self.shape}, policy {POLICY_VERSION}"


def decode(data: bytes, policy: Policy) -> Pixels:
    """One encoded image as uint8 (H, W, C).

    Raises:
        BadImage: not one of ``FORMATS``, cut short, too large, or otherwise broken.
    """
    return convert(open_image(data), policy)


def convert(image: Image.Image, policy: Policy) -> Pixels:
    """One decoded image as uint8 (H, W, C)."""
    shape = policy.shape
    fitted = ImageOps.fit(
        _to_mode(image, shape.channels), (shape.width, shape.height), Image.Resampling.LANCZOS
    )
    return np.asarray(fitted, dtype=np.uint8).reshape(shape.height, shape.width, shape.channels)


def open_image(data: bytes) -> Image.Image:
    """Decode the first frame, turned upright.

    Raises:
        BadImage: as in ``decode``.
    """
    if not data:
        raise BadImage("the file is empty")
    try:
        with warnings.catch_warnings():
            # A decompression bomb only warns by default; other warnings are about metadata.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            image.load()
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise BadImage(f"not a {', '.join(FORMATS)} image") from None
    except Exception as error:  # decoders raise almost anything on broken data
        raise BadImage(f"{type(error).__name__}: {error}".splitlines()[0]) from error


def _to_mode(image: Image.Image, channels: int) -> Image.Image:
    """``image`` in the mode with ``channels`` channels, deep grey scaled, never clipped."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = _to_eight_bits(image)
    if has_alpha(image):
        image = image.convert("RGBA")
        if channels != MODES["rgba"]:
            image = lay_on(image, "white")
    return image.convert(pil_mode(channels))


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit or float grey as 8 bits: the full range of its kind becomes 0 to 255."""
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        top = 1.0 if values.max(initial=0) <= 1 else 255.0
    else:
        top = 65535.0 if values.max(initial=0) <= 65535 else float(2**31 - 1)
    return Image.fromarray(np.clip(np.round(values / top * 255), 0, 255).astype(np.uint8))


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
