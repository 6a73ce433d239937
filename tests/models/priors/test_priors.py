"""Priors against closed forms, naive loops, autograd, and known distributions."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from gentool.core.errors import UsageError
from gentool.core.images import ImageShape
from gentool.core.rng import Draw
from gentool.models.base import Batch
from gentool.models.priors import FITTED, PRIORS, Codes, Prior, log_normal
from gentool.models.priors.coupling import CouplingFlow
from gentool.models.priors.flow_matching import FlowMatching, follow, path_error
from gentool.models.priors.gaussian import FullGaussian
from gentool.models.priors.mixture import FittedMixture
from gentool.models.priors.vamp import VampPrior, log_mixture
from gentool.models.vae.autoencoder import Autoencoder
from gentool.models.vae.model import VAE
from gentool.models.vae.options import VAEConfig

SHAPE = ImageShape(16, 16, 1)
CPU = torch.device("cpu")


def exact(codes: torch.Tensor) -> Codes:
    """Codes without a posterior."""
    return Codes(codes, torch.zeros_like(codes))


def correlated(count: int = 500, size: int = 6) -> torch.Tensor:
    """Draws from a Gaussian with mean 3 and full covariance."""
    rng = np.random.default_rng(0)
    turned, _ = np.linalg.qr(rng.normal(size=(size, size)))
    rows = rng.normal(size=(count, size)) * np.arange(1, size + 1) @ turned + 3
    return torch.from_numpy(rows).float()


def two_bumps(count: int) -> torch.Tensor:
    """0.7 N((-3, 0), 0.5^2 I) + 0.3 N((3, 2), 0.5^2 I)."""
    rng = np.random.default_rng(1)
    right = rng.random(count) < 0.3
    centres = np.where(right[:, None], [[3.0, 2.0]], [[-3.0, 0.0]])
    return torch.from_numpy(centres + 0.5 * rng.normal(size=(count, 2))).float()


@torch.no_grad()
def test_the_full_gaussian_has_the_moments_of_all_posteriors() -> None:
    means = correlated()
    variances = torch.rand(500, 6, generator=torch.Generator().manual_seed(0))
    prior = FullGaussian(6, 1, SHAPE)
    prior.fit(Codes(means, variances))
    covariance = np.cov(means.double().numpy(), rowvar=False, bias=True)
    covariance += np.diag(variances.double().mean(dim=0).numpy())
    factor = (prior.scale[:, None] * prior.factor).double().numpy()
    np.testing.assert_allclose(factor @ factor.T, covariance, rtol=2e-4, atol=1e-3)
    np.testing.assert_allclose(prior.mean, means.numpy().mean(axis=0), atol=1e-5)
    law = MultivariateNormal(means.double().mean(dim=0), torch.from_numpy(covariance))
    np.testing.assert_allclose(prior.log_prob(means), law.log_prob(means.double()), atol=0.02)  # type: ignore[no-untyped-call]
    drawn = prior.draw(np.arange(20_000), 0, CPU)
    np.testing.assert_allclose(np.cov(drawn, rowvar=False), covariance, atol=0.25)


@torch.no_grad()
def test_one_component_is_the_full_gaussian() -> None:
    mixture, gaussian = FittedMixture(6, 1, SHAPE), FullGaussian(6, 1, SHAPE)
    for prior in (mixture, gaussian):
        prior.fit(exact(correlated()))
    found, wanted = (p.log_prob(correlated()) for p in (mixture, gaussian))
    torch.testing.assert_close(found, wanted, atol=0.1, rtol=0)


@torch.no_grad()
def test_a_mixture_is_recovered_and_sampled() -> None:
    codes = two_bumps(4000)
    prior = FittedMixture(2, 2, SHAPE)
    prior.fit(exact(codes))
    order = prior.shares.argsort(descending=True)
    torch.testing.assert_close(prior.shares[order], torch.tensor([0.7, 0.3]), atol=0.02, rtol=0)
    centres = torch.tensor([[-3.0, 0.0], [3.0, 2.0]])
    torch.testing.assert_close(prior.outward(prior.means[order]), centres, atol=0.1, rtol=0)
    assert_two_bumps(prior.draw(np.arange(2000), 0, CPU))
    bumps = [MultivariateNormal(c, 0.25 * torch.eye(2)).log_prob(codes).exp() for c in centres]  # type: ignore[no-untyped-call]
    truth = (0.7 * bumps[0] + 0.3 * bumps[1]).log().mean().item()
    assert prior.log_prob(codes).mean().item() == pytest.approx(truth, abs=0.02)


def assert_two_bumps(drawn: torch.Tensor) -> None:
    """Shares, means and spreads of the law of ``two_bumps``; next to nothing between them."""
    right = drawn[:, 0] > 0
    assert right.float().mean().item() == pytest.approx(0.3, abs=0.04)
    for side, centre in ((~right, (-3.0, 0.0)), (right, (3.0, 2.0))):
        part = drawn[side]
        torch.testing.assert_close(part.mean(dim=0), torch.tensor(centre), atol=0.25, rtol=0)
        torch.testing.assert_close(part.std(dim=0), torch.tensor([0.5, 0.5]), atol=0.2, rtol=0)
    assert (drawn[:, 0].abs() < 1).float().mean().item() < 0.04


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("name", FITTED)
def test_fewer_codes_than_components_or_dimensions_still_fit(name: str, count: int) -> None:
    codes = torch.randn(count, 8, generator=torch.Generator().manual_seed(0))
    prior = PRIORS.get(name)(8, 4, SHAPE)
    prior.fit(exact(codes))
    drawn = prior.draw(np.arange(50), 0, CPU)
    assert drawn.isfinite().all()
    assert torch.cdist(drawn, codes).min(dim=1).values.max() < 20


def trained_flow() -> CouplingFlow:
    """A flow of three dimensions, fitted to something curved."""
    rows = correlated(300, 3)
    rows[:, 2] += 0.3 * rows[:, 0] ** 2
    prior = CouplingFlow(3, 1, SHAPE)
    prior.fit(exact(rows))
    return prior


def test_the_flows_inverse_and_log_determinant_are_those_of_autograd() -> None:
    prior = trained_flow().double()
    rows = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise, log_det = prior.flow(rows)
    assert (noise - rows).abs().max() > 0.1  # it is not the identity
    torch.testing.assert_close(prior.inward(prior.transform(noise, noise)), rows)
    for row, one in zip(rows, log_det, strict=True):
        leaf = row.clone().requires_grad_(True)
        out = prior.flow(leaf[None])[0][0]
        lines = [torch.autograd.grad(out[k], leaf, retain_graph=True)[0] for k in range(3)]
        determinant = torch.linalg.slogdet(torch.stack(lines))[1]
        assert one.item() == pytest.approx(determinant.item(), abs=1e-9)


@torch.no_grad()
def test_the_density_of_the_flow_integrates_to_one_and_beats_the_gaussian() -> None:
    codes = two_bumps(600)
    flow, gaussian = CouplingFlow(2, 1, SHAPE), FullGaussian(2, 1, SHAPE)
    for prior in (flow, gaussian):
        prior.fit(exact(codes))
    side = torch.linspace(-12, 12, 200)
    grid = torch.cartesian_prod(side, side)
    assert flow.log_prob(grid).exp().sum().item() * (24 / 199) ** 2 == pytest.approx(1, abs=0.01)
    assert flow.log_prob(codes).mean() > gaussian.log_prob(codes).mean() + 0.5


@torch.no_grad()
def test_flow_matching_recovers_a_gaussian() -> None:
    codes = correlated(800, 3)
    prior = FlowMatching(3, 1, SHAPE)
    prior.fit(exact(codes))
    drawn = prior.draw(np.arange(3000), 0, CPU)
    spread = codes.std(dim=0)
    assert ((drawn.mean(dim=0) - codes.mean(dim=0)).abs() < 0.12 * spread).all()
    found, wanted = np.corrcoef(drawn, rowvar=False), np.corrcoef(codes, rowvar=False)
    np.testing.assert_allclose(found, wanted, atol=0.06)
    torch.testing.assert_close(drawn.std(dim=0), spread, atol=0, rtol=0.1)


CENTRE, SPREAD = torch.tensor([1.5, -0.7, 0.0]), torch.tensor([0.4, 2.0, 1.0])


def best_velocity(y: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """E[cos(a) u - sin(a) e | cos(a) e + sin(a) u = y] of u ~ N(CENTRE, SPREAD^2)."""
    sine, cosine = angle.sin()[:, None], angle.cos()[:, None]
    slope = cosine * sine * (SPREAD**2 - 1) / (cosine**2 + (sine * SPREAD) ** 2)
    return cosine * CENTRE + slope * (y - sine * CENTRE)


def gaussian_rows(count: int) -> torch.Tensor:
    """Draws of u."""
    noise = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    return CENTRE + SPREAD * noise


def test_the_best_velocity_of_a_gaussian_has_the_least_error_and_no_slope() -> None:
    """What is left is sigma^2 / (cos^2 + sin^2 sigma^2), whose mean over angles is sigma."""
    count, turn = 40_000, Draw(0, "flow", np.arange(40_000), 0, CPU)
    rows = gaussian_rows(count)

    def error(change: torch.Tensor) -> torch.Tensor:
        """Per row, of the best velocity and a change (N, 5, 3) along five fields."""

        def velocity(y: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
            sine, cosine = angle.sin()[:, None], angle.cos()[:, None]
            fields = [torch.ones_like(y), cosine * y, sine * y, y.tanh(), sine.expand_as(y)]
            return best_velocity(y, angle) + (change * torch.stack(fields, dim=1)).sum(dim=1)

        return path_error(velocity, rows, turn)

    change = torch.zeros(count, 5, 3, requires_grad=True)
    best = error(change)
    assert best.mean().item() == pytest.approx(SPREAD.mean().item(), rel=0.02)
    (slope,) = torch.autograd.grad(best.sum(), change)
    deviation = slope.std(dim=0) / count**0.5
    assert (slope.mean(dim=0).abs() < 5 * deviation).all()
    assert deviation.max() < 0.02
    ways = torch.randn(12, 5, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for way, size in zip(ways, [0.1, 0.3, 1.0] * 4, strict=True):
            for sign in (1, -1):
                assert error(sign * size * way.expand(count, -1, -1)).mean() > best.mean()


@torch.no_grad()
def test_the_best_velocity_carries_noise_to_the_gaussian() -> None:
    noise = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    found = follow(best_velocity, noise, 24)
    torch.testing.assert_close(found, CENTRE + SPREAD * noise, rtol=0, atol=0.02)


@torch.no_grad()
def test_flow_matching_recovers_two_bumps() -> None:
    prior = FlowMatching(2, 1, SHAPE)
    prior.fit(exact(two_bumps(3000)))
    assert_two_bumps(prior.draw(np.arange(2000), 0, CPU))


def test_the_vamp_density_is_that_of_a_naive_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    means, log_variances = torch.randn(2, 7, 4, generator=generator).double()
    latents = torch.randn(5, 4, generator=generator).double()
    found = log_mixture(latents, means, log_variances)
    for z, value in zip(latents.tolist(), found.tolist(), strict=True):
        total = 0.0
        for mean, log_variance in zip(means.tolist(), log_variances.tolist(), strict=True):
            density = 1.0
            for a, m, v in zip(z, mean, log_variance, strict=True):
                density *= math.exp(-((a - m) ** 2) / (2 * math.exp(v)))
                density /= math.sqrt(2 * math.pi * math.exp(v))
            total += density / 7
        assert value == pytest.approx(math.log(total), abs=1e-9)


def tiny_vae(prior: str, components: int = 4) -> VAE:
    """A VAE of 16x16 grey images with reproducible weights."""
    config = VAE.Config(latent_size=5, width=4, prior=prior, components=components)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VAE(config, SHAPE)


def images(count: int) -> torch.Tensor:
    """Random images in [-1, 1]."""
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_vamp_begins_at_training_images_learns_and_samples_their_posteriors() -> None:
    model, x = tiny_vae("vamp"), images(3)
    model.begin(lambda: iter([Batch(x[:2]), Batch(x[2:])]))
    (phase,) = model.phases()
    loss = phase.loss(Batch(x.flip(0)), Draw(0, "vae", np.arange(3), 0, CPU)).total
    prior = model.density
    assert isinstance(prior, VampPrior)
    torch.testing.assert_close(prior.images.detach(), x[[0, 1, 2, 0]])
    loss.mean().backward()  # type: ignore[no-untyped-call]
    assert prior.images.grad is not None
    assert prior.images.grad.abs().sum() > 0
    model.eval().finish(lambda: iter([]))
    posterior = model.posterior(x)
    torch.testing.assert_close(prior.means[:3], posterior.mean.detach())
    drawn = model.prior(np.arange(20_000), 0)
    torch.testing.assert_close(drawn.mean(dim=0), prior.means.mean(dim=0), atol=0.05, rtol=0)


@torch.no_grad()
def test_vamp_with_the_posterior_itself_as_its_only_part_has_no_kl() -> None:
    model, x = tiny_vae("vamp", components=1), images(1)
    model.density.begin([Batch(x)])
    bound = model.elbo(x, torch.randn(1, 5, generator=torch.Generator().manual_seed(0)))
    assert bound.parts["kl"].item() == pytest.approx(0, abs=1e-5)
    draw = Draw(0, "test", np.arange(1), 0, CPU)
    model.eval().finish(lambda: iter([]))
    alone = model.variational.log_prob_bound(x, draw, 1)
    noise = draw.normal("importance/0", 5)
    torch.testing.assert_close(alone, model.elbo(x, noise).parts["log_likelihood"])
    torch.testing.assert_close(
        model.variational.posterior_terms(x, draw)[1], torch.zeros(1, 5), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("name", PRIORS)
def test_a_fit_is_a_function_of_the_codes_alone(name: str) -> None:
    def batches() -> Iterator[Batch]:
        yield Batch(images(40))

    torch.manual_seed(1)
    model = tiny_vae(name).eval()
    model.finish(batches)
    once = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(2)
    model.finish(batches)  # after another fit, and another global state
    for key, value in model.state_dict().items():
        assert torch.equal(value, once[key]), key
    assert not any(b.requires_grad for b in model.buffers())
    assert (model.density.words in model.summary()) == model.density.ready


@pytest.mark.parametrize("name", [n for n in PRIORS if n != "vamp"])
def test_an_unfitted_prior_is_standard_normal(name: str) -> None:
    prior: Prior = PRIORS.get(name)(5, 1, SHAPE)
    noise = PRIORS.get("normal")(5, 1, SHAPE).draw(np.arange(9), 3, CPU)
    torch.testing.assert_close(prior.draw(np.arange(9), 3, CPU), noise)


def test_an_autoencoder_has_no_prior_that_is_not_fitted() -> None:
    from gentool.core.options import from_json

    for name in ("normal", "vamp"):
        with pytest.raises(
            UsageError, match=f"no prior named '{name}'.*choices: {FITTED[0]}, .*[a-z]\\)$"
        ):
            from_json(Autoencoder.Config, {"prior": name})


def three_classes(count: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes around (-4, 0), (0, 4) and (4, 0), and their classes 0, 2 and 3; of 1 there is none."""
    rng = np.random.default_rng(2)
    labels = np.array([0, 2, 3])[rng.integers(3, size=count)]
    centres = np.array([[-4.0, 0.0], [9.0, 9.0], [0.0, 4.0], [4.0, 0.0]])[labels]
    codes = centres + 0.5 * rng.normal(size=(count, 2))
    return torch.from_numpy(codes).float(), torch.from_numpy(labels)


