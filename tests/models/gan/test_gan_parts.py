"""Parts of a GAN: presets, combinations that are refused, and what is saved."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gentool.core.errors import UsageError
from gentool.core.images import ImageShape
from gentool.core.options import from_json, from_words, idle_options, to_json
from gentool.core.rng import Draw
from gentool.models.augmentation import open_augmentation
from gentool.models.base import Batch
from gentool.models.gan.losses import LOSSES
from gentool.models.gan.model import GAN
from gentool.models.gan.penalties import PENALTIES
from gentool.models.presets import PRESETS
from gentool.networks import PAIRS

CPU = torch.device("cpu")
RGB = ImageShape(16, 16, 3)
GAMES = [name for name, preset in PRESETS.items() if preset.model == "gan"]


def build(classes: int = 0, **options: Any) -> GAN:
    """A tiny GAN."""
    config = from_json(GAN.Config, {"width": 8, "latent_size": 8, **options})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GAN(config, RGB, classes).train()


def play(model: GAN, step: int = 0, labels: torch.Tensor | None = None) -> list[torch.Tensor]:
    """The losses of both turns of a step."""
    generator = torch.Generator().manual_seed(0)
    shape = model.shape
    images = torch.rand(6, shape.channels, shape.height, shape.width, generator=generator) * 2 - 1
    losses = []
    for phase in model.phases():
        model.requires_grad_(False)
        phase.module.requires_grad_(True)
        draw = Draw(0, phase.name, np.arange(6), step, CPU)
        total = phase.loss(Batch(images, labels), draw).total
        total.mean().backward()  # type: ignore[no-untyped-call]
        for name, parameter in phase.module.named_parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), name
        losses.append(total.detach())
    return losses


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("name", GAMES)
def test_every_preset_plays(name: str, classes: int) -> None:
    known = to_json(GAN.Config())
    options = {k: v for k, v in PRESETS[name].cpu.items() if k in known}
    model = build(classes=classes, **{**options, "width": 8})
    labels = torch.tensor([0, 1, 2, 0, 1, 2]) if classes else None
    for step in (0, 1):
        for loss in play(model, step, labels):
            assert loss.shape == (6,)
            assert loss.isfinite().all()
    images = model.eval().decode(model.prior(np.arange(3), 0))
    assert images.shape == (3, 3, 16, 16)
    assert images.abs().max() <= 1


@pytest.mark.parametrize("network", list(PAIRS))
def test_a_blend_of_classes_lies_between_them(network: str) -> None:
    model = build(classes=2, network=network).eval()
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.generator.parameters():  # some begin with all classes equal
            if parameter.ndim and parameter.shape[0] == 2:  # so near that the map is almost linear
                parameter.normal_(std=0.1, generator=chance)
        ends = model.prior(np.arange(4), 0, torch.zeros(4, dtype=torch.int64))
        other = model.prior(np.arange(4), 0, torch.ones(4, dtype=torch.int64))
        first, middle, last = (model.decode(x) for x in (ends, (ends + other) / 2, other))
    assert not torch.allclose(first, last)
    assert (middle - first).norm() < (last - first).norm()


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"penalties": "r1+reconstruction"}, "Use -o network=fast"),
        ({"penalties": "r1+r3"}, "no penalty named 'r3'"),
        ({"augment": "ada+flop"}, "Did you mean 'flip'"),
        ({"network": "styel"}, "Did you mean 'style'"),
        ({"penalties": "r1:x"}, "cannot read 'r1:x'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(options: dict[str, Any], fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        build(**options)


@pytest.mark.parametrize(
    ("options", "name", "fragment"),
    [
        ({"network": "r3", "spectral": True}, "spectral", "r3 has no spectral normalisation"),
        ({"network": "style", "norm": "group"}, "norm", "network is style. Leave it out"),
        ({"network": "r3", "doubling": "transposed"}, "doubling", "network is r3. Leave it out"),
        ({"penalties": "wgan-gp", "penalty": 5.0}, "penalty", "-o penalties=wgan-gp:5"),
        ({"penalties": "r1:0.5", "penalty": 5.0}, "penalty", "without their own weight"),
    ],
)
def test_parts_without_effect_are_known(options: dict[str, Any], name: str, fragment: str) -> None:
    assert fragment in idle_options(from_json(GAN.Config, options))[name]


@pytest.mark.parametrize("words", ["r1+r1", "r1:2+lecam+r1/4"])
def test_a_part_that_stands_twice_is_refused(words: str) -> None:
    with pytest.raises(UsageError, match=r"option penalties .*r1 twice"):
        from_json(GAN.Config, {"penalties": words})


@pytest.mark.parametrize("network", ["dcgan", "resnet", "fast"])
def test_spectral_normalisation_is_on_when_asked_and_only_then(network: str) -> None:
    for spectral in (True, False):
        model = build(network=network, spectral=spectral)
        names = [name for name, _ in model.discriminator.named_parameters()]
        assert any("parametrizations" in name for name in names) == spectral


@pytest.mark.parametrize("name", GAMES)
def test_other_penalties_may_take_the_place_of_any_preset_s(name: str) -> None:
    known = to_json(GAN.Config())
    options: dict[str, Any] = {k: v for k, v in PRESETS[name].cpu.items() if k in known}
    for penalties in ("none", "lecam"):
        play(build(**{**options, "width": 8, "penalties": penalties}))


def test_a_gradient_penalty_does_without_spectral_normalisation() -> None:
    spectral = {name: PRESETS[name].cpu.get("spectral", False) for name in GAMES}
    assert spectral == {name: name in ("sngan", "fastgan") for name in GAMES}


@pytest.mark.parametrize("loss", list(LOSSES))
def test_any_loss_plays_with_any_penalty(loss: str) -> None:
    for penalty in PENALTIES:
        network = {"reconstruction": "fast", "path-length": "style"}.get(penalty, "dcgan")
        for value in play(build(loss=loss, penalties=penalty, network=network)):
            assert value.isfinite().all(), penalty


def test_a_discriminator_that_has_won_or_overfitted_is_told() -> None:
    model = build()
    fine = {"share": 0.5, "d_loss": 0.6, "ada_p": 0.3}
    assert model.advice.health(fine) is None
    assert "too strong" in str(model.advice.health({**fine, "d_loss": 0.03}))
    assert "penalty (now r1:1+r2:1)" in str(model.advice.health({**fine, "d_loss": 0.03}))
    assert model.advice.health({**fine, "d_loss": 0.03, "share": 0.05}) is None
    assert "overfitting" in str(model.advice.health({**fine, "ada_p": 0.8}))
    bare = build(penalties="none", loss="hinge")
    assert bare.advice.health({"share": 0.5, "d_loss": 0.5}) is None
    assert "-o penalties=r1+r2" in str(bare.advice.health({"share": 0.5, "d_loss": 0.05}))
    assert build(loss="wasserstein").advice.health({"share": 0.5, "d_loss": -9.0}) is None


def test_styles_are_mixed_in_training_and_the_noise_is_fresh() -> None:
    model = build(network="style")
    net = model.generator.styled_net()
    draw = Draw(0, "generator", np.arange(400), 0, CPU)
    with torch.no_grad():
        w, images = model.generator.play(draw, None)
        mixed = (w != w[:, :1]).any(dim=2).any(dim=1).float().mean()
        assert mixed.item() == pytest.approx(0.9, abs=0.05)
        torch.testing.assert_close(images, model.generator.synthesise(w))  # noise begins at 0
        for parameter in net.parameters():
            if parameter.ndim == 0:
                parameter.fill_(0.5)
        _, noisy = model.generator.play(draw, None)
        assert not torch.allclose(noisy, model.generator.synthesise(w), atol=1e-3)


def test_no_penalty_is_said_in_two_ways() -> None:
    none, zero = build(penalties="none"), build(penalty=0.0)
    assert torch.equal(play(none)[0], play(zero)[0])
    assert not torch.equal(play(none)[0], play(build())[0])


def test_what_penalties_and_augmentation_remember_is_in_the_state() -> None:
    model = build(penalties="lecam", augment="ada")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for step in range(4):
        play(model, step)
    after = model.state_dict()
    for key in ("penalties.entries.lecam.real_mean.value", "adaptive.overfit"):
        assert not torch.equal(before[key], after[key]), key
    exported = {k for part in model.exported_parts().values() for k in part.state_dict()}
    assert not any("lecam" in k or "adaptive" in k for k in exported)


def test_augmentation_repeats_by_sample_index() -> None:
    model = build(augment="diffaugment", norm="none", penalties="none", loss="hinge")
    images = torch.rand(6, 3, 16, 16)

    def losses(indices: list[int]) -> torch.Tensor:
        draw = Draw(0, "discriminator", np.array(indices), 0, CPU)
        phase = model.phases()[0]
        return phase.loss(Batch(images[indices]), draw).total.detach()

    torch.testing.assert_close(losses([0, 1, 2, 3, 4, 5])[[4, 2]], losses([4, 2]))


def test_words_of_the_command_line_reach_the_parts() -> None:
    words = from_words(GAN.Config, {"spectral": "yes", "critic_steps": "5"}, "gentool list gan")
    model = build(0, **words)
    assert [phase.repeats for phase in model.phases()] == [5, 1, 1]
    assert any("parametrizations" in name for name, _ in model.discriminator.named_parameters())
    assert replace(model.config, spectral=False) != model.config


@pytest.mark.parametrize(
    ("images", "chosen"), [(48, "diffaugment"), (5_000, "ada"), (50_000, "none")]
)
def test_few_images_are_shown_augmented_and_it_is_said(images: int, chosen: str) -> None:
    config, notes = GAN.Config().adapted(images, None)
    assert config.augment == chosen
    assert len(notes) == (chosen != "none")
    assert all(f"{images:,}" in note and chosen in note for note in notes)


def test_an_augmentation_that_was_asked_for_stands() -> None:
    for name in ("none", "flip+crop"):
        config, notes = GAN.Config(augment=name).adapted(48, None)
        assert (config.augment, notes) == (name, [])


def test_gamma_follows_the_variance_and_its_schedule() -> None:
    draw = Draw(0, "discriminator", np.arange(6), 0, CPU)
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def added(share: float, **options: Any) -> torch.Tensor:
        terms = build(**options).phases()[0].loss(Batch(images), replace(draw, share=share))
        return (terms.total - terms.parts["d_loss"]).detach()

    plain = added(0.0, calibrate=False)
    factor = images.var(dim=0, correction=0).sum() / 768
    torch.testing.assert_close(added(0.0), factor * plain)
    torch.testing.assert_close(added(0.9, penalty_end=0.25), 0.25 * factor * plain)
    torch.testing.assert_close(added(0.45, penalty_end=0.0), 0.5 * factor * plain)
    terms = build(penalties="r1:3+r2").phases()[0].loss(Batch(images), draw)
    torch.testing.assert_close(terms.parts["gamma"], (3 * factor).expand(6))  # the log says it
    assert "gamma" not in build(penalties="lecam").phases()[0].loss(Batch(images), draw).parts


def test_ada_leaves_images_alone_until_p_rises() -> None:
    model = build(augment="ada")
    images = torch.zeros(6, 3, 16, 16)
    draw = Draw(0, "discriminator", np.arange(6), 0, CPU)
    assert model.adaptive is not None
    assert model.augmented(images, draw) is None
    model.adaptive.p.fill_(0.5)
    seen = model.augmented(images, draw)
    assert seen is not None
    assert not torch.equal(seen, images)
    assert build(augment="none").augmented(images, draw) is None


class Watched(torch.nn.Module):
    """A discriminator of means that remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.seen: list[torch.Tensor] = []
        self.kinds: list[torch.Tensor | None] = []

    def forward(self, images: torch.Tensor, kinds: torch.Tensor | None = None) -> torch.Tensor:
        """The mean of each image."""
        self.seen.append(images.detach())
        self.kinds.append(kinds)
        return self.weight * images.mean(dim=(1, 2, 3))


