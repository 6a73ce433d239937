"""Encoder and decoder between images and a grid of short vectors, for codes in space.

Strided convolutions and the residual blocks of ``resnet``, group-normalised, so that an image has
the same grid whatever batch it stands in. The grid is one of the image's pyramid: 32x32 becomes
8x8 where about 8x8 vectors are wanted.
"""

import math
from itertools import pairwise

import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.networks.convnet import normalisation, pyramid
from gentool.networks.resnet import ResidualBlock, ResidualDecoder, ResidualEncoder

_MAX_FACTOR = 4  # channels stop doubling at width * 4
_INNER_BLOCKS = 2  # at the grid itself, where they cost least
_MIN_CHANNELS = 8  # at the pixels, however small the width


def grids(shape: ImageShape, side: int) -> list[tuple[int, int]]:
    """Grid sizes of the pyramid from the image's own down to the one of about side x side places.

    The nearest by the ratio of places, and never the image itself.
    """
    sizes = pyramid(shape)
    far = [abs(math.log(height * width / side**2)) for height, width in sizes[1:]]
    return sizes[: far.index(min(far)) + 2]


def _channels(width: int, halvings: int) -> list[int]:
    """Channels after each halving."""
    return [width * min(2**k, _MAX_FACTOR) for k in range(halvings)]


def _blocks(channels: int) -> list[nn.Module]:
    return [ResidualBlock(channels) for _ in range(_INNER_BLOCKS)]


class GridEncoder(nn.Module):
    """Images (B, C, H, W) -> maps (B, outputs, h, w).

    Args:
        shape: Shape of the images.
        width: Channels after the first halving; each further one doubles them, up to four times.
        outputs: Channels of the grid.
        side: About how many rows and columns the grid has; see ``grids``.
    """

    def __init__(self, shape: ImageShape, width: int, outputs: int, side: int) -> None:
        super().__init__()
        channels = _channels(width, len(grids(shape, side)) - 1)
        layers: list[nn.Module] = [nn.Conv2d(shape.channels, channels[0], 4, 2, 1)]
        for before, after in pairwise(channels):
            layers += [ResidualBlock(before), nn.Conv2d(before, after, 4, 2, 1)]
        layers += [*_blocks(channels[-1]), normalisation("group", channels[-1]), nn.SiLU()]
        layers.append(nn.Conv2d(channels[-1], outputs, 3, padding=1))
        self.body = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The grid's maps, unbounded."""
        return self.body(images)  # type: ignore[no-any-return]


class GridDecoder(nn.Module):
    """Maps (B, inputs, h, w) -> (B, outputs, H, W); mirrors ``GridEncoder``.

    Args:
        shape: Shape of the images.
        width: Channels before the last doubling; half as many at the pixels.
        inputs: Channels of the grid.
        outputs: Channels of the map.
        side: About how many rows and columns the grid has; see ``grids``.
    """

    def __init__(self, shape: ImageShape, width: int, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        sizes = grids(shape, side)[::-1]
        channels = [*_channels(width, len(sizes) - 1)[::-1], max(width // 2, _MIN_CHANNELS)]
        layers: list[nn.Module] = [nn.Conv2d(inputs, channels[0], 3, padding=1)]
        layers += _blocks(channels[0])
        for (before, after), size in zip(pairwise(channels), sizes[1:], strict=True):
            if len(layers) > 1 + _INNER_BLOCKS:
                layers.append(ResidualBlock(before))
            odd = (size[0] % 2, size[1] % 2)
            layers += [normalisation("group", before), nn.SiLU()]
            layers.append(nn.ConvTranspose2d(before, after, 4, 2, 1, output_padding=odd))
        # At the pixels themselves a transposed convolution alone leaves speckles in flat areas.
        layers += [normalisation("group", channels[-1]), nn.SiLU()]
        layers.append(nn.Conv2d(channels[-1], outputs, 3, padding=1))
        self.body = nn.Sequential(*layers)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps of the image's size, unbounded."""
        return self.body(maps)  # type: ignore[no-any-return]


def open_encoder(
    shape: ImageShape, width: int, outputs: int, side: int
) -> tuple[nn.Module, tuple[int, int]]:
    """A network from images to vectors (B, outputs * h * w), and (h, w).

    Args:
        shape: Shape of the images.
        width: Of the network.
        outputs: Numbers per place.
        side: About how many rows and columns the grid has; 1 for a vector of the whole image.
    """
    if side == 1:
        return ResidualEncoder(shape, width, outputs), (1, 1)
    encoder = GridEncoder(shape, width, outputs, side)
    return nn.Sequential(encoder, nn.Flatten()), grids(shape, side)[-1]


def open_decoder(shape: ImageShape, width: int, inputs: int, outputs: int, side: int) -> nn.Module:
    """A network from vectors (B, inputs * h * w) to maps (B, outputs, H, W).

    Takes what that of ``open_encoder`` gives.
    """
    if side == 1:
        return ResidualDecoder(shape, width, inputs, outputs)
    unflatten = nn.Unflatten(1, (inputs, *grids(shape, side)[-1]))
    return nn.Sequential(unflatten, GridDecoder(shape, width, inputs, outputs, side))
