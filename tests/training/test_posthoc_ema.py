"""``gentool average``: another length of the average after training, on a real run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SIDE, TINY, Finished, gentool_command, write_images
from PIL import Image

from gentool.checkpoint import load_model, read_file
from gentool.data import open_dataset
from gentool.inference.blocks import encode_blocks
from gentool.training.power_ema import KEPT, combination

Trained = Callable[[str], Path]


def test_a_length_is_the_combination_of_what_the_state_holds(
    trained: Trained, tmp_path: Path
) -> None:
    run, out = trained("gan"), tmp_path / "other.safetensors"
    done = gentool_command("average", run, "--length", "0.07", "-o", out)
    assert (done.code, done.out.strip()) == (0, str(out))
    state = read_file(run / "state.safetensors")[1]
    shares = combination(0.07) / combination(0.07).sum()
    model = load_model(out)
    assert model.header["training"]["average_length"] == 0.07
    for name, weight in model.model.named_parameters():
        kept = [state[f"powers/{length}/{name}"] for length in KEPT]
        wanted = sum(float(s) * k for s, k in zip(shares, kept, strict=True))
        torch.testing.assert_close(weight.data, wanted)
    assert gentool_command("sample", out, "-n", "2", "-o", tmp_path / "drawn").code == 0


def test_the_length_is_chosen_by_the_images(
    trained: Trained, image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "best.safetensors"
    done = gentool_command("average", trained("gan"), "--data", image_folder, "-o", out, "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    scores = {float(k): v for k, v in answer["fd_random"].items()}
    assert len(scores) == 8
    assert answer["length"] == min(scores, key=lambda length: scores[length])


def test_what_it_needs_is_said(trained: Trained, tmp_path: Path) -> None:
    run = trained("gan")
    done = gentool_command("average", run)
    assert done.code == 2
    assert "--length SHARE" in done.err
    done = gentool_command("average", run / "model.safetensors", "--length", "0.1")
    assert done.code == 2
    assert "is not a run folder" in done.err
    (tmp_path / "no").write_text("a file")
    done = gentool_command("average", run, "--length", "0.1", "-o", tmp_path / "no" / "x")
    assert done.code == 2
    (tmp_path / "single").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "single" / "1.png")
    done = gentool_command("average", run, "--data", tmp_path / "single")
    assert done.code == 3
    assert "two images, not 1" in done.err
    assert not any("average" in path.name for path in run.iterdir())


def test_statistics_of_batch_normalisation_are_those_of_samples(trained: Trained) -> None:
    model = load_model(trained("gan")).model
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    seen: list[torch.Tensor] = []
    with torch.no_grad():
        for norm in norms:
            norm.running_mean.fill_(9)  # type: ignore[union-attr]
        model.refresh()
        handle = norms[0].register_forward_hook(lambda m, x, y: seen.append(x[0]))
        model.decode(model.prior(np.arange(1024), 2**61))
        handle.remove()
    mean = seen[0].mean(dim=(0, 2, 3))
    torch.testing.assert_close(norms[0].running_mean, mean, atol=1e-4, rtol=1e-3)
    assert not any(m.training for m in model.modules())


# --- what is fitted to images -------------------------------------------------------------------


def average(run: Path, out: Path, *more: object) -> Finished:
    """Average over a twentieth of the run."""
    return gentool_command("average", run, "--length", "0.05", "-o", out, *more)


@pytest.mark.parametrize("name", ["autoencoder", "vae"])
def test_a_density_is_fitted_to_the_codes_of_the_new_weights(
    name: str, trained: Trained, image_folder: Path, tmp_path: Path
) -> None:
    run, out = trained(name), tmp_path / "other.safetensors"
    done = average(run, out, "--data", image_folder)
    assert done.code == 0, done.err
    before: Any = load_model(run).model
    after: Any = load_model(out).model
    pixels = open_dataset(str(image_folder), str(SIDE)).images[:]
    codes = encode_blocks(after, pixels)
    assert not torch.allclose(codes, encode_blocks(before, pixels), atol=1e-3)
    torch.testing.assert_close(after.density.mean, codes.mean(dim=0), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(before.density.mean, codes.mean(dim=0), atol=1e-3)


def test_a_fitted_density_without_images_is_refused(
    autoencoder: Path, image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "other.safetensors"
    done = average(autoencoder, out)
    assert done.code == 2
    assert "--data, together with --length" in done.err
    write_images(tmp_path / "plain", 8)
    for path in (tmp_path / "plain" / "bar").iterdir():
        path.rename(tmp_path / "plain" / path.name)
    done = average(autoencoder, out, "--data", tmp_path / "plain")
    assert done.code == 3
    assert "Give the images it was trained on" in done.err
    assert not out.exists()


def test_what_is_learned_or_made_of_weights_alone_needs_no_images(
    trained: Trained, image_folder: Path, tmp_path: Path
) -> None:
    assert average(trained("fsq"), tmp_path / "fsq.safetensors").code == 0  # a transformer
    out = tmp_path / "other.safetensors"
    run = tmp_path / "run"
    done = gentool_command(
        "train", "vampvae", "--data", image_folder, "--out", run, "--images", 160, *TINY,
        "--unconditional",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert average(run, out).code == 0
    model: Any = load_model(out).model  # the posteriors of learned images
    means = model.posterior(model.density.inputs()).mean
    torch.testing.assert_close(model.density.means, means, atol=1e-5, rtol=1e-4)
    before: Any = load_model(run).model
    assert not torch.allclose(before.density.means, means, atol=1e-4)


# --- what a later part of the run stands on -----------------------------------------------------


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """All that a model file holds."""
    return read_file(path)[1]


@pytest.mark.parametrize(
    ("preset", "options", "stays", "moves"),
    [
        ("fsq", (), "codec.", "transformer."),
        ("vqvae", ("-o", "codes=32"), "codec.", "transformer."),
        ("vae", ("-o", "prior=latent-flow", "-o", "prior_width=16"), "encoder.", "density."),
    ],
)
def test_codes_stay_those_that_the_prior_over_them_has_learned(
    preset: str, options: tuple[str, ...], stays: str, moves: str, image_folder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    run, out = tmp_path / "run", tmp_path / "other.safetensors"
    done = gentool_command(
        "train", preset, "--data", image_folder, "--out", run, "--images", 480, *TINY, *options
    )
    assert done.code == 0, done.err
    done = average(run, out)
    assert done.code == 0, done.err
    assert f"unchanged: the {stays[:-1]}" in done.err
    before, after = tensors(run / "model.safetensors"), tensors(out)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith(stays)} <= same
    assert any(name.startswith(moves) for name in before.keys() - same)
    pixels = open_dataset(str(image_folder), str(SIDE)).images[:]
    codes = [encode_blocks(load_model(path).model, pixels) for path in (run, out)]
    assert torch.equal(*codes)


def test_a_run_that_is_not_yet_at_what_could_be_averaged_is_refused(
    image_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = gentool_command(
        "train", "vqvae", "--data", image_folder, "--out", run, "--images", 480,
        "--stop-after", 160, *TINY,
    )  # fmt: skip
    assert done.code == 75
    done = average(run, tmp_path / "other.safetensors")
    assert done.code == 2
    assert "that part has not begun" in done.err


def test_what_has_not_begun_is_not_said_to_stay(image_folder: Path, tmp_path: Path) -> None:
    """The encoder of a game that still goes on: nothing has learned to draw for it."""
    run = tmp_path / "run"
    done = gentool_command(
        "train", "gan", "--data", image_folder, "--out", run, "--images", 480,
        "--stop-after", 160, *TINY,
    )  # fmt: skip
    assert done.code == 75
    done = average(run, tmp_path / "other.safetensors")
    assert done.code == 0, done.err
    assert "as before" not in done.err
