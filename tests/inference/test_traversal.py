"""Traversals: the middle is the start, the ends have the given distance, classes stay."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SIDE, gentool_command
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode

from gentool.checkpoint import LoadedModel
from gentool.core.errors import UnknownName, UsageError
from gentool.core.images import ImageShape
from gentool.core.options import from_json
from gentool.inference.latents import Latents, decode, draw, natural_space, to_styles
from gentool.inference.traversal import (
    Directions,
    find_directions,
    label_sheet,
    plan_traversal,
    traverse,
)
from gentool.models import MODELS
from gentool.models.capabilities import required_styles
from gentool.models.gan.model import GAN
from gentool.models.vae.model import VAE
from gentool.networks import PAIRS
from gentool.networks.stylegan2 import ModulatedConvolution
from gentool.outputs.plan import runs


def build(network: str = "dcgan", classes: int = 0) -> GAN:
    """A tiny untrained GAN."""
    config = from_json(
        GAN.Config, {"width": 8, "latent_size": 6, "network": network, "encoder_share": 0.0}
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GAN(config, ImageShape(16, 16, 3), classes).eval().requires_grad_(False)


def loaded(model: GAN) -> LoadedModel:
    """As if it came from a file."""
    return LoadedModel(model, {"model": "gan", "classes": ["a", "b"]}, "0" * 64, Path("x"))


def points(model: GAN, seeds: range) -> Latents:
    """Image 0 of each seed, in the model's natural space."""
    drawn = draw(model, [(seed, 0) for seed in seeds])
    return to_styles(model, drawn) if natural_space(model) == "w" else drawn


@torch.no_grad()
def deafen(model: GAN, vector: torch.Tensor) -> None:
    """Take a direction out of the weights of every layer where w, or else z, comes in."""
    entries: list[torch.Tensor]
    if model.styles:
        entries = [m.style.weight for m in model.modules() if isinstance(m, ModulatedConvolution)]
    else:
        first = next(m for m in model.generator.modules() if isinstance(m, nn.Linear))
        name = "parametrizations.weight.original" if is_parametrized(first) else "weight"
        entries = [first.get_parameter(name)[:, :6]]
    for weight in entries:
        weight.sub_((weight.double() @ vector[:, None] @ vector[None]).float())


@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("network", PAIRS)
def test_sefa_looks_at_every_layer_where_z_or_w_comes_in_and_at_no_other(
    network: str, classes: int
) -> None:
    model = build(network, classes)
    vectors = model.directions()["sefa"](6)
    deafen(model, vectors[2])
    left = model.directions()["sefa"](6)
    assert len(left) == 5  # no layer answers to the sixth any more
    torch.testing.assert_close(left @ vectors[2], torch.zeros(5).double(), atol=1e-5, rtol=0)
    start = points(model, range(1)).values
    change = []
    for vector in (vectors[2], left[0]):
        moved = start.clone()
        moved[..., :6] += vector.float()
        both = torch.cat([start, moved])
        images = model.styles.synthesise(both) if model.styles else model.decode(both)
        change.append(float((images[1] - images[0]).abs().max()))
    assert change[0] < 1e-5
    assert change[1] > 1e-4


@pytest.mark.parametrize("method", ["principal", "sefa"])
@pytest.mark.parametrize(("network", "classes"), [("dcgan", 2), ("style", 0)])
def test_directions_are_the_same_every_time_and_as_many_as_there_can_be(
    network: str, classes: int, method: str
) -> None:
    model = build(network, classes)
    found = find_directions(model, method, 100)
    assert found.vectors.shape == (6, 6)
    torch.testing.assert_close(found.vectors.norm(dim=1), torch.ones(6))
    assert found.space == ("w" if network == "style" else "z")
    few = find_directions(model, method, 2)
    torch.testing.assert_close(few.vectors, found.vectors[:2], atol=1e-4, rtol=0)


def test_principal_directions_of_w_are_numpys_and_blind_to_the_classes() -> None:
    model = build("style", classes=2)
    found = find_directions(model, "principal", 3)
    w = []
    for kind in range(2):
        label = torch.full((4096,), kind)
        styles = required_styles(model.styles).of(model.prior(np.arange(4096), 0, label))
        rows = styles[:, 0].double().numpy()
        w.append(rows - rows.mean(axis=0))
    own = model.prior(np.arange(4096), 0)[:, -2:].argmax(dim=1).numpy()
    drawn = np.concatenate([w[kind][own == kind] for kind in range(2)])
    values, vectors = np.linalg.eigh(np.cov(drawn.T))
    products = np.abs((found.vectors.numpy() * vectors.T[::-1][:3]).sum(axis=1))
    np.testing.assert_allclose(products, 1, atol=1e-3)
    np.testing.assert_allclose(found.deviations, np.sqrt(values[::-1][:3]), rtol=2e-2)


