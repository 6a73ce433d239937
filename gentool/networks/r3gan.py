"""The networks of R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN!").

arXiv:2501.05441. Residual networks over a pyramid of grids, without normalisation. A block is a
1x1 convolution to twice the channels, a grouped 3x3 convolution (16 channels per group) and a 1x1
convolution back, with leaky ReLUs between them. Fixup initialisation (Zhang et al. 2019,
arXiv:1901.09321) replaces normalisation: with L blocks in the network, the inner weights are scaled
by L^(-1/4), and the last weights of a block start at zero, so that at first the network only
resamples. Resampling is bilinear. The generator starts from a learned basis on the coarsest grid;
the discriminator ends with learned weights on it.

With the paper's 768 channels, generator / discriminator have 20.8 M / 21.3 M parameters for
CIFAR-10 (conditional, latent size 64) and 23.1 M / 23.0 M for FFHQ-256 (unconditional, latent
size 64).
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
_GROUP = 16  # channels per group
_EXPANSION = 2  # inner channels of a block / its channels


def _conv(
    before: int, after: int, size: int = 1, gain: float = 1.0, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """Return a convolution that keeps the grid, with weights N(0, gain^2 / fan_in) and bias 0."""
    conv = nn.Conv2d(before, after, size, padding=size // 2, groups=groups, bias=bias)
    fill_normal(conv.weight, gain / math.sqrt(before // groups * size**2))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class R3Block(nn.Module):
    """Inverted bottleneck with a grouped 3x3 convolution W2: x + W3 a(W2 * a(W1 x + b1) + b2).

    Args:
        channels: C; the inner layers have 2 C.
        blocks: Residual blocks in the whole network, for the scale of the weights.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        inner = _EXPANSION * channels
        gain = _GAIN * blocks**-0.25  # L^(-1 / (2 m - 2)) for m = 3 layers per block
        groups = inner // math.gcd(inner, _GROUP)
        self.expand = _conv(channels, inner, gain=gain, bias=True)
        self.spatial = _conv(inner, inner, 3, gain, groups, bias=True)
        self.project = _conv(inner, channels, gain=0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape."""
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
        classes: Number of classes; 0 for an unconditional generator.
        blocks: Residual blocks per grid.
        flat: Number of grids, from the coarsest on, with the full width; each finer grid has half
            as many channels as the grid before it.
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
        """Return maps (B, C, H, W) of latents (B, L) and labels int64 (B,)."""
        scales = self.linear(self.input(latents, labels))
        x = self.stages[0](self.basis * scales[:, :, None, None])
        for stage, transition, size in zip(
            self.stages[1:], self.transitions, self.sizes[1:], strict=True
        ):
            x = stage(enlarge(transition(x), size))  # 1x1 first: same result, fewer pixels
        return self.to_image(x)  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    """Images (B, C, H, W), labels (B,) -> logits (B,); mirrors ``Generator`` and its arguments.

    With classes the logit is v_y^T W f(x) / sqrt(F): only the projection, which agrees with the
    published number of parameters. Without classes it is w^T f(x).
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
        """Return the penultimate vector (B, width): learned weighted sums of the coarsest map."""
        x = self.stages[0](self.from_image(images))
        for stage, transition, size in zip(
            self.stages[1:], self.transitions, self.sizes[1:], strict=True
        ):
            x = stage(transition(reduce(x, size)))
        return (x * self.basis).sum(dim=(2, 3))  # type: ignore[no-any-return]

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits (B,), float32."""
        out = self.linear(self.features(images)).float()
        if not self.classes:
            return out.squeeze(1)  # type: ignore[no-any-return]
        vectors = self.vectors(check_labels(labels, self.classes)).float()
        return (out * vectors).sum(dim=1) / math.sqrt(out.shape[1])  # type: ignore[no-any-return]
