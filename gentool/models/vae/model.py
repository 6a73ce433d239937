"""The variational autoencoder: it learns p(x), reconstructs images and draws samples.

Kingma and Welling 2014 (arXiv:1312.6114). The encoder gives the posterior q(z|x) = N(mu, diag
sigma^2), z = mu + sigma eps is drawn by reparameterisation, and the evidence lower bound (Eq. 10,
one draw) is maximised, per image and in nats:

    ELBO(x) = log p(x|z) - KL(q(z|x) || N(0, I)).

p(x|z) is an entry of ``likelihoods``. The weight of the KL over a run, free bits, and the bound of
several samples are in ``elbo``. Further terms of the loss are entries of ``regularisers``.
``sample`` draws latents from an entry of ``priors``, which in most cases is fitted to the
posteriors of the training images when training ends: these posteriors leave holes in N(0, I), where
the decoder is not trained. The bound keeps N(0, I), unless the prior is learned jointly with the
model (``vamp``). The prior ``latent-flow`` learns in a span of its own.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.core.rng import Draw
from gentool.models.base import Batch, LossTerms, Phase
from gentool.models.capabilities import ACTIVE_VARIANCE
from gentool.models.likelihoods import open_likelihood
from gentool.models.priors import (
    PRIORS,
    Prior,
    kl_to_standard_normal,
    log_normal,
)
from gentool.models.vae.advice import VAEAdvice
from gentool.models.vae.binarisation import inked, inked_batches
from gentool.models.vae.bound import GaussianBound
from gentool.models.vae.objective import (
    active_units,
    capacity_now,
    doubly_reparameterised,
    free_bits,
    importance_bound,
    kl_weight,
)
from gentool.models.vae.options import VAEConfig
from gentool.models.vae.posterior import Posterior
from gentool.models.vae.prior_model import PriorModel
from gentool.models.vae.regularisers import CodeTurn, Regularisers, noisy

_UNIT_DRAWS = 512  # samples on which active units are found
_DECAY = 0.01  # final over initial learning rate of a span


class VAE(PriorModel[VAEConfig]):
    """Encoder, decoder, likelihood and prior.

    Attributes:
        length: Number of latents L of an image.
    """

    exported = ("encoder", "decoder", "likelihood", "density")
    encoder: Any  # with residual, grid or dense layers
    decoder: Any

    Config = VAEConfig

    def __init__(self, config: VAEConfig, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        name = "gaussian" if config.likelihood == "auto" else config.likelihood
        self.likelihood = open_likelihood(name, config.sigma)
        outputs = self.likelihood.outputs(shape.channels)
        self.encoder, self.decoder, places = config.open_networks(shape, outputs)
        self.length = config.latent_size * places[0] * places[1]
        prior: type[Prior] = PRIORS.get(config.prior)
        self.density = prior.open(
            self.length, config.components, shape, classes, places, config.prior_width
        )
        self._regularisers = Regularisers(config.regularisers, config.strength, posteriors=True)
        config.check_objective(joint=self.density.joint)

    def decode(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return E[x|z] in [-1, 1], (B, C, H, W)."""
        return self.likelihood.mean(self.decoder(latents))

    def posterior(self, images: torch.Tensor) -> Posterior:
        """Return q(z|x) of images (B, C, H, W) in [-1, 1]."""
        return Posterior.of(self.encoder(images))

    def encode(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return the posterior means (B, L) of images."""
        return self.posterior(images).mean

    def moments(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log-variance of the posteriors of images, both (B, L)."""
        return self.posterior(images)

    @property
    def variational(self) -> GaussianBound:
        """Posterior and bound on log p(x)."""
        return GaussianBound(
            self.posterior, self.observed, self.decoder, self.likelihood, self.density,
            self.length, self.shape.dims,
        )  # fmt: skip

    @property
    def advice(self) -> VAEAdvice:
        """Advice on posterior collapse."""
        return VAEAdvice(self._switch, per_unit=self.config.samples == 1 and not self.density.joint)

    def phases(self) -> tuple[Phase, ...]:
        """Return the phase of the negative ELBO, and that of a prior with a span of its own."""
        own = [n for n in self.exported if not (n == "density" and self.density.learned)]
        parts = nn.ModuleDict({name: getattr(self, name) for name in own})
        first, second = (0.0, self._switch), (self._switch, 1.0)
        turn = Phase("vae", parts, self._loss, span=first, decay=_DECAY)
        if not self.density.learned:
            return (turn,)
        return turn, Phase("prior", self.density, self._prior_loss, span=second, decay=_DECAY)

    @property
    def _switch(self) -> float:
        """Fraction of the run after which a prior with a span of its own learns; 1 without one."""
        return 1.0 - self.config.prior_share if self.density.learned else 1.0

    def _prior_loss(self, batch: Batch, draw: Draw) -> LossTerms:
        """Return the prior's own loss on draws from the posteriors; the encoder is frozen."""
        with torch.no_grad():
            posterior = self.posterior(self.observed(batch.images, draw))
            latents = posterior.draw(draw.normal("posterior", self.length))
        error = self.density.learn(latents, batch.labels, draw)
        return LossTerms(error, {"prior": error})

    def elbo(self, images: torch.Tensor, noise: torch.Tensor) -> LossTerms:
        """Return the ELBO per image in nats, with the parts log_likelihood and kl.

        Args:
            images: (B, C, H, W) in [-1, 1].
            noise: eps of the draws from the posteriors, (B, L).
        """
        posterior = self.posterior(images)
        latents = posterior.draw(noise)
        log_likelihood = self.likelihood.log_prob(self.decoder(latents), images)
        kl = self.unit_kl(posterior, latents).sum(dim=1)
        return LossTerms(log_likelihood - kl, {"log_likelihood": log_likelihood, "kl": kl})

    def directions(self) -> dict[str, Callable[[int], torch.Tensor]]:
        """Return ``units``, the axes of the units that the encoder uses most."""
        return {"units": self._active_directions}

    @torch.no_grad()
    def _active_directions(self, count: int) -> torch.Tensor:
        """Return axes (K, L) of active units, K <= count, float64, the most active first.

        A unit is active by the variance of its posterior mean (Burda et al. 2016, section 5.2),
        here over samples of the model.
        """
        draws = torch.split(self.prior(np.arange(_UNIT_DRAWS), 0), 64)
        means = torch.cat([self.encode(self.decode(latents)) for latents in draws])
        variances, order = means.var(dim=0).sort(descending=True)
        chosen = order[variances > ACTIVE_VARIANCE][:count]
        return torch.eye(self.length, dtype=torch.float64)[chosen.cpu()]  # MPS has no float64

    def observed(self, images: torch.Tensor, draw: Draw) -> torch.Tensor:
        """Return the images, or with ``binarise`` black and white images drawn from them."""
        return inked(images, draw) if self.config.binarise else images

    def fitted_to(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Return training batches with their images as in ``observed``."""
        return inked_batches(batches, self.device) if self.config.binarise else batches

    def unit_kl(
        self, posterior: Posterior, latents: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return KL(q(z|x) || p(z)) in nats, per unit (B, L), or (B, 1) for a joint prior.

        The KL to a joint prior has no closed form and is estimated by one draw. With labels, a
        joint prior is p(z|y), and the bound is one on log p(x|y).
        """
        if self.density.joint:
            log_p = self.density.of_the_bound(self.posterior, labels)
            return (log_normal(latents, *posterior) - log_p(latents))[:, None]
        return kl_to_standard_normal(*posterior)

    def _loss(self, batch: Batch, draw: Draw) -> LossTerms:
        images, config = self.observed(batch.images, draw), self.config
        inkable = config.likelihood == "bernoulli"
        self.likelihood.watch(images, draw.step, "-o binarise=true" if inkable else "")
        draw = replace(draw, share=draw.share / self._switch)  # schedules refer to the span
        posterior = self.posterior(noisy(images, config.denoise, draw))
        noise = draw.normal("posterior", config.samples, self.length).transpose(0, 1)
        latents = posterior.draw(noise)
        weight = kl_weight(config.beta, config.warm_up, config.cycles, draw.share)
        maximise = self._elbo_loss if config.samples == 1 else self._importance_loss
        labels = batch.labels if self.classes else None
        terms = maximise(images, posterior, latents, labels, weight, draw)
        more = self._regularisers(CodeTurn(latents[0], self.decoder, draw, *posterior))
        units = active_units(posterior.mean).expand(len(images))
        return LossTerms(
            terms.total + more.total, {**terms.parts, "active_units": units, **more.parts}
        )

    def _elbo_loss(
        self, images: torch.Tensor, posterior: Posterior, latents: torch.Tensor,
        labels: torch.Tensor | None, weight: float, draw: Draw,
    ) -> LossTerms:  # fmt: skip
        """Return the negative ELBO with its KL weighted; latents (1, B, L)."""
        params = self.decoder(latents[0])
        log_likelihood = self.likelihood.log_prob(params, images)
        more = self.refine(images, params, -log_likelihood, draw)
        units = self.unit_kl(posterior, latents[0], labels)
        kl = units.sum(dim=1)
        charged = free_bits(units, self.config.free_bits)
        if self.config.capacity:
            charged = (charged - capacity_now(self.config.capacity, draw.share)).abs()
        parts = {"elbo": log_likelihood - kl, "kl": kl}
        if not self.density.joint:
            parts["kl_largest_unit"] = units.mean(dim=0).max().expand(len(images))
        return LossTerms(weight * charged - log_likelihood + more.total, parts | more.parts)

    def refine(
        self, images: torch.Tensor, params: torch.Tensor, error: torch.Tensor, draw: Draw
    ) -> LossTerms:
        """Return a further loss on the decoder's output; none here.

        Args:
            images: (B, C, H, W).
            params: The decoder's output, (B, ...).
            error: Negative log-likelihood, (B,).
            draw: Randomness of the step.
        """
        return LossTerms(torch.zeros_like(error))

    def _importance_loss(
        self, images: torch.Tensor, posterior: Posterior, latents: torch.Tensor,
        labels: torch.Tensor | None, weight: float, draw: Draw,
    ) -> LossTerms:  # fmt: skip
        """Return the negative importance-weighted bound; latents (K, B, L)."""
        count = len(latents)
        latents = latents.view_as(latents)  # a view, to weight the gradients of this loss only
        flat = latents.flatten(0, 1)
        params = self.decoder(flat)
        log_likelihood = self.likelihood.log_prob(params, images.repeat(count, 1, 1, 1))
        log_q = log_normal(latents, posterior.mean.detach(), posterior.log_variance.detach())
        every = None if labels is None else labels.repeat(count)
        log_p = self.density.of_the_bound(self.posterior, every)(flat)
        log_ratio = log_p.view(count, -1) - log_q
        log_likelihood = log_likelihood.view(count, -1)
        bound = doubly_reparameterised(log_likelihood + weight * log_ratio, latents)
        parts = {
            "iw_bound": importance_bound((log_likelihood + log_ratio).detach()),
            "elbo": (log_likelihood + log_ratio).mean(dim=0),
            "kl": -log_ratio.mean(dim=0),
        }
        return LossTerms(-bound, parts)

    def begin(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Initialise a prior that starts from training images."""
        self.density.begin(self.fitted_to(batches()))
