"""Latents on a grid, and the flow over them that is trained in the last phase of a run."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch

from gentool.core.images import ImageShape
from gentool.core.rng import Draw
from gentool.models.base import Batch
from gentool.models.priors.latent_flow import LatentFlow
from gentool.models.vae.model import VAE
from gentool.models.vae.vaegan import VAEGAN
from gentool.networks.velocity import VelocityNet, halvings

SHAPE = ImageShape(16, 24, 1)  # a grid of 4x6 where about 4x4 places are wanted
CPU = torch.device("cpu")


def flow(classes: int = 0, places: tuple[int, int] = (2, 3), channels: int = 2) -> LatentFlow:
    """A tiny flow with reproducible weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        size = channels * places[0] * places[1]
        return LatentFlow(size, 1, SHAPE, classes, places, width=16)


def grid_vae(classes: int = 0, **options: object) -> VAE:
    """A tiny VAE with latents on a grid."""
    config = VAE.Config(width=4, latent_size=3, grid=4, prior="latent-flow", prior_width=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VAE(replace(config, **options), SHAPE, classes)  # type: ignore[arg-type]


def images(count: int) -> torch.Tensor:
    """Random images in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, 16, 24, generator=generator) * 2 - 1


def draw_of(rows: int, step: int = 0, share: float = 0.9) -> Draw:
    return Draw(0, "prior", np.arange(step * rows, (step + 1) * rows), step, CPU, share)


@pytest.mark.parametrize(
    ("places", "sizes"),
    [
        ((1, 1), [(1, 1)]),
        ((7, 20), [(7, 20)]),
        ((8, 8), [(8, 8), (4, 4)]),
        ((9, 16), [(9, 16), (5, 8)]),
        ((16, 16), [(16, 16), (8, 8), (4, 4)]),
    ],
)
def test_the_velocity_of_any_grid_begins_at_zero(
    places: tuple[int, int], sizes: list[tuple[int, int]]
) -> None:
    assert halvings(places) == sizes
    net = VelocityNet(3, places, 8, classes=2)
    y, angle = torch.randn(2, 3, *places), torch.rand(2)
    out = net(y, angle, torch.tensor([0, 1]))
    assert torch.equal(out, torch.zeros_like(y))
    with pytest.raises(ValueError, match="needs labels"):
        net(y, angle)
    with torch.no_grad():
        for weight in net.parameters():  # behind a zero nothing can be told apart
            weight.normal_(0.0, 0.3)
    (net(y, angle, torch.tensor([0, 1])) * torch.randn_like(y)).sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []
    with torch.no_grad():
        out = net(y, angle, torch.tensor([0, 1]))
        for other in (net(y, angle / 2, torch.tensor([0, 1])), net(y, angle, torch.tensor([1, 0]))):
            assert (other - out).abs().max() > 1e-3


def test_the_moments_are_those_of_all_batches_together() -> None:
    prior, rows = flow(), 3 * torch.randn(5, 8, 12) + 1
    with torch.no_grad():
        for step, batch in enumerate(rows):
            prior.learn(batch, None, draw_of(8, step))
    maps = rows.view(40, 2, 6).double()
    torch.testing.assert_close(prior.mean.flatten().double(), maps.mean(dim=(0, 2)))
    variances = maps.var(dim=(0, 2), correction=0)
    torch.testing.assert_close(prior.variance.flatten().double(), variances, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_where_it_begins_samples_have_the_moments_of_the_channels() -> None:
    prior = flow()
    for step in range(60):
        prior.learn(2 * torch.randn(64, 12) + 5, None, draw_of(64, step))
    assert prior.measured == 50 and prior.ready
    drawn = prior.eval().draw(np.arange(2000), 0, CPU)
    assert drawn.mean().item() == pytest.approx(5, abs=0.1)
    assert drawn.std().item() == pytest.approx(2, abs=0.1)
    assert torch.equal(prior.draw(np.array([7, 3]), 0, CPU), drawn[[7, 3]])


def test_it_learns_what_every_class_looks_like() -> None:
    """Class 0 lies at -2 and class 1 at +2, each with deviation 0.6, at every place of a grid."""
    prior, rng = flow(classes=2, places=(4, 4), channels=1), np.random.default_rng(0)
    optimiser = torch.optim.Adam(prior.parameters(), lr=3e-3)
    for step in range(400):
        kinds = torch.from_numpy(rng.random(64) < 0.25).long()
        noise = torch.from_numpy(rng.normal(size=(64, 16))).float()
        rows = (4 * kinds[:, None] - 2) + 0.6 * noise
        error = prior.learn(rows, kinds, draw_of(64, step)).mean()
        optimiser.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    prior.eval()
    with torch.no_grad():
        for kind, centre in ((0, -2.0), (1, 2.0)):
            prior.class_shares.copy_(torch.eye(2)[1 - kind])  # not among the images that it counts
            drawn = prior.draw(np.arange(300), 1, CPU, torch.full((300,), kind))
            assert drawn.mean().item() == pytest.approx(centre, abs=0.2)
            assert drawn.std().item() == pytest.approx(0.6, abs=0.15)
        prior.class_shares.copy_(torch.tensor([0.75, 0.25]))
        both = prior.draw(np.arange(1000), 1, CPU)
    assert (both.mean(dim=1) > 0).float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_latents_lie_on_the_grid_and_come_back_as_images() -> None:
    model = grid_vae().eval()
    assert model.length == 3 * 4 * 6
    latents = model.encode(images(2))
    assert latents.shape == (2, 72)
    assert model.decode(latents).shape == (2, 1, 16, 24)
    assert model.prior(np.arange(2), 0).shape == (2, 72)
    moved = images(2)
    moved[:, :, :4, :4] *= -1  # the last places only feel it through normalisation
    change = (model.encode(moved) - latents).abs().view(2, 3, 4, 6).sum(dim=(0, 1))
    assert change[0, 0] > 2 * change[3, 5]


def test_the_prior_learns_when_the_rest_has_and_alone() -> None:
    model, x = grid_vae(classes=2, prior_share=0.25), images(6)
    first, second = model.phases()
    assert (first.span, second.span) == ((0.0, 0.75), (0.75, 1.0))
    trained = [{id(p) for p in phase.module.parameters()} for phase in (first, second)]
    assert not trained[0] & trained[1]
    assert trained[0] | trained[1] == {id(p) for p in model.parameters()}
    batch = Batch(x, torch.tensor([0, 1, 0, 1, 0, 1]))
    terms = second.loss(batch, draw_of(6))
    terms.total.mean().backward()  # type: ignore[no-untyped-call]
    moved = {id(p) for p in model.parameters() if p.grad is not None}
    assert moved <= trained[1]
    assert terms.total.shape == (6,)


def test_schedules_run_over_the_first_span() -> None:
    model, x = grid_vae(warm_up=1.0, prior_share=0.5), images(4)
    with torch.no_grad():
        terms = model.phases()[0].loss(Batch(x), draw_of(4, share=0.25))
    torch.testing.assert_close(terms.total, -terms.parts["elbo"] - 0.5 * terms.parts["kl"])


def test_classes_are_counted_at_the_end() -> None:
    model = grid_vae(classes=3).eval()
    batch = Batch(images(8), torch.tensor([0, 0, 0, 0, 0, 1, 1, 1]))
    model.finish(lambda: iter([batch]))
    torch.testing.assert_close(model.density.class_shares, torch.tensor([0.625, 0.375, 0.0]))
    assert "not trained yet" in model.summary()
    cast(LatentFlow, model.density).measured.fill_(1)
    assert "flow-matching" in model.summary()


def test_the_discriminator_of_a_vae_gan_learns_beside_it() -> None:
    config = VAEGAN.Config(
        width=4, latent_size=3, grid=4, prior="latent-flow", prior_width=8, prior_share=0.25
    )
    model = VAEGAN(config, SHAPE)
    spans = {phase.name: phase.span for phase in model.phases()}
    first, second = (0.0, 0.75), (0.75, 1.0)
    assert spans == {"vae": first, "discriminator": first, "prior": second}
    trained = [id(p) for phase in model.phases() for p in phase.module.parameters()]
    assert sorted(trained) == sorted(id(p) for p in model.parameters())


def test_alike_latents_are_no_reason_for_numbers_that_are_none() -> None:
    prior = flow(places=(1, 1), channels=4)
    error = prior.learn(torch.zeros(1, 4), None, draw_of(1))
    assert error.isfinite().all()
    assert prior.eval().draw(np.arange(3), 0, CPU).isfinite().all()
