"""R3GAN's networks (Huang et al. 2024, "The GAN is dead; long live the GAN!", arXiv:2501.05441).

A residual pyramid with no normalisation: 1x1 convolution to twice the channels, grouped 3x3
convolution (16 channels a group), 1x1 convolution back, leaky ReLUs between. Fix-up
initialisation (Zhang et al. 2019, arXiv:1901.09321) takes the place of normalisation: with L
blocks in the network the inner weights shrink by L^(-1/4), and the last one of a block starts at
zero, so that the network begins as its resampling path. Bilinear resampling; a learned basis of
the coarsest grid in the generator, a learned weighting of it in the discriminator.

With the paper's 768 channels: CIFAR-10 20.8 M / 21.3 M parameters (conditional, L = 64), FFHQ-256
23.1 M / 23.0 M (unconditional, L = 64).
"""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import leaky_relu

from gentool.core.images import ImageShape
from gentool.networks.convnet import pyramid
from gentool.networks.parts import ClassInput, check_labels, class_vectors, fill_normal, tapering
from gentool.networks.resampling import Size, enlarge, reduce

_LEAK = 0.2
_GAIN = math.sqrt(2 / (1 + _LEAK**2))  # keeps the variance through a leaky ReLU
_GROUP = 16  # channels a group
_EXPANSION = 2  # of a block's inner channels


def _conv(
    before: int, after: int, size: int = 1, gain: float = 1.0, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """A convolution with weights N(0, gain^2 / fan_in) and bias 0, grids unchanged."""
    conv = nn.Conv2d(before, after, size, padding=size // 2, groups=groups, bias=bias)
    fill_normal(conv.weight, gain / math.sqrt(before // groups * size**2))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class R3Block(nn.Module):
    """x + W3 a(W2 * a(W1 x + b1) + b2): inverted bottleneck with a grouped 3x3 convolution.

    Args:
        channels: C; 2 C inside.
        blocks: L, residual blocks in the whole network, for the scale of the weights.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        inner = _EXPANSION * channels
        gain = _GAIN * blocks**-0.25  # three layers a block: L^(-1 / (2 * 3 - 2))
        groups = inner // math.gcd(inner, _GROUP)
        self.expand = _conv(channels, inner, gain=gain, bias=True)
        self.spatial = _conv(inner, inner, 3, gain, groups, bias=True)
        self.project = _conv(inner, channels, gain=0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape."""
        y = leaky_relu(self.expand(x), _LEAK)
        y = leaky_relu(self.spatial(y), _LEAK)
        return x + self.project(y)  # type: ignore[no-any-return]


def _stage(channels: int, blocks: int, total: int) -> nn.Sequential:
    return nn.Sequential(*(R3Block(channels, total) for _ in range(blocks)))


class Generator(nn.Module):
    """Latents (B, L), labels (B,) -> maps (B, C, H, W), unbounded.

    Args:
        shape: Shape of the images.
        width: Channels of the coarse grids.
        latent_size: L.
        classes: 0 for none.
        blocks: Residual blocks a grid.
        flat: How many grids, from the coarsest, have the full width; halved on each finer one.
    """

    def __init__(
        self,
        shape: ImageShape,
        width: int,
        latent_size: int,
        classes: int = 0,
        *,
        blocks: int = 2,
        flat: int = 4,
    ) -> None:
        super().__init__()
        self.sizes: list[Size] = pyramid(shape)[::-1]
        channels = tapering(width, len(self.sizes), flat)
        self.input = ClassInput(latent_size, classes)
        self.linear = nn.Linear(self.input.size, channels[0], bias=False)
        fill_normal(self.linear.weight, self.input.size**-0.5)
        self.basis = nn.Parameter(fill_normal(torch.empty(channels[0], *self.sizes[0])))
        total = blocks * len(self.sizes)
        self.stages = nn.ModuleList(_stage(c, blocks, total) for c in channels)
        self.transitions = nn.ModuleList(
            nn.Identity() if a == b else _conv(a, b) for a, b in pairwise(channels)
        )
        self.to_image = _conv(channels[-1], shape.channels)

    def forward(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Maps of latents."""
        scales = self.linear(self.input(latents, labels))
        x = self.stages[0](self.basis * scales[:, :, None, None])
        for stage, transition, size in zip(
            self.stages[1:], self.transitions, self.sizes[1:], strict=True
        ):
            x = stage(enlarge(transition(x), size))  # 1x1 first: the same map, on fewer pixels
        return self.to_image(x)  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    """Images (B, C, H, W), labels (B,) -> logits (B,); mirrors ``Generator``.

    With classes the logit is v_y^T W f(x) / sqrt(F), the projection alone (it is what the published
    count of parameters holds); without, w^T f(x).
    """

    def __init__(
        self, shape: ImageShape, width: int, classes: int = 0, *, blocks: int = 2, flat: int = 4
    ) -> None:
        super().__init__()
        self.classes = classes
        self.sizes: list[Size] = pyramid(shape)
        channels = tapering(width, len(self.sizes), flat)[::-1]
        self.from_image = _conv(shape.channels, channels[0])
        total = blocks * len(self.sizes)
        self.stages = nn.ModuleList(_stage(c, blocks, total) for c in channels)
        self.transitions = nn.ModuleList(
            nn.Identity() if a == b else _conv(a, b) for a, b in pairwise(channels)
        )
        last, area = channels[-1], math.prod(self.sizes[-1])
        self.basis = nn.Parameter(fill_normal(torch.empty(last, *self.sizes[-1]), area**-0.5))
        self.linear = nn.Linear(last, last if classes else 1, bias=False)
        fill_normal(self.linear.weight, last**-0.5)
        if classes:
            self.vectors = class_vectors(classes, last)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The penultimate vector (B, width): the coarsest map weighed by the learned basis."""
        x = self.stages[0](self.from_image(images))
        for stage, transition, size in zip(
            self.stages[1:], self.transitions, self.sizes[1:], strict=True
        ):
            x = stage(transition(reduce(x, size)))
        return (x * self.basis).sum(dim=(2, 3))  # type: ignore[no-any-return]

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Logits, float32."""
        out = self.linear(self.features(images)).float()
        if not self.classes:
            return out.squeeze(1)  # type: ignore[no-any-return]
        vectors = self.vectors(check_labels(labels, self.classes)).float()
        return (out * vectors).sum(dim=1) / math.sqrt(out.shape[1])  # type: ignore[no-any-return]