def test_steps_of_z_are_in_deviations_of_the_prior() -> None:
    found = find_directions(build(), "sefa", 6)
    torch.testing.assert_close(found.deviations, torch.ones(6), atol=0.05, rtol=0)


@pytest.mark.parametrize(("network", "classes"), [("dcgan", 2), ("style", 0)])
def test_the_middle_of_a_row_is_the_start_and_the_ends_are_as_far_as_they_say(
    network: str, classes: int
) -> None:
    model = build(network, classes)
    found = find_directions(model, "principal", 3)
    start = points(model, range(5, 6))
    images = list(traverse(loaded(model), start, found, 5, 3.0))
    plan = list(plan_traversal(loaded(model), found, 5, 3.0, "seed5").results())
    assert [result.name for result in plan[4:7]] == [
        "seed5-direction000-004", "seed5-direction001-000", "seed5-direction001-001",
    ]  # fmt: skip
    begin = decode(model, start)[0]
    for k in range(3):
        np.testing.assert_array_equal(images[5 * k + 2], begin)
    end = start.values.clone()
    end[..., :6] -= 3 * found.deviations[1] * found.vectors[1]
    apart = np.abs(images[5].astype(int) - decode(model, Latents(end, start.space))[0])
    assert apart.max() <= 1  # rounded on another way to the same point
    assert plan[5].recipe["deviations"] == -3
    assert not np.array_equal(images[5], begin)


def test_directions_that_a_model_does_not_have_are_refused() -> None:
    with pytest.raises(
        UnknownName, match=r"no kind of directions named 'sefaa'\. Did you mean 'se"
    ):
        find_directions(build(), "sefaa", 2)
    silent = build()
    for weight in silent.generator.parameters():
        weight.zero_()
    for method in ("principal", "sefa"):
        with pytest.raises(UsageError, match="no direction changes them"):
            find_directions(silent, method, 2)


def test_units_are_those_that_the_encoder_uses_the_most_used_first() -> None:
    config = from_json(VAE.Config, {"width": 4, "latent_size": 6, "prior": "normal"})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VAE(config, ImageShape(16, 16, 3)).eval().requires_grad_(False)
    weight = model.encoder.head.weight
    weight.normal_(generator=torch.Generator().manual_seed(0)).mul_(0.01)
    for unit, factor in enumerate((0.0, 3.0, 0.0, 1.0, 10.0, 0.0)):  # units 0, 2, 5 stay idle
        weight[unit] *= factor
    weight[:6] *= 100
    found = find_directions(model, "units", 100)
    assert found.vectors.argmax(dim=1).tolist() == [4, 1, 3]
    assert torch.equal(found.vectors.sum(dim=1), torch.ones(3))
    assert found.space == "z"
    assert find_directions(model, "units", 1).vectors.argmax() == 4


class SinglePrecision(TorchFunctionMode):
    """As on a device without float64: only what was brought to the CPU may become double."""

    def __init__(self) -> None:
        super().__init__()
        self.brought: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do it, if that device could."""
        kwargs = kwargs or {}
        if func is torch.Tensor.double:
            assert any(args[0] is tensor for tensor in self.brought)
        assert not (kwargs.get("dtype") is torch.float64 and kwargs.get("device") is not None)
        made = func(*args, **kwargs)
        if func is torch.Tensor.cpu:
            self.brought.append(made)
        return made


@pytest.mark.parametrize(
    ("network", "method"),
    [("dcgan", "principal"), ("dcgan", "sefa"), ("style", "principal"), ("style", "sefa")],
)
def test_directions_need_no_float64_where_the_model_is(network: str, method: str) -> None:
    with SinglePrecision():
        find_directions(build(network), method, 2)


def test_units_need_no_float64_where_the_model_is() -> None:
    model = VAE(VAE.Config(width=4, latent_size=6, prior="normal"), ImageShape(16, 16, 3)).eval()
    with SinglePrecision(), torch.no_grad():
        assert model.directions()["units"](2).dtype == torch.float64


class Tokens(GAN):
    """Latents that are numbers of things."""

    def prior(
        self, indices: NDArray[Any], seed: int, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Whole numbers (B, 6)."""
        return super().prior(indices, seed, labels).long()


