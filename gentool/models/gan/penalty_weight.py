"""The weight gamma of R1 and R2: scaled by the variance of the images, then by a schedule.

The discriminator has to raise its logit by about the same margin m between a generated image and a
real one, whatever the images are. Over a distance d this needs a slope of m / d, and the penalty is
gamma / 2 m^2 / d^2. To keep it constant relative to the loss, gamma must grow as d^2, which is
twice the variance of the images summed over pixels. Published weights, each found by search,
roughly agree: StyleGAN2's rule is proportional to the number of pixels (Karras et al. 2020,
arXiv:2006.06676, appendix C), R3GAN uses 0.05 at 32x32 and 150 at 256x256 (Huang et al. 2024,
arXiv:2501.05441, appendix).

The variance is measured in the first 50 updates and constant afterwards. In the course of the
training of the GAN, gamma may fall along a half cosine, as in R3GAN (ibid.): strong while generated
and real images are far apart, weak for the details.
"""

import torch
from torch import nn

from gentool.core.distributed import Ranks, batch_variance

_STEPS = 50  # in which the variance is measured
_COMMON = 768.0  # variance of natural RGB images at 32x32, for which gamma = 1 was tuned


class ImageVariance(nn.Module):
    """The variance of images (B, C, H, W) in [-1, 1], summed over pixels.

    Attributes:
        total: Mean of the variances measured so far, a scalar.
        steps: Number of batches measured, at most 50, a scalar.
    """

    total: torch.Tensor
    steps: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("steps", torch.zeros(()))

    @torch.no_grad()
    def update(self, images: torch.Tensor) -> None:
        """Add a batch to the mean; after 50 batches nothing changes any more."""
        if len(images) < 2 and Ranks().count == 1:
            return  # of one image per process, several make a batch
        variance = batch_variance(images.float()).sum()
        due = (self.steps < _STEPS).float()  # no branch, which would wait for the device
        self.steps += due
        self.total += due * (variance - self.total) / self.steps

    @property
    def factor(self) -> torch.Tensor:
        """Factor for gamma, a scalar; 1 for images of variance 768, or before any batch."""
        return torch.where(self.steps > 0, self.total / _COMMON, torch.ones_like(self.total))
