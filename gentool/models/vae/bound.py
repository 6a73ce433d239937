"""The importance-weighted bound of a VAE on log p(x), its posterior, and its KL per latent.

log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x), with z_k drawn from q(z|x): Burda et al. 2016
(arXiv:1509.00519), Eq. 8. With one sample it is the ELBO with the KL estimated by the draw.
"""

from collections.abc import Callable

import torch

from gentool.core.rng import Draw
from gentool.models.capabilities import Variational
from gentool.models.likelihoods import Likelihood
from gentool.models.priors import Prior, log_normal
from gentool.models.vae.objective import importance_bound
from gentool.models.vae.posterior import Posterior

Network = Callable[[torch.Tensor], torch.Tensor]


class GaussianBound(Variational):
    """Bound, posterior and KL of a model with one layer of Gaussian latents.

    Args:
        posterior: Images (B, C, H, W) -> q(z|x).
        observed: Images and the randomness of the step -> images as the model observes them, for
            example binarised.
        decoder: Latents (B, L) -> parameters of the likelihood.
        likelihood: p(x|z).
        density: The prior.
        length: Number of latents L.
        dims: Number of values of an image.
    """

    def __init__(
        self, posterior: Callable[[torch.Tensor], Posterior],
        observed: Callable[[torch.Tensor, Draw], torch.Tensor], decoder: Network,
        likelihood: Likelihood, density: Prior, length: int, dims: int,
    ) -> None:  # fmt: skip
        self._posterior, self._observed = posterior, observed
        self._decoder, self._likelihood, self._density = decoder, likelihood, density
        self._length = length
        self.dims = dims
        self.discrete = likelihood.discrete
        self.kl_caveat = (
            "to a Gaussian with the prior's moments, not to the prior itself"
            if density.joint
            else ""
        )

    def draw_latents(self, images: torch.Tensor, draw: Draw) -> torch.Tensor:
        """Return draws (B, L) from the posteriors of images."""
        return self._posterior(images).draw(draw.normal("posterior", self._length))

    def log_prob_bound(self, images: torch.Tensor, draw: Draw, samples: int) -> torch.Tensor:
        """Return the importance-weighted bound in nats, (B,).

        Raises:
            OutsideSupport: images are outside the support of the likelihood.
        """
        images = self._observed(images, draw)
        self._likelihood.check(images)
        posterior = self._posterior(images)
        log_p = self._density.of_the_bound(self._posterior)
        weights = []
        for k in range(samples):
            noise = draw.normal(f"importance/{k}", self._length)
            latents = posterior.draw(noise)
            log_ratio = log_p(latents) - log_normal(latents, *posterior)
            weights.append(self._likelihood.log_prob(self._decoder(latents), images) + log_ratio)
        return importance_bound(torch.stack(weights))

    def posterior_terms(
        self, images: torch.Tensor, draw: Draw
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return posterior means, and the KL of each latent to a Gaussian with the prior's moments.

        Both are (B, L), the KL in nats.
        """
        mean, log_variance = self._posterior(self._observed(images, draw))
        centre, variance = (torch.as_tensor(m).to(mean) for m in self._density.moments())
        squares = ((mean - centre).square() + log_variance.exp()) / variance
        return mean, 0.5 * (squares - 1 - log_variance + variance.log())
