"""The networks of FastGAN, for few images (Liu et al. 2021, arXiv:2101.04775).

The generator upsamples with gated linear units. The map of a coarse grid gates the channels of the
grid that is four doublings finer ("skip-layer excitation", Eq. 1), or of the finest grid in smaller
images. The discriminator is also trained as an encoder (section 3.2): small decoders reconstruct
the whole image from its 8x8 map and one quadrant from its 16x16 map.

Differences from the paper: the discriminator has no batch normalisation and computes its logit from
the mean over patches, and the generator adds no noise.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, glu, interpolate, leaky_relu

from gentool.core.images import ImageShape
from gentool.networks.convnet import normalisation, pyramid
from gentool.networks.parts import ClassInput, ProjectionHead
from gentool.networks.resampling import Size, enlarge, reduce
from gentool.networks.spectral import add_spectral_norm

_LEAK = 0.2
_SPAN = 4  # doublings between the grid that a gate reads and the grid that it scales
_POOLED = 4  # side of the pooled map from which a gate is computed
_DECODED = 4  # doublings from the 8x8 map to the reconstruction of the whole image
_FULL = 7  # grids of a 256x256 image; larger images are halved by the first convolution
# Channels per grid, coarsest first, as multiples of the width, as in the published networks.
_GENERATOR = (16, 8, 4, 2, 2, 1, 1 / 2, 1 / 4)
_DISCRIMINATOR = (16, 16, 8, 4, 2, 1, 1 / 2, 1 / 4)


def _channels(width: int, multiples: tuple[float, ...], levels: int) -> list[int]:
    return [max(int(width * m), 4) for m in multiples[:levels]]


class GatedConvolution(nn.Module):
    """3x3 convolution, normalisation, gated linear unit: (B, before, ...) -> (B, after, ...)."""

    def __init__(self, before: int, after: int, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, 2 * after, 3, padding=1)
        self.norm = normalisation(norm, 2 * after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, before, H, W) to (B, after, H, W)."""
        return glu(self.norm(self.conv(x)), dim=1)