def watched(classes: int = 0, **options: Any) -> tuple[GAN, Watched]:
    """A game without penalties, and the discriminator that looks on."""
    model, critic = build(classes, penalties="none", norm="none", **options), Watched()
    model.discriminator = critic
    return model, critic


@pytest.mark.parametrize("loss", ["relativistic", "hinge"])
def test_in_both_turns_reals_and_fakes_are_seen_augmented(loss: str) -> None:
    model, critic = watched(augment="diffaugment", loss=loss)
    augmentation = open_augmentation("diffaugment")
    real = torch.rand(6, 3, 16, 16) * 2 - 1
    draw = Draw(0, "any", np.arange(6), 0, CPU)
    model.phases()[0].loss(Batch(real), draw)
    fake = model.generator.play(draw, None)[1].detach()
    size = augmentation.size
    shown = [
        augmentation(images, draw.uniform(f"augment/{use}", size), 1.0)
        for images, use in ((real, "real"), (fake, "fake"))
    ]
    for seen, wanted in zip(critic.seen, shown, strict=True):
        torch.testing.assert_close(seen, wanted)
    critic.seen.clear()
    model.phases()[1].loss(Batch(real), draw)
    torch.testing.assert_close(critic.seen[0], shown[1])
    for seen in critic.seen[1:]:  # of losses that need the reals again
        torch.testing.assert_close(seen, shown[0])
    assert len(critic.seen) == (2 if loss == "relativistic" else 1)
    assert not torch.allclose(shown[1], fake)


