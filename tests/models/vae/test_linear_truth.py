"""Linear models, trained by their own losses, against closed forms.

A linear VAE becomes probabilistic PCA (Tipping and Bishop 1999; Lucas et al. 2019,
arXiv:1911.02469), a linear autoencoder finds the subspace of PCA (Baldi and Hornik 1989), and a
linear denoising autoencoder becomes the Wiener filter, which gives the score (Vincent 2011).
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from gentool.core.half_cosine import half_cosine
from gentool.core.images import ImageShape
from gentool.core.rng import Draw
from gentool.models.base import Batch, Model
from gentool.models.vae.autoencoder import Autoencoder
from gentool.models.vae.model import VAE

DIMS, LATENTS = 16, 5
SHAPE = ImageShape(4, 4, 1)
CPU = torch.device("cpu")


def _data(spread: list[float]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """400 rows whose covariance has exactly these variances, largest first, and their axes."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, DIMS))
    rows -= rows.mean(axis=0)
    rows @= np.linalg.inv(np.linalg.cholesky(rows.T @ rows / 400)).T  # white
    turned, _ = np.linalg.qr(rng.normal(size=(DIMS, DIMS)))
    variances = torch.tensor(spread)
    x = torch.from_numpy(rows * np.sqrt(spread) @ turned.T).float()
    return x.view(-1, 1, 4, 4), variances, torch.from_numpy(turned).float()


