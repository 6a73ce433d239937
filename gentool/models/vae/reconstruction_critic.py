"""The adversarial tail: a discriminator that sharpens an autoencoder's reconstructions.

Larsen et al. 2016 (arXiv:1512.09300): its features measure how alike two images are, better than
their pixels do. Esser et al. 2021 (arXiv:2012.09841), Eq. 6 and 7: it plays against the decoder,
with a weight that sets its gradient in proportion to that of the reconstruction. Here both terms
are weighted so, for each image by itself, by their gradients at its pixels.
"""

from dataclasses import dataclass

import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.core.options import option
from gentool.core.rng import Draw
from gentool.models.base import LossTerms
from gentool.models.gan.losses import LOSSES
from gentool.models.gan.penalties import CriticTurn, Penalties
from gentool.models.gan.penalty_weight import ImageVariance
from gentool.networks.patches import PatchDiscriminator

_PENALTY_EVERY = 8  # steps between R1 and R2, whose weight makes up for it
_FLAT = 1e-6  # the least slope that a term counts as having, so that a flat one is not blown up
_TINY = 1e-8
_RAMP = (0.25, 0.5)  # share of the span over which the game comes in; D learns from the start


@dataclass(frozen=True)
class Pulls:
    """Slopes at the pixels, as shares of the reconstruction's: of features, and of the game."""

    features: float
    adversarial: float


@dataclass(frozen=True)
class TailConfig:
    """Options of models with a tail."""

    features: float = option(
        1.0, "pull of D's features, as a share of the pixels'", low=0, high=100
    )
    adversarial: float = option(
        0.5, "pull of the game against D, as a share of the pixels'", low=0, high=100
    )
    loss: str = option("hinge", "the game that is played", choices=LOSSES)
    penalty: float = option(1.0, "gamma of R1 and R2 (0: without them)", low=0, high=1e4)

    def open_tail(self, shape: ImageShape, width: int) -> "Tail":
        """The tail, for images of this shape, with a discriminator of this width."""
        pulls = Pulls(self.features, self.adversarial)
        return Tail(shape, width, self.loss, self.penalty, pulls)


class Tail(nn.Module):
    """Discriminator, its penalties and both players' losses.

    Args:
        shape: Shape of the images.
        width: Of the discriminator.
        loss: Name of the game.
        gamma: Weight of R1 and R2, for images of common variance.
        pulls: Of the two terms that it adds to the autoencoder's loss.
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
        """What is added to the autoencoder's loss.

        Args:
            real: Images (B, C, H, W).
            fake: Their reconstructions, with graph.
            error: The reconstruction error that the terms are weighted by, (B,), with graph.
            progress: How much of the autoencoder's span is over; the game comes in on the way.
            at: What slopes are measured at, (B, ...), from which both ``fake`` and ``error`` are
                computed; the reconstructions themselves if None.

        Returns:
            The sum of both weighted terms, and both as they are.
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
        """The discriminator's turn on images and their reconstructions, (B, C, H, W)."""
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
    """Mean |a - b| / mean |b| of maps (B, ...), float32, shape (B,)."""
    a, b = a.float().flatten(1), b.float().flatten(1)
    return (a - b).abs().mean(dim=1) / (b.abs().mean(dim=1) + _TINY)


def slope_at(term: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """||grad_x term|| per image x, (B,), as a number, of a term (B,) computed from x (B, ...)."""
    (gradient,) = torch.autograd.grad(term.sum(), images, retain_graph=True)
    norms: torch.Tensor = torch.linalg.vector_norm(gradient.float().flatten(1), dim=1)
    return norms
