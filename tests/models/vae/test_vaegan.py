"""The VAE with an adversarial loss: the bound is that of the VAE, and the weights take effect."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gentool.core.errors import UsageError
from gentool.core.images import ImageShape
from gentool.core.rng import Draw
from gentool.models.base import Batch, LossTerms
from gentool.models.vae.model import VAE
from gentool.models.vae.vaegan import VAEGAN

SHAPE = ImageShape(16, 16, 3)
LATE = 1.0  # share of the run at which the game is in


def model(**options: float | int | str) -> VAEGAN:
    """A small one whose weights are the same in every test."""
    config = replace(VAEGAN.Config(width=8, latent_size=8), **options)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VAEGAN(config, SHAPE).eval()


def batch(count: int = 3) -> Batch:
    """Random images."""
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.rand(count, 3, 16, 16, generator=generator) * 2 - 1)


def draw(share: float = LATE, count: int = 3) -> Draw:
    """The randomness of a step."""
    return Draw(0, "vae", np.arange(count), 1, torch.device("cpu"), share)


def loss(of: VAE) -> LossTerms:
    """The first phase's, on the same images and noise."""
    return of.phases()[0].loss(batch(), draw())


def test_without_its_tail_it_is_the_vae() -> None:
    bare = model(features=0.0, adversarial=0.0)
    vae = VAE(VAE.Config(width=8, latent_size=8), SHAPE).eval()
    vae.load_state_dict({k: v for k, v in bare.state_dict().items() if not k.startswith("tail")})
    torch.testing.assert_close(loss(bare).total, loss(vae).total, rtol=0, atol=0)


def test_the_tail_changes_what_is_learned_but_not_the_bound() -> None:
    bare, sharp = loss(model(features=0.0, adversarial=0.0)), loss(model())
    torch.testing.assert_close(sharp.parts["elbo"], bare.parts["elbo"], rtol=0, atol=0)
    assert (sharp.total != bare.total).all()
    assert {"features", "adversarial"} <= set(sharp.parts)


@pytest.mark.parametrize(("pulls", "share"), [((0.7, 0.0), 0.7), ((0.0, 0.4), 0.4)])
def test_slopes_at_the_decoder_s_output_are_a_share_of_the_likelihood_s(
    pulls: tuple[float, float], share: float
) -> None:
    vaegan = model(features=pulls[0], adversarial=pulls[1])
    images = batch().images
    params = vaegan.decoder(torch.zeros(3, 8)).detach().requires_grad_()
    error = -vaegan.likelihood.log_prob(params, images)
    more = vaegan.refine(images, params, error, draw())
    found, whole = (
        torch.autograd.grad(term.sum(), params, retain_graph=True)[0].flatten(1).norm(dim=1)
        for term in (more.total, error)
    )
    torch.testing.assert_close(found, share * whole)


def test_the_critic_judges_reconstructions_by_draws_and_touches_nothing_else() -> None:
    vaegan = model()
    vaegan.requires_grad_(False)
    vaegan.tail.requires_grad_(True)
    terms = vaegan.phases()[1].loss(batch(), draw())
    terms.total.sum().backward()  # type: ignore[no-untyped-call]
    learned = {n for n, p in vaegan.named_parameters() if p.grad is not None}
    assert learned and all(n.startswith("tail.discriminator") for n in learned)
    posterior = vaegan.posterior(batch().images)
    fake = vaegan.decode(posterior.draw(draw().normal("critic", 8)))
    logits = (vaegan.tail.discriminator(images) for images in (batch().images, fake))
    real_mean, fake_mean = (values.mean(dim=1) for values in logits)
    torch.testing.assert_close(terms.parts["margin"], real_mean - fake_mean)


def test_the_discriminator_stays_behind() -> None:
    assert set(model().exported_parts()) == {"encoder", "decoder", "likelihood", "density"}


def test_a_bound_of_several_samples_is_refused() -> None:
    with pytest.raises(UsageError, match=r"one sample\. Use -o samples=1, or train iwae"):
        model(samples=2)
