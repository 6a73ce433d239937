"""The Frechet distance between two Gaussians fitted to features.

The distance is by Dowson and Landau (1982); as a score of generative models it is the FID of
Heusel et al. 2017 (arXiv:1706.08500):

    d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2).

For few samples it is biased upwards, by an amount that depends on the model (Chong and Forsyth
2020, arXiv:1911.07023), so it is also extrapolated to infinitely many samples. Chong and Forsyth
fit a line through random subsets. The jackknife (Quenouille 1956, Tukey 1958) used here removes
the same term in 1 / N with ten fixed folds. Its error is smaller, it gives a standard error at no
extra cost, and it needs only moments, not all features at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]
Matrix = NDArray[np.float64]

FOLDS = 10  # folds of the jackknife


@dataclass
class Moments:
    """Mean and covariance of features, accumulated batch by batch in float64: memory O(D^2).

    The mean of the first batch is subtracted from all rows before they are summed, so that large
    means do not cost precision.

    Attributes:
        count: Number of rows so far.
    """

    count: int = 0
    _origin: Matrix = field(default_factory=lambda: np.zeros(0))
    _sum: Matrix = field(default_factory=lambda: np.zeros(0))
    _outer: Matrix = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, features: Features) -> None:
        """Add rows (B, D) of any float dtype."""
        rows = features.astype(np.float64)
        if not self.count:
            size = rows.shape[1]
            self._origin = rows.mean(axis=0)
            self._sum, self._outer = np.zeros(size), np.zeros((size, size))
        rows = rows - self._origin
        self.count += len(rows)
        self._sum += rows.sum(axis=0)
        self._outer += rows.T @ rows

    def __add__(self, other: "Moments") -> "Moments":
        """Return the moments of both sets of rows together."""
        shift = other._origin - self._origin
        cross = np.outer(other._sum, shift)
        outer = other._outer + cross + cross.T + other.count * np.outer(shift, shift)
        return Moments(
            self.count + other.count,
            self._origin,
            self._sum + other._sum + other.count * shift,
            self._outer + outer,
        )

    @property
    def mean(self) -> Matrix:
        """Mean, float64 (D,)."""
        return self._origin + self._sum / self.count

    @property
    def covariance(self) -> Matrix:
        """Unbiased covariance, float64 (D, D)."""
        mean = self._sum / self.count
        return (self._outer - self.count * np.outer(mean, mean)) / (self.count - 1)


def moments(features: Features) -> Moments:
    """Return the moments of rows (N, D)."""
    out = Moments()
    out.add(features)
    return out


def _root(matrix: Matrix) -> Matrix:
    """Return the symmetric square root of a positive semi-definite matrix (D, D)."""
    values, vectors = np.linalg.eigh(matrix)
    root: Matrix = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root


def frechet_distance(
    mean_1: Matrix, covariance_1: Matrix, mean_2: Matrix, covariance_2: Matrix
) -> float:
    """Return d^2 of N(mean_1, covariance_1) and N(mean_2, covariance_2).

    Means are (D,), covariances (D, D), in float64. The roots come from eigenvalues of symmetric
    matrices, so that rounding cannot give complex numbers, unlike a general matrix root.
    """
    return _rooted_distance(mean_1, covariance_1, mean_2, covariance_2, _root(covariance_2))


def _rooted_distance(
    mean_1: Matrix, covariance_1: Matrix, mean_2: Matrix, covariance_2: Matrix, root_2: Matrix
) -> float:
    """Return d^2, given the root of ``covariance_2``, which is half of the cost at D = 2,048."""
    eigenvalues = np.linalg.eigvalsh(root_2 @ covariance_1 @ root_2)
    cross = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    gap = mean_1 - mean_2
    distance = gap @ gap + np.trace(covariance_1) + np.trace(covariance_2) - 2 * cross
    return max(float(distance), 0.0)


def _distances(several: Sequence[Moments], reference: Moments) -> list[float]:
    """Return d^2 of each to ``reference``, whose covariance root is computed only once."""
    mean, covariance = reference.mean, reference.covariance
    root = _root(covariance)
    return [_rooted_distance(m.mean, m.covariance, mean, covariance, root) for m in several]


def distance_between(a: Moments, b: Moments) -> float:
    """Return the Frechet distance d^2 of two sets of moments."""
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


class FrechetEstimate(NamedTuple):
    """A Frechet distance d^2 with its extrapolation.

    Attributes:
        value: Distance at the given number of samples.
        extrapolated: Estimate for infinitely many samples; may be negative.
        standard_error: Standard error by the jackknife.
    """

    value: float
    extrapolated: float
    standard_error: float


class Folds:
    """Moments of samples in ten folds, accumulated batch by batch: memory O(10 D^2)."""

    def __init__(self) -> None:
        self._folds = [Moments() for _ in range(FOLDS)]
        self.count = 0

    def add(self, features: Features) -> None:
        """Add rows (B, D); row k of all rows so far goes to fold k modulo 10."""
        numbers = np.arange(self.count, self.count + len(features)) % FOLDS
        for number, fold in enumerate(self._folds):
            if (rows := features[numbers == number]).size:
                fold.add(rows)
        self.count += len(features)

    def distance(self, reference: Moments) -> FrechetEstimate:
        """Return the distance to ``reference``; at least 20 rows are needed.

        Let d be the distance of all rows and d_k that without fold k, for g folds. The jackknife
        estimates the bias as (g - 1)(mean d_k - d) and the variance as
        (g - 1) / g sum (d_k - mean d_k)^2.
        """
        without = [reduce(add, self._folds[:k] + self._folds[k + 1 :]) for k in range(FOLDS)]
        total = without[0] + self._folds[0]
        value, *left_out = _distances([total, *without], reference)
        mean = float(np.mean(left_out))
        spread = float(np.sum((np.array(left_out) - mean) ** 2))
        return FrechetEstimate(
            value,
            value - (FOLDS - 1) * (mean - value),
            ((FOLDS - 1) / FOLDS * spread) ** 0.5,
        )
