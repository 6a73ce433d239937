"""Penalties against loops over images, and lazy regularisation against the full sum."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gentool.core.errors import UnknownName, UsageError
from gentool.core.rng import Draw
from gentool.models.augmentation import open_augmentation
from gentool.models.gan.penalties import PENALTIES, CriticTurn, GeneratorTurn
from gentool.models.gan.penalty_list import Penalties

SHAPE = (2, 16, 16)
BATCH = 3


def _draw(step: int = 0) -> Draw:
    return Draw(0, "critic", np.arange(BATCH), step, torch.device("cpu"))


def _network(outputs: int = 1) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(SHAPE[0], 4, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 7 * 7, outputs)
    )
    return net.double()


def _turn(net: nn.Module, step: int = 0, seed: int = 0) -> CriticTurn:
    """A turn whose images are leaves and whose logits read them."""
    generator = torch.Generator().manual_seed(seed)
    real, fake = torch.randn(2, BATCH, *SHAPE, generator=generator, dtype=torch.float64)
    real.requires_grad_(True)
    fake.requires_grad_(True)

    def critic(
        images: torch.Tensor, labels: torch.Tensor | None, use: str = "other"
    ) -> torch.Tensor:
        logits: torch.Tensor = net(images).squeeze(1)
        return logits if labels is None else logits * (1 + labels)

    return CriticTurn(critic, real, fake, critic(real, None), critic(fake, None), _draw(step))


def _slopes(turn: CriticTurn, points: torch.Tensor) -> torch.Tensor:
    """||grad a|| for each point by itself."""
    out = []
    for row in points.detach():
        leaf = row[None].clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(turn.critic(leaf, turn.labels).sum(), leaf)
        out.append(gradient.pow(2).sum().sqrt())
    return torch.stack(out)


def _naive_r1(turn: CriticTurn) -> torch.Tensor:
    return _slopes(turn, turn.real) ** 2 / 2


def _naive_r2(turn: CriticTurn) -> torch.Tensor:
    return _slopes(turn, turn.fake) ** 2 / 2


def _naive_gp(turn: CriticTurn) -> torch.Tensor:
    shares = turn.draw.uniform("wgan-gp", 1, 1, 1)
    points = [
        e * x + (1 - e) * y
        for e, x, y in zip(shares.flatten().tolist(), turn.real, turn.fake, strict=True)
    ]
    return (_slopes(turn, torch.stack(points)) - 1) ** 2


def _naive_dragan(turn: CriticTurn) -> torch.Tensor:
    noise = turn.draw.normal("dragan", *SHAPE).double()
    points = [
        x + 0.5 * ((x - x.mean()) ** 2).mean().sqrt() * n
        for x, n in zip(turn.real.detach(), noise, strict=True)
    ]
    return (_slopes(turn, torch.stack(points)) - 1) ** 2


def _naive_bcr(turn: CriticTurn) -> torch.Tensor:
    augment = open_augmentation("translation+cutout")
    total = torch.zeros(BATCH, dtype=torch.float64)
    for name, images in (("real", turn.real), ("fake", turn.fake)):
        numbers = turn.draw.uniform(f"bcr/{name}", augment.size)
        for i in range(BATCH):
            one = images[i : i + 1].detach()
            moved = augment(one, numbers[i : i + 1])
            difference = turn.critic(one, None) - turn.critic(moved, None)
            total[i] += difference.detach()[0] ** 2
    return total


NAIVE: dict[str, Callable[[CriticTurn], torch.Tensor]] = {
    "r1": _naive_r1,
    "r2": _naive_r2,
    "wgan-gp": _naive_gp,
    "dragan": _naive_dragan,
    "bcr": _naive_bcr,
}


@pytest.mark.parametrize("name", list(NAIVE))
def test_a_penalty_is_its_formula(name: str) -> None:
    turn = _turn(_network())
    value = PENALTIES.get(name)()(turn)
    assert value.shape == (BATCH,)
    torch.testing.assert_close(value.detach(), NAIVE[name](turn))


@pytest.mark.parametrize("name", list(NAIVE))
def test_the_slope_of_a_penalty_in_the_weights_is_right(name: str) -> None:
    net = _network()

    def value() -> torch.Tensor:
        return PENALTIES.get(name)()(_turn(net)).sum()  # type: ignore[no-any-return]

    weight = next(net.parameters())
    (gradient,) = torch.autograd.grad(value(), weight)
    torch.manual_seed(1)
    direction, step = torch.randn_like(weight), 1e-6
    with torch.no_grad():
        weight.add_(direction, alpha=step)
    above = value().item()
    with torch.no_grad():
        weight.add_(direction, alpha=-2 * step)
    expected = (above - value().item()) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-5)


def test_path_length_is_the_jacobians() -> None:
    torch.manual_seed(0)
    layer, length = nn.Linear(5, 2 * 16 * 16).double(), PENALTIES.get("path-length")()
    mean = 0.0
    for step in range(3):
        latents = torch.randn(BATCH, 5, dtype=torch.float64, requires_grad=True)
        images = layer(latents).tanh().view(BATCH, *SHAPE)
        turn = GeneratorTurn(latents, images, _draw(step))
        noise = turn.draw.normal("path-length", *SHAPE).double()
        lengths = []
        for i in range(BATCH):

            def one(w: torch.Tensor) -> torch.Tensor:
                return layer(w).tanh()  # type: ignore[no-any-return]

            jacobian = torch.autograd.functional.jacobian(one, latents[i].detach())  # type: ignore[no-untyped-call]
            lengths.append((jacobian.T @ noise[i].flatten() / 16).norm().item())
        mean += (float(np.mean(lengths)) - mean) / (step + 1)
        expected = torch.tensor([(x - mean) ** 2 for x in lengths], dtype=torch.float64)
        torch.testing.assert_close(length(turn).detach(), expected, rtol=1e-4, atol=1e-7)


def test_path_length_of_one_w_per_layer_is_the_mean_over_layers() -> None:
    latents = torch.randn(BATCH, 4, 5, requires_grad=True)
    images = (3 * latents).sum(dim=(1, 2))[:, None, None, None].expand(-1, *SHAPE)
    length = PENALTIES.get("path-length")()
    length(GeneratorTurn(latents, images, _draw()))
    noise = _draw().normal("path-length", *SHAPE).flatten(1).sum(dim=1) / 16
    expected = (3 * noise.abs() * 5**0.5).mean()  # each of 4 layers has 5 slopes of 3 y
    torch.testing.assert_close(length.get_buffer("length.value"), expected)


def test_lecam_pulls_towards_the_other_sides_running_mean() -> None:
    net, lecam = _network(), PENALTIES.get("lecam")()
    reals, fakes = [], []
    for step in range(4):
        turn = _turn(net, step, seed=step)
        value = lecam(turn).detach()
        reals.append(turn.real_logits.mean().item())
        fakes.append(turn.fake_logits.mean().item())
        far = (turn.real_logits - float(np.mean(fakes))) ** 2
        expected = far + (turn.fake_logits - float(np.mean(reals))) ** 2
        torch.testing.assert_close(value, expected.detach(), rtol=1e-4, atol=1e-6)
    state = lecam.state_dict()
    assert {key.split(".")[0] for key in state} == {"real_mean", "fake_mean"}
    again = PENALTIES.get("lecam")()
    again.load_state_dict(state)
    turn = _turn(net, 5, seed=5)
    assert torch.equal(again(turn), lecam(turn))


def test_running_means_forget_in_the_end() -> None:
    lecam = PENALTIES.get("lecam")()
    turn = _turn(_network())
    for logit in (0.0, 1.0):
        same = torch.full((BATCH,), logit, dtype=torch.float64)
        for _ in range(1000):
            lecam(replace(turn, real_logits=same, fake_logits=same))
    assert lecam.get_buffer("real_mean.value").item() == pytest.approx(1.0, abs=1e-3)


def test_reconstruction_is_the_decoders_mean_absolute_error() -> None:
    turn = _turn(_network())
    entry = PENALTIES.get("reconstruction")()
    with pytest.raises(ValueError, match="needs a discriminator with decoders"):
        entry(turn)
    seen = []

    def decode(
        images: torch.Tensor, quadrants: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        seen.append(quadrants)
        return ((images + 1, images), (images - 0.5, images))

    value = entry(replace(turn, reconstruct=decode))
    torch.testing.assert_close(value, torch.full((BATCH,), 1.5))
    assert seen[0].shape == (BATCH,)
    assert ((seen[0] >= 0) & (seen[0] < 4)).all()


def test_labels_reach_the_critic() -> None:
    net = _network()
    turn = replace(_turn(net), labels=torch.tensor([0, 1, 2]))
    bare = _slopes(_turn(net), turn.real)
    assert torch.allclose(_slopes(replace(turn, labels=torch.tensor([1])), turn.real), 2 * bare)
    value = PENALTIES.get("wgan-gp")()(turn)
    share = turn.draw.uniform("wgan-gp", 1, 1, 1).double()
    between = share * turn.real + (1 - share) * turn.fake
    expected = (torch.tensor([1, 2, 3]) * _slopes(_turn(net), between) - 1) ** 2
    torch.testing.assert_close(value.detach(), expected)


# --- several at once ------------------------------------------------------------------------


def test_several_share_the_logits_and_sum_with_their_weights() -> None:
    net = _network()
    turn = _turn(net)
    several = Penalties("r1+r2+wgan-gp", weights={"r1": 2.0, "r2": 3.0})
    assert several.leaves(0) == {"real", "fake"}
    terms = several(turn)
    alone = {name: NAIVE[name](turn) for name in ("r1", "r2", "wgan-gp")}
    torch.testing.assert_close(
        terms.total.detach(), 2 * alone["r1"] + 3 * alone["r2"] + 10 * alone["wgan-gp"]
    )
    assert list(terms.parts) == list(alone)
    # The logits' graph is still whole: the loss itself goes back through it afterwards.
    (turn.real_logits.sum() + terms.total.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_consistency_sees_both_sides_augmented_alike() -> None:
    """Under the augmentation of the real images, say, T alone may make a difference."""
    turn = _turn(_network())
    seen: list[str] = []

    def critic(
        images: torch.Tensor, labels: torch.Tensor | None, use: str = "other"
    ) -> torch.Tensor:
        seen.append(use)
        return turn.critic(images, labels)

    PENALTIES.get("bcr")()(replace(turn, critic=critic))
    assert seen == ["real", "fake"]


@pytest.mark.parametrize("name", ["r1", "r2", "wgan-gp", "dragan", "bcr"])
def test_a_lazy_period_sums_to_the_eager_one(name: str) -> None:
    net, period = _network(), 4
    eager = Penalties(name, every={name: 1}, weights={name: 0.7})
    lazy = Penalties(name, every={name: period}, weights={name: 0.7})

    def total(penalties: Penalties) -> torch.Tensor:
        # The same batch throughout, so that the two sums can be compared to the last digit.
        turn = _turn(net)
        values = [
            penalties(replace(turn, draw=replace(_draw(), step=step))).total
            for step in range(2 * period)
        ]
        return torch.stack(values).sum(dim=0)

    torch.testing.assert_close(total(lazy), total(eager))


@pytest.mark.parametrize("name", ["lecam", "reconstruction"])
def test_those_with_a_memory_or_decoders_are_lazy_as_well(name: str) -> None:
    turn = replace(_turn(_network()), reconstruct=lambda x, _: ((x + 1, x),))
    eager, lazy = (Penalties(name, every={name: every}) for every in (1, 4))
    for step in range(8):  # the same turn throughout, so that the running means stand
        now = replace(turn, draw=_draw(step))
        due, value = lazy(now).total, eager(now).total
        expected = 4 * value if step % 4 == 0 else torch.zeros_like(value)
        torch.testing.assert_close(due, expected, check_dtype=False)


def test_path_length_is_lazy_in_the_generators_turn() -> None:
    torch.manual_seed(0)
    latents = torch.randn(BATCH, 4, requires_grad=True)
    images = latents.square().sum(dim=1)[:, None, None, None].expand(-1, *SHAPE)
    lazy = Penalties("path-length")
    entry = PENALTIES.get("path-length")
    for step in range(5):
        found = lazy(GeneratorTurn(latents, images, _draw(step)))
        assert ("path-length" in found.parts) == (step % entry.every == 0)
        if step == 0:
            value = entry()(GeneratorTurn(latents, images, _draw(step)))
            torch.testing.assert_close(found.total, entry.weight * entry.every * value)


def test_weights_and_intervals_stand_in_the_names() -> None:
    several = Penalties("r1:0.5/16+wgan-gp:5+lecam/2+r2", {"r1": 9.0, "r2": 3.0}, {"r2": 8})
    assert several.weights == {"r1": 0.5, "wgan-gp": 5.0, "lecam": 0.3, "r2": 3.0}
    assert several.every == {"r1": 16, "wgan-gp": 1, "lecam": 2, "r2": 8}
    assert not Penalties("r1:0").weights


@pytest.mark.parametrize("word", ["r1:x", "r1:", "r1/0", "r1/1.5", "r1:-1", "r1:nan", "r1/2000"])
def test_a_weight_that_cannot_be_read_is_told(word: str) -> None:
    with pytest.raises(UsageError, match="write name:weight/every"):
        Penalties(word)


def test_lazy_penalties_ask_for_leaves_only_when_due() -> None:
    lazy = Penalties("r1+r2+path-length", every={"r1": 8, "r2": 4})
    assert lazy.leaves(0) == {"real", "fake"}
    assert lazy.leaves(4) == {"fake"}
    assert lazy.leaves(3) == frozenset()
    assert lazy.leaves(4, of_generator=True) == {"latents"}
    assert lazy.due(0) == ("r1", "r2")
    assert lazy.due(0, of_generator=True) == ("path-length",)
    turn = replace(_turn(_network()), draw=_draw(3))
    terms = lazy(turn)
    assert not terms.total.any()
    assert not terms.parts


def test_none_and_weight_zero_are_no_penalty() -> None:
    for penalties in (Penalties(""), Penalties("none"), Penalties("r1", weights={"r1": 0.0})):
        assert penalties.due(0) == ()
        assert not penalties(_turn(_network())).total.any()


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'lecam'"):
        Penalties("r1+leccam")
