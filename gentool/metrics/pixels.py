"""Similarity of two images: SSIM (Wang et al. 2004, Eq. 13), and a distance to descend on.

MSE and PSNR are in ``gentool.core.images``, because ``reconstruct`` prints them, too.
"""

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, mse_loss

from gentool.core.images import Pixels

_WINDOW, _SIGMA = 11, 1.5
_NUMBERS_AT_ONCE = 2**20  # bounds memory: 8 MB for each of a dozen intermediate maps
_C1, _C2 = 0.01**2, 0.03**2  # K1 and K2 of the paper, on the [0, 1] scale


def ssim(a: Pixels, b: Pixels) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the SSIM of each pair of images, averaged over windows and channels.

    The settings are those of the paper: an 11x11 Gaussian window with sigma 1.5, only windows that
    are completely inside the image, biased variances, and a range of 1.

    Args:
        a: uint8 (N, H, W, C), H and W at least 11.
        b: uint8 of the same shape.

    Returns:
        float64 (N,), 1 for equal images.
    """
    size = max(1, _NUMBERS_AT_ONCE // a[:1].size)
    blocks = (slice(start, start + size) for start in range(0, len(a), size))
    return np.concatenate([_ssim(a[block], b[block]) for block in blocks])


def pixel_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error per image, summed over three resolutions, shape (B,).

    The coarse resolutions give a useful gradient while the error at the finest is still noise.

    Args:
        a: Images (B, C, H, W).
        b: Images of the same shape.
    """
    total = torch.zeros(len(b), device=b.device)
    for _ in range(3):
        total = total + mse_loss(a, b, reduction="none").mean(dim=(1, 2, 3))
        a, b = avg_pool2d(a, 2), avg_pool2d(b, 2)
    return total


def _ssim(a: Pixels, b: Pixels) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the same as ``ssim``, with all images in one batch."""
    x, y = (torch.from_numpy(p.astype(np.float64) / 255).permute(0, 3, 1, 2) for p in (a, b))
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x.square()
    variance_y = _blur(y * y) - mean_y.square()
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x.square() + mean_y.square() + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    return (luminance * structure).mean(dim=(1, 2, 3)).numpy()


def _blur(maps: torch.Tensor) -> torch.Tensor:
    """Return Gaussian means (B, C, H - 10, W - 10) over the windows of maps (B, C, H, W)."""
    offsets = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    line = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    line = line / line.sum()
    for axis in (2, 3):
        places = maps.shape[axis] - _WINDOW + 1
        maps = sum((w * maps.narrow(axis, k, places) for k, w in enumerate(line)), torch.zeros(()))
    return maps
