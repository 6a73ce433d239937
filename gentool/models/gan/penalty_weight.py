"""The weight of R1 and R2: gamma found from the images' own variance, then along a schedule.

The discriminator has to raise its logit by about the same margin m on the way from a generated
image to a real one, whatever the images are; over a distance d that needs a slope of m / d, and
the penalty gamma / 2 m^2 / d^2 stays the same beside the loss if gamma grows as d^2, which is
twice the images' variance summed over pixels. Published weights, each found by search, follow
roughly: StyleGAN2's rule is proportional to the number of pixels (Karras et al. 2020,
arXiv:2006.06676, appendix C), R3GAN uses 0.05 at 32x32 and 150 at 256x256 (Huang et al. 2024,
arXiv:2501.05441, appendix).

The variance is measured in the first steps and then stands. Over the game gamma may fall along a
half cosine, as in R3GAN (ibid.): strong while the players are far apart, weak for the details.
"""

import math

import torch
from torch import nn

from gentool.core.distributed import batch_variance

_STEPS = 50  # that the variance is measured in
_COMMON = 768.0  # of natural pictures at 32x32 in RGB, where gamma = 1 was tuned


class ImageVariance(nn.Module):
    """The variance of images (B, C, H, W) in [-1, 1], summed over pixels."""

    total: torch.Tensor
    steps: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("steps", torch.zeros(()))

    @torch.no_grad()
    def update(self, images: torch.Tensor) -> None:
        """Take in a batch; after 50 of them nothing changes any more."""
        if len(images) < 2:
            return
        variance = batch_variance(images.float()).sum()
        due = (self.steps < _STEPS).float()  # no branch: it would wait for the device
        self.steps += due
        self.total += due * (variance - self.total) / self.steps

    @property
    def factor(self) -> torch.Tensor:
        """What gamma is multiplied by; 1 for images of common variance, or none seen yet."""
        return torch.where(self.steps > 0, self.total / _COMMON, torch.ones_like(self.total))


def falling(share: float, end: float) -> float:
    """A half cosine from 1 at share 0 of the game to ``end`` at share 1."""
    return end + (1 - end) * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0))) / 2
