"""The Frechet distance of two Gaussians fitted to features.

Dowson and Landau 1982; as a score of generative models Heusel et al. 2017 (arXiv:1706.08500):

    d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2).

It is biased upwards for few samples, by an amount that depends on the model; Chong and
Forsyth 2020 (arXiv:1911.07023) therefore extrapolate it to infinitely many.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]
Matrix = NDArray[np.float64]

_FIT_POINTS = 12  # sample sizes of the extrapolation
_SMALLEST_SHARE = 0.25  # the smallest of them, as a share of all samples


@dataclass
class Moments:
    """Mean and covariance of features, gathered batch by batch in float64: memory O(D^2).

    Sums are taken about the first batch's mean, so that large offsets cost no digits.
    """

    count: int = 0
    _origin: Matrix = field(default_factory=lambda: np.zeros(0))
    _sum: Matrix = field(default_factory=lambda: np.zeros(0))
    _outer: Matrix = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, features: Features) -> None:
        """Add rows (B, D)."""
        rows = features.astype(np.float64)
        if not self.count:
            size = rows.shape[1]
            self._origin = rows.mean(axis=0)
            self._sum, self._outer = np.zeros(size), np.zeros((size, size))
        rows = rows - self._origin
        self.count += len(rows)
        self._sum += rows.sum(axis=0)
        self._outer += rows.T @ rows

    @property
    def mean(self) -> Matrix:
        """Shape (D,)."""
        return self._origin + self._sum / self.count

    @property
    def covariance(self) -> Matrix:
        """Unbiased, shape (D, D)."""
        mean = self._sum / self.count
        return (self._outer - self.count * np.outer(mean, mean)) / (self.count - 1)


def moments(features: Features) -> Moments:
    """The moments of rows (N, D)."""
    out = Moments()
    out.add(features)
    return out


def _root(matrix: Matrix) -> Matrix:
    """The symmetric square root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    root: Matrix = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root


def frechet_distance(
    mean_1: Matrix, covariance_1: Matrix, mean_2: Matrix, covariance_2: Matrix
) -> float:
    """d^2 of N(mean_1, covariance_1) and N(mean_2, covariance_2), by eigenvalues in float64.

    No general matrix root is taken, so nothing complex can come out of rounding.
    """
    root = _root(covariance_1)
    eigenvalues = np.linalg.eigvalsh(root @ covariance_2 @ root)
    cross = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    gap = mean_1 - mean_2
    distance = gap @ gap + np.trace(covariance_1) + np.trace(covariance_2) - 2 * cross
    return max(float(distance), 0.0)


def distance_between(a: Moments, b: Moments) -> float:
    """The Frechet distance of two sets of moments."""
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


def extrapolated(features: Features, reference: Moments, rng: np.random.Generator) -> float:
    """The distance at infinitely many samples: the intercept of a line in 1 / N.

    Args:
        features: Samples' features (N, D); subsets of a quarter to all of them are drawn.
        reference: Moments of the reference.
        rng: Chooses the subsets.
    """
    count = len(features)
    sizes = np.linspace(_SMALLEST_SHARE * count, count, _FIT_POINTS).astype(int)
    distances = [
        distance_between(moments(features[rng.choice(count, size, replace=False)]), reference)
        for size in sizes
    ]
    _, intercept = np.polyfit(1 / sizes, distances, 1)
    return float(intercept)