def test_latents_that_are_whole_numbers_have_no_directions() -> None:
    model = Tokens(build().config, ImageShape(16, 16, 3))
    with pytest.raises(UsageError, match="not vectors of real numbers"):
        find_directions(model, "principal", 2)


@pytest.mark.parametrize(
    ("steps", "amount", "shown"),
    [
        (5, 2.0, ("-2.0", "-1.0", "0", "+1.0", "+2.0")),
        (7, 2.0, ("-2.0", "-1.3", "-0.7", "0", "+0.7", "+1.3", "+2.0")),
        (3, 0.05, ("-0.05", "0", "+0.05")),
        (2, 100.0, ("-100.0", "+100.0")),
        (3, 0.0, ("0", "0", "0")),
    ],
)
def test_deviations_stand_above_their_columns(
    steps: int, amount: float, shown: tuple[str, ...]
) -> None:
    found = Directions(torch.eye(3)[:2], torch.ones(2), "z", "sefa")
    labels = label_sheet(found, steps, amount)
    assert labels.columns == shown
    assert labels.rows == ("sefa 0", "sefa 1")


def test_deviations_can_be_told_apart() -> None:
    found = Directions(torch.eye(3)[:1], torch.ones(1), "z", "sefa")
    for steps in range(2, 200):
        for amount in (0.01, 1.0, 3.0, 99.0):
            columns = label_sheet(found, steps, amount).columns
            assert len(set(columns)) == steps


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", [pytest.param(m, marks=pytest.mark.slow) if m == "fsq" else m for m in MODELS]
)
def test_traverse_draws_a_row_for_each_direction(
    model: str, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    done = gentool_command(
        "traverse", trained(model), "--directions", 3, "--steps", 5, cwd=tmp_path
    )
    assert done.code == 0, done.err
    assert done.lines == ["traversal.png"]
    assert "3 principal directions in z, up to 2 standard deviations" in done.err
    with Image.open(tmp_path / "traversal.png") as sheet:
        left, top = sheet.width - (5 * (SIDE + 2) - 2), sheet.height - (3 * (SIDE + 2) - 2)
        assert 40 < left < 90 and 15 < top < 50  # "principal 0" beside rows, "-2.0" above columns
        assert np.asarray(sheet.convert("L"))[:top, left:].min() < 100
        recipe = json.loads(sheet.info["gentool"])
    assert recipe["seeds"] == [0]
    assert recipe["direction"] == runs([k for k in range(3) for _ in range(5)])


def test_traverse_from_a_seed_of_a_class_and_from_its_latents_are_one(
    gan: Path, tmp_path: Path
) -> None:
    options = ("--seed", 4, "--class", "disc")
    kept = tmp_path / "kept.safetensors"
    done = gentool_command(
        "sample", gan, *options, "-n", 1, "--save-latents", kept, "-o", tmp_path / "own"
    )
    assert done.code == 0, done.err
    own = np.asarray(Image.open(tmp_path / "own" / "disc-seed000004-000000.png"))
    sheets = []
    for name, start in (("a", options), ("b", (kept,))):
        out = tmp_path / f"{name}.npz"
        done = gentool_command(
            "traverse", gan, *start, "--by", "sefa", "--directions", 2, "-o", out, "--json"
        )
        assert done.code == 0, done.err
        answer = json.loads(done.out)
        assert answer["files"] == [str(out)]
        assert len(answer["deviations"]) == 2
        sheets.append(np.load(out)["images"])
    np.testing.assert_array_equal(*sheets)
    np.testing.assert_array_equal(sheets[0][3], own)


TRAVERSE_ERRORS = {
    "two starts": (("x.safetensors", "--seed", 3), 2, "START and --seed exclude each other"),
    "no such way": (("--by", "units"), 2, "named 'units'. (this model has principal, sefa)"),
    "several": (("{many}",), 2, "holds 2 pictures"),
}


@pytest.mark.parametrize(("words", "code", "part"), TRAVERSE_ERRORS.values(), ids=TRAVERSE_ERRORS)
def test_traverse_refuses(
    words: tuple[object, ...], code: int, part: str, gan: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many.safetensors"
    kept = gentool_command("sample", gan, "-n", 2, "--save-latents", many, "-o", tmp_path / "own")
    assert kept.code == 0, kept.err
    done = gentool_command("traverse", gan, *(str(w).format(many=many) for w in words))
    assert (done.code, done.out) == (code, "")
    assert part in done.err.splitlines()[-1]
