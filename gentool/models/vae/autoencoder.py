"""The autoencoder: a bottleneck that learns the identity mapping.

x -> encoder -> code (much shorter than x) -> decoder -> x^, trained by squared error so that x^ = x
(Rumelhart, Hinton and Williams 1986; Hinton and Salakhutdinov 2006). It does not learn p(x): random
codes do not decode to meaningful images. For ``sample``, a density, an entry of ``priors``, is
fitted to the codes of the training images when training ends (ex-post density estimation, Ghosh et
al. 2020).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from gentool.core.images import ImageShape
from gentool.core.options import option
from gentool.core.rng import Draw
from gentool.models.base import BaseConfig, Batch, LossTerms, Model, Phase
from gentool.models.priors import FITTED, PRIORS, Prior, which_know
from gentool.models.vae.regularisers import REGULARISERS, CodeTurn, Regularisers, noisy
from gentool.networks.resnet import ResidualDecoder, ResidualEncoder


class Autoencoder(Model):
    """Encoder, decoder, and the density that is fitted to the codes."""

    exported = ("encoder", "decoder", "density")
    interpolation = "lerp"
    takes_classes = True

    @dataclass(frozen=True)
    class Config(BaseConfig):
        """Options of ``autoencoder``."""

        latent_size: int = option(128, "length of a code, the bottleneck", low=1, high=4096)
        prior: str = option("mixture", "the density fitted to the codes", choices=FITTED)
        components: int = option(20, "parts of the prior (mixture)", low=1, high=1000)
        regularisers: str = option(
            "none", "what else the loss asks for, joined by +; or none",
            choices=REGULARISERS, joined=True,
        )  # fmt: skip
        strength: float = option(1.0, "times the regularisers' weights", low=0, high=1e6)
        denoise: float = option(
            0.0, "deviation of noise on what the encoder sees; white is 1", low=0, high=10
        )

    def __init__(self, config: Config, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.encoder = ResidualEncoder(shape, config.width, config.latent_size)
        self.decoder = ResidualDecoder(shape, config.width, config.latent_size, shape.channels)
        prior: type[Prior] = PRIORS.get(config.prior)
        self.density = prior.open(
            config.latent_size, config.components, shape, classes, (1, 1), config.width
        )
        self._regularisers = Regularisers(config.regularisers, config.strength, posteriors=False)

    @classmethod
    def conditional(cls, config: Config, classes: int) -> bool:
        """Return whether the density can be fitted to that many classes."""
        return classes <= PRIORS.get(config.prior).most_classes

    @classmethod
    def why_unconditional(cls, config: Config, classes: int) -> str:
        """Return why the density ignores that many classes, and which ones would use them."""
        return which_know(classes, config.prior, FITTED)

    @property
    def latent_classes(self) -> int:
        """0: only the density uses the class, the codes do not hold it."""
        return 0

    def prior(
        self, indices: NDArray[Any], seed: int, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw codes (B, latent_size) from the density fitted to those of the training images."""
        return self.density.draw(indices, seed, self.device, labels)

    def decode(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return images (B, C, H, W) in [-1, 1] of codes (B, latent_size)."""
        return self.decoder(latents).float().clamp(-1, 1)  # type: ignore[no-any-return]

    def encode(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return codes (B, latent_size) of images, float32."""
        return self.encoder(images).float()  # type: ignore[no-any-return]

    def _codes(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return codes (B, latent_size) and log-variances of -inf: posteriors without variance."""
        codes = self.encode(images)
        return codes, torch.full_like(codes, -math.inf)

    @property
    def denoises(self) -> bool:
        """Whether the encoder was trained on noisy images (Vincent et al. 2008)."""
        return bool(self.config.denoise > 0)

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

    @torch.no_grad()
    def finish(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Fit the density to the codes of the training images."""
        self.density.settle(self._codes, batches())

    def summary(self) -> str:
        """Return one sentence on how samples are made."""
        return f"samples decode codes drawn from {self.density.words}"
