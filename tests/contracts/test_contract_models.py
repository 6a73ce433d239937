"""Every model keeps the contract of ``models/base.py``."""

import copy
import pickle
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gentool.checkpoint import exported_tensors, load_model, model_header, write_file
from gentool.core.errors import NoEncoder, NoStyles, UsageError
from gentool.core.images import ImageShape
from gentool.core.options import from_json, to_json
from gentool.core.rng import Draw
from gentool.inference.blocks import decode_blocks, encode_blocks, prior_blocks
from gentool.inference.sampling import sample_images
from gentool.models import MODELS
from gentool.models.base import Batch, Model
from gentool.models.capabilities import required_styles
from gentool.models.presets import PRESETS
from gentool.training.ema import averaged_copy

SHAPES = [ImageShape(16, 16, 3), ImageShape(20, 36, 1), ImageShape(16, 24, 4)]
CPU = torch.device("cpu")


def build(
    name: str, shape: ImageShape = SHAPES[0], *, classes: int = 0, **options: object
) -> Model:
    """A tiny model with reproducible weights, conditional on the classes where it can be."""
    model_class = MODELS.get(name)
    config = from_json(model_class.Config, {"width": 8, "latent_size": 8, **options})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        known = 0 if config.why_unconditional(classes) else classes
        return model_class(config, shape, known)


def images(shape: ImageShape, count: int = 6) -> torch.Tensor:
    """Random grey levels in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    size = (count, shape.channels, shape.height, shape.width)
    return torch.randint(256, size, generator=generator) / 127.5 - 1


def draw(count: int = 6, step: int = 0) -> Draw:
    """The randomness of one step of sixteen."""
    return Draw(0, "test", np.arange(count), step, CPU, step / 16)


@pytest.fixture(params=list(MODELS))
def name(request: pytest.FixtureRequest) -> str:
    """Each model's name in turn."""
    return str(request.param)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_decoded_images_have_the_shape_and_stay_in_range(name: str, shape: ImageShape) -> None:
    model = build(name, shape).eval()
    decoded = model.decode(model.prior(np.arange(5), seed=0))
    assert decoded.shape == (5, shape.channels, shape.height, shape.width)
    assert decoded.abs().max() <= 1


def test_a_row_of_the_prior_depends_on_seed_and_index_alone(name: str) -> None:
    model = build(name)
    together = prior_blocks(model, [(3, 0), (3, 7), (4, 7), (3, 2)])
    for k, pair in enumerate([(3, 0), (3, 7), (4, 7), (3, 2)]):
        assert torch.equal(prior_blocks(model, [pair])[0], together[k])
    assert len({tuple(row.flatten().tolist()) for row in together}) == 4


def test_the_averages_say_what_helps_against_a_collapse(name: str) -> None:
    """They are scored, and have fewer parts than the model that learns."""
    live = build(name)
    assert averaged_copy(live).advice.against_collapse == live.advice.against_collapse


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_latents_of_images_decode_to_images(name: str, shape: ImageShape) -> None:
    model = build(name, shape).eval()
    try:
        latents = model.encode(images(shape))
    except NoEncoder:
        return
    assert latents.shape == model.prior(np.arange(6), seed=0).shape
    assert model.decode(latents).shape == images(shape).shape


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_phase_has_one_loss_per_image_and_trains_its_module_alone(
    name: str, shape: ImageShape
) -> None:
    model = build(name, shape).train()
    for phase in model.phases():
        model.requires_grad_(False)
        phase.module.requires_grad_(True)
        terms = phase.loss(Batch(images(shape)), draw())
        assert terms.total.shape == (6,)
        assert all(part.shape == (6,) for part in terms.parts.values())
        terms.total.mean().backward()  # type: ignore[no-untyped-call]
        own = set(phase.module.parameters())
        for parameter in model.parameters():
            assert (parameter.grad is not None) == (parameter in own)
            parameter.grad = None


# What stands beside a model's own defaults where a batch is said twice.
SAID_TWICE: list[tuple[str, dict[str, Any]]] = [
    *((name, {"norm": "group"} if name == "gan" else {}) for name in MODELS),  # not by the batch
    ("fsq", {"quantiser": "vq", "codes": 128}),
    ("vae", {"prior": "latent-flow", "grid": 4}),
    ("vae", {"prior": "vamp"}),
]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("model_name", "options"), SAID_TWICE, ids=str)
def test_a_batch_said_twice_has_the_same_loss_and_log(
    model_name: str, options: dict[str, Any], training: bool
) -> None:
    """Two models alike, for training changes running statistics."""
    x, indices = images(SHAPES[0]), np.arange(6)
    turns = [(x, indices), (torch.cat([x, x]), np.concatenate([indices, indices]))]
    models = [build(model_name, **options).train(training) for _ in turns]
    for model in models:
        model.begin(lambda: iter([Batch(x)]))
    for phases in zip(*(model.phases() for model in models), strict=True):
        once, twice = (
            phase.loss(Batch(some), Draw(0, "test", numbers, 0, CPU, 0.5))
            for phase, (some, numbers) in zip(phases, turns, strict=True)
        )
        close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)
        close(twice.total, once.total.repeat(2))
        assert twice.parts.keys() == once.parts.keys()
        for part, values in once.parts.items():
            close(twice.parts[part].mean(), values.mean(), msg=part)


