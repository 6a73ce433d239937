"""Images of Pillow: conversion from arrays of pixels, colour modes, and removal of alpha.

Arrays are uint8 (H, W, C) with C = 1 (grey), 3 (RGB) or 4 (RGBA, straight alpha).
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_PIL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def to_pil(pixels: NDArray[np.uint8]) -> Image.Image:
    """Convert uint8 (H, W, C) to a PIL image of the matching mode."""
    squeezed = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    return Image.fromarray(np.ascontiguousarray(squeezed))


def lay_on(image: Image.Image, background: str) -> Image.Image:
    """Composite an RGBA image on a background colour; return it as RGB."""
    sheet = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(sheet, image).convert("RGB")


def pil_mode(channels: int) -> str:
    """Return PIL's name of the colour mode with ``channels`` channels."""
    return _PIL_MODES[channels]
