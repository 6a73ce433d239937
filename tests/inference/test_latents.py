"""Truncation, files of latents and mixed styles: inverses, means, byte-equal pictures."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import gentool_command
from numpy.typing import NDArray
from PIL import Image

from gentool.checkpoint import (
    LoadedModel,
    exported_tensors,
    load_model,
    model_header,
    read_file,
    write_file,
)
from gentool.core.errors import NoStyles, UsageError
from gentool.core.images import ImageShape
from gentool.core.options import from_json
from gentool.inference.interpolation import interpolate, mix, mixing_layer, path, plan_path
from gentool.inference.latents import Latents, decode, draw, to_styles
from gentool.models.base import Batch
from gentool.models.capabilities import required_styles
from gentool.models.gan.model import GAN
from gentool.networks import PAIRS

SHAPE = ImageShape(16, 16, 3)
DRAWS = [(seed, 0) for seed in range(6)]


def build(network: str, classes: int = 0) -> GAN:
    """A tiny GAN, finished as after training, untrained."""
    config = from_json(
        GAN.Config, {"width": 8, "latent_size": 6, "network": network, "encoder_share": 0.0}
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GAN(config, SHAPE, classes).eval().requires_grad_(False)
    labels = torch.arange(12) % classes if classes else None

    def batches() -> Iterator[Batch]:
        yield Batch(torch.zeros(12, 3, 16, 16), labels)

    model.finish(batches)
    return model


def save(model: GAN, file: Path) -> Path:
    """A model file of it."""
    names = tuple(f"kind{k}" for k in range(model.classes))
    write_file(file, exported_tensors(model), model_header("gan", model, names, {}))
    return file


@pytest.fixture(scope="module")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a conditional model with styles."""
    return save(build("style", 2), tmp_path_factory.mktemp("styled") / "model.safetensors")


