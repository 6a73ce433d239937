"""``reconstruct --denoise``: the result is nearer to the clean image than its input."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, draw, gentool_command, write_images
from PIL import Image

from gentool.checkpoint import load_model
from gentool.core.images import mean_squared_error


@pytest.fixture(scope="module")
def cleaner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small autoencoder that has seen bars and discs through noise."""
    root = tmp_path_factory.mktemp("cleaner")
    data, out = write_images(root / "data", 64), root / "run"
    done = gentool_command(
        "train", "autoencoder", "--data", data, "--out", out, "--images", 6400, *TINY,
        "--lr", 5e-3, "-o", "denoise=0.5",
    )  # fmt: skip
    assert done.code == 0, done.err
    return out


def test_noise_is_taken_away(cleaner: Path, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    for number in range(4):
        noisy = draw(number) + chance.normal(0, 0.5 * 127.5, (16, 16, 3))
        pixels = noisy.clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    out = tmp_path / "out.npz"
    done = gentool_command("reconstruct", cleaner, tmp_path, "--denoise", "-o", out)
    assert done.code == 0, done.err
    pairs = np.load(out)["images"]
    for number in range(4):
        given, cleaned = pairs[number][:, :16], pairs[number][:, -16:]
        clean = draw(number)
        assert mean_squared_error(clean, cleaned) < 0.5 * mean_squared_error(clean, given)


@pytest.mark.parametrize("model", ["vae", "vae-gan", "autoencoder"])
def test_a_model_that_saw_noise_says_that_it_denoises(
    model: str, image_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = gentool_command(
        "train", model, "--data", image_folder, "--out", run, "--images", 32, *TINY,
        "-o", "denoise=0.5",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert load_model(run).model.config.denoises
    done = gentool_command("reconstruct", run, image_folder, "--denoise", "-o", tmp_path / "x.npz")
    assert done.code == 0, done.err


@pytest.mark.parametrize("model", ["vae", "vae-gan", "gan", "autoencoder"])
def test_who_never_learned_it_is_told(
    model: str, trained: Callable[[str], Path], image_folder: Path
) -> None:
    assert not load_model(trained(model)).model.config.denoises
    done = gentool_command("reconstruct", trained(model), image_folder, "--denoise")
    assert done.code == 2
    assert "-o denoise=0.3" in done.err


def test_a_search_would_fit_the_noise(cleaner: Path, image_folder: Path) -> None:
    done = gentool_command("reconstruct", cleaner, image_folder, "--denoise", "--steps", 5)
    assert done.code == 2
    assert "a search would fit the noise" in done.err
