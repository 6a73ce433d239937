"""Plain strided convolutions, the shape of DCGAN (Radford et al. 2016, arXiv:1511.06434).

Any height and width: the base grid is found by halving the image (rounding down) while both
sides are at least 8, so 32x32 starts from 4x4, 48x64 from 6x8 and 36x36 from 4x4 by way of
9x9; the way back adds the lost row or column through ``output_padding``.

``Decoder`` and ``Encoder`` mirror each other. Both know no loss: tensors in, tensors out.
"""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import conv_transpose2d, pad

from gentool.core.images import ImageShape

_LEAK = 0.2  # DCGAN's slope for the leaky ReLU
_MAX_FACTOR = 8  # channels stop doubling at width * 8
_MIN_CHANNELS = 8  # at the pixels, however small the width

DOUBLINGS = ("repeated", "transposed")  # how a decoder's grids grow, the first unless told


def pyramid(shape: ImageShape) -> list[tuple[int, int]]:
    """Grid sizes (height, width) from the image's own down to the base grid."""
    sizes = [(shape.height, shape.width)]
    while min(sizes[-1]) >= 8:
        height, width = sizes[-1]
        sizes.append((height // 2, width // 2))
    return sizes


def _channels(width: int, levels: int) -> list[int]:
    """Channels after each halving: width, 2 width, 4 width, ... up to 8 width."""
    return [width * min(2**k, _MAX_FACTOR) for k in range(levels)]


def normalisation(kind: str, channels: int) -> nn.Module:
    """``none``, ``batch`` or ``group`` (Wu and He 2018) normalisation of (B, C, H, W)."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(8, channels), channels)
    return nn.Identity()


class Doubling(nn.ConvTranspose2d):
    """A grid of twice the side: each value four times, then a 3x3 convolution, in one step.

    The 3x3 weights, folded, are those of a transposed convolution with a 4x4 kernel, at four ninths
    of the cost. Unlike a free 4x4 kernel it gives neighbours the same weight in all, so that no
    chequered grid comes of it (Odena et al. 2016, "Deconvolution and Checkerboard Artifacts").

    Args:
        before: Channels that come in.
        after: Channels that go out.
        odd: Rows and columns (0 or 1) that the doubled grid has more.
    """

    def __init__(self, before: int, after: int, odd: tuple[int, int] = (0, 0)) -> None:
        super().__init__(before, after, 3, 2, 1, output_padding=odd)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Maps (B, before, H, W) -> (B, after, 2 H + odd, 2 W + odd)."""
        wide = pad(self.weight, (1, 0)) + pad(self.weight, (0, 1))
        kernel = pad(wide, (0, 0, 1, 0)) + pad(wide, (0, 0, 0, 1))
        return conv_transpose2d(maps, kernel, self.bias, 2, 1, self.output_padding)


def doubled(how: str, before: int, after: int, odd: tuple[int, int]) -> nn.Module:
    """Maps (B, before, H, W) -> (B, after, 2 H + odd, 2 W + odd), as one of ``DOUBLINGS``.

    ``repeated`` is ``Doubling``; ``transposed`` a transposed convolution, the paper's, whose
    pictures bear a chequered grid until it has learned not to make one.
    """
    if how == "repeated":
        return Doubling(before, after, odd)
    return nn.ConvTranspose2d(before, after, 4, 2, 1, output_padding=odd)


class Encoder(nn.Module):
    """Images (B, C, H, W) -> vectors (B, outputs), by strided convolutions.

    Args:
        shape: Shape of the images.
        width: Channels of the first level; each level doubles them, up to eight times.
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
            if level > 0:  # none at the pixels: it would remove the image's own brightness
                layers.append(normalisation(norm, after))
            layers.append(nn.LeakyReLU(_LEAK))
        self.body = nn.Sequential(*layers)
        base_height, base_width = sizes[-1]
        self.head = nn.Linear(channels[-1] * base_height * base_width, outputs)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The last maps as vectors (B, F) of images (B, C, H, W)."""
        return self.body(images).flatten(1)  # type: ignore[no-any-return]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Vectors (B, outputs) of images (B, C, H, W)."""
        return self.head(self.features(images))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Vectors (B, inputs) -> maps (B, outputs, H, W), whose grid doubles from layer to layer.

    Args:
        shape: Shape of the images; the base grid follows it.
        width: Channels one level below the pixels, as in ``Encoder``; half as many at them.
        inputs: Length of the input vector.
        outputs: Channels of the map, for example colour channels or likelihood parameters.
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
        # At the pixels themselves a doubling alone leaves speckles in flat areas.
        layers.append(nn.Conv2d(channels[-1], outputs, 3, padding=1))
        self.body = nn.Sequential(*layers)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Maps (B, outputs, H, W) of vectors (B, inputs)."""
        return self.body(self.stem(latents).view(-1, *self.base))  # type: ignore[no-any-return]
