"""The posterior q(z|x) of an encoder: a diagonal Gaussian per image."""

from typing import NamedTuple

import torch

_LOG_VARIANCE_BOUND = 8.0  # of |log sigma^2|, so that exp never overflows


class Posterior(NamedTuple):
    """q(z|x): mean and log sigma^2, both (B, L), float32."""

    mean: torch.Tensor
    log_variance: torch.Tensor

    @classmethod
    def of(cls, outputs: torch.Tensor) -> "Posterior":
        """Return the posteriors of an encoder's outputs (B, 2 L).

        The first half of the outputs are means, the second log-variances, softly bounded to (-8,
        8).
        """
        mean, raw = outputs.float().chunk(2, dim=1)
        return cls(mean, _LOG_VARIANCE_BOUND * torch.tanh(raw / _LOG_VARIANCE_BOUND))

    def draw(self, noise: torch.Tensor) -> torch.Tensor:
        """Return mu + sigma noise (Kingma and Welling 2014, section 2.4), shaped as ``noise``."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise
