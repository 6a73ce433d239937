"""Encoder and decoder between images and a grid of short vectors, for latents or codes on a grid.

They consist of strided convolutions and the residual blocks of ``resnet``. Group normalisation
makes the grid of an image independent of the other images in the batch. The grid is one of the
image's pyramid: for about 8x8 vectors a 32x32 image has the grid 8x8.
"""

import math
from itertools import pairwise

import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.networks.convnet import normalisation, pyramid
from gentool.networks.resnet import ResidualBlock, ResidualDecoder, ResidualEncoder

_MAX_FACTOR = 4  # channels stop doubling at width * 4
_INNER_BLOCKS = 2  # on the coarsest grid, where blocks cost least
_MIN_CHANNELS = 8  # at the pixels, also if the width is smaller


def grids(shape: ImageShape, side: int) -> list[tuple[int, int]]:
    """Return the sizes of the pyramid, from the image to the grid of about side x side positions.

    The last grid is the one whose number of positions is nearest to side x side, by their ratio; it
    is never the image itself.
    """
    sizes = pyramid(shape)
    far = [abs(math.log(height * width / side**2)) for height, width in sizes[1:]]
    return sizes[: far.index(min(far)) + 2]


def _channels(width: int, halvings: int) -> list[int]:
    """Return the channels after each halving: width, 2 width, up to 4 width."""
    return [width * min(2**k, _MAX_FACTOR) for k in range(halvings)]


def _blocks(channels: int) -> list[nn.Module]:
    return [ResidualBlock(channels) for _ in range(_INNER_BLOCKS)]


class GridEncoder(nn.Module):
    """Images (B, C, H, W) -> maps (B, outputs, h, w).

    Args:
        shape: Shape of the images.
        width: Channels after the first halving; each further halving doubles them, up to
            4 ``width``.
        outputs: Channels of the grid.
        side: Approximate number of rows and columns of the grid; see ``grids``.
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
        """Encode images (B, C, H, W) to maps (B, outputs, h, w), unbounded."""
        return self.body(images)  # type: ignore[no-any-return]


class GridDecoder(nn.Module):
    """Maps (B, inputs, h, w) -> (B, outputs, H, W); mirrors ``GridEncoder``.

    Args:
        shape: Shape of the images.
        width: Channels before the last doubling. The pixels have half as many, but at least 8.
        inputs: Channels of the grid.
        outputs: Channels of the output.
        side: Approximate number of rows and columns of the grid; see ``grids``.
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
        # Without these layers, the last transposed convolution leaves speckles in flat areas.
        layers += [normalisation("group", channels[-1]), nn.SiLU()]
        layers.append(nn.Conv2d(channels[-1], outputs, 3, padding=1))
        self.body = nn.Sequential(*layers)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Decode maps (B, inputs, h, w) to maps (B, outputs, H, W), unbounded."""
        return self.body(maps)  # type: ignore[no-any-return]


def open_encoder(
    shape: ImageShape, width: int, outputs: int, side: int
) -> tuple[nn.Module, tuple[int, int]]:
    """Build an encoder from images (B, C, H, W) to vectors (B, outputs * h * w).

    Args:
        shape: Shape of the images.
        width: As in ``GridEncoder``.
        outputs: Channels of the grid.
        side: Approximate number of rows and columns of the grid; 1 for one vector per image.

    Returns:
        The network and the grid (h, w).
    """
    if side == 1:
        return ResidualEncoder(shape, width, outputs), (1, 1)
    encoder = GridEncoder(shape, width, outputs, side)
    return nn.Sequential(encoder, nn.Flatten()), grids(shape, side)[-1]


def open_decoder(shape: ImageShape, width: int, inputs: int, outputs: int, side: int) -> nn.Module:
    """Build a decoder from vectors (B, inputs * h * w) to maps (B, outputs, H, W).

    The vectors have the layout of the output of ``open_encoder``.
    """
    if side == 1:
        return ResidualDecoder(shape, width, inputs, outputs)
    unflatten = nn.Unflatten(1, (inputs, *grids(shape, side)[-1]))
    return nn.Sequential(unflatten, GridDecoder(shape, width, inputs, outputs, side))