def test_reals_and_fakes_are_judged_under_the_classes_of_the_batch() -> None:
    model, critic = watched(classes=3)
    labels = torch.tensor([0, 1, 2, 2, 1, 1])
    draw = Draw(0, "any", np.arange(6), 0, CPU)
    batch = Batch(torch.rand(6, 3, 16, 16) * 2 - 1, labels)
    model.phases()[0].loss(batch, draw)
    model.phases()[1].loss(batch, draw)
    assert len(critic.kinds) == 4
    for kinds in critic.kinds:
        assert kinds is not None
        assert torch.equal(kinds.argmax(dim=1), labels)


def test_adas_target_in_the_game_is_the_papers() -> None:
    controller = build(augment="ada").adaptive
    assert controller is not None
    reals, fakes = torch.tensor([3.0, 3.0, 3.0, -3.0] * 4), torch.zeros(16)
    for step in range(8):
        controller.update(step, reals, fakes)
    assert controller.overfit == 0.5
    assert controller.p == 0
    for step in range(8, 16):
        controller.update(step, torch.tensor([3.0] * 7 + [-3.0]).repeat(2), fakes)
    assert controller.overfit == 0.75
    assert controller.p > 0


def test_styles_change_over_at_a_layer_that_is_drawn() -> None:
    model = build(network="style")
    draw = Draw(0, "generator", np.arange(400), 0, CPU)
    with torch.no_grad():
        w, _ = model.generator.play(draw, None)
    layers = w.shape[1]
    same = (w == w[:, :1]).all(dim=2)
    places = same.sum(dim=1)[~same.all(dim=1)]  # how many layers keep the first w
    assert set(places.tolist()) == set(range(1, layers))
