"""Densities over latents: the KL to N(0, I), and a Gaussian fitted to codes after training.

"Ex-post density estimation" is the name Ghosh et al. 2020 (arXiv:1903.12436) give to fitting
p(z) to the codes of a trained autoencoder, which turns it into a generator.
"""

from collections.abc import Iterable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from gentool.rng import normal

_JITTER = 1e-6  # share of the mean variance added to the diagonal, so that Cholesky exists


def draw_normal(indices: NDArray[Any], seed: int, size: int, device: torch.device) -> torch.Tensor:
    """Rows of N(0, I), shape (B, size), float32; row i depends on (seed, indices[i]) alone."""
    return torch.from_numpy(normal(seed, "prior", indices, size)).to(device)


def kl_to_standard_normal(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, diag exp(log_variance)) || N(0, I)) per row, in nats.

    Kingma and Welling 2014 (arXiv:1312.6114), appendix B:
    -1/2 sum(1 + log sigma^2 - mu^2 - sigma^2).

    Args:
        mean: (B, L).
        log_variance: (B, L), log sigma^2.

    Returns:
        Shape (B,).
    """
    mean, log_variance = mean.float(), log_variance.float()
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


class FittedGaussian(nn.Module):
    """N(mean, factor factor^T), fitted to codes in closed form; buffers, not weights.

    Until it is fitted it is N(0, I).

    Args:
        size: Length L of a code.
    """

    mean: torch.Tensor
    factor: torch.Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        # The lower Cholesky factor of the covariance. (torch.eye on meta would import sympy.)
        self.register_buffer("factor", torch.zeros(size, size).fill_diagonal_(1))

    @torch.no_grad()
    def fit(self, codes: Iterable[torch.Tensor]) -> None:
        """Maximum likelihood from batches of codes (B, L); sums in float64 on the CPU."""
        count = 0
        size = len(self.mean)
        total = torch.zeros(size, dtype=torch.float64)
        outer = torch.zeros(size, size, dtype=torch.float64)
        for batch in codes:
            rows = batch.to("cpu", torch.float64)
            count += len(rows)
            total += rows.sum(dim=0)
            outer += rows.T @ rows
        mean = total / count
        covariance = outer / count - torch.outer(mean, mean)
        jitter = _JITTER * covariance.diagonal().mean().clamp(min=1e-12)
        factor = torch.linalg.cholesky(covariance + jitter * torch.eye(size, dtype=torch.float64))
        self.mean.copy_(mean)
        self.factor.copy_(factor)

    def transform(self, noise: torch.Tensor) -> torch.Tensor:
        """Rows of the fitted density from rows (B, L) of N(0, I)."""
        return self.mean + noise @ self.factor.T