@pytest.mark.parametrize("components", [1, 4, 20])
def test_a_mixture_draws_the_class_that_is_asked_for(components: int) -> None:
    codes, labels = three_classes()
    prior = FittedMixture(2, components, SHAPE, 4)
    prior.fit(Codes(codes, torch.zeros_like(codes), labels))
    for kind in (0, 2, 3):
        drawn = prior.draw(np.arange(400), 1, CPU, torch.full((400,), kind))
        own = codes[labels == kind]
        torch.testing.assert_close(drawn.mean(dim=0), own.mean(dim=0), atol=0.15, rtol=0)
        torch.testing.assert_close(drawn.std(dim=0), own.std(dim=0), atol=0.15, rtol=0)


def test_without_a_class_the_mixture_has_all_as_often_as_the_images() -> None:
    codes, labels = three_classes()
    prior = FittedMixture(2, 8, SHAPE, 4)
    prior.fit(Codes(codes, torch.zeros_like(codes), labels))
    drawn = prior.draw(np.arange(3000), 1, CPU)
    for kind, centre in ((0, (-4.0, 0.0)), (2, (0.0, 4.0)), (3, (4.0, 0.0))):
        near = (drawn - torch.tensor(centre)).norm(dim=1) < 2
        expected = (labels == kind).float().mean()
        torch.testing.assert_close(near.float().mean(), expected, atol=0.03, rtol=0)
    nobody = prior.draw(np.arange(100), 1, CPU, torch.ones(100, dtype=torch.int64))
    assert torch.equal(nobody, drawn[:100])  # a class without images draws as all do


