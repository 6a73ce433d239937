"""The generative adversarial network: a generator and a discriminator as a two-player game.

Goodfellow et al. 2014 (arXiv:1406.2661): min_G max_D E[log D(x)] + E[log(1 - D(G(z)))]. The
discriminator takes the first turn of a step, the generator the second. Which loss they play
is an entry of ``adversarial``; R1 and R2 (Mescheder et al. 2018) keep the game stable and are
applied lazily, every few steps with the weight raised to match (Karras et al. 2020).

``gentool train gan --data FOLDER -o loss=minimax -o penalty=0`` plays Eq. 1 as printed.
"""

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from gentool.config import option
from gentool.images import ImageShape
from gentool.models.adversarial import LOSSES, squared_gradient_norm
from gentool.models.base import BaseConfig, Batch, LossTerms, Model, Phase
from gentool.models.priors import draw_normal
from gentool.networks.convnet import Decoder, Encoder
from gentool.rng import Draw

_DECAY = 0.1  # share of the learning rate left at the end; the averages then settle
_BETAS = (0.0, 0.99)  # no momentum: the game turns, and momentum overshoots (Mescheder 2018)


class Generator(nn.Module):
    """z (B, L) -> images (B, C, H, W) in (-1, 1)."""

    def __init__(self, shape: ImageShape, width: int, latent_size: int, norm: str) -> None:
        super().__init__()
        self.net = Decoder(shape, width, latent_size, shape.channels, norm)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Images of latents."""
        return torch.tanh(self.net(latents).float())


class GAN(Model):
    """Generator and discriminator; only the generator is exported."""

    exported = ("generator",)

    @dataclass(frozen=True)
    class Config(BaseConfig):
        """Options of ``gan``."""

        width: int = option(
            48, "channels of the widest grid; scales both networks", low=1, high=1024
        )
        latent_size: int = option(128, "length of z", low=1, high=4096)
        loss: str = option("relativistic", "the game that is played", choices=LOSSES)
        penalty: float = option(
            1.0, "gamma of R1 and R2, the penalties on D's gradient (0: none)", low=0, high=1e4
        )
        penalty_every: int = option(
            8, "steps between penalties, whose weight makes up for it", low=1, high=1024
        )
        norm: str = option(
            "batch", "normalisation in the generator", choices=("none", "batch", "group")
        )

    def __init__(self, config: Config, shape: ImageShape) -> None:
        super().__init__(config, shape)
        self.generator = Generator(shape, config.width, config.latent_size, config.norm)
        # No normalisation in D: a penalty per image needs logits that depend on one image.
        self.discriminator = Encoder(shape, config.width, 1)
        self._loss = LOSSES.get(config.loss)

    def prior(
        self, indices: NDArray[Any], seed: int, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Rows z ~ N(0, I), shape (B, latent_size)."""
        return draw_normal(indices, seed, self.config.latent_size, self.device)

    def decode(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """G(z)."""
        return self.generator(latents)  # type: ignore[no-any-return]

    def phases(self) -> tuple[Phase, ...]:
        """The discriminator's turn, then the generator's."""
        return (
            Phase(
                "discriminator", self.discriminator, self._critic_loss, betas=_BETAS, decay=_DECAY
            ),
            Phase("generator", self.generator, self._generator_loss, betas=_BETAS, decay=_DECAY),
        )

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        return self.discriminator(images).float().squeeze(1)  # type: ignore[no-any-return]

    def _fakes(self, draw: Draw) -> torch.Tensor:
        return self.generator(draw.normal("latents", self.config.latent_size))  # type: ignore[no-any-return]

    def _critic_loss(self, batch: Batch, draw: Draw) -> LossTerms:
        with torch.no_grad():
            fakes = self._fakes(draw)
        penalised = self.config.penalty > 0 and draw.step % self.config.penalty_every == 0
        if penalised:
            real, r1 = squared_gradient_norm(self._logits, batch.images)
            fake, r2 = squared_gradient_norm(self._logits, fakes)
        else:
            real, fake = self._logits(batch.images), self._logits(fakes)
        loss = self._loss.critic(real, fake)
        parts = {"d_loss": loss, "margin": real - fake}
        if not penalised:
            return LossTerms(loss, parts)
        weight = self.config.penalty_every * self.config.penalty / 2
        return LossTerms(loss + weight * (r1 + r2), {**parts, "r1": r1, "r2": r2})

    def _generator_loss(self, batch: Batch, draw: Draw) -> LossTerms:
        fake = self._logits(self._fakes(draw))
        real = fake.detach()
        if self._loss.needs_real:
            with torch.no_grad():
                real = self._logits(batch.images)
        loss = self._loss.generator(real, fake)
        return LossTerms(loss, {"g_loss": loss})
