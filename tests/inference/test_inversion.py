"""Latents of a model's own samples are found again."""

import os
import signal
import threading

import numpy as np
import pytest
import torch

from gentool.core.errors import Stopped
from gentool.core.images import ImageShape, mean_squared_error, psnr
from gentool.core.signals import StopFlag
from gentool.inference.blocks import decode_blocks, prior_blocks
from gentool.inference.inversion import fit_weights, invert
from gentool.inference.latents import Latents, decode, draw, to_styles
from gentool.inference.reconstruction import FIT_STEPS
from gentool.metrics.pixels import pixel_distance
from gentool.models.gan.model import GAN


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
    found = decode(model, invert(model, targets, 200, 0, StopFlag()))
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
    for start in (None, Latents(model.prior(np.arange(2), 0))):
        found = invert(model, targets, 30, 0, StopFlag(), start).values
        shares = found[:, -3:]
        assert (shares >= 0).all()
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(2))
        assert not torch.equal(found[:, :6], model.prior(np.arange(2), 0)[:, :6])


def test_steps_that_are_too_few_lead_no_further_away(model: GAN) -> None:
    start = model.prior(np.arange(6), 0)
    targets = decode_blocks(model, start)
    found = invert(model, targets, 1, 0, StopFlag(), Latents(start))
    assert torch.equal(found.values, start)  # nothing lies nearer than where they come from


def test_a_search_without_steps_gives_its_start_back(model: GAN) -> None:
    start = model.prior(np.arange(2), 0)
    images = np.zeros((2, 16, 16, 3), dtype=np.uint8)
    found = invert(model, images, 0, 0, StopFlag(), Latents(start))
    torch.testing.assert_close(found.values, start)


def test_fitted_weights_come_much_nearer_and_leave_the_model_alone(model: GAN) -> None:
    model.requires_grad_(False)
    targets = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    targets = targets.repeat(4, axis=1).repeat(4, axis=2)  # blocks that the generator never drew
    latents = invert(model, targets, 50, 0, StopFlag())
    before = decode(model, latents)
    tuned = fit_weights(model, latents, targets, FIT_STEPS, StopFlag())
    np.testing.assert_array_equal(decode(model, latents), before)
    near = mean_squared_error(targets, decode(tuned.eval(), latents))
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


# --- styles -------------------------------------------------------------------------------------


@pytest.fixture
def styled() -> GAN:
    """A small generator with styles; its weights are random, and its w made to differ more."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GAN.Config(width=8, latent_size=6, network="style", encoder_share=0.0)
        model = GAN(config, ImageShape(16, 16, 3)).eval().requires_grad_(False)
    for parameter in model.generator.styled_net().dense.parameters():
        parameter.mul_(1.2)
    return model


def mixed(model: GAN, count: int) -> Latents:
    """Points with a w of another draw in every layer."""
    layers = to_styles(model, draw(model, [(7, k) for k in range(20 * count)])).values
    each = layers.view(count, 20, *layers.shape[1:])
    return Latents(torch.stack([each[:, k, k] for k in range(layers.shape[1])], dim=1), "w")


def test_one_w_per_layer_says_what_no_z_can(styled: GAN) -> None:
    images = decode(styled, mixed(styled, 3))
    errors = {}
    for space in ("z", "w"):
        found = invert(styled, images, 200, 0, StopFlag(), space=space)
        assert found.space == space
        errors[space] = mean_squared_error(images, decode(styled, found))
    assert psnr(errors["w"]) > max(psnr(errors["z"]) + 3, 30)


def test_a_search_in_w_begins_where_the_latents_of_a_start_lie(styled: GAN) -> None:
    start = draw(styled, [(5, 0), (5, 1)])
    images = decode(styled, mixed(styled, 2))
    found = invert(styled, images, 0, 0, StopFlag(), start, "w")
    torch.testing.assert_close(found.values, to_styles(styled, start).values)


@pytest.mark.parametrize("space", ["z", "w"])
def test_what_is_found_does_not_depend_on_the_other_images(styled: GAN, space: str) -> None:
    """But for the last digits: where a row lies in a block may round otherwise."""
    images = decode(styled, mixed(styled, 6))
    start = draw(styled, [(5, k) for k in range(6)])
    for begin in (None, start):
        together = invert(styled, images, 20, 0, StopFlag(), begin, space).values
        for k in (1, 5):
            own = None if begin is None else begin.rows(range(k, k + 1))
            alone = invert(styled, images[k : k + 1], 20, 0, StopFlag(), own, space).values
            torch.testing.assert_close(together[k : k + 1], alone, atol=1e-3, rtol=1e-3)


def test_without_anything_to_see_a_search_in_w_goes_to_the_mean(
    styled: GAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pull alone, by images that are all alike."""
    grey = torch.zeros(1, 3, 16, 16)
    monkeypatch.setattr(
        styled.generator, "synthesise", lambda w: grey + 0 * w.sum() * w[:, :1, :1, None]
    )
    start = draw(styled, [(5, 0)])
    mean = to_styles(styled, draw(styled, [(1, k) for k in range(4096)])).values.mean(dim=0)
    images = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    found = invert(styled, images, 300, 0, StopFlag(), start, "w").values[0]
    spread = to_styles(styled, start).values[0] - mean
    assert (found - mean).abs().max() < 0.2 * spread.abs().max()


def test_weights_are_fitted_at_styles_too(styled: GAN) -> None:
    targets = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    targets = targets.repeat(4, axis=1).repeat(4, axis=2)
    pivots = invert(styled, targets, 50, 0, StopFlag(), space="w")
    before = mean_squared_error(targets, decode(styled, pivots))
    tuned = fit_weights(styled, pivots, targets, FIT_STEPS, StopFlag())
    assert psnr(mean_squared_error(targets, decode(tuned, pivots))) > psnr(before) + 3
