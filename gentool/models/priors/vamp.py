"""VampPrior: a mixture of the posteriors of learned images (Tomczak and Welling 2018).

p(z) = 1/K sum_k q(z | u_k) (arXiv:1705.07120, Eq. 9); the pseudo-inputs u_k are learned with the
model by the same bound. They are initialised by training images (section 5 of the paper calls this
the data-based start) and clipped to the range of images.

With classes, each class has its own pseudo-inputs, initialised by its images, and the model learns
with p(z|y), the mixture of these alone; p(z) = sum_y p(y) p(z|y), with p(y) counted in the data.
"""

import math
from collections.abc import Iterable
from functools import partial
from itertools import chain

import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.models.base import Batch
from gentool.models.priors.base import Codes, Encode, LogDensity, Prior, choose, log_normal


def log_mixture(
    latents: torch.Tensor,
    means: torch.Tensor,
    log_variances: torch.Tensor,
    shares: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return log sum_k pi_k N(z; means_k, diag exp(log_variances_k)) per row, in nats.

    Args:
        latents: z, (B, L).
        means: (K, L).
        log_variances: (K, L).
        shares: pi, (K,) or (B, K); None for 1 / K.

    Returns:
        Shape (B,).
    """
    each = log_normal(latents[:, None], means, log_variances)
    if shares is None:
        return each.logsumexp(dim=1) - math.log(len(means))
    return (each + shares.log()).logsumexp(dim=1)


class VampPrior(Prior):
    """K pseudo-inputs, and after training the posteriors of these.

    Attributes:
        images: The pseudo-inputs before clipping, (K, C, H, W), parameters.
        means: Means of their posteriors, (K, L).
        log_variances: Log-variances of their posteriors, (K, L).
    """

    joint = True
    has_components = True
    most_classes = 1000
    counts_classes = True
    words = "the posteriors of learned images (VampPrior)"
    means: torch.Tensor
    log_variances: torch.Tensor

    def __init__(self, size: int, components: int, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(size, components, shape, classes)
        self._each = max(components // max(classes, 1), 1)
        components = self._each * max(classes, 1)
        images = torch.zeros(components, shape.channels, shape.height, shape.width)
        self.images = nn.Parameter(images)
        self.register_buffer("means", torch.zeros(components, size))
        self.register_buffer("log_variances", torch.zeros(components, size))

    @torch.no_grad()
    def begin(self, batches: Iterable[Batch]) -> None:
        """Set the pseudo-inputs to the first images (of each class), repeated if these are too few.

        A class without images gets images of all classes, and is never drawn.
        """
        found: list[list[torch.Tensor]] = [[] for _ in range(max(self.classes, 1))]
        counts = torch.zeros(len(found), device=self.images.device)
        for batch in batches:
            none = torch.zeros(len(batch.images), dtype=torch.int64)
            labels = batch.labels if self.classes else none
            assert labels is not None
            for image, label in zip(batch.images, labels.tolist(), strict=True):
                if len(found[label]) < self._each:
                    found[label].append(image.clone())  # a view would keep the whole batch
            counts += torch.bincount(labels, minlength=len(found)).to(counts)
            if not self.classes and len(found[0]) == self._each:
                break
        own = [images or list(chain(*found)) for images in found]
        first = [images[k % len(images)] for images in own for k in range(self._each)]
        self.images.copy_(torch.stack(first))
        if self.classes:
            self.class_shares.copy_(counts / counts.sum())

    def inputs(self) -> torch.Tensor:
        """Return the pseudo-inputs, (K, C, H, W) in [-1, 1]."""
        return self.images.clamp(-1, 1)

    @torch.no_grad()
    def settle(self, encode: Encode, batches: Iterable[Batch]) -> None:
        """Store the posteriors of the pseudo-inputs."""
        means, log_variances = encode(self.inputs())
        self.fit(Codes(means, log_variances.exp()))

    def fit(self, codes: Codes) -> None:
        """Store ``codes``, the posteriors of the pseudo-inputs."""
        self.means.copy_(codes.means)
        self.log_variances.copy_(codes.variances.log())

    def transform(
        self, noise: torch.Tensor, uniform: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Choose a component per row, and draw from it, (B, L)."""
        if self.classes:
            shares = self._shares(labels)
            chosen = choose(shares.expand(noise.shape[0], -1), uniform)
        else:
            chosen = (uniform * len(self.means)).long().clamp(max=len(self.means) - 1)
        return self.means[chosen] + torch.exp(0.5 * self.log_variances[chosen]) * noise

    def _shares(self, labels: torch.Tensor | None) -> torch.Tensor:
        """Return the weights of the components, (K,), or with labels those of p(z|y), (B, K).

        A label without images gets the weights of p(z).
        """
        shares = self.class_shares.repeat_interleave(self._each) / self._each
        if labels is None:
            return shares
        owners = torch.arange(len(shares), device=shares.device) // self._each
        own = (owners == labels[:, None]).float() / self._each
        return torch.where(self.class_shares[labels][:, None] > 0, own, shares)

    def of_the_bound(self, encode: Encode, labels: torch.Tensor | None = None) -> LogDensity:
        """Return log p(z), or log p(z|y), with the present posteriors of the pseudo-inputs."""
        means, log_variances = encode(self.inputs())
        shares = self._shares(labels) if self.classes else None
        return partial(log_mixture, means=means, log_variances=log_variances, shares=shares)

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and variance per latent, (L,), of the stored mixture."""
        count = len(self.means)
        shares = self._shares(None) if self.classes else self.means.new_full((count,), 1 / count)
        mean = shares @ self.means
        variance = shares @ (self.log_variances.exp() + (self.means - mean).square())
        return mean, variance
