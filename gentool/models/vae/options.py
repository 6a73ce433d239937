"""The options of the variational autoencoder, the checks of them, and its networks."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from torch import nn

from gentool.core.errors import UsageError
from gentool.core.images import ImageShape, Pixels
from gentool.core.options import option
from gentool.models.likelihoods import DEFAULT_SIGMA, LIKELIHOODS, choose_likelihood
from gentool.models.priors import PRIORS
from gentool.models.vae.dense import DenseConfig
from gentool.models.vae.prior_model import PriorOptions
from gentool.models.vae.regularisers import REGULARISERS
from gentool.networks.grids import open_decoder, open_encoder

_MOST_ROWS = 8  # of the default grid: a fitted Gaussian grows with their fourth power


@dataclass(frozen=True)
class VAEConfig(PriorOptions, DenseConfig):
    """Options of ``vae``."""

    latent_size: int = option(
        128, "numbers at every place of the grid of latents", low=1, high=4096
    )
    grid: int = option(
        1, "latents lie on about so many rows and columns (0: 8; 1: a vector)",
        low=0, high=64,
    )  # fmt: skip
    likelihood: str = option(
        "auto", "what the decoder's output means; auto: by the images",
        choices=LIKELIHOODS, automatic=True,
    )  # fmt: skip
    sigma: float = option(
        DEFAULT_SIGMA, "deviation that a scale begins with (gaussian-fixed: keeps); white is 1",
        low=1e-3, high=100,
    )  # fmt: skip
    binarise: bool = option(False, "draw black or white by the grey value, anew at every look")
    prior: str = option("mixture", "what samples are drawn from", choices=PRIORS)
    components: int = option(20, "parts of the prior (mixture, vamp)", low=1, high=1000)
    prior_share: float = option(
        0.4, "share of the run, its last, in which the prior learns (latent-flow)",
        low=0.01, high=0.99,
    )  # fmt: skip
    prior_width: int = option(
        128, "channels of the prior's network (latent-flow)", low=8, high=1024
    )
    beta: float = option(1.0, "weight of the KL; 1 is the ELBO", low=0, high=1e4)
    warm_up: float = option(
        0.0, "share of the run (of each cycle) in which beta rises from 0", low=0, high=1
    )
    cycles: int = option(0, "how often beta rises (0: once)", low=0, high=1000)
    free_bits: float = option(0.0, "nats of KL that every latent has free", low=0, high=100)
    capacity: float = option(
        0.0, "nats that the KL is held at, reached in half the run (0: off)", low=0, high=1e5
    )
    samples: int = option(1, "draws of z in the bound; more than 1: IWAE", low=1, high=1000)
    regularisers: str = option(
        "none", "what else the loss asks for, joined by +; or none",
        choices=REGULARISERS, joined=True,
    )  # fmt: skip
    strength: float = option(1.0, "times the regularisers' weights", low=0, high=1e6)
    denoise: float = option(
        0.0, "deviation of noise on what the encoder sees; white is 1", low=0, high=10
    )

    def adapted(self, images: int, pixels: Callable[[], Pixels] | None) -> tuple[Self, list[str]]:
        """Choose the likelihood: Bernoulli for black and white images, else Gaussian."""
        if self.likelihood != "auto":
            return self, []
        name, notes = choose_likelihood(pixels, "gaussian", ink=self.binarise)
        return replace(self, likelihood=name), notes

    def open_networks(
        self, shape: ImageShape, outputs: int
    ) -> tuple[nn.Module, nn.Module, tuple[int, int]]:
        """Build encoder and decoder; also return rows and columns of the grid of latents.

        Args:
            shape: Shape of the images.
            outputs: Channels of the decoder's maps.

        Raises:
            UsageError: dense layers with a grid, or options of dense layers without such layers.
        """
        if self.hidden and self.grid > 1:
            raise UsageError("dense layers have no grid of latents. Use -o grid=1, or -o hidden=0")
        if self.hidden:
            return *self.open_dense(shape, self.latent_size, outputs), (1, 1)
        self.refuse_dense()
        quarter = round(math.sqrt(shape.height * shape.width) / 4)
        side = self.grid or min(quarter, _MOST_ROWS)
        encoder, places = open_encoder(shape, self.width, 2 * self.latent_size, side)
        decoder = open_decoder(shape, self.width, self.latent_size, outputs, side)
        return encoder, decoder, places

    def check_prior(self, *, learned: bool) -> None:
        """Check that the options of a learned prior are given only with such a prior.

        Args:
            learned: Whether the prior learns in a span of its own.

        Raises:
            UsageError: one is given without such a prior.
        """
        for name in () if learned else ("prior_share", "prior_width"):
            if getattr(self, name) != getattr(VAEConfig, name):
                raise UsageError(
                    f"{name} is for a prior that learns in a span of its own, which "
                    f"{self.prior} does not. Use -o prior=latent-flow, or leave {name} out"
                )

    def check_objective(self, *, joint: bool) -> None:
        """Check that the options of the KL can be combined.

        Args:
            joint: Whether the prior is learned jointly with the model.

        Raises:
            UsageError: free_bits or capacity with several samples, or free_bits with a joint prior.
        """
        if self.samples > 1 and (self.free_bits or self.capacity):
            given = "free_bits" if self.free_bits else "capacity"
            raise UsageError(
                f"{given} needs the KL itself, which a bound of {self.samples} samples has not. "
                f"Use -o samples=1, or leave {given} out"
            )
        if self.free_bits and joint:
            raise UsageError(
                "free_bits needs the KL of every latent, which a prior that is learned with the "
                "model has not. Use -o warm_up=0.2 instead, or another prior"
            )
