"""Latents of a model's own samples are found again."""

import os
import signal
import threading

import numpy as np
import pytest
import torch

from gentool.blocks import decode_blocks, prior_blocks
from gentool.errors import Stopped
from gentool.images import ImageShape, mean_squared_error, psnr
from gentool.inversion import fit_weights, invert
from gentool.models.embedding import pixel_distance
from gentool.models.gan import GAN
from gentool.reconstruction import FIT_STEPS
from gentool.signals import StopFlag


@pytest.fixture
def model() -> GAN:
    """A small generator with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GAN(GAN.Config(width=8, latent_size=6, norm="none"), ImageShape(16, 16, 3)).eval()


def test_inversion_comes_nearer_than_the_best_of_many_draws(model: GAN) -> None:
    model.requires_grad_(False)
    with torch.no_grad():  # random weights give faint images; make them worth finding
        for parameter in model.generator.parameters():
            parameter.mul_(1.6)
    targets = decode_blocks(model, prior_blocks(model, [(5, k) for k in range(3)]))
    found = decode_blocks(model, invert(model, targets, 200, 0, StopFlag()))
    draws = decode_blocks(model, prior_blocks(model, [(9, k) for k in range(64)]))
    for target, image in zip(targets, found, strict=True):
        best = min(mean_squared_error(target, other) for other in draws)
        assert mean_squared_error(target, image) < best / 2
        assert psnr(mean_squared_error(target, image)) > 25


def test_shares_of_classes_stay_shares() -> None:
    torch.manual_seed(0)
    config = GAN.Config(width=8, latent_size=6, norm="none")
    model = GAN(config, ImageShape(16, 16, 3), classes=3).eval().requires_grad_(False)
    targets = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    for start in (None, model.prior(np.arange(2), 0)):
        found = invert(model, targets, 30, 0, StopFlag(), start)
        shares = found[:, -3:]
        assert (shares >= 0).all()
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(2))
        assert not torch.equal(found[:, :6], model.prior(np.arange(2), 0)[:, :6])


def test_a_search_without_steps_gives_its_start_back(model: GAN) -> None:
    start = model.prior(np.arange(2), 0)
    images = np.zeros((2, 16, 16, 3), dtype=np.uint8)
    torch.testing.assert_close(invert(model, images, 0, 0, StopFlag(), start), start)


def test_fitted_weights_come_much_nearer_and_leave_the_model_alone(model: GAN) -> None:
    model.requires_grad_(False)
    targets = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    targets = targets.repeat(4, axis=1).repeat(4, axis=2)  # blocks that the generator never drew
    latents = invert(model, targets, 50, 0, StopFlag())
    before = decode_blocks(model, latents)
    tuned = fit_weights(model, latents, targets, FIT_STEPS, StopFlag())
    np.testing.assert_array_equal(decode_blocks(model, latents), before)
    near = mean_squared_error(targets, decode_blocks(tuned.eval(), latents))
    assert psnr(near) > psnr(mean_squared_error(targets, before)) + 6


def test_distance_is_per_image_and_zero_for_equal_ones() -> None:
    a = torch.rand(4, 3, 16, 16)
    values = pixel_distance(a, a.flip(0))
    assert values.shape == (4,)
    assert (values > 0).all()
    assert not pixel_distance(a, a).any()


def test_a_signal_stops_the_search(model: GAN) -> None:
    model.requires_grad_(False)
    images = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    with StopFlag() as stop:
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        with pytest.raises(Stopped) as caught:
            invert(model, images, 10**6, 0, stop)
        timer.join()
    assert not caught.value.interrupted
