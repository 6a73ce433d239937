"""The autoencoder: a bottleneck that learns the identity mapping.

x -> encoder -> code (much shorter than x) -> decoder -> x^, trained to make x^ = x by squared
error (Rumelhart, Hinton and Williams 1986; Hinton and Salakhutdinov 2006). It learns no p(x):
random codes decode to nothing in particular. So that ``sample`` works, a density, an entry of
``priors``, is fitted to the codes of the training images when training ends (ex-post density
estimation, Ghosh et al. 2020).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from gentool.config import option
from gentool.images import ImageShape
from gentool.models.base import BaseConfig, Batch, LossTerms, Model, Phase
from gentool.models.priors import FITTED, PRIORS, Codes
from gentool.networks.resnet import ResidualDecoder, ResidualEncoder
from gentool.rng import Draw


class Autoencoder(Model):
    """Encoder, decoder and the density fitted to the codes."""

    exported = ("encoder", "decoder", "density")
    interpolation = "lerp"

    @dataclass(frozen=True)
    class Config(BaseConfig):
        """Options of ``autoencoder``."""

        latent_size: int = option(128, "length of a code, the bottleneck", low=1, high=4096)
        prior: str = option("mixture", "the density fitted to the codes", choices=FITTED)
        components: int = option(20, "parts of the prior (mixture)", low=1, high=1000)

    def __init__(self, config: Config, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.encoder = ResidualEncoder(shape, config.width, config.latent_size)
        self.decoder = ResidualDecoder(shape, config.width, config.latent_size, shape.channels)
        self.density = PRIORS.get(config.prior)(config.latent_size, config.components, shape)

    def prior(
        self, indices: NDArray[Any], seed: int, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Codes (B, latent_size) from the density fitted to those of the training images."""
        return self.density.draw(indices, seed, self.device)

    def decode(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Images of codes."""
        return self.decoder(latents).float().clamp(-1, 1)  # type: ignore[no-any-return]

    def encode(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Codes of images."""
        return self.encoder(images).float()  # type: ignore[no-any-return]

    def phases(self) -> tuple[Phase, ...]:
        """One phase: the identity mapping."""
        return (Phase("autoencoder", self, self._loss, decay=0.01),)

    def _loss(self, batch: Batch, draw: Draw) -> LossTerms:
        """||x - x^||^2 summed over pixels, per image."""
        output = self.decoder(self.encoder(batch.images)).float()
        error = (output - batch.images).square().sum(dim=(1, 2, 3))
        return LossTerms(error, {"mse": error / (4 * self.shape.dims)})  # on the [0, 1] scale

    @torch.no_grad()
    def finish(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Fit the density to the codes of the training images."""
        codes = torch.cat([self.encode(batch.images) for batch in batches()])
        self.density.fit(Codes(codes, torch.zeros_like(codes)))

    def summary(self) -> str:
        """How samples come about."""
        return f"samples decode codes drawn from {self.density.words}"
