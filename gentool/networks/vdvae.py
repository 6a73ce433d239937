"""Two ladders of residual blocks between an image and latents on grids of every size.

VDVAE (Child 2021, arXiv:2011.10650, section 3): on the way up (``BottomUp``) the image is seen on
ever coarser grids; on the way down (``TopDown``) an image is built from a constant, and each layer
of it can ask for latents on its grid: what it expects of them (``prior``), what the image says of
them (``posterior``), and what they change (``absorb``). Blocks are bottlenecks with no
normalisation; the last convolution of each begins small, so that a deep ladder begins calm.

Grids are those of the image's pyramid, and above them one place for the whole image.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import nn
from torch.nn.functional import interpolate

from gentool.core.images import ImageShape
from gentool.networks.convnet import pyramid
from gentool.networks.parts import class_vectors
from gentool.networks.resampling import Size, reduce

_LOG_VARIANCE_BOUND = 8.0  # |log sigma^2| stays below, so that exp never overflows
_MIDDLE_SHARE, _MIN_CHANNELS = 4, 8  # a bottleneck is a quarter as wide, and at least so wide
_CLASS_SCALE = 0.1  # of the class's vector at first
_SMALL = 2  # grids up to this side have no neighbourhoods worth a 3x3 kernel


class Gaussians(NamedTuple):
    """N(mean, exp(log_variance)) at every place of a grid: both (B, L, h, w), float32."""

    mean: torch.Tensor
    log_variance: torch.Tensor

    def at(self, noise: torch.Tensor) -> torch.Tensor:
        """Mean + sigma * noise."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def noise_of(self, z: torch.Tensor) -> torch.Tensor:
        """(z - mean) / sigma, the inverse of ``at``."""
        return (z - self.mean) * torch.exp(-0.5 * self.log_variance)


Choose = Callable[[int, "Layer", torch.Tensor, Gaussians], torch.Tensor]


def spread(layers: int, sizes: list[Size]) -> list[Size]:
    """The grid of every layer, coarsest first.

    Each grid has a layer, as far as they go, and finer ones more: about twice as many on each.
    """
    counts = [int(k < layers) for k in range(len(sizes))]
    while sum(counts) < layers:
        thin = [2**k / count for k, count in enumerate(counts)]
        counts[thin.index(max(thin))] += 1
    return [size for size, count in zip(sizes, counts, strict=True) for _ in range(count)]


def ladder(shape: ImageShape) -> list[Size]:
    """Sizes of all grids, coarsest first."""
    return [(1, 1), *pyramid(shape)[::-1]]


