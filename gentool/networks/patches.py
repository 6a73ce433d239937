"""A patch discriminator; its feature maps also measure the similarity of two images.

Isola et al. 2017 (arXiv:1611.07004), section 3.2.2: there is one logit per position of a coarse
grid, which depends on one patch of the image. There is no normalisation, so that a gradient penalty
per image is well defined.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import leaky_relu

from gentool.core.images import ImageShape
from gentool.networks.convnet import pyramid

_LEAK = 0.2
_LEVELS = 3  # largest number of halvings; the last grid of a 32x32 image is 4x4


class PatchDiscriminator(nn.Module):
    """Images (B, C, H, W) -> feature maps, and logits (B, patches).

    Args:
        shape: Shape of the images.
        width: Channels of the first level; each coarser level doubles them.
    """

    def __init__(self, shape: ImageShape, width: int) -> None:
        super().__init__()
        levels = min(_LEVELS, len(pyramid(shape)) - 1)
        channels = [shape.channels, *(width << k for k in range(levels))]
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(channels))
        self.head = nn.Conv2d(channels[-1], 1, 3, padding=1)

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the maps (B, C_k, H_k, W_k) of every level k, finest first."""
        maps: list[torch.Tensor] = []
        for down in self.downs:
            images = leaky_relu(down(images), _LEAK)
            maps.append(images)
        return maps

    def judge(self, coarsest: torch.Tensor) -> torch.Tensor:
        """Return logits (B, patches), float32, of the last map of ``features``."""
        return self.head(coarsest).flatten(1).float()  # type: ignore[no-any-return]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (B, patches), float32, of images (B, C, H, W)."""
        return self.judge(self.features(images)[-1])
