"""The half cosine, and that its numbers are those of the formulas that it replaced."""

import math

import pytest

from gentool.core.half_cosine import half_cosine


@pytest.mark.parametrize("floor", [0.0, 0.1, 1.0])
def test_it_falls_from_one_to_its_floor_and_stays_there(floor: float) -> None:
    values = [half_cosine(k / 20, floor=floor) for k in range(21)]
    assert values[0] == 1
    assert values[-1] == pytest.approx(floor)
    assert values == sorted(values, reverse=True)
    assert half_cosine(1.5, floor=floor) == half_cosine(1.0, floor=floor)
    assert half_cosine(0.5, floor=floor) == pytest.approx((1 + floor) / 2)


def test_the_numbers_of_runs_stay_the_same() -> None:
    for step in range(997):
        of_steps = 0.5 * (1 + math.cos(math.pi * step / 997))
        assert half_cosine(step, 997) == of_steps
        share = step / 997
        for end in (0.0, 0.05, 0.3, 1.0):
            of_share = end + (1 - end) * (1 + math.cos(math.pi * share)) / 2
            assert half_cosine(share, floor=end) == of_share
