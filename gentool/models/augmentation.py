"""Augmentation as functions of images and uniform numbers, reproducible from the sample index.

The module has two published policies and the single operations that they consist of, which also
serve as plain data augmentation. Every operation is affine in the pixels, so it can be used between
generator and discriminator and under a gradient penalty. Beyond the edges of an image its
reflection is read. The alpha channel moves with the image; colour operations do not change it. Only
``flip`` mirrors images, and only on request: mirrored letters and faces would leak into samples.

- DiffAugment (Zhao et al. 2020, arXiv:2006.10738, section 3.1): colour, translation, cutout.
- ADA (Karras et al. 2020, arXiv:2006.06676, appendix B): pixel blitting, geometric and colour
  transformations, each with probability p, which ``AdaptiveProbability`` adapts.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from gentool.core.distributed import batch_mean, sum_over_ranks
from gentool.core.registry import Entry, Registry
from gentool.models.affine import (
    compose,
    matrix,
    quarter_turns,
    rotation,
    scaling,
    translation,
    warp,
)

Numbers = Iterator[torch.Tensor]  # columns (B,) in [0, 1), each used once
Probability = float | torch.Tensor
Apply = Callable[[torch.Tensor, Numbers, Probability], torch.Tensor]

_SHIFT = 0.125  # fraction of a side, in both papers
_CUTOUT = 0.5  # DiffAugment: fraction of a side
_CROP = 0.8  # smallest fraction of a side that a crop keeps
_SCALE = 0.2  # ADA: standard deviation of log2 of a scale
_BRIGHTNESS = 0.2  # ADA, for images in [-1, 1]
_CONTRAST, _SATURATION = 0.5, 1.0  # ADA: standard deviations of log2


@dataclass(frozen=True)
class Augmentation:
    """One augmentation.

    Call it with images (B, C, H, W) in [-1, 1], numbers (B, size) in [0, 1) and the probability p
    of each of its steps; p = 0 returns the images unchanged, bit by bit.

    Attributes:
        size: Uniform numbers per image.
        apply: Function (images, columns of numbers, p) -> augmented images.
        keeps_levels: Whether it only moves whole pixels, so that every grey level of the result
            occurs in the image.
    """

    size: int
    apply: Apply
    keeps_levels: bool = False

    def __call__(
        self, images: torch.Tensor, numbers: torch.Tensor, p: Probability = 1.0
    ) -> torch.Tensor:
        """Return augmented images of the same shape, not clipped.

        Raises:
            ValueError: ``numbers`` is not of shape (B, size).
        """
        if numbers.shape != (len(images), self.size):
            raise ValueError(
                f"numbers have shape {tuple(numbers.shape)}, not {(len(images), self.size)}"
            )
        return self.apply(images, iter(numbers.unbind(1)), p)


def _gated(gate: torch.Tensor, p: Probability, value: torch.Tensor, neutral: float) -> torch.Tensor:
    """Return ``value`` where ``gate``, uniform in [0, 1), is below p, else ``neutral``."""
    return torch.where(gate < p, value, torch.full_like(value, neutral))


def _signed(u: torch.Tensor) -> torch.Tensor:
    """Map uniform numbers from [0, 1) to [-1, 1)."""
    return 2 * u - 1


def to_normal(u: torch.Tensor) -> torch.Tensor:
    """Map uniform numbers in [0, 1) to N(0, 1), by the inverse of its distribution function."""
    return math.sqrt(2) * torch.erfinv(_signed(u.clamp_min(2.0**-25)))


def _per_image(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]


def _split_alpha(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split images into colours and the alpha channel, which may have no channels."""
    colours = 3 if images.shape[1] == 4 else images.shape[1]
    return images[:, :colours], images[:, colours:]


# --- single operations ----------------------------------------------------------------------


def _flip(images: torch.Tensor, u: Numbers, p: Probability) -> torch.Tensor:
    """Mirror images left to right; half of them at p = 1."""
    gate, side = next(u), next(u)
    x = _gated(gate, p, torch.where(side < 0.5, 1.0, -1.0), 1.0)
    return warp(images, scaling(x, torch.ones_like(x)), nearest=True)


def _crop(images: torch.Tensor, u: Numbers, p: Probability) -> torch.Tensor:
    """Enlarge a window of 0.8 to 1 of each side, anywhere in the image."""
    gate, size, right, down = next(u), next(u), next(u), next(u)
    side = _gated(gate, p, 1 - (1 - _CROP) * size, 1.0)
    height, width = images.shape[2:]
    x = _signed(right) * (1 - side) / 2 * (width - 1)
    y = _signed(down) * (1 - side) / 2 * (height - 1)
    return warp(images, compose(translation(-x, -y), scaling(1 / side, 1 / side)))


