"""Closed forms: KL, the ELBO of probabilistic PCA, likelihoods, the optimal discriminator."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.core.rng import Draw
from gentool.models.gan.losses import LOSSES, squared_gradient_norm
from gentool.models.likelihoods.continuous import Gaussian
from gentool.models.likelihoods.counted import Bernoulli
from gentool.models.priors import kl_to_standard_normal
from gentool.models.vae.model import VAE


def test_kl_equals_that_of_torch_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 50, 7, generator=generator)
    q = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    p = torch.distributions.Normal(torch.zeros(7), torch.ones(7))
    expected = torch.distributions.kl_divergence(q, p)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


def test_kl_has_its_minimum_zero_at_the_prior() -> None:
    mean, log_variance = (torch.zeros(1, 3, requires_grad=True) for _ in range(2))
    kl = kl_to_standard_normal(mean, log_variance)
    gradients = torch.autograd.grad(kl.sum(), (mean, log_variance))
    assert not kl.any()
    assert all(not g.any() for g in gradients)


class _Linear(nn.Module):
    """A linear map as an encoder or decoder of tiny images."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight, self.bias, self.shape = weight, bias, shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The map x W^T + b."""
        return (x.flatten(1) @ self.weight.T + self.bias).view(-1, *self.shape)


def _ppca() -> tuple[VAE, torch.Tensor, float, torch.Tensor]:
    """A linear VAE at the optimum of probabilistic PCA, its data, and the exact log p.

    Tipping and Bishop 1999: W = U (L - s I)^1/2, s = mean of the discarded eigenvalues, and
    the posterior N(M^-1 W^T (x - m), s M^-1), M = W^T W + s I, diagonal in this basis.
    """
    rng = np.random.default_rng(0)
    dims, latents = 16, 3
    x = 0.1 * rng.normal(size=(2000, dims)) @ rng.normal(size=(dims, dims)) * 0.3
    mean, covariance = x.mean(axis=0), np.cov(x, rowvar=False, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    noise = values[latents:].mean()
    w = vectors[:, :latents] * np.sqrt(values[:latents] - noise)
    m = (w**2).sum(axis=0) + noise
    exact = -0.5 * (
        dims * math.log(2 * math.pi) + np.log(values[:latents]).sum()
        + (dims - latents) * math.log(noise) + dims
    )  # fmt: skip
    shape = ImageShape(4, 4, 1)
    model = VAE(VAE.Config(latent_size=latents, width=4), ImageShape(16, 16, 1))
    to_mean = w.T / m[:, None]
    log_variance = np.log(noise / m)
    raw = 8 * np.arctanh(log_variance / 8)  # the encoder's log-variance is softly bounded

    def tensor(a: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(a)).float()

    model.encoder = _Linear(
        tensor(np.concatenate([to_mean, np.zeros_like(to_mean)])),
        tensor(np.concatenate([-to_mean @ mean, raw])), (2 * latents,),
    )  # fmt: skip
    decoder = _Linear(tensor(w), tensor(mean), (1, 4, 4))
    model.decoder = decoder
    likelihood = model.likelihood
    assert isinstance(likelihood, Gaussian)
    with torch.no_grad():  # invert the soft bound on log sigma
        wanted = 0.5 * math.log(noise)
        likelihood.raw_log_scale.copy_(torch.tensor((math.log(math.expm1(wanted + 6)) - 6) / 10))
    return model, tensor(x).view(-1, shape.channels, 4, 4), float(exact), tensor(values)


def _mean_elbo(model: VAE, x: torch.Tensor) -> float:
    generator = torch.Generator().manual_seed(1)
    total = 0.0
    for _ in range(64):
        noise = torch.randn(len(x), model.config.latent_size, generator=generator)
        pair = model.elbo(x, noise).total + model.elbo(x, -noise).total  # antithetic
        total += pair.mean().item() / 2
    return total / 64


@torch.no_grad()
def test_elbo_of_a_linear_vae_is_the_exact_likelihood_of_probabilistic_pca() -> None:
    model, x, exact, _ = _ppca()
    assert _mean_elbo(model, x) == pytest.approx(exact, abs=16 * 1e-3)


@torch.no_grad()
@pytest.mark.parametrize("samples", [1, 7])
def test_importance_weights_of_the_exact_posterior_are_all_p_of_x(samples: int) -> None:
    """Then the bound is log p(x) itself, image by image, for any number of samples."""
    model, x, _, _ = _ppca()
    decoder = model.decoder
    assert isinstance(decoder, _Linear)
    likelihood = model.likelihood
    assert isinstance(likelihood, Gaussian)
    w, noise = decoder.weight.double(), torch.exp(2 * likelihood.log_scale).double()
    covariance = w @ w.T + noise * torch.eye(16, dtype=torch.float64)
    rows = x[:40].flatten(1).double() - decoder.bias
    exact = -0.5 * (
        (rows @ torch.linalg.inv(covariance) * rows).sum(dim=1)
        + torch.logdet(covariance)
        + 16 * math.log(2 * math.pi)
    )
    draw = Draw(0, "test", np.arange(40), 0, torch.device("cpu"))
    bound = model.variational.log_prob_bound(x[:40], draw, samples)
    torch.testing.assert_close(bound.double(), exact, rtol=0, atol=5e-3)


def _step(model: VAE, way: int, size: float) -> None:
    """Move all that is learned a step along a random way, by its size over what there is."""
    parts: list[torch.Tensor] = [
        model.encoder.weight, model.encoder.bias, model.decoder.weight, model.decoder.bias,
        *model.likelihood.parameters(),
    ]  # fmt: skip
    generator = torch.Generator().manual_seed(way)
    for part in parts:
        noise = torch.randn(part.shape, generator=generator)
        part += size * part.square().mean().sqrt() * noise


@torch.no_grad()
@pytest.mark.parametrize("size", [0.003, 0.01, 0.03, 0.1, 0.3])
def test_elbo_falls_away_from_that_optimum_on_every_way(size: float) -> None:
    """There and back: of two opposite ways one would lead up if the slope were not zero."""
    model, x, _, _ = _ppca()
    best = _mean_elbo(model, x)
    found = []
    for way in range(4):
        for sign in (1, -1):
            model, _, _, _ = _ppca()
            _step(model, way, sign * size)
            found.append(_mean_elbo(model, x))
    assert max(found) < best - size**2


@torch.no_grad()
def test_units_say_half_the_log_of_eigenvalue_over_noise_and_vary_by_one_minus_its_inverse() -> (
    None
):
    """E KL_i = log(lambda_i / sigma^2) / 2 and Var mu_i = 1 - sigma^2 / lambda_i."""
    model, x, _, values = _ppca()
    posterior = model.posterior(x)
    ratio = values[:3] / values[3:].mean()
    kl = model.unit_kl(posterior, posterior.mean).mean(dim=0)
    torch.testing.assert_close(kl, 0.5 * torch.log(ratio), rtol=1e-3, atol=1e-3)
    variances = posterior.mean.var(dim=0, correction=0)
    torch.testing.assert_close(variances, 1 - 1 / ratio, rtol=1e-4, atol=0)
    draw = Draw(0, "test", np.arange(len(x)), 0, torch.device("cpu"))
    means, terms = model.variational.posterior_terms(x, draw)
    torch.testing.assert_close(means, posterior.mean)
    torch.testing.assert_close(terms.mean(dim=0), kl)


def test_bernoulli_sums_to_one() -> None:
    generator = torch.Generator().manual_seed(0)
    params = 2 * torch.randn(1, 1, 2, 4, generator=generator)
    images = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=8))).view(-1, 1, 2, 4)
    log_mass = Bernoulli().log_prob(params.expand(len(images), -1, -1, -1), images)
    assert log_mass.double().exp().sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("raw", [-0.3, 0.0, 0.1])
