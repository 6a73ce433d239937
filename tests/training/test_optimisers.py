"""Skipping of too large gradients: by a running median, and exact in a continued run."""

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TINY, gentool_command
from safetensors.torch import load_file
from torch import nn

from gentool.core.rng import Draw
from gentool.models.base import Batch, LossTerms, Phase
from gentool.training import update as training
from gentool.training.optimisers import (
    MOMENTS,
    WINDOW,
    StepFilter,
    is_spike,
    open_optimiser,
    remembered,
)


def nothing(batch: Batch, draw: Draw) -> LossTerms:
    raise NotImplementedError


@pytest.mark.parametrize("name", MOMENTS)
def test_each_keeps_the_moments_that_a_state_is_read_by(name: str) -> None:
    layer = nn.Linear(2, 1)
    optimiser = open_optimiser(Phase("any", layer, nothing, optimiser=name), 1e-3)
    layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    assert set(optimiser.state[layer.weight]) == {"step", *MOMENTS[name]}


def test_a_spike_is_far_above_the_median_of_enough() -> None:
    usual = [1.0, 2.0, 3.0] * 10
    assert is_spike(20.1, usual, 10)
    assert not is_spike(19.9, usual, 10)
    assert not is_spike(1e9, usual[:19], 10)


def test_memory_is_bounded_and_takes_in_spikes() -> None:
    seen: tuple[float, ...] = ()
    for _ in range(WINDOW):
        seen = remembered(seen, 1.0)
    for _ in range(WINDOW // 2):
        assert is_spike(100.0, seen, 10)
        seen = remembered(seen, 100.0)
    assert len(seen) == WINDOW
    assert not is_spike(100.0, seen, 10)  # the new usual
    assert remembered((), float("inf")) == (1e30,)


@pytest.mark.parametrize(
    ("skips", "share"),
    [([False] * 99 + [True], 0.01), ([False] * 60 + [True] * 40, 0.4),
     ([False] * 20 + [True] * 19, 0)],
)  # fmt: skip
def test_a_storm_is_told_from_an_accident_and_from_a_beginning(
    skips: list[bool], share: float
) -> None:
    found = StepFilter()
    found.load({"skips": {"any": skips}})
    assert found.share(Phase("any", nn.Linear(1, 1), nothing)) == share


def test_what_is_counted_are_the_steps_that_were_left_out() -> None:
    """A spike stays one when the median has risen since, and a long gradient of old is none."""
    phase = Phase("any", nn.Linear(1, 1), nothing, skip_over=10.0)
    found = StepFilter()
    norms = [100.0] * 19 + [1.0] * 40 + [15.0] * 5 + [1.0] * 36
    left_out = [found.leaves_out(phase, torch.tensor(norm)) for norm in norms]
    naive = [k >= 20 and norm > 10 * statistics.median(norms[:k]) for k, norm in enumerate(norms)]
    assert left_out == naive
    assert found.share(phase) == sum(naive) / 100 == 0.05
    assert found.state()["lengths"] == {"any": norms}
    never = replace(phase, skip_over=0.0)
    assert not found.leaves_out(never, torch.tensor(1e9))
    assert found.state()["lengths"] == {"any": norms}


@pytest.mark.parametrize(
    "wrong",
    [{"lengths": {"any": [math.inf]}}, {"lengths": {"any": [1.0] * (WINDOW + 1)}},
     {"skips": {"any": [1]}}, {"skips": {"any": [True] * (WINDOW + 1)}}, {"skips": []}],
)  # fmt: skip
def test_a_history_that_no_run_can_have_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((ValueError, AttributeError)):
        StepFilter().load(wrong)


def test_the_log_and_the_line_tell_the_share_of_the_last_steps_left_out(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some gradients are a hundred times as long as usual; a line has the mean of its steps."""
    lengths = [100.0 if k in (8, 30, 44, 45, 53) else 1.0 for k in range(56)]
    given = iter(lengths)
    monkeypatch.setattr(training, "gradient_norm", lambda module: torch.tensor(next(given)))
    done = gentool_command(
        "train", "hvae", "--data", image_folder, "--out", tmp_path / "run", *TINY,
        "--batch", 4, "--images", 224, "-o", "layers=4", "-o", "latent_size=2",
    )  # fmt: skip
    assert done.code == 0, done.err
    left_out = [k >= 20 and length > 1 for k, length in enumerate(lengths)]
    shares = [sum(left_out[:k]) / k if k >= 50 else 0.0 for k in range(1, 57)]
    begin = 0
    for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines():
        record, end = json.loads(line), json.loads(line)["images"] // 4
        mean = statistics.mean(shares[begin:end])
        assert record["skipped_hvae"] == pytest.approx(mean, abs=1e-5)
        begin = end
    assert begin == 56
    assert f"skipped_hvae {record['skipped_hvae']:.4g}" in done.err


def skipped(out: Path) -> float:
    """Mean share of steps left out, by the last line of the log."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return float([line for line in lines if "skipped_hvae" in line][-1]["skipped_hvae"])


def test_a_run_that_leaves_steps_out_goes_on_to_the_same_bytes(
    image_folder: Path, tmp_path: Path
) -> None:
    def train(out: Path, *more: object, skip: int = 1) -> int:
        command = ("train", "hvae", "--data", image_folder, "--out", out, "--images", 256)
        options = ("-o", f"skip={skip}", "-o", "layers=4", "-o", "latent_size=2")
        return gentool_command(*command, *TINY, "--batch", 4, *options, *more).code

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole) == 0
    assert skipped(whole) > 0.1
    assert train(parts, "--stop-after", 180) == 75
    assert train(parts) == 0
    name = "model.safetensors"
    assert (whole / name).read_bytes() == (parts / name).read_bytes()
    every = tmp_path / "every"
    assert train(every, skip=0) == 0
    weights = [load_file(run / name) for run in (whole, every)]
    gaps = [float((weights[0][k] - weights[1][k]).abs().max()) for k in weights[0]]
    assert max(gaps) > 1e-3
    kept = {key.rpartition("/")[2] for key in load_file(whole / "state.safetensors")
            if key.startswith("optimiser/")}  # fmt: skip
    assert kept == {"step", *MOMENTS["adamax"]}
