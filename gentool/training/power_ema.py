"""Power-function averages of weights, and how to combine a few into one of another length.

Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models"
(arXiv:2312.02696), section 3 and appendix C. In the average at time T, the weights of time t have
the factor (gamma + 1) t^gamma / T^(gamma + 1), the profile of the average. The length of an
average is the standard deviation of its profile divided by T. Averages of a few lengths are kept
during training. After the run they are combined by least squares into an average of any length
between them. The paper combines averages saved at several times; this module combines averages of
four lengths saved at one time, the last.
"""

import math

import numpy as np
from numpy.typing import NDArray

KEPT = (0.02, 0.05, 0.1, 0.2)  # lengths of the averages that are kept during training


def exponent(length: float) -> float:
    """Return the gamma whose ``deviation`` is ``length``: the largest root of a cubic.

    Args:
        length: sigma_rel, 0.01 to 0.28 (no gamma of 0 or more has one above 1 / sqrt(12)).
    """
    t = length**-2
    roots = np.roots([1.0, 7.0, 16.0 - t, 12.0 - t])
    return max(float(root) for root in roots.real)


def step_weight(length: float, age: float, step: float) -> float:
    """Return the weight, from 0 to 1, of the current weights in an update of the average.

    It is 1 - (1 - step / age)^(gamma + 1); ibid., Eq. 127. At the first update (age = step) it
    is 1, so the average becomes the current weights.

    Args:
        length: Length of the average.
        age: Images since the start of the average, at the end of this update.
        step: Images since the last update.
    """
    left: float = max(1 - step / age, 0.0) ** (exponent(length) + 1)
    return 1 - left


def combination(length: float, kept: tuple[float, ...] = KEPT) -> NDArray[np.float64]:
    """Return coefficients of the kept averages, float64 (K,), for the average of ``length``.

    They minimise the squared distance between the profile of the weighted sum and the wanted
    profile on [0, 1]. The inner product of two profiles with exponents a and b is
    (a + 1)(b + 1) / (a + b + 1); ibid., appendix C.3.
    """
    own = np.array([exponent(k) for k in kept])
    gram = _inner(own[:, None], own[None, :])
    wanted = _inner(own, np.array(exponent(length)))
    return np.linalg.solve(gram, wanted).astype(np.float64)


def _inner(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return (a + 1) * (b + 1) / (a + b + 1)


def deviation(gamma: float) -> float:
    """Return the length for an exponent: the standard deviation of its profile on [0, 1]."""
    return float(math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))))
