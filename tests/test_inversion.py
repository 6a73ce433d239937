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
from gentool.inversion import invert
from gentool.models.embedding import pixel_distance
from gentool.models.gan import GAN
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