def _presets() -> Iterator[tuple[str, dict[str, Any]]]:
    """The models of all presets with their options, those of their size aside."""
    for preset in PRESETS.values():
        own = {field.name for field in fields(MODELS.get(preset.model).Config)}
        own -= {"width", "latent_size"}
        yield preset.model, {k: v for k, v in preset.cpu.items() if k in own}
    yield "vae", {"prior": "latent-flow", "grid": 4}


@pytest.mark.parametrize("step", [0, 1], ids=["penalties", "without"])
@pytest.mark.parametrize(
    ("model_name", "options"), list(_presets()), ids=[*PRESETS, "vae with a latent flow"]
)
def test_the_loss_of_an_image_does_not_depend_on_its_place_in_the_batch(
    model_name: str, options: dict[str, Any], step: int
) -> None:
    """Images, classes and numbers change places together, and all losses and parts with them."""
    x, labels, order = images(SHAPES[0]), torch.tensor([0, 1, 1, 0, 1, 0]), [3, 5, 0, 4, 2, 1]
    models = [build(model_name, classes=2, **options).train() for _ in range(2)]
    for model in models:
        model.begin(lambda: iter([Batch(x, labels)]))
    for phases in zip(*(model.phases() for model in models), strict=True):
        plain, moved = (
            phase.loss(
                Batch(x[rows], labels[rows]), Draw(0, "test", np.array(rows), step, CPU, 0.5)
            )
            for phase, rows in zip(phases, (list(range(6)), order), strict=True)
        )
        close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)
        close(moved.total, plain.total[order])
        assert moved.parts.keys() == plain.parts.keys()
        for part, values in plain.parts.items():
            close(moved.parts[part], values[order], msg=part)


def test_a_saved_model_makes_the_same_images(name: str, tmp_path: Path) -> None:
    model = build(name).eval()
    model.finish(lambda: iter([Batch(images(SHAPES[0], 40))]))
    header = model_header(name, model, (), {})
    write_file(tmp_path / "any.name", exported_tensors(model), header)
    loaded = load_model(tmp_path / "any.name").model
    pairs = [(1, k) for k in range(5)]
    before = decode_blocks(model, prior_blocks(model, pairs))
    np.testing.assert_array_equal(before, decode_blocks(loaded, prior_blocks(loaded, pairs)))
    assert {n for n, _ in loaded.named_children()} == set(model.exported)
    assert not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize(
    ("model_name", "options"), list(_presets()), ids=[*PRESETS, "vae with a latent flow"]
)
def test_an_opened_model_can_be_pickled_and_copied(
    model_name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    """For a pool of processes, for one; the copies draw the same images."""
    model = build(model_name, classes=2, **options).eval()
    model.finish(lambda: iter([Batch(images(SHAPES[0], 40), torch.arange(40) % 2)]))
    header = model_header(model_name, model, ("a", "b"), {})
    write_file(tmp_path / "model", exported_tensors(model), header)
    loaded = load_model(tmp_path / "model")
    expected = sample_images(loaded, 3, seed=1)
    for copied in (pickle.loads(pickle.dumps(loaded)), copy.deepcopy(loaded)):
        np.testing.assert_array_equal(sample_images(copied, 3, seed=1), expected)
    both = pickle.loads(pickle.dumps(loaded.model)), copy.deepcopy(loaded.model)
    latents = prior_blocks(loaded.model, [(1, k) for k in range(3)])
    for other in both:
        np.testing.assert_array_equal(decode_blocks(other, latents), expected)


def test_a_model_that_learns_can_be_pickled_whatever_it_is_made_of(name: str) -> None:
    """Every entry of every table that its options name."""
    for option, value in _variants(name):
        choices = {f.name: f.metadata["choices"] for f in fields(MODELS.get(name).Config)}
        if choices[option] is not None:
            beside: dict[str, Any] = BESIDE.get((option, value), {})
            model = build(name, **{**beside, option: value})
            assert pickle.loads(pickle.dumps(model)).config == model.config


def test_no_latents_are_decoded_to_no_images(name: str) -> None:
    model = build(name, SHAPES[1]).eval()
    latents = prior_blocks(model, [])
    assert latents.shape == (0, *prior_blocks(model, [(0, 0)]).shape[1:])
    pixels = decode_blocks(model, latents)
    assert pixels.shape == (0, 20, 36, 1) and pixels.dtype == np.uint8
    try:
        assert encode_blocks(model, pixels).shape == latents.shape
    except NoEncoder:
        return


def test_no_image_depends_on_its_neighbours(name: str) -> None:
    model = build(name).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)
    pairs = [(0, k) for k in range(70)]
    latents = prior_blocks(model, pairs)
    decoded = decode_blocks(model, latents)
    for k in (0, 33, 69):
        np.testing.assert_array_equal(decode_blocks(model, latents[k : k + 1])[0], decoded[k])
    try:
        codes = encode_blocks(model, pixels)
    except NoEncoder:
        return
    assert torch.equal(encode_blocks(model, pixels[65:66])[0], codes[65])


