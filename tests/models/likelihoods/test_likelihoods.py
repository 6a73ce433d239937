"""Likelihoods: masses sum to one, densities integrate to one; formulas; the automatic choice."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from gentool.core.images import ImageShape
from gentool.models.likelihoods import (
    LIKELIHOODS,
    Likelihood,
    open_likelihood,
    suited,
    without_scale,
)
from gentool.models.likelihoods.continuous import Gaussian, Laplace
from gentool.models.likelihoods.logistic import Logistic, LogisticMixture, log_mass
from gentool.models.vae.model import VAE

LEVELS = torch.arange(256) / 127.5 - 1


def _total(likelihood: Likelihood, params: torch.Tensor, images: torch.Tensor) -> float:
    """Sum of the masses of images (N, C, 1, 1) under params (1, P, 1, 1)."""
    with torch.no_grad():
        log_masses = likelihood.log_prob(params.expand(len(images), -1, -1, -1), images)
    return float(log_masses.double().exp().sum())


@pytest.mark.parametrize("mean", [-1.3, -1.0, -0.2001, 0.0, 0.37, 1.0, 2.0])
@pytest.mark.parametrize("raw_scale", [-30.0, -4.0, -1.0, 0.0, 2.0, 30.0])
def test_a_logistic_sums_to_one_wherever_it_lies(mean: float, raw_scale: float) -> None:
    params = torch.tensor([mean, raw_scale]).view(1, 2, 1, 1)
    assert _total(Logistic(), params, LEVELS.view(-1, 1, 1, 1)) == pytest.approx(1, abs=1e-6)


def test_a_logistic_is_the_difference_of_two_sigmoids() -> None:
    mean, log_scale = torch.tensor(0.1), torch.tensor(-2.0)
    half, scale = 1 / 255, math.exp(-2)
    x = LEVELS.double()
    upper = torch.sigmoid((x + half - 0.1) / scale)
    lower = torch.sigmoid((x - half - 0.1) / scale)
    upper[-1], lower[0] = 1, 0
    found = log_mass(LEVELS, mean, log_scale).double().exp()
    torch.testing.assert_close(found, upper - lower, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_a_mixture_of_two_channels_sums_to_one_over_all_pairs(scale: float) -> None:
    likelihood = LogisticMixture()
    generator = torch.Generator().manual_seed(0)
    params = scale * torch.randn(1, likelihood.outputs(2), 1, 1, generator=generator)
    pairs = torch.cartesian_prod(LEVELS, LEVELS).view(-1, 2, 1, 1)
    assert _total(likelihood, params, pairs) == pytest.approx(1, abs=1e-6)


def test_the_third_channel_of_a_mixture_sums_to_one_given_the_first_two() -> None:
    """Summed over the third channel, the mixture of three is the one of the first two."""
    three = LogisticMixture()
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 10, 10, 1, 1, generator=generator)  # weight, 3 mu, 3 log s, 3 factors
    first_two = maps[:, :, [0, 1, 2, 4, 5, 7]]
    pixels = torch.tensor([3, 200])[None, :, None, None] / 127.5 - 1
    images = torch.cat([pixels.expand(256, -1, -1, -1), LEVELS.view(-1, 1, 1, 1)], dim=1)
    marginal = _total(three, maps.reshape(1, -1, 1, 1), images)
    pair = three.log_prob(first_two.reshape(1, -1, 1, 1), pixels).exp().item()
    assert marginal == pytest.approx(pair, rel=1e-5)


def test_a_mixture_has_as_many_maps_as_it_reads_for_any_number_of_channels() -> None:
    likelihood = LogisticMixture()
    for channels in (1, 2, 3, 4, 7):
        params = torch.zeros(2, likelihood.outputs(channels), 3, 5)
        images = torch.full((2, channels, 3, 5), 1 / 255)
        assert likelihood.mean(params).shape == images.shape
        assert likelihood.log_prob(params, images).shape == (2,)
    assert likelihood.outputs(3) == 100  # PixelCNN++'s


def test_a_categorical_sums_to_one() -> None:
    params = 3 * torch.randn(1, 256, 1, 1, generator=torch.Generator().manual_seed(0))
    likelihood = LIKELIHOODS.get("categorical")()
    assert _total(likelihood, params, LEVELS.view(-1, 1, 1, 1)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", [n for n in LIKELIHOODS if not LIKELIHOODS.get(n).discrete])
def test_a_density_integrates_to_one(name: str) -> None:
    likelihood = open_likelihood(name, 0.3)
    params = torch.full((1, likelihood.outputs(1), 1, 1), 0.2)
    grid = torch.linspace(-15, 15, 60_001).view(-1, 1, 1, 1)
    assert 30 / 60_000 * _total(likelihood, params, grid) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", [n for n in LIKELIHOODS if LIKELIHOODS.get(n).scaled])
def test_sigma_is_the_standard_deviation_where_black_to_white_is_one(name: str) -> None:
    likelihood = open_likelihood(name, 0.05)
    params = torch.zeros(1, likelihood.outputs(1), 200, 200)
    noise = torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(0))
    spread = likelihood.sample(params, noise).std().item() / 2
    if name == "logistic-mixture":  # its components begin apart
        assert spread > 0.05
    else:
        assert spread == pytest.approx(0.05, rel=0.03)


@pytest.mark.parametrize(("likelihood", "power"), [(Gaussian(), 2.0), (Laplace(), 1.0)])
def test_the_best_scale_is_that_of_the_errors(likelihood: Gaussian | Laplace, power: float) -> None:
    generator = torch.Generator().manual_seed(0)
    params, x = torch.rand(2, 20, 1, 8, 8, generator=generator)
    scale = (x - params).abs().pow(power).mean().item() ** (1 / power)
    with torch.no_grad():  # undo the soft bound
        wanted = math.log(scale)
        likelihood.raw_log_scale.fill_((math.log(math.expm1(wanted + 6)) - 6) / 10)
    value = likelihood.log_prob(params, x).mean()
    (slope,) = torch.autograd.grad(value, likelihood.raw_log_scale)
    assert abs(slope.item()) < 0.05  # of some hundreds per unit elsewhere


def noisy_guesses() -> tuple[torch.Tensor, torch.Tensor, float]:
    """Images, guesses at them, and the root of the mean squared error."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(5, 3, 8, 8, generator=generator) * 2 - 1
    guesses = x + 0.2 * torch.randn(x.shape, generator=generator)
    return x, guesses, math.sqrt((x - guesses).square().mean().item())


