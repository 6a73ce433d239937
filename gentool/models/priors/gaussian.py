"""Gaussian priors: N(0, I), and one Gaussian with the mean and covariance of the codes.

Where there are classes, one for each of them.
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
    """N(0, I): there is nothing to fit."""

    words = "N(0, I)"

    def settle(self, encode: Encode, batches: Iterable[Batch]) -> None:
        """Nothing, and the images are not even looked at."""

    def fit(self, codes: Codes) -> None:
        """Nothing."""

    def transform(
        self, noise: torch.Tensor, uniform: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The noise itself."""
        return noise

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """Log N(z; 0, I)."""
        return log_standard_normal(latents)


class Whitened(Standardised):
    """A prior of codes made uncorrelated: z = mean + scale * (F w), F F^T their correlation."""

    factor: torch.Tensor

    def __init__(self, size: int, components: int, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(size, components, shape, classes)
        check_room(size**2, size)
        # (torch.eye on the meta device would import sympy.)
        self.register_buffer("factor", torch.zeros(size, size).fill_diagonal_(1))

    def measure(self, codes: Codes) -> None:
        """Mean, scale and correlations of the draws; the posteriors are diagonal."""
        super().measure(codes)
        rows = Standardised.inward(self, codes.means.cpu().double())
        inner = (codes.variances.cpu().double() / self.scale.cpu().double().square()).mean(dim=0)
        correlation = rows.T @ rows / len(rows) + torch.diag(inner + _JITTER)
        self.factor.copy_(torch.linalg.cholesky(correlation))

    def inward(self, latents: torch.Tensor) -> torch.Tensor:
        """F^-1 ((z - mean) / scale)."""
        rows = super().inward(latents)
        white: torch.Tensor = torch.linalg.solve_triangular(
            self.factor.to(rows), rows.T, upper=False
        )
        return white.T

    def outward(self, rows: torch.Tensor) -> torch.Tensor:
        """Mean + scale * (F w)."""
        return super().outward(rows @ self.factor.T)

    def log_scale(self) -> torch.Tensor:
        """Log |dz / dw|."""
        return super().log_scale() + self.factor.diagonal().log().sum()


class ClassGaussians(FittedMixture):
    """A full Gaussian for every class: a mixture in which each has one component."""

    words = "full Gaussians fitted to the training images' codes, one for every class"


class FullGaussian(Whitened):
    """N(m, S) with the exact mean and covariance of the draws from all posteriors."""

    most_classes = MOST_CLASSES
    words = "a full Gaussian fitted to the training images' codes"

    @classmethod
    def open(
        cls, size: int, components: int, shape: ImageShape, classes: int, places: tuple[int, int],
        width: int,
    ) -> Prior:  # fmt: skip
        """One for every class, where there are some."""
        if classes:
            return ClassGaussians(size, classes, shape, classes)
        return cls(size, components, shape)

    def fit(self, codes: Codes) -> None:
        """Closed form."""
        self.measure(codes)

    def transform(
        self, noise: torch.Tensor, uniform: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Mean + scale * (F noise)."""
        return self.outward(noise)

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """Log N(z; m, S)."""
        return log_standard_normal(self.inward(latents)) - self.log_scale()