def test_gaussian_integrates_to_one(raw: float) -> None:
    likelihood = Gaussian()
    with torch.no_grad():
        likelihood.raw_log_scale.fill_(raw)
        x = torch.linspace(-30, 30, 200_001).view(-1, 1, 1, 1)
        density = likelihood.log_prob(torch.full_like(x, 0.3), x).double().exp()
    assert torch.trapezoid(density, x.double().flatten()).item() == pytest.approx(1, abs=1e-5)


def test_the_best_sigma_is_the_root_of_the_mean_squared_error() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 3, 8, 8, generator=generator) * 2 - 1
    params = x + 0.2 * torch.randn(x.shape, generator=generator)
    likelihood = Gaussian()
    wanted = 0.5 * math.log((x - params).square().mean().item())
    with torch.no_grad():
        likelihood.raw_log_scale.copy_(torch.tensor((math.log(math.expm1(wanted + 6)) - 6) / 10))
    (slope,) = torch.autograd.grad(likelihood.log_prob(params, x).mean(), likelihood.raw_log_scale)
    assert abs(slope.item()) < 0.05  # of some hundreds per unit elsewhere


def test_the_discriminator_of_two_gaussians_approaches_the_optimal_one() -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
        )
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    loss = LOSSES.get("minimax")
    for step in range(600):
        for group in optimiser.param_groups:
            group["lr"] = 5e-3 * (1 - step / 600)
        real = torch.randn(2048, 1, generator=generator)
        fake = 1.5 + 0.8 * torch.randn(2048, 1, generator=generator)
        optimiser.zero_grad()
        loss.critic(network(real)[:, 0], network(fake)[:, 0]).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    x = torch.linspace(-1.5, 3, 50)[:, None]
    p_data = torch.exp(-0.5 * x.square())
    p_g = torch.exp(-0.5 * ((x - 1.5) / 0.8).square()) / 0.8
    with torch.no_grad():
        gap = (torch.sigmoid(network(x)) - p_data / (p_data + p_g)).abs().max()
    assert gap < 0.05


def test_minimax_is_equation_1_and_its_optimum_is_minus_log_4_plus_2_jsd() -> None:
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    q = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
    logits = torch.log(p / q)  # the optimal discriminator, D* = p / (p + q)
    loss = LOSSES.get("minimax")
    real = (p * loss.critic(logits, torch.full_like(logits, -100))).sum()
    fake = (q * loss.critic(torch.full_like(logits, 100), logits)).sum()
    middle = (p + q) / 2
    jsd = 0.5 * (p * torch.log(p / middle)).sum() + 0.5 * (q * torch.log(q / middle)).sum()
    assert -(real + fake).item() == pytest.approx(-math.log(4) + 2 * jsd.item(), abs=1e-12)
    generator = loss.generator(logits, logits)
    torch.testing.assert_close(generator, torch.log(1 - torch.sigmoid(logits)))


def test_squared_gradient_norm_is_that_of_each_image_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    images = torch.randn(5, 3, 2, 2, dtype=torch.float64)
    _, norms = squared_gradient_norm(lambda x: network(x)[:, 0], images)
    for image, norm in zip(images, norms, strict=True):
        leaf = image[None].clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(network(leaf).sum(), leaf)
        assert norm.item() == pytest.approx(gradient.square().sum().item(), rel=1e-5)