@pytest.fixture(scope="module")
def two(gan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``kept.safetensors``, two latents of the trained GAN, and its first picture."""
    folder = tmp_path_factory.mktemp("two")
    run("sample", gan, "-n", 2, "--save-latents", folder / "kept.safetensors", "-o", folder)
    return folder


def run(*arguments: object) -> list[str]:
    """Lines of a command that must work."""
    done = gentool_command(*arguments)
    assert done.code == 0, done.err
    return done.lines


def pictures(folder: Path) -> list[NDArray[np.uint8]]:
    """The images of a folder, by name."""
    return [np.asarray(Image.open(file)) for file in sorted(folder.iterdir())]


# --- truncation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("network", PAIRS)
def test_truncation_of_one_changes_nothing_and_of_zero_gives_the_mean(
    network: str, classes: int
) -> None:
    model = build(network, classes)
    label = 1 if classes else None
    plain = decode(model, draw(model, DRAWS, label))
    model.draw_with(truncation=1.0)
    np.testing.assert_array_equal(decode(model, draw(model, DRAWS, label)), plain)
    model.draw_with(truncation=0.0)
    mean = decode(model, draw(model, DRAWS, label))
    assert len(np.unique(mean, axis=0)) == 1
    assert len(np.unique(plain, axis=0)) == 6
    shares = torch.eye(2)[1:] if classes else torch.zeros(1, 0)
    if model.styles:
        net = model.generator.styled_net()
        middle = Latents(net.mean_w[-1].expand(1, net.layers, -1), "w")
    else:
        middle = Latents(torch.cat([torch.zeros(1, 6), shares], dim=1))
    np.testing.assert_array_equal(mean[:1], decode(model, middle))


@pytest.mark.parametrize("classes", [0, 3])
def test_the_mean_of_w_is_that_of_many_other_draws(classes: int) -> None:
    model = build("style", classes)
    for kind in range(max(classes, 1)):
        label = torch.full((4096,), kind)
        w = required_styles(model.styles).of(model.prior(np.arange(4096), 77, label))[:, 0]
        measured = model.generator.styled_net().mean_w[kind]
        count = 4096 / max(classes, 1)  # draws that the measured mean is of
        error = w.std(dim=0) * (1 / 4096 + 1 / count) ** 0.5
        assert ((w.mean(dim=0) - measured).abs() < 5 * error).all()
        assert (measured.abs() > 20 * error).any()  # a mean of zero would be wrong


@pytest.mark.parametrize("psi", [0.3, 0.8])
def test_truncation_in_between_is_the_papers(psi: float) -> None:
    model = build("style")
    w = to_styles(model, draw(model, DRAWS)).values
    model.draw_with(truncation=psi)
    mean = model.generator.styled_net().mean_w
    torch.testing.assert_close(draw(model, DRAWS).values, mean + psi * (w - mean))
    plain = build("dcgan")
    z = draw(plain, DRAWS).values
    plain.draw_with(truncation=psi)
    torch.testing.assert_close(draw(plain, DRAWS).values, psi * z)


def test_sample_with_truncation(styled: Path, tmp_path: Path) -> None:
    options = ("sample", styled, "-n", 3, "--class", "kind1", "-o")
    run(*options, tmp_path / "plain")
    run(*options, tmp_path / "one", "--truncation", 1)
    run(*options, tmp_path / "zero", "--truncation", 0)
    for k in range(3):
        name = f"kind1-seed000000-{k:06d}.png"
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    first, *others = pictures(tmp_path / "zero")
    for image in others:
        np.testing.assert_array_equal(image, first)
    with Image.open(tmp_path / "zero" / "kind1-seed000000-000000.png") as file:
        assert json.loads(file.info["gentool"])["truncation"] == 0


def test_interpolation_between_truncated_samples_begins_and_ends_at_them(
    styled: Path, tmp_path: Path
) -> None:
    run("sample", styled, "--seeds", "1,2", "--truncation", 0.5, "-o", tmp_path / "keys")
    frames = tmp_path / "frames"
    run("interpolate", styled, "--seeds", "1,2", "--steps", 3, "--truncation", 0.5, "-o", frames)
    for key, frame in zip(pictures(tmp_path / "keys"), pictures(frames)[::3], strict=True):
        np.testing.assert_array_equal(frame, key)


# --- paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["slerp", "lerp"])
def test_a_loop_closes_without_a_seam(method: str) -> None:
    """The step from the last frame to the first is as long as those before it."""
    keys = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    keys = keys / keys.norm(dim=1, keepdim=True)
    frames = path(keys, 5, method, loop=True)
    steps = (frames.roll(-1, 0) - frames).norm(dim=1).view(3, 5)
    torch.testing.assert_close(steps, steps[:, :1].expand(3, 5))


def test_between_styles_the_way_is_straight_and_between_latents_an_arc() -> None:
    styled, plain = build("style"), build("dcgan")
    w = to_styles(styled, draw(styled, DRAWS[:2]))
    middle = Latents((w.values[:1] + w.values[1:]) / 2, "w")
    frames = list(interpolate(_loaded(styled), w, 2))
    np.testing.assert_array_equal(frames[1], decode(styled, middle)[0])
    (_, told, _) = plan_path(_loaded(styled), w, 2, None, "a", loop=False).results()
    assert (told.recipe["method"], told.recipe["space"]) == ("lerp", "w")
    z = draw(plain, DRAWS[:2])
    a, b = z.values.double()
    angle = torch.acos(a @ b / (a.norm() * b.norm()))
    arc = (a / a.norm() + b / b.norm()) * torch.sin(angle / 2) / torch.sin(angle)
    halfway = ((a.norm() + b.norm()) / 2 * arc).float()
    frame = list(interpolate(_loaded(plain), z, 2))[1]
    apart = np.abs(frame.astype(int) - decode(plain, Latents(halfway[None]))[0])
    assert apart.max() <= 1  # float64 rounds elsewhere


def _loaded(model: GAN) -> LoadedModel:
    return LoadedModel(model, {"model": "gan", "classes": []}, "0" * 64, Path("x"))


# --- mixing -------------------------------------------------------------------------------------


def test_mixing_takes_the_early_layers_of_one_and_the_late_layers_of_the_other() -> None:
    coarse, fine = torch.randn(2, 5, 3), torch.randn(4, 5, 3)
    mixed = mix(coarse, fine, 2)
    assert mixed.shape == (2, 4, 5, 3)
    for a in range(2):
        for b in range(4):
            for layer in range(5):
                source = coarse[a] if layer < 2 else fine[b]
                assert torch.equal(mixed[a, b, layer], source[layer])
    assert torch.equal(mix(fine, fine, 3).diagonal(dim1=0, dim2=1).movedim(-1, 0), fine)


def test_a_sheet_of_mixed_styles(styled: Path, tmp_path: Path) -> None:
    out = tmp_path / "mixed"
    run("interpolate", styled, "--seeds", "0-1", "--mix", "1,5", "--crossover", 3, "-o", out)
    names = {"fine000", "fine001", "coarse000", "coarse001"} | {
        f"coarse{a:03d}-fine{b:03d}" for a in range(2) for b in range(2)
    }
    prefix = "seed0-seed1-mix-seed1-seed5-"
    assert {file.stem.removeprefix(prefix) for file in out.iterdir()} == names
    run("sample", styled, "--seeds", "0,1,5", "-o", tmp_path / "own")
    own = dict(zip((0, 1, 5), pictures(tmp_path / "own"), strict=True))
    mixed = {file.stem.removeprefix(prefix): np.asarray(Image.open(file)) for file in out.iterdir()}
    np.testing.assert_array_equal(mixed["coarse000"], own[0])
    np.testing.assert_array_equal(mixed["fine001"], own[5])
    np.testing.assert_array_equal(mixed["coarse001-fine000"], own[1])  # mixed with itself
    assert not np.array_equal(mixed["coarse000-fine001"], own[0])
    assert not np.array_equal(mixed["coarse000-fine001"], own[5])
    kept = tmp_path / "kept.safetensors"
    run("sample", styled, "--seeds", "1,5", "--save-latents", kept, "-o", tmp_path / "fine")
    run("interpolate", styled, "--seeds", "0-1", "--mix", kept, "--crossover", 3,
        "-o", tmp_path / "again")  # fmt: skip
    for a, b in zip(pictures(out), pictures(tmp_path / "again"), strict=True):
        np.testing.assert_array_equal(a, b)
    run("interpolate", styled, "--seeds", "0-1", "--mix", "1,5", "-o", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (3 * 18 - 2, 3 * 18 - 2)
        assert np.asarray(sheet)[:16, :16].min() == 255  # the empty corner


def test_a_crossover_beyond_the_layers_is_refused() -> None:
    model = build("style")
    w = to_styles(model, draw(model, DRAWS))
    layers = w.values.shape[1]
    with pytest.raises(UsageError, match=f"allowed: 1 to {layers - 1}"):
        mixing_layer(layers, layers)


def test_a_model_without_styles_says_so() -> None:
    model = build("dcgan")
    z = draw(model, DRAWS)
    for refused in (lambda: to_styles(model, z), lambda: required_styles(model.styles)):
        with pytest.raises(NoStyles, match="no styles; models with -o network=style have"):
            refused()


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "psi"),
    [("gan", None), ("gan", 0.6), ("vae", None), ("styled", None), ("styled", 0.6)],
)
def test_kept_latents_give_the_pictures_of_the_seed_they_came_from(
    model: str, psi: float | None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source: Path = request.getfixturevalue(model)
    kept = tmp_path / "kept.safetensors"
    how = () if psi is None else ("--truncation", psi)
    run("sample", source, "-n", 5, "--seeds", "3,4", *how, "--save-latents", kept,
        "-o", tmp_path / "own")  # fmt: skip
    run("sample", source, "--latents", kept, "-o", tmp_path / "again")
    run("sample", source, "--latents", kept, "--start", 6, "-n", 2, "-o", tmp_path / "part")
    own, again = pictures(tmp_path / "own"), pictures(tmp_path / "again")
    assert len(own) == 10
    for a, b in zip(own, again, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(own[6:8], pictures(tmp_path / "part"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_file_and_a_seed_are_key_frames_alike(gan: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.safetensors"
    run("sample", gan, "--seeds", "3,4", "--save-latents", kept, "-o", tmp_path / "own")
    run("interpolate", gan, "--seeds", "3,4,9", "--steps", 4, "-o", tmp_path / "seeds")
    run("interpolate", gan, kept, "--seeds", 9, "--steps", 4, "-o", tmp_path / "both")
    for a, b in zip(pictures(tmp_path / "seeds"), pictures(tmp_path / "both"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_reconstruct_found_is_kept_for_sample_and_interpolate(
    vae: Path, image_folder: Path, tmp_path: Path
) -> None:
    photos = [image_folder / "bar" / "001.png", image_folder / "disc" / "002.png"]
    kept = tmp_path / "found.safetensors"
    run("reconstruct", vae, *photos, "--save-latents", kept, "-o", tmp_path / "pairs")
    run("sample", vae, "--latents", kept, "-o", tmp_path / "again")
    run("interpolate", vae, *photos, "--steps", 2, "-o", tmp_path / "path")
    run("interpolate", vae, kept, "--steps", 2, "-o", tmp_path / "same")
    found = [pair[:, -16:] for pair in pictures(tmp_path / "pairs")]
    for a, b in zip(found, pictures(tmp_path / "again"), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(pictures(tmp_path / "path"), pictures(tmp_path / "same"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_fitted_model_takes_the_latents_it_was_fitted_at(
    gan: Path, image_folder: Path, tmp_path: Path
) -> None:
    kept, fitted = tmp_path / "found.safetensors", tmp_path / "fitted.safetensors"
    photo = image_folder / "bar" / "001.png"
    run("reconstruct", gan, photo, "--steps", 5, "--fit-weights", fitted, "--save-latents", kept,
        "-o", tmp_path / "pair")  # fmt: skip
    done = gentool_command("sample", fitted, "--latents", kept, "-o", tmp_path / "again")
    assert done.code == 0
    assert "warning" not in done.err
    np.testing.assert_array_equal(
        pictures(tmp_path / "pair")[0][:, -16:], pictures(tmp_path / "again")[0]
    )


def test_latents_of_another_model_of_one_kind_are_taken_with_a_warning(
    gan: Path, two: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "other.safetensors"
    header, tensors = read_file(two / "kept.safetensors")
    write_file(kept, tensors, {**header, "model_sha256": "0" * 64})
    done = gentool_command("sample", gan, "--latents", kept, "-o", tmp_path / "again")
    assert done.code == 0
    assert "warning: the latents in " in done.err
    assert "another model (gan)" in done.err


# Change of a good file -> exit code and what the error says.
DAMAGE = {
    "shape": ({"values": torch.zeros(2, 7)}, 4, " 7 numbers of F32"),
    "rank": ({"values": torch.zeros(2, 10, 1)}, 4, " 10x1 numbers of F32"),
    "dtype": ({"values": torch.zeros(2, 10).long()}, 4, " 10 of F32"),
    "none": ({"values": torch.zeros(0, 10)}, 4, "holds 0 latents"),
    "nan": ({"values": torch.full((2, 10), float("nan"))}, 4, "not finite"),
    "infinite": ({"values": torch.full((2, 10), float("inf"))}, 4, "not finite"),
    "space": ({"space": "v"}, 4, "is damaged (space)"),
    "styles": ({"space": "w"}, 4, "holds styles, but "),
    "classes": ({"classes": ["cat", "dog"]}, 4, "classes"),
    "kind": ({"kind": "model"}, 4, "gentool sample --save-latents"),
}


@pytest.mark.parametrize(("change", "code", "part"), DAMAGE.values(), ids=DAMAGE)
def test_a_file_that_does_not_fit_is_refused(
    change: dict[str, object], code: int, part: str, gan: Path, two: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "changed.safetensors"
    header, tensors = read_file(two / "kept.safetensors")
    assert tensors["latents"].shape == (2, 10)
    told = {name: value for name, value in change.items() if name != "values"}
    values = change.get("values", tensors["latents"])
    assert isinstance(values, torch.Tensor)
    write_file(kept, {"latents": values}, {**header, **told})
    for verb in (("sample", gan, "--latents", kept), ("interpolate", gan, kept)):
        done = gentool_command(*verb, "-o", tmp_path / "out")
        assert (done.code, done.out) == (code, ""), done.err
        assert part in done.err.splitlines()[-1]
        assert not (tmp_path / "out").exists()


REFUSED = {
    "absent": (("sample", "{gan}", "--latents", "none.safetensors"), 4, "no file of latents at"),
    "a model": (("sample", "{gan}", "--latents", "{gan}/model.safetensors"), 4, "holds no latents"),
    "a seed too": (
        ("sample", "{gan}", "--latents", "x", "--seed", "3"),
        2,
        "with --latents, only -n and --start",
    ),
    "beyond": (("sample", "{gan}", "--latents", "{kept}", "-n", "3"), 2, "latents 0 to 1; 0 to 2"),
    "one key": (("interpolate", "{gan}", "{photo}"), 2, "is only one key frame"),
    "mixing": (("interpolate", "{gan}", "--mix", "3"), 2, "no styles; models with -o network"),
    "w": (("interpolate", "{gan}", "--space", "w"), 2, "no styles; models with -o network"),
    "unmixed": (("interpolate", "{gan}", "--crossover", "3"), 2, "--crossover needs --mix"),
    "mixed with no seed": (
        ("interpolate", "{styled}", "--mix", "x.png"),
        2,
        "'x.png' is not a seed",
    ),
    "mixed loop": (("interpolate", "{gan}", "--mix", "3", "--loop"), 2, "Leave --loop"),
    "truncation": (("sample", "{vae}", "--truncation", "0.5"), 2, "does not support --truncation"),
    "psi": (("sample", "{gan}", "--truncation", "1.5"), 2, "Invalid value for '--truncation'"),
    "z of w": (("interpolate", "{styled}", "--truncation", ".5", "--space", "z"), 2, "are in w"),
    "no folder": (("sample", "{gan}", "--save-latents", "{kept}/x"), 2, "cannot write "),
}


@pytest.mark.parametrize(("words", "code", "part"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_meant_is_refused(
    words: tuple[str, ...], code: int, part: str, gan: Path, vae: Path, styled: Path, two: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    known = {"gan": gan, "vae": vae, "styled": styled, "kept": two / "kept.safetensors",
             "photo": two / "seed000000-000000.png"}  # fmt: skip
    done = gentool_command(*(word.format(**known) for word in words), cwd=tmp_path)
    assert done.code == code, done.err
    assert part in " ".join(done.err.replace("│", " ").split())
    assert "Traceback" not in done.err


def test_a_model_with_styles_survives_its_file(styled: Path) -> None:
    model = build("style", 2)
    loaded = load_model(styled)
    loaded.model.draw_with(truncation=0.5)
    model.draw_with(truncation=0.5)
    a, b = (decode(m, draw(m, DRAWS)) for m in (model, loaded.model))
    np.testing.assert_array_equal(a, b)