def test_a_config_goes_through_json_and_back(name: str) -> None:
    config = MODELS.get(name).Config()
    assert from_json(MODELS.get(name).Config, to_json(config)) == config
    for field in fields(config):
        assert field.metadata["meaning"]


# Choices that a model refuses by itself; see test_gan_parts, test_regularisers and test_vaegan.
# And what needs other images than these: test_hvae.
REFUSED = {("gan", "reconstruction"), ("autoencoder", "tc"), ("vae-gan", "samples"),
           ("hvae", "bernoulli")}  # fmt: skip


def _variants(name: str) -> Iterator[tuple[str, object]]:
    """Another value for every option of a model."""
    for field in fields(MODELS.get(name).Config):
        choices = field.metadata["choices"]
        if choices is not None:
            others = [c for c in choices if c != field.default and (name, c) not in REFUSED]
            yield from ((field.name, c) for c in others)
        elif field.name == "width":
            yield field.name, 16
        elif isinstance(field.default, bool):
            yield field.name, not field.default
        elif field.name != "ema_images" and (name, field.name) not in REFUSED:
            # ema_images is the loop's; its effect is tested with the loop
            default: Any = field.default
            yield field.name, type(default)(default * 2) or type(default)(0.5) or 3


# What an option needs beside it to mean anything; without, it is refused (test_vae_options.py).
BESIDE: dict[tuple[str, object], dict[str, object]] = {
    ("likelihood", "gaussian"): {"likelihood": "laplace"},  # it is what auto stands for here,
    ("likelihood", "logistic-mixture"): {"likelihood": "laplace"},  # or this
    ("likelihood", "bernoulli"): {"binarise": True},
    ("strength", 2.0): {"regularisers": "code-l2"},
    ("grid", 2): {"latent_size": 6},  # or a Gaussian of so many latents takes its time
    ("dense_layers", 2): {"hidden": 16},
    ("activation", "tanh"): {"hidden": 16},
    ("prior_share", 0.8): {"prior": "latent-flow"},  # of a vae
    ("prior_width", 256): {"prior": "latent-flow"},
}
ALL_VARIANTS = [(n, *v) for n in MODELS for v in _variants(n)]


@cache
def _fingerprint(model_name: str, **options: Any) -> list[object]:
    """Parameters, losses and output of a model, computed once."""
    model_class = MODELS.get(model_name)
    config = replace(model_class.Config(width=8), **options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config, SHAPES[0]).train()
    shapes = [tuple(p.shape) for p in model.parameters()]
    losses = [
        phase.loss(Batch(images(SHAPES[0])), draw(step=step)).total.tolist()
        for phase in model.phases()
        for step in (1, 8)
    ]
    model.eval().finish(lambda: iter([Batch(images(SHAPES[0], 64))]))
    turns = [(p.betas, p.repeats, p.span, p.skip_over) for p in model.phases()]
    prior = model.prior(np.arange(40), seed=0).tolist()
    return [shapes, list(model.state_dict()), turns, losses, prior]


@pytest.mark.parametrize(("model_name", "option", "value"), ALL_VARIANTS)
def test_every_option_changes_the_parameters_the_loss_or_the_output(
    model_name: str, option: str, value: object
) -> None:
    has = {field.name for field in fields(MODELS.get(model_name).Config)}
    beside = {k: v for k, v in BESIDE.get((option, value), {}).items() if k in has}
    before = _fingerprint(model_name, **beside)
    assert before != _fingerprint.__wrapped__(model_name, **{**beside, option: value})


def test_an_unknown_way_to_draw_is_refused(name: str) -> None:
    model = build(name)
    with pytest.raises(UsageError, match="--no-such-dial"):
        model.draw_with(no_such_dial=1.0)


def _styled_and_not() -> Iterator[tuple[str, dict[str, object]]]:
    """Every model, and with styles those that can have them."""
    for model_name in MODELS:
        yield model_name, {}
        if "network" in {f.name for f in fields(MODELS.get(model_name).Config)}:
            yield model_name, {"network": "style"}


@pytest.mark.parametrize(("model_name", "options"), list(_styled_and_not()))
def test_styles_are_said_or_refused_and_directions_are_unit_vectors_of_them(
    model_name: str, options: dict[str, Any]
) -> None:
    model = build(model_name, **options).eval()
    latents = model.prior(np.arange(3), seed=0)
    size = latents.shape[1] - model.classes
    if model.styles:
        styles = model.styles.of(latents)
        size = styles.shape[2]
        torch.testing.assert_close(model.styles.synthesise(styles), model.decode(latents))
    else:
        with pytest.raises(NoStyles):
            required_styles(model.styles)
    for find in model.directions().values():
        vectors = find(3)
        assert vectors.shape == (3, size)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3).to(vectors))
