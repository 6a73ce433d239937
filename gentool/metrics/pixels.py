"""Image against image: structural similarity (Wang et al. 2004, Eq. 13).

MSE and PSNR stand in ``gentool.images``, since ``reconstruct`` prints them.
"""

import numpy as np
import torch
from torch.nn.functional import conv2d

from gentool.images import Pixels

_WINDOW, _SIGMA = 11, 1.5
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
    x, y = (torch.from_numpy(p.astype(np.float64) / 255).permute(0, 3, 1, 2) for p in (a, b))
    channels = x.shape[1]
    offsets = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    line = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    line = line / line.sum()
    window = torch.outer(line, line).expand(channels, 1, _WINDOW, _WINDOW)

    def blur(image: torch.Tensor) -> torch.Tensor:
        return conv2d(image, window, groups=channels)

    mean_x, mean_y = blur(x), blur(y)
    variance_x = blur(x * x) - mean_x.square()
    variance_y = blur(y * y) - mean_y.square()
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x.square() + mean_y.square() + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    return (luminance * structure).mean(dim=(1, 2, 3)).numpy()