class Bottleneck(nn.Module):
    """GELU and convolution four times, the inner two narrow; (B, C, h, w) -> (B, outputs, h, w).

    Args:
        inputs: C.
        outputs: Channels.
        size: Of the grid.
        width: The ladder's; the inner ones have a quarter of it.
        scale: Of the last convolution's initial weights.
    """

    def __init__(self, inputs: int, outputs: int, size: Size, width: int, scale: float) -> None:
        super().__init__()
        middle = max(width // _MIDDLE_SHARE, _MIN_CHANNELS)
        kernel = 3 if max(size) > _SMALL else 1
        last = nn.Conv2d(middle, outputs, 1)
        with torch.no_grad():
            for parameter in last.parameters():
                parameter.mul_(scale)
        self.body = nn.Sequential(
            nn.GELU(),
            nn.Conv2d(inputs, middle, 1),
            nn.GELU(),
            nn.Conv2d(middle, middle, kernel, padding=kernel // 2),
            nn.GELU(),
            nn.Conv2d(middle, middle, kernel, padding=kernel // 2),
            nn.GELU(),
            last,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps, not yet added to anything."""
        return self.body(x)  # type: ignore[no-any-return]


class BottomUp(nn.Module):
    """Images (B, C, H, W) -> what is seen of them on every grid, (B, width, h, w) each.

    Args:
        shape: Shape of the images.
        width: Channels on every grid.
        counts: Blocks on every grid, coarsest first.
    """

    def __init__(self, shape: ImageShape, width: int, counts: list[int]) -> None:
        super().__init__()
        self._sizes = ladder(shape)
        self.stem = nn.Conv2d(shape.channels, width, 3, padding=1)
        scale = max(sum(counts), 1) ** -0.5
        self.blocks = nn.ModuleList(
            nn.ModuleList(Bottleneck(width, width, size, width, scale) for _ in range(count))
            for size, count in zip(self._sizes, counts, strict=True)
        )

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Maps, coarsest first."""
        x, seen = self.stem(images), []
        for size, blocks in zip(self._sizes[::-1], list(self.blocks)[::-1], strict=True):
            if x.shape[-2:] != size:
                x = x.mean(dim=(2, 3), keepdim=True) if size == (1, 1) else reduce(x, size)
            for block in cast("nn.ModuleList", blocks):
                x = x + block(x)
            seen.append(x)
        return seen[::-1]


class Layer(nn.Module):
    """One layer of the way down, with latents of its own.

    Args:
        width: Channels of the ladder.
        latent_size: Latents per place.
        size: Of its grid.
        layers: How many layers the ladder has.

    Attributes:
        latents: Shape of its latents, (latent_size, h, w).
    """

    def __init__(self, width: int, latent_size: int, size: Size, layers: int) -> None:
        super().__init__()
        self.latents = (latent_size, *size)
        self._width = width
        calm = layers**-0.5
        self.expect = Bottleneck(width, 2 * latent_size + width, size, width, 0.0)
        self.look = Bottleneck(2 * width, 2 * latent_size, size, width, 1.0)
        self.mix = nn.Conv2d(latent_size, width, 1)
        with torch.no_grad():
            self.mix.weight.mul_(calm)
        self.think = Bottleneck(width, width, size, width, calm)

    def prior(self, x: torch.Tensor) -> tuple[Gaussians, torch.Tensor]:
        """p(z | what is built so far), N(0, I) at first; and what to add to x beside z."""
        split = [*self.latents[:1] * 2, self._width]
        mean, raw, more = torch.split_with_sizes(self.expect(x), split, dim=1)
        return _bounded(mean, raw), more

    def posterior(self, x: torch.Tensor, seen: torch.Tensor) -> Gaussians:
        """q(z | what is built so far, what is seen of the image), maps of this grid."""
        mean, raw = self.look(torch.cat([x, seen], dim=1)).chunk(2, dim=1)
        return _bounded(mean, raw)

    def absorb(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """What is built with these latents."""
        x = x + self.mix(z)
        return x + self.think(x)  # type: ignore[no-any-return]


class TopDown(nn.Module):
    """Latents, layer by layer -> maps (B, outputs, H, W).

    Args:
        shape: Shape of the images.
        width: Channels on every grid.
        latent_size: Latents per place and layer.
        sizes: The grid of every layer, coarsest first; see ``spread``.
        outputs: Channels of the result.
        classes: 0 for none.

    Attributes:
        class_shares: Frequencies of the classes, (classes,), where there are some.
    """

    class_shares: torch.Tensor

    def __init__(
        self, shape: ImageShape, width: int, latent_size: int, sizes: list[Size], outputs: int,
        classes: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self._grids = ladder(shape)
        self.starts = nn.ParameterList(torch.zeros(1, width, *size) for size in self._grids)
        self.layers = nn.ModuleList(Layer(width, latent_size, s, len(sizes)) for s in sizes)
        self._levels = [self._grids.index(size) for size in sizes]
        self.gain = nn.Parameter(torch.ones(1, width, 1, 1))
        self.head = nn.Conv2d(width, outputs, 3, padding=1)
        if classes:
            self.vectors = class_vectors(classes, width, _CLASS_SCALE)
            self.register_buffer("class_shares", torch.full((classes,), 1 / classes))

    @property
    def latents(self) -> list[tuple[int, int, int]]:
        """Shape (L, h, w) of every layer's latents."""
        return [layer.latents for layer in self.layers]  # type: ignore[misc]

    @property
    def levels(self) -> list[int]:
        """Number of every layer's grid, 0 for the coarsest."""
        return list(self._levels)

    def forward(self, count: int, kinds: torch.Tensor | None, choose: Choose) -> torch.Tensor:
        """Build ``count`` images.

        Args:
            count: B.
            kinds: Shares of the classes (B, classes), all 0 for whatever class; None without.
            choose: (number of the layer, the layer, what is built so far (B, width, h, w), what it
                expects) -> its latents (B, L, h, w).
        """
        x = self.starts[0].expand(count, -1, -1, -1)
        if kinds is not None:
            x = x + self.vectors(kinds)[:, :, None, None]
        level = 0
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            x, level = self._descend(x, level, self._levels[number])
            expected, more = layer.prior(x)
            z = choose(number, layer, x, expected)
            x = layer.absorb(x + more, z)
        x, _ = self._descend(x, level, len(self._grids) - 1)
        return self.head(x * self.gain)  # type: ignore[no-any-return]

    def _descend(self, x: torch.Tensor, level: int, wanted: int) -> tuple[torch.Tensor, int]:
        """To a finer grid, past those between."""
        for finer in range(level + 1, wanted + 1):
            x = interpolate(x, size=self._grids[finer], mode="nearest") + self.starts[finer]
        return x, wanted


def _bounded(mean: torch.Tensor, raw: torch.Tensor) -> Gaussians:
    """Gaussians in float32, of a log-variance softly bounded."""
    bound = _LOG_VARIANCE_BOUND
    return Gaussians(mean.float(), bound * torch.tanh(raw.float() / bound))
