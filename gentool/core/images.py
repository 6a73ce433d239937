"""Pixels and shapes of images: conversion between uint8 and [-1, 1], and errors of pixels.

Inside gentool an image is uint8 (H, W, C) with C = 1 (grey), 3 (RGB) or 4 (RGBA, straight
alpha). The input of a model is float32 (B, C, H, W) in [-1, 1]; only this module converts
between the two.

Torch is not imported at module level, so that commands which only prepare images start quickly.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

MODES = {"grey": 1, "rgb": 3, "rgba": 4}
MIN_SIDE, MAX_SIDE, SIDE_MULTIPLE = 16, 512, 4

Pixels = NDArray[np.uint8]
_D = TypeVar("_D", bound=np.generic)


@dataclass(frozen=True)
class ImageShape:
    """Height, width and channels of the images of a data set or model."""

    height: int
    width: int
    channels: int

    @property
    def mode(self) -> str:
        """Colour mode: ``grey``, ``rgb`` or ``rgba``."""
        return next(name for name, count in MODES.items() if count == self.channels)

    @property
    def dims(self) -> int:
        """Number of values in an image, D = C H W."""
        return self.channels * self.height * self.width

    def __str__(self) -> str:
        return f"{self.height}x{self.width} {self.mode}"


def side_problem(side: int) -> str | None:
    """Return why ``side`` (pixels) is not allowed as a height or width; None if it is allowed."""
    if MIN_SIDE <= side <= MAX_SIDE and side % SIDE_MULTIPLE == 0:
        return None
    near = round(min(max(side, MIN_SIDE), MAX_SIDE) / SIDE_MULTIPLE) * SIDE_MULTIPLE
    return (
        f"{side!s:.20} is not a multiple of {SIDE_MULTIPLE} between {MIN_SIDE} and {MAX_SIDE}; "
        f"try {near}"
    )


def pad_rows(rows: NDArray[_D], size: int) -> NDArray[_D]:
    """Return ``size`` rows: the given ones, at least one, and the last of them repeated."""
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


def to_unit(pixels: "torch.Tensor") -> "torch.Tensor":
    """Convert uint8 (B, H, W, C) to float32 (B, C, H, W) in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


def to_pixels(images: "torch.Tensor") -> Pixels:
    """Convert floats (B, C, H, W), clipped to [-1, 1], to uint8 (B, H, W, C).

    Pixels of alpha 0 become black, as in the images of a data set.
    """
    scaled = images.detach().float().add(1.0).mul(127.5).round().clamp(0, 255)
    found: Pixels = scaled.byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return hide_colours(found)


def hide_colours(pixels: Pixels) -> Pixels:
    """Return uint8 (..., C) with black for every pixel of alpha 0; unchanged without alpha."""
    if pixels.shape[-1] != MODES["rgba"] or pixels[..., 3].all():
        return pixels
    return pixels * (pixels[..., 3:] > 0)


def mean_squared_error(a: Pixels, b: Pixels) -> float:
    """Return the mean squared error of two uint8 images, on the [0, 1] scale."""
    difference = a.astype(np.float64) - b.astype(np.float64)
    return float(np.mean(difference**2) / 255.0**2)


def psnr(mse: float) -> float:
    """Return the peak signal-to-noise ratio in dB for a mean squared error on the [0, 1] scale."""
    return math.inf if mse == 0 else -10.0 * math.log10(mse)
