"""Power-function averages of weights, and how to make one of any length from a few.

Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models"
(arXiv:2312.02696), section 3 and appendix C: the average at time T weighs the weights of time t
by (gamma + 1) t^gamma / T^(gamma + 1); its length is the profile's standard deviation as a share
of T. Averages of a few lengths, kept while training, are combined by least squares into that of
any length between them: the choice is made when the run is over. The paper combines averages
saved at several times; here those of the last moment, of four lengths, do.
"""

import math

import numpy as np
from numpy.typing import NDArray

KEPT = (0.02, 0.05, 0.1, 0.2)  # lengths that are averaged while training


def exponent(length: float) -> float:
    """The gamma whose ``deviation`` is ``length``: the largest root of a cubic.

    Args:
        length: sigma_rel, 0.01 to 0.28 (above 1 / sqrt(12) there is none).
    """
    t = length**-2
    roots = np.roots([1.0, 7.0, 16.0 - t, 12.0 - t])
    return max(float(root) for root in roots.real)


def step_weight(length: float, age: float, step: float) -> float:
    """How far the average moves towards the weights in one step that ends at ``age``.

    1 - (1 - step / age)^(gamma + 1); ibid., Eq. 127. The first step (age = step) takes all.
    """
    left: float = max(1 - step / age, 0.0) ** (exponent(length) + 1)
    return 1 - left


def combination(length: float, kept: tuple[float, ...] = KEPT) -> NDArray[np.float64]:
    """Weights (K,) of the kept averages whose sum has the profile nearest to that of ``length``.

    Least squares between profiles on [0, 1], whose inner products are
    (a + 1)(b + 1) / (a + b + 1); ibid., appendix C.3.
    """
    own = np.array([exponent(k) for k in kept])
    gram = _inner(own[:, None], own[None, :])
    wanted = _inner(own, np.array(exponent(length)))
    return np.linalg.solve(gram, wanted).astype(np.float64)


def _inner(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return (a + 1) * (b + 1) / (a + b + 1)


def deviation(gamma: float) -> float:
    """The length of an exponent: the standard deviation of its profile on [0, 1]."""
    return float(math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))))
