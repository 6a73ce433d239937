"""The variational autoencoder: learn p(x), and sample from it.

Kingma and Welling 2014 (arXiv:1312.6114). The encoder gives the posterior
q(z|x) = N(mu, diag sigma^2), z = mu + sigma eps is drawn by reparameterisation, and the
evidence lower bound (Eq. 10, one draw) is maximised, per image and in nats:

    ELBO(x) = log p(x|z) - KL(q(z|x) || N(0, I)).

Which p(x|z) is an entry of ``likelihoods``. What ``sample`` draws latents from is an entry of
``priors``, mostly fitted to the training images' posteriors when training ends, since they do
not fill N(0, I) and the decoder knows nothing of the holes. The bound keeps N(0, I), unless the
prior is learned with it (``-o prior=vamp``).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from gentool.config import option
from gentool.images import ImageShape
from gentool.models.base import BaseConfig, Batch, LossTerms, Model, Phase
from gentool.models.likelihoods import LIKELIHOODS
from gentool.models.priors import PRIORS, kl_to_standard_normal, log_normal
from gentool.networks.resnet import ResidualDecoder, ResidualEncoder
from gentool.rng import Draw

_LOG_VARIANCE_BOUND = 8.0  # |log sigma^2| stays below, so that exp never overflows


class Posterior(NamedTuple):
    """q(z|x): mean and log sigma^2, both (B, L), float32."""

    mean: torch.Tensor
    log_variance: torch.Tensor


class VAE(Model):
    """Encoder, decoder and likelihood."""

    exported = ("encoder", "decoder", "likelihood", "density")

    @dataclass(frozen=True)
    class Config(BaseConfig):
        """Options of ``vae``."""

        latent_size: int = option(128, "length of z", low=1, high=4096)
        likelihood: str = option("gaussian", "what the decoder's output means", choices=LIKELIHOODS)
        prior: str = option("mixture", "what samples are drawn from", choices=PRIORS)
        components: int = option(20, "parts of the prior (mixture, vamp)", low=1, high=1000)
        beta: float = option(1.0, "weight of the KL; 1 is the ELBO", low=0, high=1e4)

    def __init__(self, config: Config, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.likelihood = LIKELIHOODS.get(config.likelihood)()
        self.encoder = ResidualEncoder(shape, config.width, 2 * config.latent_size)
        self.density = PRIORS.get(config.prior)(config.latent_size, config.components, shape)
        outputs = shape.channels * self.likelihood.params_per_channel
        self.decoder = ResidualDecoder(shape, config.width, config.latent_size, outputs)

    def prior(
        self, indices: NDArray[Any], seed: int, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Latents (B, latent_size) from the prior that lies in the file."""
        return self.density.draw(indices, seed, self.device)

    def decode(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """E[x|z], in [-1, 1]."""
        return self.likelihood.mean(self.decoder(latents))

    def posterior(self, images: torch.Tensor) -> Posterior:
        """q(z|x) of images (B, C, H, W) in [-1, 1]."""
        mean, raw = self.encoder(images).float().chunk(2, dim=1)
        bound = _LOG_VARIANCE_BOUND
        return Posterior(mean, bound * torch.tanh(raw / bound))

    def encode(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """The posterior mean."""
        return self.posterior(images).mean

    def phases(self) -> tuple[Phase, ...]:
        """One phase: the negative ELBO."""
        return (Phase("vae", self, self._loss, decay=0.01),)

    def elbo(self, images: torch.Tensor, noise: torch.Tensor) -> LossTerms:
        """The bound per image in nats, with eps = ``noise`` (B, L); parts: log_likelihood, kl."""
        mean, log_variance = self.posterior(images)
        latents = mean + torch.exp(0.5 * log_variance) * noise
        log_likelihood = self.likelihood.log_prob(self.decoder(latents), images)
        if self.density.joint:  # no closed form: one draw
            log_p = self.density.of_the_bound(self.posterior)
            kl = log_normal(latents, mean, log_variance) - log_p(latents)
        else:
            kl = kl_to_standard_normal(mean, log_variance)
        return LossTerms(log_likelihood - kl, {"log_likelihood": log_likelihood, "kl": kl})

    def log_prob_bound(self, images: torch.Tensor, draw: Draw, samples: int) -> torch.Tensor:
        """The importance-weighted bound (Burda et al. 2016, arXiv:1509.00519, Eq. 8), nats.

        log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x); one sample is the ELBO with its KL drawn.
        """
        mean, log_variance = self.posterior(images)
        log_p = self.density.of_the_bound(self.posterior)
        weights = []
        for k in range(samples):
            noise = draw.normal(f"importance/{k}", self.config.latent_size)
            latents = mean + torch.exp(0.5 * log_variance) * noise
            log_ratio = log_p(latents) - log_normal(latents, mean, log_variance)
            weights.append(self.likelihood.log_prob(self.decoder(latents), images) + log_ratio)
        return torch.logsumexp(torch.stack(weights), dim=0) - math.log(samples)

    def posterior_terms(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Posterior mean, and KL per latent to a Gaussian with the prior's moments, (B, L)."""
        mean, log_variance = self.posterior(images)
        centre, variance = (torch.as_tensor(m).to(mean) for m in self.density.moments())
        squares = ((mean - centre).square() + log_variance.exp()) / variance
        return mean, 0.5 * (squares - 1 - log_variance + variance.log())

    @property
    def discrete(self) -> bool:
        """Whether the likelihood is a mass."""
        return self.likelihood.discrete

    def _loss(self, batch: Batch, draw: Draw) -> LossTerms:
        if draw.step == 0:
            self.density.begin(batch.images)
        bound = self.elbo(batch.images, draw.normal("posterior", self.config.latent_size))
        kl = bound.parts["kl"]
        loss = -bound.parts["log_likelihood"] + self.config.beta * kl
        return LossTerms(loss, {"elbo": bound.total, "kl": kl})

    @torch.no_grad()
    def finish(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Fit the prior to the posteriors of the training images."""
        self.density.settle(self.posterior, (batch.images for batch in batches()))

    def summary(self) -> str:
        """How samples come about."""
        return f"samples decode latents drawn from {self.density.words}"
