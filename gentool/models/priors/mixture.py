"""A mixture of full-covariance Gaussians fitted to codes by expectation maximisation.

With classes, every component belongs to one class and is fitted to its images only. Then p(z, y) =
p(y) p(z|y) is a mixture too: all components together draw classes with their frequencies in the
data, the components of a class draw this class.
"""

import math

import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.models.priors.base import (
    Codes,
    Standardised,
    check_room,
    choose,
)

MOST_CLASSES = 1000  # the model file holds at least one covariance per class

_JITTER = 1e-4  # added to the variances of standardised codes, for Cholesky factors
_KMEANS_STEPS, _EM_STEPS = 15, 20
_EM_GAIN = 1e-2  # nats per code; the fit ends when a step gains less


class FittedMixture(Standardised):
    """p(u) = sum_k pi_k N(u; m_k, F_k F_k^T) for standardised codes u.

    Dempster et al. 1977; Bishop 2006, section 9.2.2. A single component is fitted in closed form.

    Attributes:
        shares: pi_k, (K,).
        means: m_k, (K, L).
        factors: F_k, lower Cholesky factors, (K, L, L).
    """

    has_components = True
    most_classes = MOST_CLASSES
    words = "a mixture of Gaussians fitted to the codes of the training images"
    shares: torch.Tensor
    means: torch.Tensor
    factors: torch.Tensor

    def __init__(self, size: int, components: int, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(size, components, shape, classes)
        each = max(components // max(classes, 1), 1)
        components = each * max(classes, 1)
        check_room(components * size**2, size)
        self.register_buffer("shares", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, size))
        # Not torch.eye, which on the meta device would import sympy.
        self.register_buffer("factors", torch.zeros(components, size, size))
        self.factors.diagonal(dim1=1, dim2=2).fill_(1)

    @torch.no_grad()
    def fit(self, codes: Codes) -> None:
        """Fit to one draw per image, in float64 on the CPU."""
        self.measure(codes)
        rows = self.inward(codes.drawn(0).double())
        kinds = self.labels_of(codes)
        own = self._own(kinds)
        responsibilities = self._begin(rows, kinds)
        before = -math.inf
        for _ in range(_EM_STEPS):
            mixture = _maximise(rows, responsibilities)
            log_joint = _log_joint(rows, own, *mixture)
            log_likelihood = log_joint.logsumexp(dim=1).mean().item()
            if log_likelihood - before < _EM_GAIN:
                break
            before = log_likelihood
            responsibilities = log_joint.softmax(dim=1)
        for buffer, value in zip((self.shares, self.means, self.factors), mixture, strict=True):
            buffer.copy_(value)

    def transform(
        self, noise: torch.Tensor, uniform: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw from all components, or with labels from those of each row's class, (B, L).

        For a class without images, all components are used.
        """
        shares = self.shares.expand(noise.shape[0], -1)
        if labels is not None:
            own = shares * self._own(labels)
            shares = torch.where(own.sum(dim=1, keepdim=True) > 0, own, shares)
        chosen = choose(shares, uniform)
        rows = self.means[chosen] + (self.factors[chosen] @ noise[:, :, None])[:, :, 0]
        return self.outward(rows)

    def _own(self, kinds: torch.Tensor) -> torch.Tensor:
        """Return which components belong to classes (B,), bool (B, K)."""
        each = len(self.shares) // max(self.classes, 1)
        owners = torch.arange(len(self.shares), device=kinds.device) // each
        return owners == kinds[:, None]

    def _begin(self, rows: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        """Return initial responsibilities (N, K), by k-means within every class."""
        each = len(self.shares) // max(self.classes, 1)
        members = rows.new_zeros(len(rows), len(self.shares))
        for kind in torch.unique(kinds).tolist():
            (own,) = torch.nonzero(kinds == kind, as_tuple=True)
            columns = slice(kind * each, kind * each + min(each, len(own)))
            members[own, columns] = _nearest_centre(rows[own], min(each, len(own)))
        return members

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """Return log p(z) per row, (B,), in nats."""
        rows = self.inward(latents)
        own = torch.ones(len(rows), len(self.shares), dtype=torch.bool, device=rows.device)
        log_joint = _log_joint(rows, own, self.shares, self.means, self.factors)
        return log_joint.logsumexp(dim=1) - self.log_scale()


def _nearest_centre(rows: torch.Tensor, components: int) -> torch.Tensor:
    """Return responsibilities (N, K) of 0 or 1 by Lloyd's k-means.

    The initial centres are evenly spaced rows.
    """
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
    """Return weights (K,), means (K, L) and Cholesky factors (K, L, L) of the components.

    Bishop 2006, Eq. 9.24 to 9.26. Every covariance is averaged with the mean of all of them, which
    has the weight of L rows, as in regularised discriminant analysis (Friedman 1989), so that no
    component with few codes shrinks to these.
    """
    size = rows.shape[1]
    counts = responsibilities.sum(dim=0)
    means = responsibilities.T @ rows / counts.clamp(min=1e-9)[:, None]
    scatters = []
    for weight, mean in zip(responsibilities.T, means, strict=True):
        used = weight > 0  # with many classes, these are few rows
        spread = (rows[used] - mean) * weight[used].sqrt()[:, None]
        scatters.append(spread.T @ spread)
    scatter = torch.stack(scatters)
    pooled = scatter.sum(dim=0) / len(rows)
    covariance = (scatter + size * pooled) / (counts + size)[:, None, None]
    covariance.diagonal(dim1=1, dim2=2).add_(_JITTER)
    return counts / len(rows), means, torch.linalg.cholesky(covariance)


def _log_joint(
    rows: torch.Tensor,
    own: torch.Tensor,
    shares: torch.Tensor,
    means: torch.Tensor,
    factors: torch.Tensor,
) -> torch.Tensor:
    """Return log p(z, k) = log pi_k + log N(z; m_k, F_k F_k^T), (N, K); -inf outside of ``own``."""
    constant = 0.5 * rows.shape[1] * math.log(2 * math.pi)
    joint = rows.new_full(own.shape, -math.inf)
    for k, (share, mean, factor) in enumerate(zip(shares, means, factors, strict=True)):
        if share > 0:  # components are empty if there are fewer codes
            inner = rows[own[:, k]] - mean
            white = torch.linalg.solve_triangular(factor, inner.T, upper=False)
            log_root = factor.diagonal().log().sum()
            log_normal = -constant - log_root - 0.5 * white.square().sum(dim=0)
            joint[own[:, k], k] = share.log() + log_normal
    return joint
