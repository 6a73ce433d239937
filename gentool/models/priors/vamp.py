"""VampPrior: a mixture of the posteriors of learned images (Tomczak and Welling 2018).

p(z) = 1/K sum_k q(z | u_k) (arXiv:1705.07120, Eq. 9); the pseudo-inputs u_k are learned with
the model by the same bound. They begin at training images (section 5 of the paper calls this the
data-based start) and are clipped to the range of images.
"""

import math
from collections.abc import Iterable
from functools import partial

import torch
from torch import nn

from gentool.images import ImageShape
from gentool.models.base import Batch
from gentool.models.priors.base import Codes, Encode, LogDensity, Prior, log_normal


def log_mixture(
    latents: torch.Tensor, means: torch.Tensor, log_variances: torch.Tensor
) -> torch.Tensor:
    """Log 1/K sum_k N(z; means_k, diag exp(log_variances_k)), per row, in nats.

    Args:
        latents: (B, L).
        means: (K, L).
        log_variances: (K, L).

    Returns:
        Shape (B,).
    """
    each = log_normal(latents[:, None], means, log_variances)
    return each.logsumexp(dim=1) - math.log(len(means))


class VampPrior(Prior):
    """K pseudo-inputs, and after training their posteriors."""

    joint = True
    words = "the posteriors of learned images (VampPrior)"
    means: torch.Tensor
    log_variances: torch.Tensor

    def __init__(self, size: int, components: int, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(size, components, shape, classes)
        images = torch.zeros(components, shape.channels, shape.height, shape.width)
        self.images = nn.Parameter(images)
        self.register_buffer("means", torch.zeros(components, size))
        self.register_buffer("log_variances", torch.zeros(components, size))

    @torch.no_grad()
    def begin(self, batches: Iterable[Batch]) -> None:
        """Put the pseudo-inputs on the first images, each as often as needed."""
        found: list[torch.Tensor] = []
        for batch in batches:
            found.append(batch.images)
            if sum(map(len, found)) >= len(self.images):
                break
        images = torch.cat(found)
        places = torch.arange(len(self.images), device=images.device) % len(images)
        self.images.copy_(images[places])

    def inputs(self) -> torch.Tensor:
        """The pseudo-inputs, (K, C, H, W) in [-1, 1]."""
        return self.images.clamp(-1, 1)

    @torch.no_grad()
    def settle(self, encode: Encode, batches: Iterable[Batch]) -> None:
        """Keep the posteriors of the pseudo-inputs."""
        means, log_variances = encode(self.inputs())
        self.fit(Codes(means, log_variances.exp()))

    def fit(self, codes: Codes) -> None:
        """Keep the posteriors of the pseudo-inputs, which ``codes`` are."""
        self.means.copy_(codes.means)
        self.log_variances.copy_(codes.variances.log())

    def transform(self, noise: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """A component per row, and a draw from it."""
        chosen = (uniform * len(self.means)).long().clamp(max=len(self.means) - 1)
        return self.means[chosen] + torch.exp(0.5 * self.log_variances[chosen]) * noise

    def of_the_bound(self, encode: Encode) -> LogDensity:
        """Of the posteriors that the pseudo-inputs have now."""
        means, log_variances = encode(self.inputs())
        return partial(log_mixture, means=means, log_variances=log_variances)

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the posteriors that were kept."""
        variance = self.log_variances.exp().mean(dim=0) + self.means.var(dim=0, correction=0)
        return self.means.mean(dim=0), variance
