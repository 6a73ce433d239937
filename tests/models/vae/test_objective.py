"""Parts of the ELBO against closed forms: weights, free bits, bounds and their gradients."""

import math

import pytest
import torch

from gentool.models.priors import log_normal
from gentool.models.vae.objective import (
    active_units,
    capacity_now,
    doubly_reparameterised,
    free_bits,
    importance_bound,
    kl_weight,
)


@pytest.mark.parametrize(
    ("warm_up", "cycles", "share", "expected"),
    [
        (0.0, 0, 0.0, 4.0),  # constant
        (0.2, 0, 0.0, 0.0), (0.2, 0, 0.1, 2.0), (0.2, 0, 0.2, 4.0), (0.2, 0, 0.9, 4.0),
        (0.0, 4, 0.0, 0.0), (0.0, 4, 0.0625, 2.0), (0.0, 4, 0.125, 4.0), (0.0, 4, 0.25, 0.0),
        (0.5, 2, 0.625, 2.0), (0.25, 2, 0.625, 4.0), (0.0, 4, 1.0, 4.0),
    ],
)  # fmt: skip
def test_the_weight_of_the_kl_over_a_run(
    warm_up: float, cycles: int, share: float, expected: float
) -> None:
    assert kl_weight(4.0, warm_up, cycles, share) == pytest.approx(expected)


def test_the_capacity_rises_in_the_first_half() -> None:
    assert [capacity_now(25, share) for share in (0, 0.1, 0.5, 1)] == [0, 5, 25, 25]


def test_free_bits_are_free() -> None:
    """The mean is sum_j max(floor, mean KL_j), Eq. 15; below the floor there is no gradient."""
    kl = torch.tensor([[0.1, 2.0], [0.3, 0.2]], requires_grad=True)
    charged = free_bits(kl, 0.5)
    assert charged.mean().item() == pytest.approx(0.5 + 1.1)
    (gradient,) = torch.autograd.grad(charged.mean(), kl)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 0.5], [0.0, 0.5]]))
    torch.testing.assert_close(free_bits(kl, 0.0), kl.sum(dim=1))


def test_active_units_are_those_whose_mean_varies() -> None:
    means = torch.tensor([[0.0, 1.0, 0.05], [0.0, -1.0, -0.05], [0.0, 1.0, 0.0]])
    assert active_units(means).item() == 1


# --- x | z ~ N(z, 1), z ~ N(0, 1); q = N(a x, s^2). Exact: a = 1/2, s^2 = 1/2 ---------------------


def _log_weights(
    x: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor, noise: torch.Tensor,
    shift: torch.Tensor, *, detached: bool,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Log w and z, both (K, B[, 1]); ``shift`` is a parameter of p(x|z)."""
    z = mean + torch.exp(0.5 * log_variance) * noise
    q = (mean.detach(), log_variance.detach()) if detached else (mean, log_variance)
    zero = torch.zeros(1)
    log_w = log_normal(x, z + shift, zero) + log_normal(z, zero, zero) - log_normal(z, *q)
    return log_w, z


def _gradients(
    samples: int, *, doubly: bool, exact: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of the bound, one draw each (N,): for q's mean, q's log-variance, p's shift."""
    count = 40_000
    generator = torch.Generator().manual_seed(1)
    x = torch.full((count, 1), 0.8, dtype=torch.float64)
    noise = torch.randn(samples, count, 1, generator=generator, dtype=torch.float64)
    mean = torch.full_like(x, 0.4 if exact else 0.1).requires_grad_(True)
    start = math.log(0.5) if exact else 0.0
    log_variance = torch.full_like(x, start).requires_grad_(True)
    shift = torch.zeros_like(x).requires_grad_(True)
    log_w, z = _log_weights(x, mean, log_variance, noise, shift, detached=doubly)
    bound = doubly_reparameterised(log_w, z) if doubly else importance_bound(log_w)
    torch.testing.assert_close(bound, importance_bound(log_w))
    found = torch.autograd.grad(bound.sum(), (mean, log_variance, shift))
    return found[0][:, 0], found[1][:, 0], found[2][:, 0]


@pytest.mark.parametrize("samples", [1, 2, 8])
def test_the_doubly_reparameterised_gradient_is_that_of_the_bound_in_the_mean(samples: int) -> None:
    """Tucker et al. 2018: unbiased, and with a smaller variance for the encoder."""
    plain, doubly = _gradients(samples, doubly=False), _gradients(samples, doubly=True)
    for one, other in zip(plain[:2], doubly[:2], strict=True):
        error = ((one.var() + other.var()) / len(one)).sqrt()
        assert (one.mean() - other.mean()).abs() < 5 * error
    torch.testing.assert_close(plain[2], doubly[2])  # p's own is untouched, draw by draw
    if samples > 1:
        assert doubly[0].var() < plain[0].var()


def test_at_the_exact_posterior_the_encoders_gradient_is_zero_in_every_draw() -> None:
    mean, log_variance, _ = _gradients(8, doubly=True, exact=True)
    assert mean.abs().max() < 1e-12
    assert log_variance.abs().max() < 1e-12


def test_the_bound_rises_with_the_samples_and_stays_below_log_p() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.full((20_000, 1), 0.8, dtype=torch.float64)
    mean, log_variance = torch.zeros_like(x), torch.zeros_like(x)
    exact = log_normal(x[:1], torch.zeros(1), torch.full((1,), math.log(2))).item()
    last = -math.inf
    for samples in (1, 2, 5, 20, 100):
        noise = torch.randn(samples, len(x), 1, generator=generator, dtype=torch.float64)
        log_w, _ = _log_weights(x, mean, log_variance, noise, torch.zeros(1), detached=False)
        found = importance_bound(log_w)
        error = 4 * found.std().item() / len(x) ** 0.5
        assert last - error < found.mean().item() < exact + error
        last = found.mean().item()
    assert last == pytest.approx(exact, abs=0.01)


def test_one_sample_is_the_elbo() -> None:
    log_w = torch.tensor([[-3.0, 2.0]])
    assert torch.equal(importance_bound(log_w), log_w[0])


def test_the_best_sample_has_the_largest_weight() -> None:
    log_w = torch.tensor([[-100.0], [-98.0], [-105.0]], requires_grad=True)
    bound = doubly_reparameterised(log_w, torch.zeros(3, 1, 1))
    (weights,) = torch.autograd.grad(bound.sum(), log_w)
    torch.testing.assert_close(weights, log_w.detach().softmax(dim=0))
    assert weights.argmax().item() == 1
