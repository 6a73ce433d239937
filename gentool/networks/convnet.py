"""Plain strided convolutions, the architecture of DCGAN (Radford et al. 2016, arXiv:1511.06434).

Images may have any height and width. The sides are halved (rounded down) while both are at least 8;
the last grid is the base grid. For 32x32 it is 4x4, for 48x64 it is 6x8, and for 36x36 it is 4x4 by
way of 9x9. When grids are doubled, ``output_padding`` adds the row or column that rounding removed.

``Decoder`` mirrors ``Encoder``.
"""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import conv_transpose2d, pad

from gentool.core.images import ImageShape

_LEAK = 0.2  # slope of the leaky ReLU in DCGAN
_MAX_FACTOR = 8  # channels stop doubling at width * 8
_MIN_CHANNELS = 8  # at the pixels, also if the width is smaller

DOUBLINGS = ("repeated", "transposed")  # how a decoder doubles its grids; the first is the default


def pyramid(shape: ImageShape) -> list[tuple[int, int]]:
    """Return grid sizes (height, width), from the image down to the base grid."""
    sizes = [(shape.height, shape.width)]
    while min(sizes[-1]) >= 8:
        height, width = sizes[-1]
        sizes.append((height // 2, width // 2))
    return sizes


def _channels(width: int, levels: int) -> list[int]:
    """Return the channels after each halving: width, 2 width, 4 width, ... up to 8 width."""
    return [width * min(2**k, _MAX_FACTOR) for k in range(levels)]


def normalisation(kind: str, channels: int) -> nn.Module:
    """Return a normalisation layer for (B, C, H, W).

    Args:
        kind: ``none``, ``batch`` or ``group`` (Wu and He 2018).
        channels: C.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(8, channels), channels)
    return nn.Identity()


class Doubling(nn.ConvTranspose2d):
    """Double both sides of a grid: repeat each value 2x2, then a 3x3 convolution, in one step.

    The 3x3 weights are folded into the 4x4 kernel of one transposed convolution, which costs four
    ninths of the two steps. Unlike with a free 4x4 kernel, the weights of every output position
    have the same sum, so that there is no checkerboard pattern (Odena et al. 2016, "Deconvolution
    and Checkerboard Artifacts").

    Args:
        before: Input channels.
        after: Output channels.
        odd: Rows and columns (0 or 1) that are added to the doubled grid.
    """

    def __init__(self, before: int, after: int, odd: tuple[int, int] = (0, 0)) -> None:
        super().__init__(before, after, 3, 2, 1, output_padding=odd)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Map (B, before, H, W) to (B, after, 2 H + odd[0], 2 W + odd[1])."""
        wide = pad(self.weight, (1, 0)) + pad(self.weight, (0, 1))
        kernel = pad(wide, (0, 0, 1, 0)) + pad(wide, (0, 0, 0, 1))
        return conv_transpose2d(maps, kernel, self.bias, 2, 1, self.output_padding)


def doubled(how: str, before: int, after: int, odd: tuple[int, int]) -> nn.Module:
    """Return a layer (B, before, H, W) -> (B, after, 2 H + odd[0], 2 W + odd[1]).

    Args:
        how: ``repeated`` for ``Doubling``, or ``transposed`` for the transposed convolution of the
            paper, whose pictures show a checkerboard pattern early in training.
        before: Input channels.
        after: Output channels.
        odd: Rows and columns (0 or 1) that are added to the doubled grid.
    """
    if how == "repeated":
        return Doubling(before, after, odd)
    return nn.ConvTranspose2d(before, after, 4, 2, 1, output_padding=odd)


class Encoder(nn.Module):
    """Images (B, C, H, W) -> vectors (B, outputs), by strided convolutions.

    Args:
        shape: Shape of the images.
        width: Channels of the first level; each level doubles them, up to 8 ``width``.
        outputs: Length of the output vector.
        norm: ``none``, ``batch`` or ``group``.
    """

    def __init__(self, shape: ImageShape, width: int, outputs: int, norm: str = "none") -> None:
        super().__init__()
        sizes = pyramid(shape)
        channels = [shape.channels, *_channels(width, len(sizes) - 1)]
        layers: list[nn.Module] = []
        for level, (before, after) in enumerate(pairwise(channels)):
            layers.append(nn.Conv2d(before, after, 4, 2, 1))
            if level > 0:  # not at the pixels: it would remove the brightness of the image
                layers.append(normalisation(norm, after))
            layers.append(nn.LeakyReLU(_LEAK))
        self.body = nn.Sequential(*layers)
        base_height, base_width = sizes[-1]
        self.head = nn.Linear(channels[-1] * base_height * base_width, outputs)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the last maps of images (B, C, H, W), flattened to vectors (B, F)."""
        return self.body(images).flatten(1)  # type: ignore[no-any-return]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode images (B, C, H, W) to vectors (B, outputs)."""
        return self.head(self.features(images))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Vectors (B, inputs) -> maps (B, outputs, H, W); each layer doubles the grid.

    Args:
        shape: Shape of the images, from which the base grid is computed.
        width: Channels one level below the pixels, as in ``Encoder``. The pixels have half as
            many, but at least 8.
        inputs: Length of the input vector.
        outputs: Channels of the output, for example colour channels or likelihood parameters.
        norm: ``none``, ``batch`` or ``group``.
        doubling: One of ``DOUBLINGS``.
    """

    def __init__(
        self,
        shape: ImageShape,
        width: int,
        inputs: int,
        outputs: int,
        norm: str = "none",
        doubling: str = DOUBLINGS[0],
    ) -> None:
        super().__init__()
        sizes = pyramid(shape)[::-1]
        channels = [*_channels(width, len(sizes) - 1)[::-1], max(width // 2, _MIN_CHANNELS)]
        self.base = (channels[0], *sizes[0])
        self.stem = nn.Linear(inputs, math.prod(self.base))
        layers: list[nn.Module] = [normalisation(norm, channels[0]), nn.LeakyReLU(_LEAK)]
        for (before, after), size in zip(pairwise(channels), sizes[1:], strict=True):
            odd = (size[0] % 2, size[1] % 2)
            layers.append(doubled(doubling, before, after, odd))
            layers += [normalisation(norm, after), nn.LeakyReLU(_LEAK)]
        # Without this layer, the last doubling leaves speckles in flat areas.
        layers.append(nn.Conv2d(channels[-1], outputs, 3, padding=1))
        self.body = nn.Sequential(*layers)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode vectors (B, inputs) to maps (B, outputs, H, W), unbounded."""
        return self.body(self.stem(latents).view(-1, *self.base))  # type: ignore[no-any-return]
