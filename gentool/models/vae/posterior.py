"""q(z|x), a diagonal Gaussian per image, as an encoder gives it."""

from typing import NamedTuple

import torch

_LOG_VARIANCE_BOUND = 8.0  # |log sigma^2| stays below, so that exp never overflows


class Posterior(NamedTuple):
    """q(z|x): mean and log sigma^2, both (B, L), float32."""

    mean: torch.Tensor
    log_variance: torch.Tensor

    @classmethod
    def of(cls, outputs: torch.Tensor) -> "Posterior":
        """Of an encoder's outputs (B, 2 L): means, then log-variances that are softly bounded."""
        mean, raw = outputs.float().chunk(2, dim=1)
        return cls(mean, _LOG_VARIANCE_BOUND * torch.tanh(raw / _LOG_VARIANCE_BOUND))

    def draw(self, noise: torch.Tensor) -> torch.Tensor:
        """Mu + sigma eps (Kingma and Welling 2014, section 2.4), of the shape of ``noise``."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise
