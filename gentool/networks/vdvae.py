"""The networks of VDVAE: residual blocks between an image and latents on grids of every size.

Child 2021 (arXiv:2011.10650), section 3. The bottom-up network (``BottomUp``) computes features of
the image from the finest to the coarsest grid. The top-down network (``TopDown``) starts from a
constant on the coarsest grid and ends at the image. Each of its layers has latents on its grid: it
gives their prior (``prior``) and, with the features of the image, their posterior (``posterior``),
and adds them to the map (``absorb``). Blocks are bottlenecks without normalisation; the last
convolution of each has small initial weights, which makes the start of training stable.

The grids are those of the image's pyramid, and above them a 1x1 grid for the whole image.
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
_MIDDLE_SHARE, _MIN_CHANNELS = 4, 8  # inner channels of a block: width / 4, at least 8
_CLASS_SCALE = 0.1  # initial standard deviation of class vectors
_SMALL = 2  # grids up to this side have 1x1 kernels: a 3x3 kernel would mostly read padding


class Gaussians(NamedTuple):
    """Gaussians N(mean, exp(log_variance)) at every position of a grid.

    Attributes:
        mean: float32 (B, L, h, w).
        log_variance: float32 (B, L, h, w).
    """

    mean: torch.Tensor
    log_variance: torch.Tensor

    def at(self, noise: torch.Tensor) -> torch.Tensor:
        """Return mean + sigma * noise, (B, L, h, w)."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def noise_of(self, z: torch.Tensor) -> torch.Tensor:
        """Return (z - mean) / sigma, the inverse of ``at``."""
        return (z - self.mean) * torch.exp(-0.5 * self.log_variance)


Choose = Callable[[int, "Layer", torch.Tensor, Gaussians], torch.Tensor]


def spread(layers: int, sizes: list[Size]) -> list[Size]:
    """Distribute layers over grids; return the grid of every layer, coarsest first.

    Each grid gets one layer, from the coarsest on, as long as there are layers. The others are
    added so that each grid has about twice as many layers as the next coarser grid.
    """
    counts = [int(k < layers) for k in range(len(sizes))]
    while sum(counts) < layers:
        thin = [2**k / count for k, count in enumerate(counts)]
        counts[thin.index(max(thin))] += 1
    return [size for size, count in zip(sizes, counts, strict=True) for _ in range(count)]


def ladder(shape: ImageShape) -> list[Size]:
    """Return the sizes of all grids, coarsest first: (1, 1) and the image's pyramid."""
    return [(1, 1), *pyramid(shape)[::-1]]


class Bottleneck(nn.Module):
    """Four times GELU and convolution, narrow inside: (B, C, h, w) -> (B, outputs, h, w).

    Args:
        inputs: C.
        outputs: Output channels.
        size: Size of the grid.
        width: Channels of the whole network; the inner layers have a quarter, but at least 8.
        scale: Factor of the initial weights and bias of the last convolution.
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
        """Return maps (B, outputs, h, w), without a skip path."""
        return self.body(x)  # type: ignore[no-any-return]


class BottomUp(nn.Module):
    """Images (B, C, H, W) -> their features on every grid, (B, width, h, w) each.

    Args:
        shape: Shape of the images.
        width: Channels on every grid.
        counts: Number of blocks on every grid, coarsest first.
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
        """Return the features, (B, width, h, w) per grid, coarsest first."""
        x, seen = self.stem(images), []
        for size, blocks in zip(self._sizes[::-1], list(self.blocks)[::-1], strict=True):
            if x.shape[-2:] != size:
                x = x.mean(dim=(2, 3), keepdim=True) if size == (1, 1) else reduce(x, size)
            for block in cast("nn.ModuleList", blocks):
                x = x + block(x)
            seen.append(x)
        return seen[::-1]


class Layer(nn.Module):
    """One layer of the top-down network, with its own latents.

    Args:
        width: Channels of the whole network.
        latent_size: Latents per position.
        size: Size of its grid.
        layers: Number of layers of the top-down network, for the scale of initial weights.

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
        """Return the prior p(z | latents above) of a map x (B, width, h, w), and a map to add to x.

        At initialisation the prior is N(0, I) and the map to add is 0.
        """
        split = [*self.latents[:1] * 2, self._width]
        mean, raw, more = torch.split_with_sizes(self.expect(x), split, dim=1)
        return bounded(mean, raw), more

    def posterior(self, x: torch.Tensor, seen: torch.Tensor) -> Gaussians:
        """Return the posterior q(z | latents above, image).

        Args:
            x: The map so far, (B, width, h, w).
            seen: Features of the image on this grid, (B, width, h, w).
        """
        mean, raw = self.look(torch.cat([x, seen], dim=1)).chunk(2, dim=1)
        return bounded(mean, raw)

    def absorb(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return the map x (B, width, h, w), changed by the latents z (B, L, h, w)."""
        x = x + self.mix(z)
        return x + self.think(x)  # type: ignore[no-any-return]


class TopDown(nn.Module):
    """The top-down network: latents of every layer -> maps (B, outputs, H, W).

    Args:
        shape: Shape of the images.
        width: Channels on every grid.
        latent_size: Latents per position and layer.
        sizes: The grid of every layer, coarsest first; see ``spread``.
        outputs: Output channels.
        classes: Number of classes; 0 for an unconditional network.

    Attributes:
        class_shares: Relative frequencies of the classes, (classes,), if there are any.
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
        """The shape (L, h, w) of the latents of every layer."""
        return [layer.latents for layer in self.layers]  # type: ignore[misc]

    @property
    def levels(self) -> list[int]:
        """The index of the grid of every layer; 0 is the coarsest grid."""
        return list(self._levels)

    def forward(self, count: int, kinds: torch.Tensor | None, choose: Choose) -> torch.Tensor:
        """Compute maps (B, outputs, H, W) from latents that ``choose`` returns layer by layer.

        Args:
            count: B.
            kinds: Class weights (B, classes), all 0 for an unknown class; None if there are no
                classes.
            choose: (index of the layer, the layer, the map so far (B, width, h, w), its prior) ->
                its latents (B, L, h, w).
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
        """Enlarge the map x, grid by grid, from grid ``level`` to ``wanted``; return both."""
        for finer in range(level + 1, wanted + 1):
            x = interpolate(x, size=self._grids[finer], mode="nearest") + self.starts[finer]
        return x, wanted


def bounded(mean: torch.Tensor, raw: torch.Tensor) -> Gaussians:
    """Return float32 Gaussians whose log-variance is softly bounded to (-8, 8)."""
    bound = _LOG_VARIANCE_BOUND
    return Gaussians(mean.float(), bound * torch.tanh(raw.float() / bound))
