"""The residual pair of SNGAN and WGAN-GP.

Miyato et al. 2018 (arXiv:1802.05957), Table 4; Gulrajani et al. 2017 (arXiv:1704.00028).

At 32x32 and width 256 the published CIFAR-10 architecture: a dense layer to 4x4, three residual
blocks that double the grid, batch normalisation, and a 3x3 convolution; in the discriminator, with
half as many channels, two blocks that halve the grid, two that keep it, and the sum over all
positions. Larger images get more blocks, on grids beyond 32x32 with half the channels each.
With classes: batch normalisation with gains and biases of the class (Dumoulin et al. 2017,
arXiv:1610.07629) in the generator, projection in the discriminator.
"""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import interpolate, one_hot, relu

from gentool.core.images import ImageShape
from gentool.networks.convnet import pyramid
from gentool.networks.parts import ProjectionHead, check_labels, tapering
from gentool.networks.resampling import Size, reduce
from gentool.networks.spectral import add_spectral_norm


def _conv(before: int, after: int, size: int = 3, gain: float = math.sqrt(2)) -> nn.Conv2d:
    conv = nn.Conv2d(before, after, size, padding=size // 2)
    nn.init.xavier_uniform_(conv.weight, gain)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class ConditionalNorm(nn.Module):
    """Batch normalisation whose gain and bias belong to the class; plain without classes."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.norm = nn.BatchNorm2d(channels, affine=not classes)
        if classes:
            self.gain = nn.Parameter(torch.ones(classes, channels))
            self.bias = nn.Parameter(torch.zeros(classes, channels))

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """(B, C, H, W) -> the same shape."""
        x = self.norm(x)
        if not self.classes:
            return x
        shares = check_labels(labels, self.classes)
        rows = shares if shares.ndim == 2 else one_hot(shares, self.classes).to(self.gain.dtype)
        return x * (rows @ self.gain)[:, :, None, None] + (rows @ self.bias)[:, :, None, None]


class UpBlock(nn.Module):
    """Norm, ReLU, nearest enlargement, conv, norm, ReLU, conv; 1x1 convolution on the skip."""

    def __init__(self, before: int, after: int, size: Size, classes: int) -> None:
        super().__init__()
        self.size = size
        self.norm1, self.norm2 = ConditionalNorm(before, classes), ConditionalNorm(after, classes)
        self.conv1, self.conv2 = _conv(before, after), _conv(after, after)
        self.skip = _conv(before, after, 1, gain=1.0)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """(B, before, h, w) -> (B, after, *size)."""
        y = self.conv1(interpolate(relu(self.norm1(x, labels)), size=self.size))
        y = self.conv2(relu(self.norm2(y, labels)))
        # 1x1 convolution and nearest enlargement commute; this order takes a quarter of the work.
        return y + interpolate(self.skip(x), size=self.size)  # type: ignore[no-any-return]


class DownBlock(nn.Module):
    """ReLU, conv, ReLU, conv, then mean over 2x2 if the grid is halved.

    Args:
        before: Channels.
        after: Channels of the result.
        size: The grid of the result.
        halve: Whether it is smaller than the given one.
        first: Whether ``x`` are images, to which no ReLU may be applied.
    """

    def __init__(
        self, before: int, after: int, size: Size, halve: bool = True, first: bool = False
    ) -> None:
        super().__init__()
        self.size, self.halve, self.first = size, halve, first
        self.conv1, self.conv2 = _conv(before, after), _conv(after, after)
        self.skip = _conv(before, after, 1, 1.0) if halve or before != after else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, before, H, W) -> (B, after, *size)."""
        y = self.conv2(relu(self.conv1(x if self.first else relu(x))))
        if not self.halve:
            return self.skip(x) + y  # type: ignore[no-any-return]
        return self.skip(reduce(x, self.size)) + reduce(y, self.size)  # type: ignore[no-any-return]


class Generator(nn.Module):
    """Latents (B, L), labels (B,) -> maps (B, C, H, W), unbounded.

    Args:
        shape: Shape of the images.
        width: Channels of grids up to 32x32; the paper's is 256.
        latent_size: L; the paper's is 128.
        classes: 0 for none.
    """

    def __init__(self, shape: ImageShape, width: int, latent_size: int, classes: int = 0) -> None:
        super().__init__()
        sizes = pyramid(shape)[::-1]
        channels = tapering(width, len(sizes))
        self.base = (channels[0], *sizes[0])
        self.stem = nn.Linear(latent_size, math.prod(self.base))
        nn.init.xavier_uniform_(self.stem.weight)
        nn.init.zeros_(self.stem.bias)
        self.blocks = nn.ModuleList(
            UpBlock(before, after, size, classes)
            for (before, after), size in zip(pairwise(channels), sizes[1:], strict=True)
        )
        self.norm = nn.BatchNorm2d(channels[-1])
        self.to_image = _conv(channels[-1], shape.channels, gain=1.0)

    def forward(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Maps of latents."""
        x = self.stem(latents).view(-1, *self.base)
        for block in self.blocks:
            x = block(x, labels)
        return self.to_image(relu(self.norm(x)))  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    """Images (B, C, H, W), labels (B,) -> logits (B,); no normalisation of activations.

    Args:
        shape: Shape of the images.
        width: As in ``Generator``; half as many channels here.
        classes: 0 for none.
        spectral: Normalise all weights by their largest singular value (SNGAN); a gradient
            penalty (WGAN-GP) does without.
    """

    def __init__(
        self, shape: ImageShape, width: int, classes: int = 0, *, spectral: bool = True
    ) -> None:
        super().__init__()
        sizes = pyramid(shape)[:-1]  # the paper stops at 8x8
        # A block's channels are those of the grid that it halves.
        channels = tapering(max(width // 2, 1), len(sizes) + 1)[::-1][: len(sizes) - 1]
        last = channels[-1]
        blocks = [DownBlock(shape.channels, channels[0], sizes[1], first=True)]
        for (before, after), size in zip(pairwise(channels), sizes[2:], strict=True):
            blocks.append(DownBlock(before, after, size))
        blocks += [DownBlock(last, last, sizes[-1], halve=False) for _ in range(2)]
        self.blocks = nn.Sequential(*blocks)
        self.head = ProjectionHead(last, classes)
        if spectral:
            add_spectral_norm(self)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Sums over all positions (B, width / 2)."""
        return relu(self.blocks(images)).sum(dim=(2, 3))

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Logits, float32."""
        return self.head(self.features(images), labels)  # type: ignore[no-any-return]