class _Map(nn.Linear):
    """A linear map of flattened images."""

    def __init__(self, inputs: int, outputs: int, shape: tuple[int, ...]) -> None:
        super().__init__(inputs, outputs)
        self.shape = shape
        nn.init.normal_(self.weight, std=0.1)
        nn.init.zeros_(self.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The map of (B, ...) as (B, *shape)."""
        return super().forward(x.flatten(1)).view(-1, *self.shape)


def _train(model: Model, steps: int, lr: float, batch: Callable[[int], torch.Tensor]) -> None:
    (phase,) = model.phases()
    parameters = [p for part in model.exported_parts().values() for p in part.parameters()]
    optimiser = torch.optim.Adam(parameters, lr, (0.9, 0.99))
    for step in range(steps):
        images = batch(step)
        indices = np.arange(step * len(images), (step + 1) * len(images))
        for group in optimiser.param_groups:
            group["lr"] = lr * half_cosine(step / steps)
        optimiser.zero_grad()
        draw = Draw(0, "test", indices, step, CPU, step / steps)
        phase.loss(Batch(images), draw).total.mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def _linear_vae(**options: object) -> VAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = VAE.Config(latent_size=LATENTS, width=1, prior="normal", **options)  # type: ignore[arg-type]
        model = VAE(config, ImageShape(16, 16, 1))
        model.encoder = _Map(DIMS, 2 * LATENTS, (2 * LATENTS,))
        model.decoder = _Map(LATENTS, DIMS, (1, 4, 4))
    return model


@torch.no_grad()
def _elbo(model: VAE, x: torch.Tensor) -> float:
    noise = torch.randn(64, len(x), LATENTS, generator=torch.Generator().manual_seed(1))
    pairs = [model.elbo(x, n).total + model.elbo(x, -n).total for n in noise]
    return torch.stack(pairs).mean().item() / 2


def test_a_linear_vae_learns_probabilistic_pca() -> None:
    """The ELBO ends at log p itself, to 1e-3 nats per dimension, and the units as it says."""
    spread = [1.0, 0.6, 0.35, 0.2, 0.12] + [0.02] * 11
    x, variances, _ = _data(spread)
    model = _linear_vae()
    _train(model, 1800, 0.04, lambda step: x)
    exact = -0.5 * (DIMS * math.log(2 * math.pi) + variances.log().sum().item() + DIMS)
    assert _elbo(model, x) == pytest.approx(exact, abs=DIMS * 1e-3)
    with torch.no_grad():
        mean, kl = model.variational.posterior_terms(x, Draw(0, "test", np.arange(len(x)), 0, CPU))
    order = kl.mean(0).argsort(descending=True)
    wanted = 0.5 * torch.log(variances[:LATENTS] / 0.02)
    torch.testing.assert_close(kl.mean(0)[order], wanted, rtol=0.02, atol=0)
    spread_of_means = mean.var(dim=0, correction=0)[order]
    torch.testing.assert_close(spread_of_means, 1 - 0.02 / variances[:LATENTS], rtol=0.02, atol=0)


@pytest.mark.parametrize(("sigma", "active"), [(0.5, 1), (0.2, 3), (0.1, 5)])
def test_with_a_fixed_sigma_the_active_units_are_the_variances_above_its_square(
    sigma: float, active: int
) -> None:
    """Collapse in closed form: units whose lambda_i <= sigma^2 say nothing (Lucas et al. 2019)."""
    x, variances, _ = _data([1.6, 0.6, 0.35, 0.1, 0.06] + [0.004] * 11)
    assert int((variances > (2 * sigma) ** 2).sum()) == active
    model = _linear_vae(likelihood="gaussian-fixed", sigma=sigma)
    _train(model, 400, 0.05, lambda step: x)
    with torch.no_grad():
        mean, kl = model.variational.posterior_terms(x, Draw(0, "test", np.arange(len(x)), 0, CPU))
    assert int((mean.var(dim=0, correction=0) > 0.01).sum()) == active
    used = variances[:active] / (2 * sigma) ** 2
    total = 0.5 * torch.log(used).sum().item()
    assert kl.mean(0).sum().item() == pytest.approx(total, abs=0.05)


def test_at_the_exact_posterior_no_draw_of_four_samples_moves_the_encoder() -> None:
    """All importance weights are then log p(x), whatever z, and the gradient of each is 0.

    x = W z + noise with orthogonal columns: q has the precisions 1 + |w_k|^2 / s^2.
    """
    x, variances, axes = _data([1.6, 0.6, 0.35, 0.1, 0.06] + [0.004] * 11)
    model = _linear_vae(likelihood="gaussian-fixed", sigma=0.2, samples=4)
    scale = 0.4**2
    columns = axes[:, :LATENTS] * variances[:LATENTS].sqrt()
    precisions = 1 + variances[:LATENTS] / scale
    with torch.no_grad():
        model.decoder.weight.copy_(columns)
        model.encoder.weight[:LATENTS] = columns.T / (scale * precisions[:, None])
        model.encoder.weight[LATENTS:] = 0
        model.encoder.bias[LATENTS:] = 8 * torch.atanh(-precisions.log() / 8)  # softly bounded
    (phase,) = model.phases()
    draw = Draw(0, "test", np.arange(len(x)), 1, CPU, 1.0)
    terms = phase.loss(Batch(x), draw)
    assert (terms.parts["iw_bound"] - terms.parts["elbo"]).abs().max() < 1e-3
    weights = [model.encoder.weight, model.encoder.bias, model.decoder.weight]
    found = torch.autograd.grad(terms.total.mean(), weights)
    assert found[0].abs().max() < 1e-4
    assert found[1].abs().max() < 1e-4
    assert found[2].abs().max() > 1e-2


def _linear_autoencoder(latents: int, **options: object) -> Autoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Autoencoder.Config(latent_size=latents, width=1, **options)  # type: ignore[arg-type]
        model = Autoencoder(config, ImageShape(16, 16, 1))
        model.encoder = _Map(DIMS, latents, (latents,))  # type: ignore[assignment]
        model.decoder = _Map(latents, DIMS, (1, 4, 4))  # type: ignore[assignment]
    return model


def test_a_linear_autoencoder_finds_the_subspace_of_pca() -> None:
    x, _, axes = _data([1.0, 0.6, 0.35] + [0.1] * 13)
    model = _linear_autoencoder(3)
    _train(model, 500, 0.03, lambda step: x)
    weight = model.decoder.weight
    assert isinstance(weight, torch.Tensor)
    found = torch.linalg.svd(weight.detach(), full_matrices=False).U
    cosines = torch.linalg.svdvals(found.T @ axes[:, :3])
    assert torch.arccos(cosines.clamp(max=1)).max() < 1e-2  # principal angles


DENOISED = [1.0] * 4 + [0.3] * 4 + [0.1] * 8
NOISE = 0.5**2  # variance of what the encoder sees beside them, on the scale of [-1, 1]


@pytest.fixture(scope="module")
def denoiser() -> Autoencoder:
    """A linear denoising autoencoder, trained on data of these variances."""
    x, _, _ = _data(DENOISED)
    model = _linear_autoencoder(DIMS, denoise=0.25)
    _train(model, 800, 0.02, lambda step: x)
    return model


def test_a_linear_denoising_autoencoder_is_the_wiener_filter(denoiser: Autoencoder) -> None:
    """Along each axis of the data it shrinks by lambda / (lambda + sigma^2)."""
    _, variances, axes = _data(DENOISED)
    encoder, decoder = denoiser.encoder.weight, denoiser.decoder.weight
    assert isinstance(encoder, torch.Tensor)
    assert isinstance(decoder, torch.Tensor)
    found = (axes.T @ decoder @ encoder @ axes).detach()
    wiener = variances / (variances + NOISE)
    torch.testing.assert_close(found.diagonal(), wiener, atol=0.03, rtol=0)
    assert (found - torch.diag(found.diagonal())).abs().max() < 0.03


def test_what_it_takes_away_is_the_score_of_the_noisy_images(denoiser: Autoencoder) -> None:
    """(x^ - x~) / sigma^2 = grad log p_sigma(x~): Tweedie's formula (Vincent 2011)."""
    x, variances, axes = _data(DENOISED)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    noisy = (x + math.sqrt(NOISE) * noise).requires_grad_(True)
    covariance = axes @ torch.diag(variances + NOISE) @ axes.T
    law = MultivariateNormal(torch.zeros(DIMS), covariance)
    (score,) = torch.autograd.grad(law.log_prob(noisy.flatten(1)).sum(), noisy)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        found = (denoiser.decoder(denoiser.encode(noisy)) - noisy) / NOISE
    assert (found - score).norm() < 0.05 * score.norm()
