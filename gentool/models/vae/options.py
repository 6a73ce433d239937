"""The options of the variational autoencoder, the checks of them, and its networks."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from torch import nn

from gentool.core.errors import UsageError
from gentool.core.images import ImageShape, Pixels
from gentool.core.options import option
from gentool.models.likelihoods import DEFAULT_SIGMA, LIKELIHOODS, choose_likelihood, without_scale
from gentool.models.priors import PRIORS, RETIRED
from gentool.models.vae.dense import DenseConfig, only_dense_layers
from gentool.models.vae.prior_model import PriorOptions, no_components
from gentool.models.vae.regularisers import (
    denoise_option,
    regularisers_option,
    strength_option,
)
from gentool.networks.grids import open_decoder, open_encoder

_MOST_ROWS = 8  # of the default grid: a fitted Gaussian grows with their fourth power


def _no_scale(config: "VAEConfig") -> str | None:
    return without_scale(config.likelihood)


def _not_learned(config: "VAEConfig") -> str | None:
    if PRIORS.get(config.prior).learned:
        return None
    return (
        f"it is for a prior that is trained in its own part of the run, which {config.prior} is "
        "not. Leave it out, or use -o prior=latent-flow"
    )


def _no_kl(config: "VAEConfig") -> str | None:
    return None if config.beta else "with beta=0 there is no KL. Leave it out"


@dataclass(frozen=True)
class VAEConfig(PriorOptions, DenseConfig):
    """Options of ``vae``."""

    latent_size: int = option(128, "latents at each place of their grid", low=1, high=4096)
    grid: int = option(
        1, "approximate rows and columns of the grid of latents (0: 8; 1: a vector)",
        low=0, high=64, idle=only_dense_layers,
    )  # fmt: skip
    likelihood: str = option(
        "auto", "distribution of pixels that the decoder outputs; auto: by the images",
        choices=LIKELIHOODS, automatic=True,
    )  # fmt: skip
    sigma: float = option(
        DEFAULT_SIGMA, "initial sigma (gaussian-fixed: constant), where white is 1",
        low=1e-3, high=100, idle=_no_scale,
    )  # fmt: skip
    binarise: bool = option(
        False, "draw each pixel black or white by its grey value, in every step"
    )
    prior: str = option(
        "mixture", "distribution that samples are drawn from", choices=PRIORS, retired=RETIRED
    )
    components: int = option(
        20, "components of the prior (mixture, vamp)", low=1, high=1000, idle=no_components
    )
    prior_share: float = option(
        0.4, "last fraction of the run, which trains the prior (latent-flow)",
        low=0.01, high=0.99, idle=_not_learned,
    )  # fmt: skip
    prior_width: int = option(
        128,
        "channels of the network of the prior (latent-flow)",
        low=8,
        high=1024,
        idle=_not_learned,
    )
    beta: float = option(1.0, "weight of the KL; 1 is the ELBO", low=0, high=1e4)
    warm_up: float = option(
        0.0,
        "fraction of the run (of each cycle) in which beta rises from 0",
        low=0,
        high=1,
        idle=_no_kl,
    )
    cycles: int = option(
        0, "number of times that beta rises from 0 (0: once)", low=0, high=1000, idle=_no_kl
    )
    free_bits: float = option(
        0.0, "nats of KL per latent that cost nothing", low=0, high=100, idle=_no_kl
    )
    capacity: float = option(
        0.0,
        "target of the KL in nats, reached after half of the run (0: off)",
        low=0,
        high=1e5,
        idle=_no_kl,
    )
    samples: int = option(1, "samples of z in the bound; more than 1: IWAE", low=1, high=1000)
    regularisers: str = regularisers_option()
    strength: float = strength_option()
    denoise: float = denoise_option()

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
        """
        if self.hidden:
            return *self.open_dense(shape, self.latent_size, outputs), (1, 1)
        quarter = round(math.sqrt(shape.height * shape.width) / 4)
        side = self.grid or min(quarter, _MOST_ROWS)
        encoder, places = open_encoder(shape, self.width, 2 * self.latent_size, side)
        decoder = open_decoder(shape, self.width, self.latent_size, outputs, side)
        return encoder, decoder, places

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
                f"-o {given} needs the KL, which a bound with {self.samples} samples does not "
                f"have. Use -o samples=1, or leave -o {given} out"
            )
        if self.free_bits and joint:
            raise UsageError(
                "-o free_bits needs the KL of each latent, which a prior that is trained jointly "
                "does not have. Use -o warm_up=0.2 instead, or another prior"
            )