def _colour(images: torch.Tensor, u: Numbers, p: Probability) -> torch.Tensor:
    """Add +-0.5 brightness, scale saturation by 0 to 2, contrast by 0.5 to 1.5 (DiffAugment)."""
    gate, brightness, saturation, contrast = next(u), next(u), next(u), next(u)
    colours, alpha = _split_alpha(images)
    out = colours + _per_image(_gated(gate, p, brightness - 0.5, 0.0))
    factors = ((2 * saturation, (1,)), (contrast + 0.5, (1, 2, 3)))
    for factor, dims in factors:
        # As x + (k - 1)(x - mean), which is exactly x for k = 1.
        excess = _per_image(_gated(gate, p, factor - 1, 0.0))
        out = out + excess * (out - out.mean(dim=dims, keepdim=True))
    return torch.cat([out, alpha], dim=1)


def _translation(images: torch.Tensor, u: Numbers, p: Probability) -> torch.Tensor:
    """Shift images by whole pixels, up to an eighth of a side (DiffAugment)."""
    gate, right, down = next(u), next(u), next(u)
    height, width = images.shape[2:]
    x = _gated(gate, p, (_signed(right) * _SHIFT * width).round(), 0.0)
    y = _gated(gate, p, (_signed(down) * _SHIFT * height).round(), 0.0)
    return warp(images, translation(x, y), nearest=True)


def _cutout(images: torch.Tensor, u: Numbers, p: Probability) -> torch.Tensor:
    """Set a rectangle of half of each side to 0, mid-grey and half transparent (DiffAugment)."""
    gate, right, down = next(u), next(u), next(u)
    inside = _per_image(gate < p)
    for dim, centre in ((3, right), (2, down)):
        size = images.shape[dim]
        cut = round(_CUTOUT * size)
        first = _per_image((centre * (size + 1)).floor()) - cut // 2
        at = torch.arange(size, device=images.device).view(
            [-1 if d == dim else 1 for d in range(4)]
        )
        inside = inside & (at >= first) & (at < first + cut)
    return images * (~inside).to(images.dtype)


# --- ADA ------------------------------------------------------------------------------------


def _ada_geometry(images: torch.Tensor, u: Numbers, p: Probability) -> torch.Tensor:
    """Apply pixel blitting (without flips) and general geometric transformations as one map.

    Interpolation is bilinear; the paper's wavelet filter, which also smooths before shrinking, is
    left out.
    """
    height, width = images.shape[2:]
    gate, turns = next(u), next(u)
    # An image that is not square is rotated by 0 or 180 degrees only.
    count = torch.floor(4 * turns) if height == width else 2 * torch.floor(2 * turns)
    maps = [quarter_turns(_gated(gate, p, count, 0.0))]
    gate, right, down = next(u), next(u), next(u)
    x = _gated(gate, p, (_signed(right) * _SHIFT * width).round(), 0.0)
    y = _gated(gate, p, (_signed(down) * _SHIFT * height).round(), 0.0)
    maps.append(translation(x, y))
    # At least one of the two rotations happens with probability p.
    p_rotation = 1 - (1 - p) ** 0.5
    for uneven in (False, True):
        gate, size = next(u), next(u)
        factor = torch.exp2(_gated(gate, p, _SCALE * to_normal(size), 0.0))
        maps.append(scaling(factor, 1 / factor if uneven else factor))
        gate, angle = next(u), next(u)
        maps.append(rotation(_gated(gate, p_rotation, math.pi * _signed(angle), 0.0)))
    gate, right, down = next(u), next(u), next(u)
    x = _gated(gate, p, _SHIFT * width * to_normal(right), 0.0)
    y = _gated(gate, p, _SHIFT * height * to_normal(down), 0.0)
    maps.append(translation(x, y))
    return warp(images, compose(*maps))


