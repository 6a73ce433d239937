"""Binarised images: equal in every use of a step, and never grey."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gentool.core.images import ImageShape
from gentool.core.rng import Draw
from gentool.models.base import Batch
from gentool.models.vae.binarisation import inked, inked_batches
from gentool.models.vae.model import VAE

SHAPE = ImageShape(16, 16, 1)
CPU = torch.device("cpu")


def grey(count: int = 6) -> torch.Tensor:
    """Random grey levels."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 1, 16, 16), generator=generator) / 127.5 - 1


def draw(count: int = 6, phase: str = "test") -> Draw:
    """The randomness of a step."""
    return Draw(0, phase, np.arange(count), 1, CPU, 0.25)


def watched(**options: object) -> tuple[VAE, list[torch.Tensor]]:
    """A tiny VAE of ink, and what its encoder is shown from now on."""
    config = replace(
        VAE.Config(width=4, latent_size=6, likelihood="bernoulli", binarise=True),
        **options,  # type: ignore[arg-type]
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VAE(config, SHAPE).eval()
    seen: list[torch.Tensor] = []
    model.encoder.register_forward_pre_hook(lambda net, given: seen.append(given[0].detach()))
    return model, seen


def test_ink_in_the_mean_is_the_image() -> None:
    images = grey(1).expand(4000, -1, -1, -1)
    mean = inked(images, draw(4000)).mean(dim=0)
    assert (mean - images[0]).abs().max() < 5 / 4000**0.5


def test_a_pass_in_any_batches_is_the_same_ink() -> None:
    x, labels = grey(10), torch.arange(10)
    whole = list(inked_batches([Batch(x, labels)], CPU))
    parts = list(inked_batches([Batch(x[:3], labels[:3]), Batch(x[3:], labels[3:])], CPU))
    assert torch.equal(torch.cat([part.images for part in parts]), whole[0].images)
    assert torch.equal(
        torch.cat([part.labels for part in parts if part.labels is not None]), labels
    )


@pytest.mark.parametrize("prior", ["gaussian", "vamp"])
def test_the_encoder_sees_no_grey(prior: str) -> None:
    """In training, in the prior's start and fit, and where evaluate measures the KL."""
    model, seen = watched(prior=prior, components=4)
    model.begin(lambda: iter([Batch(grey())]))
    model.phases()[0].loss(Batch(grey()), draw())
    model.variational.log_prob_bound(grey(), draw(), 2)
    model.variational.posterior_terms(grey(), draw())
    model.finish(lambda: iter([Batch(grey(40))]))
    assert len(seen) >= 4
    for images in seen:
        assert (images.abs() == 1).all()


def test_the_kl_is_of_the_ink_that_the_bound_is_of() -> None:
    model, seen = watched(prior="normal")
    model.variational.log_prob_bound(grey(), draw(), 1)
    _, kls = model.variational.posterior_terms(grey(), draw())
    assert torch.equal(*seen)
    own = model.elbo(seen[0], torch.zeros(6, 6)).parts["kl"]
    torch.testing.assert_close(kls.sum(dim=1), own)


def test_a_prior_is_fitted_to_the_posteriors_of_ink() -> None:
    """Posteriors of ink spread more than those of the greys that it is drawn from."""
    model, _ = watched(prior="gaussian")
    batch = Batch(torch.zeros(200, 1, 16, 16))  # all alike, but for their ink
    model.finish(lambda: iter([batch]))
    first = {k: v.clone() for k, v in model.density.state_dict().items()}
    ink = inked(batch.images, draw(200, "other"))
    means = model.posterior(ink).mean
    noise = model.posterior(ink).log_variance.exp().mean(dim=0)
    spread = means.var(dim=0) + noise
    samples = model.prior(np.arange(20_000), 0)
    torch.testing.assert_close(samples.var(dim=0), spread, rtol=0.1, atol=1e-3)
    torch.testing.assert_close(samples.mean(dim=0), means.mean(dim=0), rtol=0, atol=0.1)
    model.finish(lambda: iter([batch]))
    assert all(torch.equal(first[k], v) for k, v in model.density.state_dict().items())
