"""When a run computes its score: by images, by time, and at the end."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, gentool_command
from replaying import Replaying

from gentool.core.rng import Draw
from gentool.data import Dataset, Subset, open_dataset
from gentool.evaluation.quick_score import Score
from gentool.training.score_schedule import ScoreSchedule


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """A few hundred images."""
    return open_dataset("builtin:digits:300", "16")


def looks(dataset: Dataset, every: int | None) -> ScoreSchedule:
    """Of a run without images kept out."""
    return ScoreSchedule(dataset.split(0.0), every)


def nothing(_: object, draw: Draw) -> None:
    """No augmentation."""


def is_due(
    schedule: ScoreSchedule, images: int, scored: int, at_rest_since: int | None = None
) -> bool:
    """Whether a score is due, if the last one was made at ``scored`` images."""
    schedule.load({"scored": scored})
    return schedule.due(images, at_rest_since=at_rest_since)


def score(watched: ScoreSchedule, dataset: Dataset, rows: int, images: int) -> Score:
    """Look at a model that repeats the first ``rows`` images."""
    began = time.monotonic()
    replaying = Replaying(Subset(dataset, np.arange(rows)))
    return watched.score(replaying, nothing, images, began, lambda: None)


def test_by_the_counter(digits: Dataset) -> None:
    watched = looks(digits, 100)
    due = [n for n in range(0, 500, 30) if is_due(watched, n, n - n % 90)]
    assert due == [n for n in range(0, 500, 30) if n // 100 > (n - n % 90) // 100]
    assert not any(is_due(looks(digits, 0), n, 0) for n in range(0, 500, 30))


def test_by_the_clock_not_before_half_a_minute_and_not_again_at_once(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = looks(digits, None)
    assert not is_due(watched, 10**9, 0)
    later = time.monotonic() + 31
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert is_due(watched, 64, 0)
    score(watched, digits, 300, 64)
    assert not is_due(watched, 10**9, 64)


def test_one_last_look_when_samples_no_longer_change(digits: Dataset) -> None:
    watched = looks(digits, None)
    assert not is_due(watched, 64, 0, at_rest_since=64)  # too short a run to be looked at
    score(watched, digits, 300, 64)
    assert is_due(watched, 128, 64, at_rest_since=128)
    assert watched.owed_seconds > 0
    watched.rest()
    assert watched.owed_seconds == 0
    assert not is_due(watched, 192, 128, at_rest_since=128)
    gone_on = looks(digits, None)  # of a run that was stopped between
    assert is_due(gone_on, 192, 64, at_rest_since=128)
    assert not is_due(gone_on, 192, 128, at_rest_since=128)


def test_samples_that_are_alike_at_the_first_look_by_the_clock_may_still_part(
    digits: Dataset,
) -> None:
    watched = looks(digits, None)
    assert "collapse" not in score(watched, digits, 1, 64).warnings
    assert "collapse" in score(watched, digits, 1, 128).warnings
    assert "collapse" in score(looks(digits, 64), digits, 1, 64).warnings


def test_a_last_model_that_is_worse_than_the_best_is_told(digits: Dataset) -> None:
    watched = looks(digits, 1)
    assert watched.verdict() is None
    score(watched, digits, 300, 64)
    assert watched.verdict() is None
    assert "collapse" in score(watched, digits, 1, 128).warnings
    verdict = watched.verdict()
    assert verdict is not None
    assert "at 64 images. best.safetensors" in verdict
    assert score(watched, digits, 1, 192).warnings == {}  # once is enough


def test_a_run_that_goes_on_knows_what_was_better_before(digits: Dataset) -> None:
    watched = looks(digits, 1)
    watched.recall([{"images": 64, "fd_random": 1e-4}, {"images": 70, "d_loss": 1.0}])
    assert watched.verdict() is None
    score(watched, digits, 1, 128)
    assert "0.0001 at 64 images" in str(watched.verdict())
    again = looks(digits, 1)
    again.recall([{"images": 64, "fd_random": 1.0}, {"images": 128, "fd_random": 2.0}])
    assert "the last score, 2, is worse than 1 at 64 images" in str(again.verdict())


@pytest.mark.slow
def test_a_run_of_a_minute_is_looked_at_unasked(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = gentool_command(
        "train", "gan", "--data", image_folder, "--out", out, *TINY, "--minutes", 0.75
    )
    assert done.code == 0, done.err
    scored = [r for r in map(json.loads, (out / "log.jsonl").open()) if "fd_random" in r]
    assert len(scored) == 2  # by the clock, and at rest
    assert all(r["diversity"] > 0 for r in scored)
    assert (out / "best.safetensors").is_file()
