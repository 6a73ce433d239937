"""Power-function averages: their profile, their length, and combinations of several."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gentool.training.power_ema import KEPT, combination, deviation, exponent, step_weight


@pytest.mark.parametrize("length", [0.02, 0.05, 0.1, 0.2, 0.25])
def test_the_exponent_has_the_length_asked_for(length: float) -> None:
    gamma = exponent(length)
    assert deviation(gamma) == pytest.approx(length)
    times = (np.arange(200_000) + 0.5) / 200_000
    profile = (gamma + 1) * times**gamma / len(times)
    mean = (profile * times).sum()
    spread = np.sqrt((profile * (times - mean) ** 2).sum())
    assert spread == pytest.approx(length, rel=1e-4)


def averaged(values: NDArray[np.float64], length: float) -> NDArray[np.float64]:
    """What the recursion makes of one number per step, or of one row of numbers."""
    average = np.zeros(values.shape[1:])
    for age, value in enumerate(values, start=1):
        average += step_weight(length, age, 1) * (value - average)
    return average


def test_the_recursion_is_the_weighted_mean() -> None:
    values = np.random.default_rng(0).normal(size=3000).cumsum()
    for length in KEPT:
        gamma = exponent(length)
        times = np.arange(1, 3001) / 3000
        weights = times ** (gamma + 1) - (times - 1 / 3000) ** (gamma + 1)
        assert averaged(values, length) == pytest.approx((weights * values).sum(), rel=1e-9)


def test_the_first_step_takes_all() -> None:
    assert step_weight(0.1, 64, 64) == 1
    assert averaged(np.array([7.0]), 0.02) == 7


def test_a_kept_length_is_itself_and_others_come_near() -> None:
    for k, length in enumerate(KEPT):
        np.testing.assert_allclose(combination(length), np.eye(len(KEPT))[k], atol=1e-9)
    walks = np.random.default_rng(1).normal(size=(20, 2000)).cumsum(axis=1).T
    for length in (0.03, 0.07, 0.15):
        shares = combination(length)
        made = np.sum([s * averaged(walks, k) for s, k in zip(shares, KEPT, strict=True)], axis=0)
        wanted = averaged(walks, length)
        apart = np.std(wanted - walks[-1])
        assert np.std(made - wanted) < 0.15 * apart
