"""``gentool score``: outliers come first, and the bound of an image depends only on it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, draw, gentool_command, write_images
from PIL import Image

from gentool.checkpoint import load_model
from gentool.core.images import to_unit
from gentool.core.rng import Draw
from gentool.models.capabilities import required_likelihood


def scored(model: Path, *images: Path) -> dict[str, tuple[float, float]]:
    """Name -> (nats, bits per dimension), in the order printed."""
    done = gentool_command("score", *images, "--model", model, "--device", "cpu")
    assert done.code == 0, done.err
    lines = [line.split("\t") for line in done.out.splitlines()]
    return {Path(path).name: (float(nats), float(bits)) for nats, bits, path in lines}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small VAE that has seen bars and discs."""
    root = tmp_path_factory.mktemp("odd")
    data, out = write_images(root / "data", 64), root / "run"
    done = gentool_command(
        "train", "vae", "--data", data, "--out", out, "--images", 3200, *TINY, "--lr", 3e-3
    )
    assert done.code == 0, done.err
    return out


def folder_with_noise(root: Path) -> Path:
    """Five bars and discs, and one image of noise."""
    folder = root / "mixed"
    folder.mkdir()
    for number in range(5):
        Image.fromarray(draw(number)).save(folder / f"{number}.png")
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    return folder


def test_the_odd_one_out_comes_first_and_the_rest_in_order(model: Path, tmp_path: Path) -> None:
    found = scored(model, folder_with_noise(tmp_path))
    assert len(found) == 6
    assert next(iter(found)) == "noise.png"
    nats = [pair[0] for pair in found.values()]
    assert nats == sorted(nats)
    for value, bits in found.values():  # a density on [-1, 1]^D, in units of 1 / 127.5 levels
        assert bits == pytest.approx(-value / (768 * np.log(2)) + np.log2(127.5), abs=1e-3)


def test_a_figure_is_the_bound_and_knows_no_neighbours(model: Path, tmp_path: Path) -> None:
    folder = folder_with_noise(tmp_path)
    together = scored(model, folder)
    alone = scored(model, folder / "3.png")
    assert alone["3.png"] == together["3.png"]
    loaded = load_model(model).model
    with torch.inference_mode():
        rows = to_unit(torch.from_numpy(draw(3)[None])).expand(64, -1, -1, -1)
        each = Draw(0, "other", np.arange(64), 0, torch.device("cpu"))
        spread = required_likelihood(loaded.variational).log_prob_bound(rows, each, 16)
    assert abs(alone["3.png"][0] - spread.mean().item()) < 6 * spread.std().item() + 0.1


def test_json_says_whether_it_is_a_mass_and_with_how_many_samples(
    model: Path, tmp_path: Path
) -> None:
    folder = folder_with_noise(tmp_path)
    done = gentool_command("score", folder, "--model", model, "--importance", 2, "--json")
    answer = json.loads(done.out)
    assert answer["kind"] == "density"
    assert answer["importance"] == 2
    assert [row["nats"] for row in answer["images"]] == sorted(r["nats"] for r in answer["images"])


def test_a_broken_image_is_named_and_the_others_are_scored(model: Path, tmp_path: Path) -> None:
    folder = folder_with_noise(tmp_path)
    (folder / "broken.png").write_bytes(b"no image")
    done = gentool_command("score", folder, "--model", model)
    assert done.code == 7
    assert len(done.lines) == 6
    assert "broken.png" in done.err
    done = gentool_command("score", folder / "broken.png", "--model", model)
    assert done.code == 3


def test_a_model_without_a_likelihood_is_told_from_one(gan: Path, image_folder: Path) -> None:
    done = gentool_command("score", image_folder, "--model", gan)
    assert done.code == 2
    assert "this model has no likelihood. Train a vae" in done.err
