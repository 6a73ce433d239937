"""Moving averages of weights: the half-life, the ramp, and the end of a phase."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.models.base import Phase, moving_buffers
from gentool.models.gan.model import GAN
from gentool.models.vae.model import VAE
from gentool.training.ema import Averaging, averaged_copy


def build() -> GAN:
    """A small model of three phases, of which two train exported parts."""
    return GAN(GAN.Config(width=8, latent_size=4), ImageShape(16, 16, 1))


def set_all(module: nn.Module, value: float) -> None:
    """Every weight the same number."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)


def first(module: object) -> float:
    """One weight."""
    assert isinstance(module, nn.Module)
    return next(module.parameters()).detach().flatten()[0].item()


def test_after_a_half_life_half_of_the_way_is_gone() -> None:
    live = build()
    average = averaged_copy(live)
    assert not hasattr(average, "discriminator")
    set_all(average, 0)
    set_all(live, 1)
    averaging = Averaging(live, average, live.phases())
    for _ in range(10):
        averaging.update({"discriminator": 10**9, "generator": 10**9}, 100, 1000)
    assert first(average.generator) == pytest.approx(0.5, abs=1e-5)
    assert first(average.encoder) == 0  # its phase is not on


def test_a_young_average_forgets_faster_by_the_age_of_its_phase() -> None:
    live = build()
    average = averaged_copy(live)
    set_all(average, 0)
    set_all(live, 1)
    Averaging(live, average, live.phases()).update({"generator": 200, "encoder": 100}, 10, 1000)
    assert first(average.generator) == pytest.approx(1 - 0.5 ** (10 / 20))
    assert first(average.encoder) == pytest.approx(1 - 0.5 ** (10 / 10))


def test_a_phase_that_is_over_leaves_its_average_behind_once() -> None:
    live = build()
    average = averaged_copy(live)
    set_all(average, 0)
    set_all(live, 1)
    averaging = Averaging(live, average, live.phases())
    assert not averaging.settle(0.5)
    assert first(live.generator) == 1
    assert averaging.settle(0.9)
    assert averaging.state() == {"settled": ["discriminator", "generator"]}
    assert first(live.generator) == 0
    assert first(live.discriminator) == 1  # of which there is no average
    set_all(live.generator, 3)
    assert not averaging.settle(0.95)
    assert first(live.generator) == 3


def test_progress_is_that_of_the_span() -> None:
    phase = Phase("x", nn.Linear(1, 1), lambda batch, draw: NotImplemented, span=(0.5, 0.75))
    assert [phase.progress(s) for s in (0, 0.5, 0.625, 0.75, 1)] == [0, 0, 0.5, 1, 1]


def test_buffers_follow_but_for_those_of_a_prior_that_rests() -> None:
    config = VAE.Config(width=4, latent_size=6, prior="mixture", components=2)
    live = VAE(config, ImageShape(16, 16, 1))
    assert moving_buffers(live) == moving_buffers(live.density) == {}
    average: Any = averaged_copy(live)
    average.density.means.fill_(3)
    Averaging(live, average, live.phases()).update({"vae": 100}, 10, 1000)
    assert (average.density.means == 3).all()
    other: Any = VAE(replace(config, prior="latent-flow"), ImageShape(16, 16, 1))
    assert set(moving_buffers(other)) == {"density.mean", "density.variance", "density.measured"}
    average = averaged_copy(other)
    other.density.measured.fill_(7)
    Averaging(other, average, other.phases()).update({"vae": 100, "prior": 100}, 10, 1000)
    assert average.density.measured == 7
