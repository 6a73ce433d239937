"""Warnings of ``--score-every`` on models with a known fault: collapsed, copying, none."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from replaying import Replaying

from gentool.core.errors import DataError
from gentool.core.images import to_pixels, to_unit
from gentool.core.rng import Draw
from gentool.data import Dataset, Split, Subset, open_dataset
from gentool.evaluation.quick_score import Scorer, mean_distance
from gentool.metrics.neighbours import nearness
from gentool.models.augmentation import open_augmentation
from gentool.training.score_schedule import ScoreSchedule


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """Digits enough that 500 can be kept out."""
    return open_dataset("builtin:digits:3000", "16")


def _part(images: Subset, start: int, stop: int | None = None) -> Subset:
    return Subset(images.dataset, images.rows[start:stop])


def _scorer(dataset: Dataset) -> tuple[Scorer, Subset, Subset]:
    train, held_out = dataset.split(0.4)
    seen = _part(train, 0, 1000)
    return Scorer(Split(seen, _part(held_out, 0, 1000))), seen, _part(train, 1000)


def _without_held_out(train: Subset) -> Scorer:
    return Scorer(Split(train, _part(train, 0, 0)))


def test_fresh_images_raise_no_warning(digits: Dataset) -> None:
    scorer, _, unseen = _scorer(digits)
    score = scorer.score(Replaying(unseen))
    assert score.warnings == {}
    assert score.record["diversity"] == pytest.approx(1, abs=0.1)
    assert score.record["memorisation"] == pytest.approx(0.5, abs=0.1)


def test_a_collapsed_model_is_told(digits: Dataset) -> None:
    scorer, _, unseen = _scorer(digits)
    collapsed = scorer.score(Replaying(_part(unseen, 0, 1)))
    assert collapsed.record["diversity"] < 0.01
    assert "as diverse as the images" in collapsed.warnings["collapse"]
    assert collapsed.distance > scorer.score(Replaying(unseen)).distance


def test_a_model_that_copies_is_told(digits: Dataset) -> None:
    scorer, seen, _ = _scorer(digits)
    score = scorer.score(Replaying(seen))
    assert score.record["memorisation"] > 0.95
    assert "near to training images" in score.warnings["memorisation"]


def test_copies_are_told_without_images_kept_out(digits: Dataset) -> None:
    train = digits.split(0.4).train
    few = _without_held_out(_part(train, 0, 200))
    copied = few.score(Replaying(_part(train, 0, 200)))
    assert copied.record["memorisation"] > 0.95
    assert "near to training images" in copied.warnings["memorisation"]
    fresh = few.score(Replaying(_part(train, 200)))
    assert fresh.record["memorisation"] == pytest.approx(0.5, abs=0.1)
    assert "memorisation" not in fresh.warnings


def test_real_images_have_a_score_of_their_own(digits: Dataset) -> None:
    scorer, seen, unseen = _scorer(digits)
    real = scorer.score(Replaying(unseen)).record["fd_random/real"]
    assert 0 < real < 0.5 * scorer.score(Replaying(_part(unseen, 0, 5))).distance
    without = _without_held_out(digits.whole).score(Replaying(unseen)).record
    assert 0 < without["fd_random/real"] < 2 * real
    assert "fd_random/real" not in _without_held_out(seen).score(Replaying(unseen)).record


def test_nearness_is_the_share_of_pairs() -> None:
    torch.manual_seed(0)
    training, samples = torch.randn(30, 2), torch.randn(20, 2)
    samples[:5] = training[:5]
    apart = [
        min((a - b).norm() for k, b in enumerate(training) if k != i)
        for i, a in enumerate(training)
    ]
    to_training = [min((s - t).norm() for t in training) for s in samples]
    pairs = [float(d < a) + float(d == a) / 2 for d in to_training for a in apart]
    assert nearness(samples, training) == pytest.approx(np.mean(pairs))
    assert nearness(training, training) == 1


def test_what_helps_against_collapse_is_the_models_to_say(digits: Dataset) -> None:
    train = digits.split(0.4).train
    collapsed = Replaying(_part(train, 0, 1))
    told = _without_held_out(_part(train, 0, 200)).score(collapsed).warnings["collapse"]
    assert told.endswith(collapsed.advice.against_collapse)
    assert "penalty" not in told


def test_samples_that_look_augmented_are_told(digits: Dataset) -> None:
    scorer, _, unseen = _scorer(digits)
    cutout = open_augmentation("cutout")

    def seen(images: torch.Tensor, draw: Draw) -> torch.Tensor:
        return cutout(images, draw.uniform("augment/real", cutout.size), 1.0)

    images = to_unit(torch.from_numpy(unseen.images[:]))
    draw = Draw(1, "test", np.arange(len(images)), 0, images.device)
    leaking = replace(digits, images=to_pixels(seen(images, draw)))
    told = scorer.score(Replaying(leaking.whole), seen)
    assert "-o augment" in told.warnings["leak"]
    honest = scorer.score(Replaying(unseen), seen)
    assert "leak" not in honest.warnings
    assert honest.record["fd_augmented"] > told.record["fd_augmented"]
    assert "fd_augmented" not in scorer.score(Replaying(unseen), lambda *_: None).record


def test_no_score_is_made_of_a_model_in_training_mode(digits: Dataset) -> None:
    scorer, seen, _ = _scorer(digits)
    model = Replaying(seen)
    model.bank.train()
    with pytest.raises(ValueError, match="is in training mode"):
        scorer.score(model)


def test_images_that_are_all_alike_can_be_scored(digits: Dataset) -> None:
    alike = Subset(digits, np.zeros(3, dtype=np.int64))
    score = _without_held_out(alike).score(Replaying(alike))
    assert score.distance == pytest.approx(0, abs=1e-6)
    assert score.record["diversity"] == 1
    assert "collapse" not in score.warnings


def test_one_image_is_never_scored(digits: Dataset) -> None:
    one = Split(_part(digits.whole, 0, 1), _part(digits.whole, 0, 0))
    assert not ScoreSchedule(one, None).due(10**9)
    with pytest.raises(DataError, match="--score-every"):
        ScoreSchedule(one, 100)


def test_mean_distance_is_that_of_the_pairs() -> None:
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 8.0]])
    assert mean_distance(rows) == pytest.approx((5 + 8 + 5) / 3)
