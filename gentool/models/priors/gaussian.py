"""Gaussian priors: N(0, I), and one Gaussian with the mean and covariance of the codes.

With classes, the latter has one Gaussian per class.
"""

from collections.abc import Iterable

import torch

from gentool.core.images import ImageShape
from gentool.models.base import Batch
from gentool.models.priors.base import (
    Codes,
    Encode,
    Prior,
    Standardised,
    check_room,
    log_standard_normal,
)
from gentool.models.priors.mixture import MOST_CLASSES, FittedMixture

_JITTER = 1e-4  # added to a correlation matrix, whose diagonal is 1


class StandardNormal(Prior):
    """The prior N(0, I), which is not fitted."""

    words = "N(0, I)"

    def settle(self, encode: Encode, batches: Iterable[Batch]) -> None:
        """Do nothing, without reading the images."""

    def fit(self, codes: Codes) -> None:
        """Do nothing."""

    def transform(
        self, noise: torch.Tensor, uniform: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the noise unchanged."""
        return noise

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """Return log N(z; 0, I) per row, (B,), in nats."""
        return log_standard_normal(latents)


class Whitened(Standardised):
    """A prior of uncorrelated codes w: z = mean + scale * (F w), with their correlation F F^T.

    Attributes:
        factor: F, the lower Cholesky factor, (L, L).
    """

    factor: torch.Tensor

    def __init__(self, size: int, components: int, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(size, components, shape, classes)
        check_room(size**2, size)
        # Not torch.eye, which on the meta device would import sympy.
        self.register_buffer("factor", torch.zeros(size, size).fill_diagonal_(1))

    def measure(self, codes: Codes) -> None:
        """Measure mean, scale and correlations of draws from the posteriors, which are diagonal."""
        super().measure(codes)
        rows = Standardised.inward(self, codes.means.cpu().double())
        inner = (codes.variances.cpu().double() / self.scale.cpu().double().square()).mean(dim=0)
        correlation = rows.T @ rows / len(rows) + torch.diag(inner + _JITTER)
        self.factor.copy_(torch.linalg.cholesky(correlation))

    def inward(self, latents: torch.Tensor) -> torch.Tensor:
        """Return F^-1 ((z - mean) / scale), (B, L)."""
        rows = super().inward(latents)
        white: torch.Tensor = torch.linalg.solve_triangular(
            self.factor.to(rows), rows.T, upper=False
        )
        return white.T

    def outward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return mean + scale * (F w), (B, L)."""
        return super().outward(rows @ self.factor.T)

    def log_scale(self) -> torch.Tensor:
        """Return log |det dz / dw|, a scalar."""
        return super().log_scale() + self.factor.diagonal().log().sum()


class ClassGaussians(FittedMixture):
    """A full Gaussian per class: a mixture with one component per class."""

    words = "full Gaussians fitted to the codes of the training images, one per class"


class FullGaussian(Whitened):
    """N(m, S) with the mean and covariance of draws from all posteriors."""

    most_classes = MOST_CLASSES
    words = "a full Gaussian fitted to the codes of the training images"

    @classmethod
    def open(
        cls, size: int, components: int, shape: ImageShape, classes: int, places: tuple[int, int],
        width: int,
    ) -> Prior:  # fmt: skip
        """Build the prior; with classes, one Gaussian per class."""
        if classes:
            return ClassGaussians(size, classes, shape, classes)
        return cls(size, components, shape)

    def fit(self, codes: Codes) -> None:
        """Fit mean and covariance in closed form."""
        self.measure(codes)

    def transform(
        self, noise: torch.Tensor, uniform: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return mean + scale * (F noise)."""
        return self.outward(noise)

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """Return log N(z; m, S) per row, (B,), in nats."""
        return log_standard_normal(self.inward(latents)) - self.log_scale()