def test_a_mixture_of_one_component_per_class_is_the_closed_form() -> None:
    codes, labels = three_classes(3000)
    prior = FittedMixture(2, 4, SHAPE, 4)
    prior.fit(Codes(codes, torch.zeros_like(codes), labels))
    shares = torch.bincount(labels, minlength=4) / len(labels)
    torch.testing.assert_close(prior.shares, shares)
    laws = [
        MultivariateNormal(own.mean(dim=0), torch.cov(own.T, correction=0))
        for own in (codes[labels == k] for k in (0, 2, 3))
    ]
    points = codes[:50]
    parts = [law.log_prob(points) + shares[k].log()  # type: ignore[no-untyped-call]
             for law, k in zip(laws, (0, 2, 3), strict=True)]  # fmt: skip
    naive = torch.stack(parts).logsumexp(dim=0)
    torch.testing.assert_close(prior.log_prob(points), naive, atol=0.02, rtol=0)


def test_a_prior_that_knows_no_classes_says_so() -> None:
    with pytest.raises(UsageError, match="Use -o prior=mixture, or --unconditional"):
        PRIORS.get("normal")(5, 1, SHAPE, 3)
    told = VAEConfig(prior="normal").why_unconditional(1)
    assert told is not None and told.startswith(
        "-o prior=normal can use no classes; gaussian, mixture, flow, latent-flow, "
    )


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["gaussian", "flow", pytest.param("flow-matching", marks=pytest.mark.slow)]
)
def test_a_fitted_prior_draws_the_class_that_is_asked_for(name: str) -> None:
    codes, labels = three_classes(1500)
    prior: Prior = PRIORS.get(name).open(2, 1, SHAPE, 4, (1, 1), 8)
    prior.fit(Codes(codes, torch.zeros_like(codes), labels))
    for kind in (0, 2, 3):
        drawn = prior.draw(np.arange(400), 1, CPU, torch.full((400,), kind))
        own = codes[labels == kind]
        torch.testing.assert_close(drawn.mean(dim=0), own.mean(dim=0), atol=0.25, rtol=0)
        torch.testing.assert_close(drawn.std(dim=0), own.std(dim=0), atol=0.2, rtol=0)
    drawn = prior.draw(np.arange(3000), 1, CPU)
    for kind, centre in ((0, (-4.0, 0.0)), (2, (0.0, 4.0)), (3, (4.0, 0.0))):
        near = (drawn - torch.tensor(centre)).norm(dim=1) < 2
        expected = (labels == kind).float().mean()
        torch.testing.assert_close(near.float().mean(), expected, atol=0.04, rtol=0)
    nobody = prior.draw(np.arange(100), 1, CPU, torch.ones(100, dtype=torch.int64))
    torch.testing.assert_close(nobody, drawn[:100])  # a class without images draws as all


