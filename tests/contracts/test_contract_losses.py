"""Every GAN loss: one value per image, the right sign, and the formula of its paper."""

from collections.abc import Callable

import pytest
import torch

from gentool.models.gan.losses import LOSSES


def _sigmoid(x: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + torch.exp(-x))


def _log(x: torch.Tensor) -> torch.Tensor:
    return torch.log(x)


Formula = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# The formulas as the papers print them, (critic, generator), in float64.
NAIVE: dict[str, tuple[Formula, Formula]] = {
    "minimax": (
        lambda r, f: -(_log(_sigmoid(r)) + _log(1 - _sigmoid(f))),
        lambda r, f: _log(1 - _sigmoid(f)),
    ),
    "non-saturating": (
        lambda r, f: -(_log(_sigmoid(r)) + _log(1 - _sigmoid(f))),
        lambda r, f: -_log(_sigmoid(f)),
    ),
    "least-squares": (
        lambda r, f: ((r - 1) ** 2 + f**2) / 2,
        lambda r, f: (f - 1) ** 2 / 2,
    ),
    "hinge": (
        lambda r, f: torch.maximum(torch.zeros(()), 1 - r) + torch.maximum(torch.zeros(()), 1 + f),
        lambda r, f: -f,
    ),
    "wasserstein": (lambda r, f: f - r, lambda r, f: -f),
    "relativistic": (
        lambda r, f: -_log(_sigmoid(r - f)),
        lambda r, f: -_log(_sigmoid(f - r)),
    ),
}


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of real and fake images, float64."""
    generator = torch.Generator().manual_seed(0)
    real, fake = 2 * torch.randn(2, 64, generator=generator, dtype=torch.float64)
    return real, fake


def test_every_loss_has_its_formula_here() -> None:
    assert set(NAIVE) == set(LOSSES)


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_is_its_papers_formula(name: str, logits: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss, (critic, generator) = LOSSES.get(name), NAIVE[name]
    torch.testing.assert_close(loss.critic(*logits), critic(*logits))
    torch.testing.assert_close(loss.generator(*logits), generator(*logits))


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_is_finite_where_one_side_has_won(name: str) -> None:
    far = torch.tensor([-1e3, 1e3], requires_grad=True)
    for value in (LOSSES.get(name).critic(far, -far), LOSSES.get(name).generator(far, -far)):
        assert value.shape == (2,)
        assert value.isfinite().all()
        (gradient,) = torch.autograd.grad(value.sum(), far)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", list(LOSSES))
def test_each_player_is_pulled_the_right_way(name: str) -> None:
    loss = LOSSES.get(name)
    real, fake = (torch.full((3,), 0.5, requires_grad=True) for _ in range(2))
    on_real, on_fake = torch.autograd.grad(loss.critic(real, fake).sum(), (real, fake))
    assert (on_real < 0).all()  # descending raises the logit of a real image
    assert (on_fake > 0).all()
    (on_fake,) = torch.autograd.grad(loss.generator(real, fake).sum(), fake)
    assert (on_fake < 0).all()


@pytest.mark.parametrize("name", list(LOSSES))
def test_needs_real_is_honest(name: str, logits: tuple[torch.Tensor, torch.Tensor]) -> None:
    real, fake = logits
    loss = LOSSES.get(name)
    same = torch.equal(loss.generator(real, fake), loss.generator(real + 1, fake))
    assert same != loss.needs_real
