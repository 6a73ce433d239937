"""The VAE with a discriminator that sharpens its reconstructions.

Larsen et al. 2016 (arXiv:1512.09300): besides the bound, reconstructions are compared in the
features of a discriminator, and the decoder is trained against it. Unlike in the paper, pixels keep
their likelihood, so that the bound remains valid, and both added terms are weighted by their
gradients (``reconstruction_critic``). Decoded draws from N(0, I) are not used as generated images,
since samples come from the fitted prior, which differs from N(0, I).

``gentool train vae-gan --data FOLDER`` trains this model.
"""

from dataclasses import dataclass

import torch

from gentool.core.errors import UsageError
from gentool.core.images import ImageShape
from gentool.core.options import option
from gentool.core.rng import Draw
from gentool.models.base import Batch, LossTerms, Phase
from gentool.models.vae.model import VAE
from gentool.models.vae.options import VAEConfig
from gentool.models.vae.reconstruction_critic import TailConfig
from gentool.models.vae.regularisers import noisy

_CRITIC_DECAY = 0.1


@dataclass(frozen=True)
class VAEGANConfig(TailConfig, VAEConfig):
    """Options of ``vae-gan``."""

    width: int = option(
        32, "channels of the widest grid; scales the whole model", low=1, high=1024
    )  # of the discriminator too, so it has an effect beside dense layers


class VAEGAN(VAE):
    """A VAE and a discriminator, which is not part of the model file."""

    Config = VAEGANConfig

    def __init__(self, config: VAEGANConfig, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        if config.samples > 1:
            raise UsageError(
                "the bound of a vae-gan has one sample. Use -o samples=1, or train iwae"
            )
        self.tail = config.open_tail(shape, config.width)

    def phases(self) -> tuple[Phase, ...]:
        """Return the VAE's phase, the discriminator's in the same span, and a learned prior's."""
        turn, *later = super().phases()
        critic = Phase(
            "discriminator", self.tail.discriminator, self._critic_loss,
            span=turn.span, betas=(0.0, 0.99), decay=_CRITIC_DECAY,
        )  # fmt: skip
        return turn, critic, *later

    def refine(
        self, images: torch.Tensor, params: torch.Tensor, error: torch.Tensor, draw: Draw
    ) -> LossTerms:
        """Return the discriminator's terms, weighted by gradients at the decoder's output."""
        output = self.likelihood.mean(params)
        return self.tail.sharpen(images, output, error, draw.share, at=params)

    def _critic_loss(self, batch: Batch, draw: Draw) -> LossTerms:
        """Return the discriminator's loss on images and their reconstructions.

        The reconstructions are decoded from draws of the posteriors.
        """
        images = self.observed(batch.images, draw)
        with torch.no_grad():
            posterior = self.posterior(noisy(images, self.config.denoise, draw))
            output = self.decode(posterior.draw(draw.normal("critic", self.length)))
        return self.tail.critic_loss(images, output, draw)
