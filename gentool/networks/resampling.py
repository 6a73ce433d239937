"""Bilinear resampling between the grids of a pyramid, twice differentiable.

A grid's sides are those of the next finer one halved and rounded down, so sizes are given, not
factors. Twice the size is the filter [1, 3, 3, 1] / 4 on the stuffed grid; half the size is the
mean of each 2x2 block. ``blur`` is the low-pass filter that StyleGAN2 puts beside its strided
convolutions.
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


def blur(x: torch.Tensor, padding: int) -> torch.Tensor:
    """Filter with [1, 3, 3, 1] / 8 along both sides, zeros beyond the edges.

    The filter is [1, 1] / 2 three times over, and pooling is fast in every derivative.

    Args:
        x: (B, C, H, W).
        padding: Zeros on each side, 1 or 2: sides shrink by 1, or grow by 1.
    """
    x = avg_pool2d(x, 2, 1, padding=1)
    x = avg_pool2d(x, 2, 1, padding=padding - 1)
    return avg_pool2d(x, 2, 1)


def extend(x: torch.Tensor, size: Size) -> torch.Tensor:
    """Repeat the last row or column where (H, W) is one short of ``size``."""
    if x.shape[-2] < size[0]:
        x = torch.cat([x, x[..., -1:, :]], dim=-2)
    if x.shape[-1] < size[1]:
        x = torch.cat([x, x[..., -1:]], dim=-1)
    return x