@torch.no_grad()
def test_at_the_best_sigma_a_gaussian_costs_half_a_nat_beside_its_normalisation() -> None:
    """-log p = D/2 (log(2 pi sigma^2) + 1) in the mean, and no other sigma costs less."""
    x, guesses, sigma = noisy_guesses()

    def cost(scale: float) -> float:
        return -Gaussian(scale / 2).log_prob(guesses, x).mean().item()  # of [0, 1] is its argument

    best = 3 * 8 * 8 / 2 * (math.log(2 * math.pi * sigma**2) + 1)
    assert cost(sigma) == pytest.approx(best, rel=1e-5)
    factors = [0.02, 0.2, 0.5, 0.8, 0.9, 0.97, 1.03, 1.1, 1.3, 2, 5, 50]
    assert min(cost(factor * sigma) for factor in factors) > best


@torch.no_grad()
def test_bits_per_dimension_are_the_same_for_pixels_from_0_and_from_minus_1() -> None:
    """By hand, for pixels k / 255: nats / (D log 2) + log2(255), 8 bits but for a level's edge."""
    x, guesses, sigma = noisy_guesses()
    shape = ImageShape(8, 8, 3)
    model = VAE(VAE.Config(width=4, latent_size=2, prior="normal"), ImageShape(16, 16, 3))
    model.shape = shape
    nats = Gaussian(sigma / 2).log_prob(guesses, x)
    from_zero = Normal((guesses + 1) / 2, sigma / 2).log_prob((x + 1) / 2)  # type: ignore[no-untyped-call]
    for one, naive in zip(nats.tolist(), from_zero.sum(dim=(1, 2, 3)).tolist(), strict=True):
        by_hand = -naive / (shape.dims * math.log(2)) + math.log2(255)
        bits = model.variational.bits_per_dim(one)
        assert bits == pytest.approx(by_hand, abs=1e-4)
        assert bits == pytest.approx(by_hand + 8 - math.log2(255), abs=0.01)


@torch.no_grad()
def test_two_to_minus_the_bits_of_all_grey_levels_sum_to_one() -> None:
    """So bits of a density compare with those of a mass: it is one over the 256 levels."""
    model = VAE(VAE.Config(width=4, latent_size=2, prior="normal"), ImageShape(16, 16, 1))
    model.shape = ImageShape(1, 1, 1)
    nats = Gaussian(0.05).log_prob(torch.zeros(256, 1, 1, 1), LEVELS.view(-1, 1, 1, 1))
    bits = model.variational.bits_per_dim
    assert sum(2 ** -bits(one) for one in nats.tolist()) == pytest.approx(1, abs=1e-4)


def test_black_and_white_images_are_told_from_grey_ones() -> None:
    white = np.full((3, 4, 4, 1), 255, dtype=np.uint8)
    black = np.zeros_like(white)
    assert suited(np.concatenate([white, black])) == "bernoulli"
    assert suited(np.concatenate([white, black + 254])) == "gaussian"


def test_a_scale_is_known_to_have_no_effect_where_there_is_none() -> None:
    reason = without_scale("categorical")
    assert reason is not None and reason.startswith("likelihood categorical has no scale. Leave")
    assert without_scale("gaussian") is None
    assert without_scale("auto") is None  # not known before the images are
