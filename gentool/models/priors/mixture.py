"""A mixture of full-covariance Gaussians fitted to codes by expectation maximisation."""

import math

import torch
from torch import nn

from gentool.images import ImageShape
from gentool.models.priors.base import Codes, Standardised

_JITTER = 1e-4  # added to the variances of standardised codes, for the roots
_KMEANS_STEPS, _EM_STEPS = 15, 20
_EM_GAIN = 1e-2  # nats per code; less gained in a step, and the fit is done


class FittedMixture(Standardised):
    """Of standardised codes u, p(u) = sum_k pi_k N(u; m_k, F_k F_k^T).

    Dempster et al. 1977; Bishop 2006, section 9.2.2. One component is fitted in closed form.
    """

    words = "a mixture of Gaussians fitted to the training images' codes"
    shares: torch.Tensor
    means: torch.Tensor
    factors: torch.Tensor

    def __init__(self, size: int, components: int, shape: ImageShape) -> None:
        super().__init__(size, components, shape)
        self.register_buffer("shares", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, size))
        # Lower Cholesky factors. (torch.eye and repeat on the meta device would import sympy.)
        self.register_buffer("factors", torch.zeros(components, size, size))
        for factor in self.factors:
            factor.fill_diagonal_(1)

    @torch.no_grad()
    def fit(self, codes: Codes) -> None:
        """Fit to one draw per image, in float64 on the CPU."""
        self.measure(codes)
        rows = self.inward(codes.drawn(0).double())
        components = len(self.shares)
        responsibilities = _nearest_centre(rows, min(components, len(rows)))
        before = -math.inf
        for _ in range(_EM_STEPS):
            mixture = _maximise(rows, responsibilities)
            log_joint = _log_joint(rows, *mixture)
            log_likelihood = log_joint.logsumexp(dim=1).mean().item()
            if log_likelihood - before < _EM_GAIN:
                break
            before = log_likelihood
            responsibilities = log_joint.softmax(dim=1)
        for buffer, value in zip((self.shares, self.means, self.factors), mixture, strict=True):
            buffer.zero_()
            buffer[: len(value)] = value.to(buffer)

    def transform(self, noise: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """Rows of the fitted density from rows (B, L) of N(0, I) and uniform numbers (B,)."""
        steps = self.shares.cumsum(dim=0)
        chosen = torch.searchsorted(steps, uniform * steps[-1], right=True)
        chosen = chosen.clamp(max=int((self.shares > 0).sum()) - 1)
        rows = self.means[chosen] + (self.factors[chosen] @ noise[:, :, None])[:, :, 0]
        return self.outward(rows)

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """Log p(z), per row."""
        used = self.shares > 0  # with fewer codes than components some are empty
        parts = (self.shares[used], self.means[used], self.factors[used])
        return _log_joint(self.inward(latents), *parts).logsumexp(dim=1) - self.log_scale()


def _nearest_centre(rows: torch.Tensor, components: int) -> torch.Tensor:
    """Responsibilities (N, K) of 0 or 1 by Lloyd's k-means, begun at evenly spaced rows."""
    start = torch.linspace(0, len(rows) - 1, components, dtype=torch.float64).long()
    centres = rows[start]
    for _ in range(_KMEANS_STEPS):
        nearest = torch.cdist(rows, centres).argmin(dim=1)
        members = nn.functional.one_hot(nearest, components).to(rows)
        count = members.sum(dim=0)[:, None]
        centres = torch.where(count > 0, members.T @ rows / count.clamp(min=1), centres)
    return members


def _maximise(
    rows: torch.Tensor, responsibilities: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Shares (K,), means (K, L) and Cholesky factors (K, L, L): Bishop 2006, Eq. 9.24 to 9.26.

    Every covariance is drawn towards the mean of all of them with the weight of L rows, as
    in regularised discriminant analysis (Friedman 1989), so that no component with few codes
    shrinks onto them.
    """
    size = rows.shape[1]
    counts = responsibilities.sum(dim=0).clamp(min=1e-9)
    means = responsibilities.T @ rows / counts[:, None]
    scatters = []
    for weight, mean in zip(responsibilities.T, means, strict=True):
        spread = (rows - mean) * weight.sqrt()[:, None]
        scatters.append(spread.T @ spread)
    scatter = torch.stack(scatters)
    pooled = scatter.sum(dim=0) / len(rows)
    covariance = (scatter + size * pooled) / (counts + size)[:, None, None]
    covariance.diagonal(dim1=1, dim2=2).add_(_JITTER)
    return counts / len(rows), means, torch.linalg.cholesky(covariance)


def _log_joint(
    rows: torch.Tensor, shares: torch.Tensor, means: torch.Tensor, factors: torch.Tensor
) -> torch.Tensor:
    """The joint log p(z, k) = log pi_k + log N(z; m_k, F_k F_k^T), shape (N, K)."""
    constant = 0.5 * rows.shape[1] * math.log(2 * math.pi)
    columns = []
    for share, mean, factor in zip(shares, means, factors, strict=True):
        white = torch.linalg.solve_triangular(factor, (rows - mean).T, upper=False)
        log_root = factor.diagonal().log().sum()
        columns.append(share.log() - constant - log_root - 0.5 * white.square().sum(dim=0))
    return torch.stack(columns, dim=1)
