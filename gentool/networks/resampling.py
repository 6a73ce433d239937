"""Bilinear resampling between the grids of a pyramid, twice differentiable.

The sides of a grid are those of the next finer grid, halved and rounded down, so the functions
take sizes and not factors. Doubling is the filter [1, 3, 3, 1] / 4 on the grid with zeros between
its values; halving is the mean of each 2x2 block. ``blur`` is the low-pass filter that StyleGAN2
applies before or after its strided convolutions.
"""

import torch
from torch.nn.functional import avg_pool2d, interpolate

Size = tuple[int, int]


def enlarge(x: torch.Tensor, size: Size) -> torch.Tensor:
    """Enlarge (B, C, h, w) to (B, C, *size), bilinear; beyond the edges, values are repeated."""
    return interpolate(x, size=size, mode="bilinear", align_corners=False)


def reduce(x: torch.Tensor, size: Size) -> torch.Tensor:
    """Reduce (B, C, H, W) to (B, C, *size), where ``size`` is half of (H, W), rounded down."""
    if x.shape[-2] == 2 * size[0] and x.shape[-1] == 2 * size[1]:
        return avg_pool2d(x, 2)
    return interpolate(x, size=size, mode="bilinear", align_corners=False)


def blur(x: torch.Tensor, padding: int) -> torch.Tensor:
    """Filter with [1, 3, 3, 1] / 8 along both axes; values beyond the edges are zero.

    The filter equals three passes of [1, 1] / 2, computed by average pooling, which is fast in
    every derivative.

    Args:
        x: (B, C, H, W).
        padding: Zeros on each side: with 1, both sides shrink by 1; with 2, they grow by 1.
    """
    x = avg_pool2d(x, 2, 1, padding=1)
    x = avg_pool2d(x, 2, 1, padding=padding - 1)
    return avg_pool2d(x, 2, 1)


def extend(x: torch.Tensor, size: Size) -> torch.Tensor:
    """Repeat the last row or column of (B, C, H, W) if H or W is one less than in ``size``."""
    if x.shape[-2] < size[0]:
        x = torch.cat([x, x[..., -1:, :]], dim=-2)
    if x.shape[-1] < size[1]:
        x = torch.cat([x, x[..., -1:]], dim=-1)
    return x