@torch.no_grad()
def test_the_density_of_a_flow_with_classes_integrates_to_one_in_a_class() -> None:
    codes, labels = three_classes(400)
    flow = CouplingFlow(2, 1, SHAPE, 4)
    flow.fit(Codes(codes, torch.zeros_like(codes), labels))
    across, up = torch.linspace(-9, 1, 240), torch.linspace(-5, 5, 240)
    grid = torch.cartesian_prod(across, up)
    log_p = flow.log_prob(grid, torch.zeros(len(grid), dtype=torch.int64))
    assert log_p.exp().sum().item() * (10 / 239) ** 2 == pytest.approx(1, abs=0.01)


def vamp_of_classes() -> tuple[VAE, torch.Tensor, torch.Tensor]:
    """A VAE with two pseudo-inputs for each of three classes, images, and their labels: no 1."""
    config = VAE.Config(latent_size=5, width=4, prior="vamp", components=7)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VAE(config, SHAPE, 3)
    return model, images(6), torch.tensor([2, 0, 2, 2, 0, 2])


def test_vamp_has_pseudo_inputs_of_every_class() -> None:
    model, x, labels = vamp_of_classes()
    prior = model.density
    assert isinstance(prior, VampPrior)
    model.begin(lambda: iter([Batch(x[:3], labels[:3]), Batch(x[3:], labels[3:])]))
    torch.testing.assert_close(prior.images.detach()[[0, 1, 4, 5]], x[[1, 4, 0, 2]])
    torch.testing.assert_close(prior.class_shares, torch.tensor([1 / 3, 0, 2 / 3]))
    model.eval().finish(lambda: iter([]))
    with torch.no_grad():
        means = model.posterior(x).mean
    for kind, rows in ((0, [1, 4]), (2, [0, 2])):
        drawn = model.prior(np.arange(20_000), 0, torch.full((20_000,), kind))
        torch.testing.assert_close(drawn.mean(dim=0), means[rows].mean(dim=0), atol=0.05, rtol=0)
    everything = model.prior(np.arange(20_000), 0)
    wanted = means[[1, 4]].mean(dim=0) / 3 + means[[0, 2]].mean(dim=0) * 2 / 3
    torch.testing.assert_close(everything.mean(dim=0), wanted, atol=0.05, rtol=0)
    nobody = model.prior(np.arange(9), 0, torch.ones(9, dtype=torch.int64))
    torch.testing.assert_close(nobody, everything[:9])


