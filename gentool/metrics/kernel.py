"""The kernel distance: the unbiased squared maximum mean discrepancy with a cubic kernel.

Binkowski et al. 2018 (arXiv:1801.01401): the kernel is k(x, y) = (x . y / D + 1)^3, and the
unbiased estimator of Gretton et al. 2012, Eq. 3, is averaged over subsets. Unlike the Frechet
distance, its mean for equal distributions is zero at any number of samples, so it suits small
sets.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]


class KernelDistance(NamedTuple):
    """Kernel distance: the mean over subsets, and the standard error of this mean."""

    value: float
    standard_error: float


def _kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    cube: NDArray[np.float64] = (x @ y.T / x.shape[1] + 1) ** 3
    return cube


def squared_mmd(x: Features, y: Features) -> float:
    """Return the unbiased estimate of MMD^2 from features (N, D) and (M, D), in float64."""
    a, b = x.astype(np.float64), y.astype(np.float64)
    n, m = len(a), len(b)
    within_a, within_b = _kernel(a, a), _kernel(b, b)
    return float(
        (within_a.sum() - np.trace(within_a)) / (n * (n - 1))
        + (within_b.sum() - np.trace(within_b)) / (m * (m - 1))
        - 2 * _kernel(a, b).mean()
    )


def kernel_distance(
    x: Features, y: Features, rng: np.random.Generator, subsets: int = 100, size: int = 1000
) -> KernelDistance:
    """Return the mean of MMD^2 over random subsets.

    The standard error is that of the mean over the subsets. Subsets of one finite set overlap, so
    it does not include the error that comes from the set itself.

    Args:
        x: Features (N, D).
        y: Features (M, D).
        rng: Generator that draws the subsets.
        subsets: Number of subsets.
        size: Rows per subset; at most half of N and of M.
    """
    size = max(2, min(size, len(x) // 2, len(y) // 2))
    values = [
        squared_mmd(
            x[rng.choice(len(x), size, replace=False)], y[rng.choice(len(y), size, replace=False)]
        )
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values, ddof=1) / subsets**0.5))
