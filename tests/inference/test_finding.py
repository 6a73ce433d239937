"""Photos and models with styles in every command, and the start of a search without an encoder."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, gentool_command
from numpy.typing import NDArray
from PIL import Image

from gentool.checkpoint import load_model, read_file
from gentool.models.capabilities import required_styles

WORDS = "saved before the encoder was trained"


@pytest.fixture(scope="module")
def styled(trained: Callable[[str], Path]) -> Path:
    """Run folder of a tiny trained model with styles, two classes and an encoder."""
    return trained("stylegan2")


@pytest.fixture(scope="module")
def photos(image_folder: Path) -> list[Path]:
    """Two photos."""
    return [image_folder / "bar" / "001.png", image_folder / "disc" / "002.png"]


def run(*arguments: object) -> str:
    """A command that must work; what it says to people."""
    done = gentool_command(*arguments)
    assert done.code == 0, done.err
    return done.err


def pictures(folder: Path) -> list[NDArray[np.uint8]]:
    """The images of a folder, by name."""
    return [np.asarray(Image.open(file)) for file in sorted(folder.iterdir())]


def same(one: Path, other: Path) -> None:
    """Two folders hold the same pictures, and some, but for what rounding may do to a search."""
    a, b = pictures(one), pictures(other)
    assert len(a) == len(b) > 0
    for left, right in zip(a, b, strict=True):
        assert np.abs(left.astype(int) - right).max() <= 2


def test_photos_of_a_model_with_styles_are_kept_in_w_and_taken_by_every_verb(
    styled: Path, photos: list[Path], tmp_path: Path
) -> None:
    kept = tmp_path / "kept.safetensors"
    run("reconstruct", styled, *photos, "--save-latents", kept, "-o", tmp_path / "pairs")
    header, tensors = read_file(kept)
    assert header["space"] == "w"
    w = tensors["latents"]
    generator = load_model(styled).model
    layers = required_styles(generator.styles).of(generator.prior(np.arange(1), 0))
    assert w.shape == (2, *layers.shape[1:])
    assert not np.array_equal(w[:, 0], w[:, -1])  # one of its own for each layer
    run("sample", styled, "--latents", kept, "-o", tmp_path / "again")
    found = [pair[:, -16:] for pair in pictures(tmp_path / "pairs")]
    for a, b in zip(found, pictures(tmp_path / "again"), strict=True):
        np.testing.assert_array_equal(a, b)
    run("interpolate", styled, *photos, "--steps", 2, "-o", tmp_path / "path")
    run("interpolate", styled, kept, "--steps", 2, "-o", tmp_path / "path-kept")
    same(tmp_path / "path", tmp_path / "path-kept")


def test_one_photo_is_traversed_as_its_kept_latents_are(
    styled: Path, photos: list[Path], tmp_path: Path
) -> None:
    kept = tmp_path / "kept.safetensors"
    run("reconstruct", styled, photos[0], "--save-latents", kept, "-o", tmp_path / "pair")
    for start, name in ((photos[0], "photo"), (kept, "kept")):
        run("traverse", styled, start, "--directions", 2, "--steps", 3, "-o", tmp_path / name)
    same(tmp_path / "photo", tmp_path / "kept")
    middle = pictures(tmp_path / "kept")[1]
    np.testing.assert_array_equal(middle, pictures(tmp_path / "pair")[0][:, -16:])


def test_weights_fitted_at_styles_give_the_photo_from_the_kept_latents(
    styled: Path, photos: list[Path], tmp_path: Path
) -> None:
    kept, fitted = tmp_path / "kept.safetensors", tmp_path / "fitted.safetensors"
    run("reconstruct", styled, photos[0], "--fit-weights", fitted, "--save-latents", kept,
        "-o", tmp_path / "pair")  # fmt: skip
    assert "warning" not in run("sample", fitted, "--latents", kept, "-o", tmp_path / "again")
    pair = pictures(tmp_path / "pair")[0]
    np.testing.assert_array_equal(pair[:, -16:], pictures(tmp_path / "again")[0])


def test_the_encoder_alone_is_in_z_and_a_search_from_it_comes_nearer(
    styled: Path, photos: list[Path], tmp_path: Path
) -> None:
    means = []
    for steps in (0, 50):
        kept = tmp_path / f"kept{steps}.safetensors"
        done = gentool_command("reconstruct", styled, *photos, "--steps", steps, "--json",
                               "--save-latents", kept, "-o", tmp_path / str(steps))  # fmt: skip
        assert done.code == 0, done.err
        assert "at random" not in done.err
        assert read_file(kept)[0]["space"] == ("w" if steps else "z")
        means.append(json.loads(done.out)["mean_psnr"])
    assert means[1] > means[0] + 1


def test_where_z_or_a_class_is_asked_for_photos_are_looked_for_in_z(
    styled: Path, photos: list[Path], tmp_path: Path
) -> None:
    run("interpolate", styled, *photos, "--space", "z", "--steps", 2, "-o", tmp_path / "z")
    run("interpolate", styled, *photos, "--class", "disc", "--steps", 2, "-o", tmp_path / "w")
    for space in ("z", "w"):  # the way goes through w all the same
        with Image.open(min((tmp_path / space).iterdir())) as file:
            assert json.loads(file.info["gentool"])["space"] == space


# --- best.safetensors ---------------------------------------------------------------------------


def scored(images: Path, out: Path, every: int) -> Path:
    """A run of 320 images, of which the encoder has the last 32, scored now and then."""
    run("train", "gan", "--data", images, "--out", out, "--images", 320, "--score-every", every,
        *TINY)  # fmt: skip
    return out


def test_a_best_model_of_the_last_generator_gets_its_encoder(
    image_folder: Path, photos: list[Path], tmp_path: Path
) -> None:
    out = scored(image_folder, tmp_path / "run", 288)
    (header, best), (_, last) = (
        read_file(out / f"{name}.safetensors") for name in ("best", "model")
    )
    assert best.keys() == last.keys()
    assert all(best[name].equal(last[name]) for name in best)
    assert "fd_random" in header["training"]["score"]
    said = run("reconstruct", out / "best.safetensors", photos[0], "-o", tmp_path / "pair")
    assert "at random" not in said


def test_a_best_model_of_before_says_why_its_search_begins_at_random_places(
    image_folder: Path, photos: list[Path], tmp_path: Path
) -> None:
    out = scored(image_folder, tmp_path / "run", 200)
    best = out / "best.safetensors"
    assert not read_file(best)[1]["encoder.trained"]
    for verb in ("reconstruct", "interpolate"):
        said = run(verb, best, *photos, "-o", tmp_path / verb)
        assert WORDS in said
        assert "at random" in said
    same_run = run("reconstruct", out, photos[0], "-o", tmp_path / "last")
    assert "at random" not in same_run
    done = gentool_command("reconstruct", best, photos[0], "--steps", 0, "-o", tmp_path / "none")
    assert done.code == 2
    assert WORDS in done.err
    assert "--steps 0" in done.err


def test_a_model_without_an_encoder_says_so(
    image_folder: Path, photos: list[Path], tmp_path: Path
) -> None:
    run("train", "gan", "--data", image_folder, "--out", tmp_path / "run", "--images", 64, *TINY,
        "-o", "encoder_share=0")  # fmt: skip
    said = run("reconstruct", tmp_path / "run", photos[0], "--steps", 8, "-o", tmp_path / "pair")
    assert "-o encoder_share=0" in said
    assert "at random" in said
