"""The bound of a hierarchical VAE on log p(x), its posterior, and its KL per latent.

The importance-weighted bound is that of Burda et al. 2016 (arXiv:1509.00519), Eq. 8, with the
ratios p(z_l | z_<l) / q(z_l | z_<l, x) of all layers multiplied.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from gentool.core.rng import Draw
from gentool.models.capabilities import LatentLayers, Variational
from gentool.models.likelihoods import Likelihood
from gentool.models.vae.objective import importance_bound
from gentool.networks.vdvae import Gaussians


class Inferred(NamedTuple):
    """One layer given images: p(z|above), q(z|above, x), and z (B, L, h, w)."""

    prior: Gaussians
    posterior: Gaussians
    z: torch.Tensor


Inference = tuple[list[Inferred], torch.Tensor]  # all layers, and the output of the decoder


class NoiseLayers(LatentLayers):
    """Layers whose latents are noise, one after the other from the top, then class weights."""

    def __init__(self, lengths: tuple[int, ...]) -> None:
        self.lengths = lengths


class LayeredBound(Variational):
    """Bound, posterior and KL of a model with layers of latents, for images of any class.

    A conditional model gets no class here. It was trained on few such images, so the bound is
    looser than the one it was trained by.

    Args:
        infer: Images (B, C, H, W), and the noise (B, L) of the draws from the posteriors or None
            for the posterior means -> all layers, and the output of the decoder.
        whitened: All layers -> the latents of the model.
        likelihood: p(x|z).
        length: Number of latents L of all layers.
        dims: Number of values of an image.
    """

    kl_caveat = "of every layer at the posterior means of those above it, not at draws"

    def __init__(
        self, infer: Callable[[torch.Tensor, torch.Tensor | None], Inference],
        whitened: Callable[[list[Inferred]], torch.Tensor], likelihood: Likelihood, length: int,
        dims: int,
    ) -> None:  # fmt: skip
        self._infer, self._whitened, self._likelihood = infer, whitened, likelihood
        self._length = length
        self.dims = dims
        self.discrete = likelihood.discrete

    def draw_latents(self, images: torch.Tensor, draw: Draw) -> torch.Tensor:
        """Return the noise of every layer at a draw from its posterior, for any class."""
        noise = draw.normal("posterior", self._length)
        return self._whitened(self._infer(images, noise)[0])

    def log_prob_bound(self, images: torch.Tensor, draw: Draw, samples: int) -> torch.Tensor:
        """Return the importance-weighted bound in nats, (B,).

        Raises:
            OutsideSupport: images are outside the support of the likelihood.
        """
        self._likelihood.check(images)
        weights = []
        for k in range(samples):
            noise = draw.normal(f"importance/{k}", self._length)
            found, params = self._infer(images, noise)
            ratios = [log_density(p, z) - log_density(q, z) for p, q, z in found]
            log_ratio = torch.stack(ratios).sum(dim=0)
            weights.append(self._likelihood.log_prob(params, images) + log_ratio)
        return importance_bound(torch.stack(weights))

    def posterior_terms(
        self, images: torch.Tensor, draw: Draw
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return noise at the posterior means, and KL per latent given the means above, (B, L)."""
        found, _ = self._infer(images, None)
        means = torch.cat([p.noise_of(z).flatten(1) for p, _, z in found], dim=1)
        return means, torch.cat([kl(q, p) for p, q, _ in found], dim=1)


def kl(q: Gaussians, p: Gaussians) -> torch.Tensor:
    """Return KL(q || p) in nats per latent, (B, L), of Gaussians at every place of a grid."""
    ratio = q.log_variance - p.log_variance
    squares = (q.mean - p.mean).square() * torch.exp(-p.log_variance)
    return 0.5 * (ratio.exp() - 1 - ratio + squares).flatten(1)


def log_density(of: Gaussians, z: torch.Tensor) -> torch.Tensor:
    """Return the log-density of z in nats per image, (B,), without the common constant."""
    return -0.5 * (of.noise_of(z).square() + of.log_variance).flatten(1).sum(dim=1)
