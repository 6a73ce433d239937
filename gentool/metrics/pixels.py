"""Image against image: structural similarity (Wang et al. 2004, Eq. 13).

MSE and PSNR stand in ``gentool.core.images``, since ``reconstruct`` prints them.
"""

import numpy as np
import torch

from gentool.core.images import Pixels

_WINDOW, _SIGMA = 11, 1.5
_NUMBERS_AT_ONCE = 2**20  # bounds memory: 8 MB for each of a dozen intermediate maps
_C1, _C2 = 0.01**2, 0.03**2  # K1 and K2 of the paper, on the [0, 1] scale


def ssim(a: Pixels, b: Pixels) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """SSIM per image, mean over windows that lie inside the image and over channels.

    Args:
        a: uint8 (N, H, W, C), H and W at least 11.
        b: The same shape.

    Returns:
        Shape (N,), 1 for equal images. An 11x11 Gaussian window with sigma 1.5, biased
        variances, range 1: the settings of the paper.
    """
    size = max(1, _NUMBERS_AT_ONCE // a[:1].size)
    blocks = (slice(start, start + size) for start in range(0, len(a), size))
    return np.concatenate([_ssim(a[block], b[block]) for block in blocks])


def _ssim(a: Pixels, b: Pixels) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """``ssim``, of all images at once."""
    x, y = (torch.from_numpy(p.astype(np.float64) / 255).permute(0, 3, 1, 2) for p in (a, b))
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x.square()
    variance_y = _blur(y * y) - mean_y.square()
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x.square() + mean_y.square() + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    return (luminance * structure).mean(dim=(1, 2, 3)).numpy()


def _blur(maps: torch.Tensor) -> torch.Tensor:
    """Means (B, C, H - 10, W - 10) over windows of maps (B, C, H, W), along one axis at a time."""
    offsets = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    line = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    line = line / line.sum()
    for axis in (2, 3):
        places = maps.shape[axis] - _WINDOW + 1
        maps = sum((w * maps.narrow(axis, k, places) for k, w in enumerate(line)), torch.zeros(()))
    return maps
