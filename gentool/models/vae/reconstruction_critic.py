"""A discriminator that sharpens the reconstructions of an autoencoder (the adversarial tail).

Larsen et al. 2016 (arXiv:1512.09300): distances in its features measure the similarity of images
better than distances of pixels. Esser et al. 2021 (arXiv:2012.09841), Eq. 6 and 7: the decoder is
trained against it, with a weight that makes the gradient of the adversarial loss proportional to
that of the reconstruction error. Here both terms are weighted in this way, separately for each
image, by their gradients at its pixels.
"""

from dataclasses import dataclass

import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.core.options import option
from gentool.core.rng import Draw
from gentool.models.base import LossTerms
from gentool.models.gan.losses import LOSSES
from gentool.models.gan.penalties import CriticTurn
from gentool.models.gan.penalty_list import Penalties
from gentool.models.gan.penalty_weight import ImageVariance
from gentool.networks.patches import PatchDiscriminator

_PENALTY_EVERY = 8  # interval of R1 and R2 in steps; their weight is multiplied by it
_FLAT = 1e-6  # least gradient norm in a weight, so that the weight of a flat term stays bounded
_TINY = 1e-8
_RAMP = (0.25, 0.5)  # part of the span in which the adversarial weight rises; D always learns


@dataclass(frozen=True)
class Pulls:
    """Gradient norms of the added terms, relative to that of the reconstruction error.

    Attributes:
        features: For the distance in features.
        adversarial: For the adversarial loss.
    """

    features: float
    adversarial: float


def _unheard(config: "TailConfig") -> str | None:
    if config.features or config.adversarial:
        return None
    return "with features=0 and adversarial=0, nothing learns from the discriminator. Leave it out"


@dataclass(frozen=True)
class TailConfig:
    """Options of a discriminator that sharpens reconstructions."""

    features: float = option(
        1.0,
        "weight of the loss on discriminator features, relative to the pixel loss",
        low=0,
        high=100,
    )
    adversarial: float = option(
        0.5, "weight of the adversarial loss, relative to the pixel loss", low=0, high=100
    )
    loss: str = option("hinge", "adversarial loss", choices=LOSSES, idle=_unheard)
    penalty: float = option(
        1.0, "weight gamma of R1 and R2 (0: none)", low=0, high=1e4, idle=_unheard
    )

    def open_tail(self, shape: ImageShape, width: int) -> "Tail":
        """Build the discriminator and its losses, for images of this shape."""
        pulls = Pulls(self.features, self.adversarial)
        return Tail(shape, width, self.loss, self.penalty, pulls)


class Tail(nn.Module):
    """Discriminator, its penalties, and the losses of discriminator and decoder.

    Args:
        shape: Shape of the images.
        width: Width of the discriminator.
        loss: Name of the adversarial loss.
        gamma: Weight of R1 and R2, for images of variance 768 (``penalty_weight``).
        pulls: Relative gradient norms of the two terms that it adds to the autoencoder's loss.
    """

    def __init__(
        self, shape: ImageShape, width: int, loss: str, gamma: float, pulls: Pulls
    ) -> None:
        super().__init__()
        self.discriminator = PatchDiscriminator(shape, width)
        self.variance = ImageVariance()
        self._pulls = pulls
        self._game = LOSSES.get(loss)
        slopes = ("r1", "r2")
        self.penalties = Penalties(
            "r1+r2", dict.fromkeys(slopes, gamma), dict.fromkeys(slopes, _PENALTY_EVERY)
        )

    def sharpen(
        self, real: torch.Tensor, fake: torch.Tensor, error: torch.Tensor, progress: float,
        at: torch.Tensor | None = None,
    ) -> LossTerms:  # fmt: skip
        """Return what is added to the autoencoder's loss.

        Args:
            real: Images (B, C, H, W).
            fake: Their reconstructions, with graph.
            error: The reconstruction error whose gradients set the weights, (B,), with graph.
            progress: Fraction of the autoencoder's span that is over; the adversarial term rises
                from 0.25 to 0.5 of it.
            at: What gradients are taken at, (B, ...), from which both ``fake`` and ``error`` are
                computed; ``fake`` if None.

        Returns:
            The sum of both weighted terms (B,), and the unweighted terms by name.
        """
        judge = self.discriminator.judge
        with torch.no_grad():
            real_maps = self.discriminator.features(real)
            real_logits = judge(real_maps[-1])
        fake_maps = self.discriminator.features(fake)
        distances = [relative_distance(a, b) for a, b in zip(fake_maps, real_maps, strict=True)]
        game = self._game.generator(real_logits, judge(fake_maps[-1])).mean(dim=1)
        begin, end = _RAMP
        ramp = min(max((progress - begin) / (end - begin), 0.0), 1.0)
        terms = {
            "features": (torch.stack(distances).mean(dim=0), self._pulls.features),
            "adversarial": (game, ramp * self._pulls.adversarial),
        }
        at = fake if at is None else at
        total, slope = torch.zeros_like(error), slope_at(error, at)
        for term, pull in terms.values():
            if pull > 0:
                weight = pull * slope / slope_at(term, at).clamp_min(_FLAT)
                total = total + weight * term
        return LossTerms(total, {name: term.detach() for name, (term, _) in terms.items()})

    def critic_loss(self, real: torch.Tensor, fake: torch.Tensor, draw: Draw) -> LossTerms:
        """Return the discriminator's loss on images and their reconstructions, (B, C, H, W)."""
        self.variance.update(real)
        leaves = self.penalties.leaves(draw.step)
        real = real.detach().requires_grad_("real" in leaves)
        fake = fake.detach().requires_grad_("fake" in leaves)
        logits = (self.discriminator(real), self.discriminator(fake))
        means = (logits[0].mean(dim=1), logits[1].mean(dim=1))
        more = self.penalties(
            CriticTurn(self._mean_logit, real, fake, *means, draw), self.variance.factor
        )
        loss = self._game.critic(*logits).mean(dim=1)
        parts = {"d_loss": loss, "margin": means[0] - means[1], **more.parts}
        return LossTerms(loss + more.total, parts)

    def _mean_logit(
        self, images: torch.Tensor, labels: torch.Tensor | None, use: str = "other"
    ) -> torch.Tensor:
        return self.discriminator(images).mean(dim=1)  # type: ignore[no-any-return]


def relative_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return mean |a - b| / mean |b| of maps (B, ...), float32, shape (B,)."""
    a, b = a.float().flatten(1), b.float().flatten(1)
    return (a - b).abs().mean(dim=1) / (b.abs().mean(dim=1) + _TINY)


def slope_at(term: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return ||grad_x term|| per image, (B,), float32, without graph.

    Args:
        term: (B,), computed from ``images``.
        images: x, (B, ...).
    """
    (gradient,) = torch.autograd.grad(term.sum(), images, retain_graph=True)
    norms: torch.Tensor = torch.linalg.vector_norm(gradient.float().flatten(1), dim=1)
    return norms
