"""Probability masses with a parameter per value: black or white, and the 256 grey levels."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from gentool.models.likelihoods.base import LEVELS, STEP, Likelihood, level, on_levels, quantile


class Bernoulli(Likelihood):
    """p(x | z) = prod p^x (1 - p)^(1 - x), p = sigmoid(logits), for x in {0, 1} (-1 and 1 here).

    Kingma and Welling 2014 (arXiv:1312.6114), appendix C.1. For grey values in between it would be
    a cross-entropy, not a likelihood; ``binarise`` draws black and white pixels from them.
    """

    discrete = True
    support = "pixels of 0 or 255"
    otherwise = "-o likelihood=gaussian"

    def supports(self, images: torch.Tensor) -> torch.Tensor:
        """Return whether all pixels are -1 or 1."""
        return (images.abs() == 1).all()

    def log_prob(self, params: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Return log p(x | z) per image in nats, shape (B,)."""
        ink = (images.float() + 1) / 2
        terms = binary_cross_entropy_with_logits(params.float(), ink, reduction="none")
        return -terms.sum(dim=(1, 2, 3))

    def mean(self, params: torch.Tensor) -> torch.Tensor:
        """Return E[x | z] = 2 p - 1."""
        return torch.tanh(params.float() / 2)  # = 2 sigmoid(logits) - 1

    def sample(self, params: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return 1 where Phi(noise), which is uniform, is below p, else -1."""
        return torch.where(quantile(noise) < torch.sigmoid(params.float()), 1.0, -1.0)


class Categorical(Likelihood):
    """p(x | z) = prod softmax(logits_i)[x_i] over the 256 grey levels, channels independent.

    van den Oord et al. 2016 (arXiv:1601.06759), section 2.
    """

    params_per_channel = LEVELS
    discrete = True
    support = "the 256 grey levels"
    otherwise = "-o likelihood=gaussian, or --augment none"

    def supports(self, images: torch.Tensor) -> torch.Tensor:
        """Return whether all pixels are grey levels."""
        return on_levels(images)

    def _logits(self, params: torch.Tensor) -> torch.Tensor:
        """Reshape (B, 256 C, H, W) to (B, 256, C, H, W)."""
        batch, _, height, width = params.shape
        return params.float().reshape(batch, LEVELS, -1, height, width)

    def log_prob(self, params: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Return log p(x | z) per image in nats, shape (B,)."""
        wanted = level(images).round().long()
        terms = cross_entropy(self._logits(params), wanted, reduction="none")
        return -terms.sum(dim=(1, 2, 3))

    def mean(self, params: torch.Tensor) -> torch.Tensor:
        """Return E[x | z]."""
        values = torch.linspace(-1, 1, LEVELS, device=params.device)
        shares = self._logits(params).softmax(dim=1)
        with torch.autocast(params.device.type, enabled=False):  # which would sum in bfloat16
            return torch.einsum("blchw,l->bchw", shares, values).clamp(-1, 1)

    def sample(self, params: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return the level at which the distribution function exceeds Phi(noise)."""
        steps = self._logits(params).softmax(dim=1).cumsum(dim=1)
        found = (steps < quantile(noise)[:, None]).sum(dim=1).clamp(max=LEVELS - 1)
        return (found * STEP - 1).clamp(-1, 1)
