"""Regularisers against closed forms and naive loops."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from gentool.core.errors import UnknownName, UsageError
from gentool.core.options import idle_options
from gentool.core.rng import Draw
from gentool.models.vae.options import VAEConfig
from gentool.models.vae.regularisers import (
    REGULARISERS,
    CodeTurn,
    Regularisers,
    discrepancy,
    noisy,
    total_correlation,
)

CPU = torch.device("cpu")


def _draw(count: int) -> Draw:
    return Draw(0, "test", np.arange(count), 0, CPU)


def _turn(count: int = 8, size: int = 3) -> CodeTurn:
    generator = torch.Generator().manual_seed(0)
    latents, mean, log_variance = torch.randn(3, count, size, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoder = nn.Sequential(nn.Linear(size, 12, bias=False), nn.Unflatten(1, (3, 2, 2)))
    return CodeTurn(latents, decoder, _draw(count), mean, log_variance)


def _kernel(a: torch.Tensor, b: torch.Tensor) -> float:
    square = float((a - b).square().sum())
    widths = [2 * len(a) * s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
    return sum(c / (c + square) for c in widths)


def test_the_discrepancy_is_that_of_naive_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 6, 3, generator=generator)
    within = across = 0.0
    for i in range(6):
        for j in range(6):
            across += _kernel(a[i], b[j]) / 36
            if i != j:
                within += (_kernel(a[i], a[j]) + _kernel(b[i], b[j])) / 30
    found = discrepancy(a, b, torch.arange(6)).mean().item()
    assert found == pytest.approx(within - 2 * across, abs=1e-5)


def test_the_discrepancy_of_equal_laws_is_zero_in_the_mean_and_of_others_positive() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = [torch.randn(2, 12, 4, generator=generator).unbind() for _ in range(400)]
    values = torch.stack([discrepancy(a, b, torch.arange(12)).mean() for a, b in pairs])
    assert values.mean().abs() < 4 * values.std() / 20
    assert (values < 0).any()  # unbiased, so below zero now and then
    a, b = torch.randn(2, 200, 4, generator=generator)
    assert discrepancy(a + 1, b, torch.arange(200)).mean() > 0.3


def test_units_that_vary_together_have_a_total_correlation_and_others_none() -> None:
    grid = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))  # a product of mixtures
    noise = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    apart = total_correlation(grid + noise, grid, torch.zeros(16, 2))
    torch.testing.assert_close(apart, torch.zeros(16), atol=1e-5, rtol=0)
    line = 10 * torch.arange(16.0)[:, None].expand(-1, 2)  # each unit tells the other
    found = total_correlation(line, line, torch.full((16, 2), -4.0))
    torch.testing.assert_close(found, torch.full((16,), math.log(16)))


def test_the_decoders_slope_is_its_jacobian() -> None:
    turn = _turn(4000)
    (layer,) = (m for m in turn.decoder.modules() if isinstance(m, nn.Linear))
    found = REGULARISERS.get("decoder-gp").values(turn)
    exact = layer.weight.square().sum().item()  # ||J||_F^2
    assert found.mean().item() == pytest.approx(exact, abs=5 * found.std().item() / 4000**0.5)
    (gradient,) = torch.autograd.grad(found.mean(), layer.weight)
    torch.testing.assert_close(gradient, 2 * layer.weight.detach(), rtol=0.2, atol=0.1)


def test_norms_are_sums_of_squares() -> None:
    turn = _turn()
    weights = REGULARISERS.get("decoder-l2").values(turn)
    expected = sum(p.square().sum() for p in turn.decoder.parameters())
    torch.testing.assert_close(weights, torch.as_tensor(expected).expand(8))
    codes = REGULARISERS.get("code-l2").values(turn)
    torch.testing.assert_close(codes, 0.5 * turn.latents.square().sum(dim=1))


@pytest.mark.parametrize("name", list(REGULARISERS))
def test_a_regulariser_has_one_value_per_image_and_says_nothing_of_repetition(name: str) -> None:
    turn = _turn()
    twice = CodeTurn(
        turn.latents.repeat(2, 1), turn.decoder,
        Draw(0, "test", np.concatenate([np.arange(8)] * 2), 0, CPU),
        turn.mean.repeat(2, 1) if turn.mean is not None else None,
        turn.log_variance.repeat(2, 1) if turn.log_variance is not None else None,
    )  # fmt: skip
    once = REGULARISERS.get(name).values(turn)
    assert once.shape == (8,)
    torch.testing.assert_close(REGULARISERS.get(name).values(twice), once.repeat(2))


def test_the_sum_is_weighed_and_its_parts_are_named() -> None:
    turn = _turn()
    terms = Regularisers("code-l2+tc", 3.0, posteriors=True)(turn)
    code, tc = terms.parts["code-l2"], terms.parts["tc"]
    torch.testing.assert_close(terms.total, 3 * (1e-2 * code + 5 * tc))
    nothing = Regularisers("none", 1.0, posteriors=False)(turn)
    assert not nothing.total.any()
    assert nothing.parts == {}


def test_what_cannot_be_regularised_is_refused() -> None:
    with pytest.raises(UsageError, match="tc needs posteriors"):
        Regularisers("tc", 1.0, posteriors=False)
    with pytest.raises(UnknownName, match="Did you mean 'mmd'"):
        Regularisers("mdd", 1.0, posteriors=True)


def test_a_strength_without_regularisers_has_no_effect() -> None:
    reasons = idle_options(VAEConfig(strength=2.0))
    assert reasons["strength"].startswith("it is the strength of regularisers, and there are none")


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    images = torch.zeros(50, 3, 16, 16)
    assert noisy(images, 0.0, _draw(50)) is images
    assert noisy(images, 0.1, _draw(50)).std().item() == pytest.approx(0.2, rel=0.02)
