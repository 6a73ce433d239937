"""Residual encoder and decoder with group normalisation, for autoencoders and VAEs.

They use pre-activation residual blocks (He et al. 2016, arXiv:1603.05027) with SiLU and group
normalisation (Wu and He 2018, arXiv:1803.08494). Unlike with batch normalisation, the code of an
image does not depend on the other images in the batch. There is one block per level. The last
convolution of a block starts at zero, so that at initialisation a block is the identity. The grids
depend on the shape of the images as in ``convnet``.
"""

import math
from itertools import pairwise

import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.networks.convnet import normalisation, pyramid

_MAX_FACTOR = 4  # channels stop doubling at width * 4


class ResidualBlock(nn.Module):
    """Residual block x + conv(SiLU(norm(conv(SiLU(norm(x)))))), with the same channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        nn.init.zeros_(last.weight)
        self.body = nn.Sequential(
            normalisation("group", channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            normalisation("group", channels),
            nn.SiLU(),
            last,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape."""
        return x + self.body(x)  # type: ignore[no-any-return]


def _channels(width: int, levels: int) -> list[int]:
    return [width * min(2**k, _MAX_FACTOR) for k in range(levels)]


class ResidualEncoder(nn.Module):
    """Images (B, C, H, W) -> vectors (B, outputs).

    Args:
        shape: Shape of the images.
        width: Channels of the first level; each level doubles them, up to 4 ``width``.
        outputs: Length of the output vector.
    """

    def __init__(self, shape: ImageShape, width: int, outputs: int) -> None:
        super().__init__()
        sizes = pyramid(shape)
        channels = [shape.channels, *_channels(width, len(sizes) - 1)]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 4, 2, 1), ResidualBlock(after)]
        layers += [normalisation("group", channels[-1]), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(channels[-1] * math.prod(sizes[-1]), outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode images (B, C, H, W) to vectors (B, outputs)."""
        return self.head(self.body(images).flatten(1))  # type: ignore[no-any-return]


class ResidualDecoder(nn.Module):
    """Vectors (B, inputs) -> maps (B, outputs, H, W); mirrors ``ResidualEncoder``.

    Args:
        shape: Shape of the images, from which the base grid is computed.
        width: Channels of the last level before the output.
        inputs: Length of the input vector.
        outputs: Channels of the output.
    """

    def __init__(self, shape: ImageShape, width: int, inputs: int, outputs: int) -> None:
        super().__init__()
        sizes = pyramid(shape)[::-1]
        channels = [*_channels(width, len(sizes) - 1)[::-1], outputs]
        self.base = (channels[0], *sizes[0])
        self.stem = nn.Linear(inputs, math.prod(self.base))
        layers: list[nn.Module] = []
        for (before, after), size in zip(pairwise(channels), sizes[1:], strict=True):
            odd = (size[0] % 2, size[1] % 2)
            layers += [
                ResidualBlock(before),
                normalisation("group", before),
                nn.SiLU(),
                nn.ConvTranspose2d(before, after, 4, 2, 1, output_padding=odd),
            ]
        self.body = nn.Sequential(*layers)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode vectors (B, inputs) to maps (B, outputs, H, W), unbounded."""
        return self.body(self.stem(latents).view(-1, *self.base))  # type: ignore[no-any-return]
