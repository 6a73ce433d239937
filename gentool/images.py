"""Images on their way in and out: uint8 <-> [-1, 1] (the only place), grids, PNG with its recipe.

Inside gentool an image is uint8 (H, W, C) with C = 1 (grey), 3 (RGB) or 4 (RGBA, straight
alpha); a model sees float32 (B, C, H, W) in [-1, 1]. Torch is not imported here, so that what
only prepares images starts quickly.
"""

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

if TYPE_CHECKING:
    import torch

MODES = {"grey": 1, "rgb": 3, "rgba": 4}
_PIL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
MIN_SIDE, MAX_SIDE, SIDE_MULTIPLE = 16, 512, 4
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_GRID_GAP = 2  # pixels between tiles

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageShape:
    """Height, width and channels of the images of a data set or model."""

    height: int
    width: int
    channels: int

    @property
    def mode(self) -> str:
        """``grey``, ``rgb`` or ``rgba``."""
        return next(name for name, count in MODES.items() if count == self.channels)

    @property
    def dims(self) -> int:
        """Number of sub-pixels, D = C H W."""
        return self.channels * self.height * self.width

    def __str__(self) -> str:
        return f"{self.height}x{self.width} {self.mode}"


def side_problem(side: int) -> str | None:
    """Why ``side`` is not allowed as a height or width, or None if it is."""
    if MIN_SIDE <= side <= MAX_SIDE and side % SIDE_MULTIPLE == 0:
        return None
    near = round(min(max(side, MIN_SIDE), MAX_SIDE) / SIDE_MULTIPLE) * SIDE_MULTIPLE
    return (
        f"{side!s:.20} is not a multiple of {SIDE_MULTIPLE} from {MIN_SIDE} to {MAX_SIDE}; "
        f"try {near}"
    )


def to_unit(pixels: "torch.Tensor") -> "torch.Tensor":
    """uint8 (B, H, W, C) -> float32 (B, C, H, W) in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


def to_pixels(images: "torch.Tensor") -> Pixels:
    """Float (B, C, H, W) in [-1, 1] (clipped) -> uint8 (B, H, W, C)."""
    scaled = images.detach().float().add(1.0).mul(127.5).round().clamp(0, 255)
    found: Pixels = scaled.byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return found


def to_pil(pixels: Pixels) -> Image.Image:
    """uint8 (H, W, C) -> a PIL image of the matching mode."""
    squeezed = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    return Image.fromarray(np.ascontiguousarray(squeezed))


def mean_squared_error(a: Pixels, b: Pixels) -> float:
    """MSE of two uint8 images on the [0, 1] scale."""
    difference = a.astype(np.float64) - b.astype(np.float64)
    return float(np.mean(difference**2) / 255.0**2)


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB for an MSE on the [0, 1] scale."""
    return math.inf if mse == 0 else -10.0 * math.log10(mse)


def grid(images: Pixels, columns: int | None = None) -> Pixels:
    """Tile images (N, H, W, C) into one, row by row, nearly square unless ``columns`` is given.

    Gaps and empty places are white, transparent in RGBA.
    """
    count, height, width, channels = images.shape
    columns = columns or max(1, math.ceil(math.sqrt(count * height / width)))
    columns = min(columns, count)
    rows = -(-count // columns)
    tile_h, tile_w = height + _GRID_GAP, width + _GRID_GAP
    sheet = np.full((rows * tile_h - _GRID_GAP, columns * tile_w - _GRID_GAP, channels), 255, "u1")
    if channels == MODES["rgba"]:
        sheet[..., 3] = 0
    for k, image in enumerate(images):
        top, left = (k // columns) * tile_h, (k % columns) * tile_w
        sheet[top : top + height, left : left + width] = image
    return sheet


def encode(pixels: Pixels, suffix: str, recipe: Mapping[str, object] | None = None) -> bytes:
    """The bytes of an image file.

    Args:
        pixels: uint8 (H, W, C).
        suffix: ``.png``, ``.jpg``, ``.jpeg`` or ``.webp``; JPEG has no alpha, which is laid
            on white.
        recipe: Written into a PNG as the text chunk ``gentool`` (sorted JSON).
    """
    image = to_pil(pixels)
    kind = SUFFIXES[suffix]
    buffer = io.BytesIO()
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        if recipe is not None:
            info.add_text("gentool", json.dumps(dict(recipe), sort_keys=True))
        image.save(buffer, kind, pnginfo=info)
    elif kind == "JPEG":
        flat = lay_on(image, "white") if image.mode == "RGBA" else image
        flat.save(buffer, kind, quality=95, subsampling=0)
    else:
        image.save(buffer, kind, quality=95)
    return buffer.getvalue()


def encode_animation(frames: Pixels, suffix: str, milliseconds: int) -> bytes:
    """An endless animation, ``.gif`` or ``.webp``, of frames (N, H, W, C)."""
    images = [to_pil(f) for f in frames]
    if suffix == ".gif":
        images = [lay_on(i, "white") if i.mode == "RGBA" else i for i in images]
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        "GIF" if suffix == ".gif" else "WEBP",
        save_all=True,
        append_images=images[1:],
        duration=milliseconds,
        loop=0,
        **({} if suffix == ".gif" else {"quality": 95}),
    )
    return buffer.getvalue()


def lay_on(image: Image.Image, background: str) -> Image.Image:
    """An RGBA image composited on a background colour, as RGB."""
    sheet = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(sheet, image).convert("RGB")


def pil_mode(channels: int) -> str:
    """PIL's name of the colour mode with ``channels`` channels."""
    return _PIL_MODES[channels]
