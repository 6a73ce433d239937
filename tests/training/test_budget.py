"""The used fraction of the budget of a run."""

import pytest

from gentool.core.distributed import Ranks
from gentool.training.budget import Budget


def test_images_are_counted() -> None:
    budget = Budget(200, None, Ranks())
    assert [budget.share(n, 1e9, 5.0) for n in (0, 50, 200, 300)] == [0, 0.25, 1, 1.5]
    assert budget.seconds == 0


def test_what_follows_the_last_step_is_left_out_of_the_minutes() -> None:
    budget = Budget(None, 2.0, Ranks())
    budget.measure(10.0, 20.0)  # the last save: 1.3 * (10 + 20) + 0.5
    assert budget.share(0, 40.0, 0.5) == pytest.approx(40 / 80)
    assert budget.share(0, 80.0, 0.5) == 1


def test_the_share_never_falls() -> None:
    """Or a span of a run that is over would begin again."""
    budget = Budget(None, 2.0, Ranks())
    budget.measure(40.0, 0.0)
    late = budget.share(0, 30.0, 10.0)
    budget.measure(1.0, 0.0)
    assert budget.share(0, 31.0, 0.0) == late
    assert budget.share(0, 118.2, 0.0) == 1


def test_saves_are_put_off_by_what_they_cost_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by what the last one is going to cost."""
    now = 1000.0
    monkeypatch.setattr("gentool.training.budget.time.monotonic", lambda: now)
    budget = Budget(None, 60.0, Ranks())
    budget.begin()
    assert not budget.save_is_due()
    now += 30
    assert budget.save_is_due()
    budget.measure(5.0, 500.0)  # 7 seconds, which are five per cent of 140
    budget.saved()
    now += 139
    assert not budget.save_is_due()
    now += 1
    assert budget.save_is_due()


def test_a_short_run_saves_early() -> None:
    budget = Budget(None, 1e-9, Ranks())
    budget.begin()
    assert budget.save_is_due()