def _about_grey(along: torch.Tensor, across: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Return colour maps (B, 3, 3) that scale along and across the grey axis and rotate about it.

    The maps are along v v^T + across (cos I' + sin [v]x), with the grey axis v = (1, 1, 1) /
    sqrt(3) and I' = I - v v^T (Rodrigues' formula).

    Args:
        along: Factor along the axis, (B,).
        across: Factor across the axis, (B,).
        turn: Angle about the axis in radians, (B,).
    """
    cos, sin = across * torch.cos(turn), across * torch.sin(turn) / math.sqrt(3)
    common = (along - cos) / 3
    up, down = common + sin, common - sin
    same = common + cos
    return matrix(same, down, up, up, same, down, down, up, same)


def _ada_colour(images: torch.Tensor, u: Numbers, p: Probability) -> torch.Tensor:
    """Apply brightness, contrast, luma flip, hue and saturation as one 3x3 colour map."""
    brightness = _gated(next(u), p, _BRIGHTNESS * to_normal(next(u)), 0.0)
    contrast = torch.exp2(_gated(next(u), p, _CONTRAST * to_normal(next(u)), 0.0))
    luma = _gated(next(u), p, torch.where(next(u) < 0.5, 1.0, -1.0), 1.0)
    hue = _gated(next(u), p, math.pi * _signed(next(u)), 0.0)
    saturation = torch.exp2(_gated(next(u), p, _SATURATION * to_normal(next(u)), 0.0))
    # All five scale or rotate about the grey axis, so their product is one such map. Their order
    # does not matter, except that brightness, a shift along the axis, comes first.
    along = contrast * luma
    offset = _per_image(along * brightness).to(images.dtype)
    colours, alpha = _split_alpha(images)
    if colours.shape[1] == 1:
        return colours * _per_image(along).to(images.dtype) + offset
    maps = _about_grey(along, contrast * saturation, hue).to(images.dtype)
    mixed = (maps[:, :, :, None, None] * colours[:, None]).sum(dim=2)
    return torch.cat([mixed + offset, alpha], dim=1)


def chain(*parts: Augmentation) -> Augmentation:
    """Return one augmentation that applies ``parts`` in order, each with its own numbers."""
    keeps_levels = all(part.keeps_levels for part in parts)
    return Augmentation(sum(part.size for part in parts), partial(_in_turn, parts), keeps_levels)


def _in_turn(
    parts: tuple[Augmentation, ...], images: torch.Tensor, u: Numbers, p: Probability
) -> torch.Tensor:
    """Return images after all ``parts``, applied in order."""
    for part in parts:
        images = part.apply(images, u, p)
    return images


_COLOUR, _TRANSLATION = Augmentation(4, _colour), Augmentation(3, _translation, keeps_levels=True)
_CUT = Augmentation(3, _cutout)
_GEOMETRY, _ADA_COLOUR = Augmentation(16, _ada_geometry), Augmentation(10, _ada_colour)

AUGMENTATIONS: Registry[Augmentation] = Registry(
    "augmentation",
    "gentool list augmentations",
    {
        "flip": Entry(
            "mirror half of the images left to right",
            lambda: Augmentation(2, _flip, keeps_levels=True),
        ),
        "crop": Entry("random window of 0.8 to 1 of each side", lambda: Augmentation(4, _crop)),
        "colour": Entry("DiffAugment: brightness, saturation, contrast", lambda: _COLOUR),
        "translation": Entry("DiffAugment: shifts up to an eighth of a side", lambda: _TRANSLATION),
        "cutout": Entry("DiffAugment: a grey square of half of each side", lambda: _CUT),
        "diffaugment": Entry(
            "DiffAugment (Zhao 2020): colour, translation, cutout",
            lambda: chain(_COLOUR, _TRANSLATION, _CUT),
        ),
        "ada-geometry": Entry("ADA: quarter turns, shifts, scales, rotations", lambda: _GEOMETRY),
        "ada-colour": Entry(
            "ADA: brightness, contrast, luma, hue, saturation", lambda: _ADA_COLOUR
        ),
        "ada": Entry(
            "ADA (Karras 2020) without flips: geometry and colour",
            lambda: chain(_GEOMETRY, _ADA_COLOUR),
        ),
    },
)


def open_augmentation(names: str) -> Augmentation:
    """Return the augmentation of a list of names such as ``flip+diffaugment``.

    Raises:
        UnknownName: a name is not in ``AUGMENTATIONS``.
    """
    return chain(*(AUGMENTATIONS.get(name) for name in names.split("+")))


class AdaptiveProbability(nn.Module):
    """ADA's controller: it raises p while the discriminator overfits its training images.

    Karras et al. 2020, section 3.1: r_t = E[sign D(x)] over the real images of ``interval`` steps
    is compared with the target. If it is above, p rises by a fixed step, if below, p falls by it;
    the step is such that p could go from 0 to 1 in ``images`` images. With relativistic losses the
    logits have an arbitrary offset: if the logits of generated images are given too, the sign is
    taken relative to the midpoint of both means.

    Args:
        images: Real images that p needs from 0 to 1 (the paper: 500,000).
        target: Target of r_t.
        limit: Largest p; beyond 0.8 augmentations leak into the samples (ibid., Fig. 4).
        interval: Steps between two changes of p.

    Attributes:
        p: The present probability, a scalar buffer.
        overfit: r_t at the last change, a scalar buffer.
    """

    p: torch.Tensor
    overfit: torch.Tensor
    signs: torch.Tensor
    count: torch.Tensor

    def __init__(
        self, images: float = 500_000, target: float = 0.6, limit: float = 0.8, interval: int = 4
    ) -> None:
        super().__init__()
        self.images, self.target, self.limit, self.interval = images, target, limit, interval
        for name in ("p", "overfit", "signs", "count"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def update(self, step: int, real: torch.Tensor, fake: torch.Tensor | None = None) -> None:
        """Add the logits of one step of the discriminator; change p every ``interval`` steps.

        Args:
            step: Number of the step, from 0.
            real: Logits of real images, (B,).
            fake: Logits of generated images, (B,), or None.
        """
        middle = 0.0 if fake is None else (batch_mean(real.float()) + batch_mean(fake.float())) / 2
        self.signs += sum_over_ranks(torch.sign(real.float() - middle).sum())
        self.count += sum_over_ranks(torch.full_like(self.count, len(real)))
        if (step + 1) % self.interval:
            return
        self.overfit.copy_(self.signs / self.count)
        move = torch.sign(self.overfit - self.target) * self.count / self.images
        self.p.copy_((self.p + move).clamp(0.0, self.limit))
        self.signs.zero_()
        self.count.zero_()
