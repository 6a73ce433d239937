"""The adversarial loss of reconstructions: its weights, its ramp and both losses."""

from typing import Any

import numpy as np
import pytest
import torch

from gentool.core.images import ImageShape
from gentool.core.rng import Draw
from gentool.models.vae.reconstruction_critic import Pulls, Tail, relative_distance, slope_at

CPU = torch.device("cpu")
SHAPE = ImageShape(16, 16, 3)
WITH_THE_GAME = 1.0  # progress at which the ramp is over


def tail(features: float = 1.0, adversarial: float = 0.5, gamma: float = 1.0) -> Tail:
    """A small tail whose weights are the same in every test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tail(SHAPE, 4, "hinge", gamma, Pulls(features, adversarial))


def pictures(count: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, reconstructions with graph, and their mean |difference| per image."""
    generator = torch.Generator().manual_seed(0)
    real, noise = torch.rand(2, count, 3, 16, 16, generator=generator) * 2 - 1
    fake = (real + 0.1 * noise).requires_grad_()
    return real, fake, (fake - real).abs().mean(dim=(1, 2, 3))


def slopes(total: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Norms of the gradient at each image's pixels."""
    (gradient,) = torch.autograd.grad(total.sum(), fake, retain_graph=True)
    norms: torch.Tensor = gradient.flatten(1).norm(dim=1)
    return norms


@pytest.mark.parametrize(
    ("pulls", "share"), [((0.7, 0.0), 0.7), ((0.0, 0.4), 0.4), ((2.0, 0.0), 2.0)]
)
def test_a_term_pulls_as_hard_as_it_was_told_beside_the_pixels(
    pulls: tuple[float, float], share: float
) -> None:
    real, fake, error = pictures()
    more = tail(*pulls).sharpen(real, fake, error, WITH_THE_GAME)
    torch.testing.assert_close(slopes(more.total, fake), share * slopes(error, fake))


def test_the_game_comes_in_along_a_ramp() -> None:
    real, fake, error = pictures()
    full = slopes(error, fake)
    for progress, share in ((0.3125, 0.25), (0.375, 0.5), (0.5, 1.0), (0.9, 1.0)):
        found = tail(0.0, 1.0).sharpen(real, fake, error, progress).total
        torch.testing.assert_close(slopes(found, fake), share * full)
    assert not tail(0.0, 1.0).sharpen(real, fake, error, 0.2).total.any()


def test_each_image_is_weighted_by_itself() -> None:
    real, fake, error = pictures()
    whole = tail().sharpen(real, fake, error, WITH_THE_GAME).total
    first = fake[:1].detach().requires_grad_()
    alone = (
        tail()
        .sharpen(real[:1], first, (first - real[:1]).abs().mean(dim=(1, 2, 3)), WITH_THE_GAME)
        .total
    )
    torch.testing.assert_close(whole[:1], alone)


def test_the_weights_of_the_terms_are_numbers_and_what_is_logged_has_no_graph() -> None:
    real, fake, error = pictures()
    assert slope_at(error, fake).grad_fn is None
    more = tail().sharpen(real, fake, error, WITH_THE_GAME)
    assert {k: v.requires_grad for k, v in more.parts.items()} == {
        "features": False, "adversarial": False,
    }  # fmt: skip


def test_the_distance_of_features_is_relative() -> None:
    a, b = torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([[2.0, 2.0], [0.0, 4.0]])
    assert relative_distance(a, b).tolist() == pytest.approx([0.5, 1.0])
    assert relative_distance(7 * a, 7 * b).tolist() == pytest.approx([0.5, 1.0])


def critic_parts(step: int, **options: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The discriminator's loss in a step."""
    real, fake, _ = pictures()
    terms = tail(**options).critic_loss(real, fake, Draw(0, "d", np.arange(3), step, CPU))
    return terms.total, terms.parts


def test_the_critic_s_loss_is_the_game_s_mean_over_patches() -> None:
    real, fake, _ = pictures()
    net = tail().discriminator
    hinge = torch.relu(1 - net(real)) + torch.relu(1 + net(fake))
    total, parts = critic_parts(1)
    torch.testing.assert_close(total, hinge.mean(dim=1))
    torch.testing.assert_close(parts["margin"], (net(real) - net(fake)).mean(dim=1))


def test_penalties_come_every_eighth_step_and_not_at_all_without_weight() -> None:
    assert [set(critic_parts(s)[1]) >= {"r1", "r2"} for s in (0, 1, 7, 8)] == [
        True, False, False, True,
    ]  # fmt: skip
    with_penalties, without = critic_parts(0)[0], critic_parts(0, gamma=0.0)[0]
    assert (with_penalties > without).all()
