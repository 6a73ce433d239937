"""Sets of a few images: a batch that was not given never refuses them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import gentool_command, write_images
from PIL import Image

from gentool.checkpoint import load_model
from gentool.models.gan.penalty_weight import ImageVariance
from gentool.models.presets import PRESETS

PLAIN = ("--size", 16, "--width", 4, "--device", "cpu", "--precision", "float32")
SMALL = {"hvae": ("-o", "layers=4"), "vampvae": ("-o", "components=4")}


def train(model: str, data: Path, out: Path, *more: object) -> tuple[int, str]:
    """The exit code of a short run without --batch, and what it says."""
    words = ("train", model, "--data", data, "--out", out, "--images", 18)
    done = gentool_command(*words, *PLAIN, *SMALL.get(model, ()), *more)
    return done.code, done.err


def batch_of(out: Path) -> object:
    """The batch that the model file records."""
    return load_model(out).header["training"]["batch"]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("model", ["gan", "vae", "fsq", "autoencoder"])
def test_few_images_lower_the_batch(model: str, count: int, tmp_path: Path) -> None:
    data = write_images(tmp_path / "few", count)
    code, said = train(model, data, tmp_path / "run")
    own = PRESETS[model].cpu["batch"]
    assert code == 0, said
    assert f"batch {count}: there are no more training images (otherwise {own})" in said
    assert batch_of(tmp_path / "run") == count
    assert gentool_command("sample", tmp_path / "run", "-n", 2, "-o", tmp_path / "s").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("model", PRESETS)
def test_every_preset_trains_on_few_images(model: str, count: int, tmp_path: Path) -> None:
    code, said = train(model, write_images(tmp_path / "few", count), tmp_path / "run")
    assert code == 0, said


def test_a_batch_that_was_given_is_refused_as_before(tmp_path: Path) -> None:
    data = write_images(tmp_path / "few", 5)
    code, said = train("vae", data, tmp_path / "run", "--batch", 8)
    assert code == 3
    assert "5 images are fewer than a batch of 8. Add images, or use --batch 5" in said


def test_a_run_that_lost_images_names_what_goes_on_with_the_others(tmp_path: Path) -> None:
    data = write_images(tmp_path / "few", 6)
    assert train("vae", data, tmp_path / "run")[0] == 0
    next(data.rglob("*.png")).unlink()
    code, said = train("vae", data, tmp_path / "run")
    assert code == 2
    assert "0 images came, 1 went" in said
    code, said = train("vae", data, tmp_path / "run", "--override")
    assert code == 3
    assert "use --batch 5 --override" in said
    assert train("vae", data, tmp_path / "run", "--batch", 5, "--override")[0] == 0


def test_images_that_cannot_be_read_lower_the_batch_too(tmp_path: Path) -> None:
    data = write_images(tmp_path / "few", 6)
    next(data.rglob("*.png")).write_bytes(b"")
    code, said = train("vae", data, tmp_path / "run", "--max-bad", 0.5)
    assert code == 0, said
    assert "batch 5: there are no more training images (otherwise 6)" in said
    assert batch_of(tmp_path / "run") == 5
    again = gentool_command(
        "train", "vae", "--data", data, "--out", tmp_path / "run", "--images", 30,
        "--max-bad", 0.5, *PLAIN,
    )  # fmt: skip
    assert again.code == 0, again.err  # the run goes on with its batch
    assert batch_of(tmp_path / "run") == 5


def unclassed(folder: Path, count: int) -> Path:
    """Images without classes."""
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_a_hold_out_of_few_images_trains_or_says_why_not(
    count: int, share: float, tmp_path: Path
) -> None:
    data = unclassed(tmp_path / "few", count)
    code, said = train("vae", data, tmp_path / "run", "--holdout", share)
    if code:
        assert code == 3
        assert f"--holdout {share:g} keeps all" in said
        return
    held_out = count - load_model(tmp_path / "run").header["training"]["data"]["images"]
    assert 0 <= held_out < count
    assert (f"--holdout {share:g} holds out none of {count:,} image" in said) == (held_out == 0)
    assert batch_of(tmp_path / "run") == min(16, count - held_out)


def test_the_plan_shows_the_lower_batch(tmp_path: Path) -> None:
    data = write_images(tmp_path / "few", 3)
    done = gentool_command("train", "gan", "--data", data, "--dry-run", "--device", "cpu")
    assert done.code == 0
    (line,) = [line for line in done.lines if line.split()[0] == "batch"]
    assert line.split() == ["batch", "3", "found", "from", "the", "data"]


def test_the_variance_of_one_image_of_this_process_is_measured_with_those_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If one of two processes returned here, the other would wait for it forever."""
    images = torch.rand(1, 3, 4, 4)
    alone = ImageVariance()
    alone.update(images)
    assert alone.steps == 0
    monkeypatch.setattr("gentool.models.gan.penalty_weight.Ranks", lambda: _Two())
    several = ImageVariance()
    several.update(images)
    assert several.steps == 1


class _Two:
    """Two processes."""

    count = 2