class Excitation(nn.Module):
    """Gates in (0, 1) for each channel of a fine map, computed from a coarse map (Eq. 1)."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(coarse, fine, _POOLED), nn.SiLU(), nn.Conv2d(fine, fine, 1), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, coarse, h, w) to gates (B, fine, 1, 1)."""
        height, width = x.shape[2:]
        x = avg_pool2d(x, (height // _POOLED, width // _POOLED))
        if x.shape[2:] != (_POOLED, _POOLED):  # a base grid that is no power of two
            x = enlarge(x, (_POOLED, _POOLED))
        return self.body(x)  # type: ignore[no-any-return]


class Generator(nn.Module):
    """Latents (B, L), labels (B,) -> maps (B, C, H, W), unbounded.

    Args:
        shape: Shape of the images.
        width: Channels at 128x128; 64 in the paper.
        latent_size: L; 256 in the paper.
        classes: Number of classes; 0 for an unconditional generator.
        spectral: Divide all weights by their largest singular value.
    """

    def __init__(
        self,
        shape: ImageShape,
        width: int,
        latent_size: int,
        classes: int = 0,
        *,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        self.sizes: list[Size] = pyramid(shape)[::-1]
        channels = _channels(width, _GENERATOR, len(self.sizes))
        self.input = ClassInput(latent_size, classes)
        self.base = (2 * channels[0], *self.sizes[0])
        self.stem = nn.Linear(self.input.size, self.base[0] * self.base[1] * self.base[2])
        self.norm = nn.BatchNorm2d(self.base[0])
        self.stages = nn.ModuleList()
        for k, (before, after) in enumerate(pairwise(channels)):
            layers = [GatedConvolution(before, after, "batch")]
            if k % 2 == 0:  # every other grid has a second convolution
                layers.append(GatedConvolution(after, after, "batch"))
            self.stages.append(nn.Sequential(*layers))
        self.span = min(_SPAN, len(self.sizes) - 1)
        self.gates = nn.ModuleList(
            Excitation(coarse, fine)
            for coarse, fine in zip(channels, channels[self.span :], strict=False)
        )
        self.to_image = nn.Conv2d(channels[-1], shape.channels, 3, padding=1)
        if spectral:
            add_spectral_norm(self)

    def forward(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return maps (B, C, H, W) of latents (B, L) and labels int64 (B,)."""
        x = self.stem(self.input(latents, labels)).view(-1, *self.base)
        maps = [glu(self.norm(x), dim=1)]
        for k, (stage, size) in enumerate(zip(self.stages, self.sizes[1:], strict=True), start=1):
            x = stage(interpolate(maps[-1], size=size))
            if k >= self.span:
                x = x * self.gates[k - self.span](maps[k - self.span])
            maps.append(x)
        return self.to_image(maps[-1])  # type: ignore[no-any-return]


class DownBlock(nn.Module):
    """Halve the grid in two ways and average: two convolutions; pooling and a 1x1 convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.halve = nn.Conv2d(before, after, 4, 2, 1)
        self.conv = nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, before, H, W) to (B, after, H / 2, W / 2), rounded down."""
        y = self.halve(x)
        direct = self.skip(reduce(x, (y.shape[2], y.shape[3])))
        y = leaky_relu(self.conv(leaky_relu(y, _LEAK)), _LEAK)
        return (y + leaky_relu(direct, _LEAK)) / 2


class _SimpleDecoder(nn.Module):
    """Upsample through the grids ``sizes`` by gated convolutions, to an image in (-1, 1)."""

    def __init__(self, before: int, width: int, sizes: list[Size], colours: int) -> None:
        super().__init__()
        self.sizes = sizes
        channels = [before, *(max(width >> k, 4) for k in range(len(sizes)))]
        self.stages = nn.ModuleList(GatedConvolution(a, b, "group") for a, b in pairwise(channels))
        self.to_image = nn.Conv2d(channels[-1], colours, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, before, h, w) to (B, colours, *sizes[-1])."""
        for stage, size in zip(self.stages, self.sizes, strict=True):
            x = stage(interpolate(x, size=size))
        return torch.tanh(self.to_image(x))


def quadrant(x: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Return one quarter of each map, (B, C, H / 2, W / 2) rounded down.

    Args:
        x: (B, C, H, W).
        which: int64 (B,) in {0, 1, 2, 3}: top left, top right, bottom left, bottom right.
    """
    height, width = x.shape[2] // 2, x.shape[3] // 2
    right, bottom = (which % 2 == 1)[:, None, None, None], (which >= 2)[:, None, None, None]
    x = torch.where(bottom, x[:, :, -height:], x[:, :, :height])
    return torch.where(right, x[..., -width:], x[..., :width])


class Discriminator(nn.Module):
    """Images (B, C, H, W), labels (B,) -> logits (B,), with a projection if there are classes.

    One branch reads the image, the other branch the image at half the resolution. Both end at the
    8x8 grid; their means over its positions are the penultimate vector.

    Args:
        shape: Shape of the images.
        width: As in ``Generator``.
        classes: Number of classes; 0 for an unconditional discriminator.
        spectral: Divide all weights by their largest singular value.
    """

    def __init__(
        self, shape: ImageShape, width: int, classes: int = 0, *, spectral: bool = True
    ) -> None:
        super().__init__()
        self.sizes: list[Size] = pyramid(shape)
        levels = len(self.sizes)
        channels = _channels(width, _DISCRIMINATOR, levels)[:0:-1]  # down to the 8x8 grid
        halved = levels > _FULL
        if halved:
            channels = channels[1:]
        kernel, stride = (4, 2) if halved else (3, 1)
        self.stem = nn.Conv2d(shape.channels, channels[0], kernel, stride, 1)
        self.downs = nn.ModuleList(DownBlock(a, b) for a, b in pairwise(channels))
        last = channels[-1]
        self.patches = nn.Conv2d(last, last, 3, padding=1)
        small = channels[1 - halved :]
        layers: list[nn.Module] = [nn.Conv2d(shape.channels, small[0], 3, padding=1)]
        for a, b in pairwise(small):
            layers += [nn.LeakyReLU(_LEAK), nn.Conv2d(a, b, 4, 2, 1)]
        self.small = nn.Sequential(
            *layers, nn.LeakyReLU(_LEAK), nn.Conv2d(last, last, 3, padding=1)
        )
        self.head = ProjectionHead(2 * last, classes)
        # Levels of ``sizes``: of the whole image's reconstruction, and of the image from which the
        # quadrant is cut.
        self.whole = max(levels - 2 - _DECODED, 0)
        self.quarter = max(self.whole - 1, 0)
        quarters = [(h // 2, w // 2) for h, w in self.sizes[self.quarter : levels - 3]]
        self.decode_whole = _SimpleDecoder(
            last, width, self.sizes[self.whole : levels - 2][::-1], shape.channels
        )
        self.decode_quarter = _SimpleDecoder(channels[-2], width, quarters[::-1], shape.channels)
        if spectral:
            add_spectral_norm(self)

    def _maps(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the maps on the 16x16 grid and on the 8x8 grid."""
        before = x = leaky_relu(self.stem(images), _LEAK)
        for down in self.downs:
            before, x = x, down(x)
        return before, x

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the means over the positions of both branches, (B, 2 * 16 * width)."""
        patches = self.patches(self._maps(images)[1])
        small = self.small(reduce(images, self.sizes[1]))
        # The mean comes after the last non-linearity, so that the linear head gives the mean of
        # the logits of all patches.
        means = [leaky_relu(x, _LEAK).mean(dim=(2, 3)) for x in (patches, small)]
        return torch.cat(means, dim=1)

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits (B,), float32."""
        return self.head(self.features(images), labels)  # type: ignore[no-any-return]

    def reconstructions(
        self, images: torch.Tensor, quadrants: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        """Reconstruct images by the decoders and return each result with its target.

        Args:
            images: (B, C, H, W) in [-1, 1].
            quadrants: int64 (B,) in {0, 1, 2, 3}: the quarter to decode from the 16x16 map.

        Returns:
            (decoded, target) of the whole image and of the quarter; decoded is in (-1, 1), target
            in [-1, 1].
        """
        fine, coarse = self._maps(images)
        targets = [images]
        for size in self.sizes[1 : self.whole + 1]:
            targets.append(reduce(targets[-1], size))
        return (
            (self.decode_whole(coarse), targets[self.whole]),
            (
                self.decode_quarter(quadrant(fine, quadrants)),
                quadrant(targets[self.quarter], quadrants),
            ),
        )