@pytest.mark.parametrize("samples", [1, 3])
def test_vamp_learns_with_the_density_of_the_class_alone(samples: int) -> None:
    model, x, labels = vamp_of_classes()
    model = VAE(replace(model.config, samples=samples), SHAPE, 3)
    model.begin(lambda: iter([Batch(x, labels)]))
    draw = Draw(0, "vae", np.arange(6), 0, CPU)
    (phase,) = model.phases()
    kl = phase.loss(Batch(x, labels), draw).parts["kl"]
    with torch.no_grad():
        posterior = model.posterior(x)
        noise = draw.normal("posterior", samples, 5).transpose(0, 1)
        naive = []
        for latents in posterior.draw(noise):
            inputs = model.density.inputs()  # type: ignore[operator]
            for k, label in enumerate(labels.tolist()):
                own = model.posterior(inputs[2 * label : 2 * label + 2])
                log_p = log_mixture(latents[k : k + 1], *own)
                log_q = log_normal(latents[k], posterior.mean[k], posterior.log_variance[k])
                naive.append((log_q - log_p).item())
    wanted = torch.tensor(naive).view(samples, 6).mean(dim=0)
    torch.testing.assert_close(kl.detach(), wanted, atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_the_vamp_density_is_that_of_all_classes_as_often_as_the_data_has_them() -> None:
    model, x, labels = vamp_of_classes()
    model.begin(lambda: iter([Batch(x, labels)]))
    z = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    found = model.density.of_the_bound(model.posterior)(z)
    per_class = [
        model.density.of_the_bound(model.posterior, torch.full((4,), k))(z) for k in (0, 2)
    ]
    parts = torch.stack([per_class[0] - math.log(3), per_class[1] + math.log(2 / 3)])
    torch.testing.assert_close(found, parts.logsumexp(dim=0))
