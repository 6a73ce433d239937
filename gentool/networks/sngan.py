"""The residual networks of SNGAN and WGAN-GP.

Miyato et al. 2018 (arXiv:1802.05957), Table 4; Gulrajani et al. 2017 (arXiv:1704.00028).

At 32x32 and width 256 this is the published architecture for CIFAR-10. The generator has a dense
layer to 4x4, three residual blocks that double the grid, batch normalisation, and a 3x3
convolution. The discriminator, with half as many channels, has two blocks that halve the grid, two
blocks that keep it, and the sum over all positions. Larger images have more blocks; each grid
beyond 32x32 has half the channels of the grid before it.

With classes, the batch normalisation of the generator has a gain and a bias per class (Dumoulin et
al. 2017, arXiv:1610.07629), and the discriminator has a projection.
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
    """Batch normalisation with a gain and a bias per class; plain if ``classes`` is 0."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.norm = nn.BatchNorm2d(channels, affine=not classes)
        if classes:
            self.gain = nn.Parameter(torch.ones(classes, channels))
            self.bias = nn.Parameter(torch.zeros(classes, channels))

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """Normalise (B, C, H, W); ``labels`` are int64 (B,) or class weights (B, classes)."""
        x = self.norm(x)
        if not self.classes:
            return x
        shares = check_labels(labels, self.classes)
        rows = shares if shares.ndim == 2 else one_hot(shares, self.classes).to(self.gain.dtype)
        return x * (rows @ self.gain)[:, :, None, None] + (rows @ self.bias)[:, :, None, None]


class UpBlock(nn.Module):
    """Residual block that enlarges: norm, ReLU, nearest upsampling, conv, norm, ReLU, conv.

    The skip path has a 1x1 convolution.
    """

    def __init__(self, before: int, after: int, size: Size, classes: int) -> None:
        super().__init__()
        self.size = size
        self.norm1, self.norm2 = ConditionalNorm(before, classes), ConditionalNorm(after, classes)
        self.conv1, self.conv2 = _conv(before, after), _conv(after, after)
        self.skip = _conv(before, after, 1, gain=1.0)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """Map (B, before, h, w) to (B, after, *size)."""
        y = self.conv1(interpolate(relu(self.norm1(x, labels)), size=self.size))
        y = self.conv2(relu(self.norm2(y, labels)))
        # 1x1 convolution and nearest upsampling commute; this order costs a quarter.
        return y + interpolate(self.skip(x), size=self.size)  # type: ignore[no-any-return]


class DownBlock(nn.Module):
    """Residual block of the discriminator: ReLU, conv, ReLU, conv, and 2x2 means if it halves.

    Args:
        before: Input channels.
        after: Output channels.
        size: Grid of the output.
        halve: Whether the output grid is half the input grid; otherwise they are equal.
        first: Whether the inputs are images, to which no ReLU is applied.
    """

    def __init__(
        self, before: int, after: int, size: Size, halve: bool = True, first: bool = False
    ) -> None:
        super().__init__()
        self.size, self.halve, self.first = size, halve, first
        self.conv1, self.conv2 = _conv(before, after), _conv(after, after)
        self.skip = _conv(before, after, 1, 1.0) if halve or before != after else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, before, H, W) to (B, after, *size)."""
        y = self.conv2(relu(self.conv1(x if self.first else relu(x))))
        if not self.halve:
            return self.skip(x) + y  # type: ignore[no-any-return]
        return self.skip(reduce(x, self.size)) + reduce(y, self.size)  # type: ignore[no-any-return]


class Generator(nn.Module):
    """Latents (B, L), labels (B,) -> maps (B, C, H, W), unbounded.

    Args:
        shape: Shape of the images.
        width: Channels of grids up to 32x32; 256 in the paper.
        latent_size: L; 128 in the paper.
        classes: Number of classes; 0 for an unconditional generator.
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
        """Return maps (B, C, H, W) of latents (B, L) and labels int64 (B,)."""
        x = self.stem(latents).view(-1, *self.base)
        for block in self.blocks:
            x = block(x, labels)
        return self.to_image(relu(self.norm(x)))  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    """Images (B, C, H, W), labels (B,) -> logits (B,), without normalisation of activations.

    Args:
        shape: Shape of the images.
        width: As in ``Generator``; the discriminator has half as many channels.
        classes: Number of classes; 0 for an unconditional discriminator.
        spectral: Divide all weights by their largest singular value, as in SNGAN; not needed with
            a gradient penalty, as in WGAN-GP.
    """

    def __init__(
        self, shape: ImageShape, width: int, classes: int = 0, *, spectral: bool = True
    ) -> None:
        super().__init__()
        sizes = pyramid(shape)[:-1]  # the paper stops at 8x8
        # The channels of a block are those of its input grid.
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
        """Return the penultimate vector (B, width / 2): sums over all positions."""
        return relu(self.blocks(images)).sum(dim=(2, 3))

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits (B,), float32."""
        return self.head(self.features(images), labels)  # type: ignore[no-any-return]
