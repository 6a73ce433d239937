"""The autoencoder: a bottleneck that learns the identity mapping.

x -> encoder -> code (much shorter than x) -> decoder -> x^, trained by squared error so that x^ = x
(Rumelhart, Hinton and Williams 1986; Hinton and Salakhutdinov 2006). It does not learn p(x): random
codes do not decode to meaningful images. For ``sample``, a density, an entry of ``priors``, is
fitted to the codes of the training images when training ends (ex-post density estimation, Ghosh et
al. 2020).
"""

import math
from dataclasses import dataclass

import torch

from gentool.core.images import ImageShape
from gentool.core.options import option
from gentool.core.rng import Draw
from gentool.models.base import BaseConfig, Batch, LossTerms, Phase
from gentool.models.priors import FITTED, PRIORS, RETIRED, Prior
from gentool.models.vae.prior_model import PriorModel, PriorOptions, no_components
from gentool.models.vae.regularisers import (
    CodeTurn,
    Regularisers,
    denoise_option,
    noisy,
    regularisers_option,
    strength_option,
)
from gentool.networks.resnet import ResidualDecoder, ResidualEncoder


@dataclass(frozen=True)
class AutoencoderConfig(PriorOptions, BaseConfig):
    """Options of ``autoencoder``."""

    offered = FITTED

    latent_size: int = option(128, "length of a code (the bottleneck)", low=1, high=4096)
    prior: str = option(
        "mixture", "density that is fitted to the codes", choices=FITTED, retired=RETIRED
    )
    components: int = option(
        20, "components of the prior (mixture)", low=1, high=1000, idle=no_components
    )
    regularisers: str = regularisers_option()
    strength: float = strength_option()
    denoise: float = denoise_option()


class Autoencoder(PriorModel[AutoencoderConfig]):
    """Encoder, decoder, and the density that is fitted to the codes."""

    exported = ("encoder", "decoder", "density")
    interpolation = "lerp"

    Config = AutoencoderConfig

    def __init__(self, config: AutoencoderConfig, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.encoder = ResidualEncoder(shape, config.width, config.latent_size)
        self.decoder = ResidualDecoder(shape, config.width, config.latent_size, shape.channels)
        prior: type[Prior] = PRIORS.get(config.prior)
        self.density = prior.open(
            config.latent_size, config.components, shape, classes, (1, 1), config.width
        )
        self._regularisers = Regularisers(config.regularisers, config.strength, posteriors=False)

    def decode(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return images (B, C, H, W) in [-1, 1] of codes (B, latent_size)."""
        return self.decoder(latents).float().clamp(-1, 1)  # type: ignore[no-any-return]

    def encode(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return codes (B, latent_size) of images, float32."""
        return self.encoder(images).float()  # type: ignore[no-any-return]

    def moments(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return codes (B, latent_size) and log-variances of -inf: posteriors without variance."""
        codes = self.encode(images)
        return codes, torch.full_like(codes, -math.inf)

    def phases(self) -> tuple[Phase, ...]:
        """Return the single phase, which learns the identity mapping."""
        return (Phase("autoencoder", self, self._loss, decay=0.01),)

    def _loss(self, batch: Batch, draw: Draw) -> LossTerms:
        """Return ||x - x^||^2 per image, summed over pixels, plus the regularisers."""
        codes = self.encode(noisy(batch.images, self.config.denoise, draw))
        output = self.decoder(codes).float()
        error = (output - batch.images).square().sum(dim=(1, 2, 3))
        more = self._regularisers(CodeTurn(codes, self.decoder, draw))
        mse = error / (4 * self.shape.dims)  # on the [0, 1] scale
        return LossTerms(error + more.total, {"mse": mse, **more.parts})
