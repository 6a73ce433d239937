"""Bilinear resampling between the grids of a pyramid, twice differentiable.

A grid's sides are those of the next finer one halved and rounded down, so sizes are given, not
factors. Twice the size is the filter [1, 3, 3, 1] / 4 on the stuffed grid; half the size is the
mean of each 2x2 block.
"""

import torch
from torch.nn.functional import avg_pool2d, interpolate

Size = tuple[int, int]


def enlarge(x: torch.Tensor, size: Size) -> torch.Tensor:
    """(B, C, h, w) -> (B, C, *size), bilinear, edges repeated."""
    return interpolate(x, size=size, mode="bilinear", align_corners=False)


def reduce(x: torch.Tensor, size: Size) -> torch.Tensor:
    """(B, C, H, W) -> (B, C, *size), ``size`` being half of (H, W) rounded down."""
    if x.shape[-2] == 2 * size[0] and x.shape[-1] == 2 * size[1]:
        return avg_pool2d(x, 2)
    return interpolate(x, size=size, mode="bilinear", align_corners=False)
