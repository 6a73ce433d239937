"""The VAE with an adversarial tail: continuous latents, and a discriminator that sharpens.

Larsen et al. 2016 (arXiv:1512.09300): beside the bound, reconstructions are judged in the features
of a discriminator, and the decoder plays against it. Their pixels keep their likelihood here, so
that the bound stays one, and both terms of the tail are weighted by their gradients (``tail``).
What is left out of the bound are the draws from N(0, I) as fakes: samples come from the fitted
prior, which lies elsewhere.

``gentool train vae-gan --data FOLDER``.
"""

from dataclasses import dataclass

import torch

from gentool.core.errors import UsageError
from gentool.core.images import ImageShape
from gentool.core.rng import Draw
from gentool.models.base import Batch, LossTerms, Phase
from gentool.models.vae.model import VAE
from gentool.models.vae.reconstruction_critic import TailConfig
from gentool.models.vae.regularisers import noisy

_CRITIC_DECAY = 0.1


class VAEGAN(VAE):
    """A VAE and its tail; the discriminator stays behind."""

    @dataclass(frozen=True)
    class Config(TailConfig, VAE.Config):
        """Options of ``vae-gan``."""

    def __init__(self, config: Config, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        if config.samples > 1:
            raise UsageError("a vae-gan's bound has one sample. Use -o samples=1, or train iwae")
        self.tail = config.open_tail(shape, config.width)

    def phases(self) -> tuple[Phase, ...]:
        """The VAE's turn, the discriminator's in the same span, and that of a learned prior."""
        turn, *later = super().phases()
        critic = Phase(
            "discriminator", self.tail.discriminator, self._critic_loss,
            span=turn.span, betas=(0.0, 0.99), decay=_CRITIC_DECAY,
        )  # fmt: skip
        return turn, critic, *later

    def _refine(
        self, images: torch.Tensor, params: torch.Tensor, error: torch.Tensor, draw: Draw
    ) -> LossTerms:
        """The tail's terms, with their slopes measured at what the decoder gives."""
        output = self.likelihood.mean(params)
        return self.tail.sharpen(images, output, error, draw.share, at=params)

    def _critic_loss(self, batch: Batch, draw: Draw) -> LossTerms:
        """The discriminator's turn, on images and reconstructions by draws of their posteriors."""
        images = self._observed(batch.images, draw)
        with torch.no_grad():
            posterior = self.posterior(noisy(images, self.config.denoise, draw))
            output = self.decode(posterior.draw(draw.normal("critic", self.length)))
        return self.tail.critic_loss(images, output, draw)
