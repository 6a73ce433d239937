"""Colours that nobody sees, under alpha 0, are the same for all images: black, at every size."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import draw, gentool_command
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from gentool.core.images import ImageShape, to_pixels
from gentool.data import Preprocessing, decode, open_source, prepare, preprocessing
from gentool.data.preprocessing import FITS, VERSION

SIDE = 16


def encoded(values: NDArray[np.uint8], kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind, **options)
    return buffer.getvalue()


def cut_out(hidden: int, side: int = SIDE) -> NDArray[np.uint8]:
    """A drawing with half-transparent pixels, and pixels of alpha 0 of a hidden colour."""
    values = np.concatenate([draw(0, side=side), np.full((side, side, 1), 255)], axis=-1)
    values[side // 4 : side // 2, :, 3] = 90
    values[side // 2 :] = [hidden, 255 - hidden, hidden, 0]
    return values.astype(np.uint8)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(16, 16), (8, 8), (32, 32), (16, 24), (24, 16)])
@pytest.mark.parametrize(("kind", "options"), [
    ("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True}),
])  # fmt: skip
def test_hidden_colours_are_not_learned(
    kind: str, options: dict[str, Any], size: tuple[int, int], fit: str
) -> None:
    wanted = Preprocessing(ImageShape(*size, 4), fit, "#20ff40")
    one, other = (decode(encoded(cut_out(h), kind, **options), wanted) for h in (0, 255))
    assert np.array_equal(one, other)
    assert (one[one[..., 3] == 0] == 0).all()
    assert (one[..., 3] == 0).any()


def test_colours_of_partial_alpha_stay() -> None:
    values = cut_out(77)
    found = decode(encoded(values), Preprocessing(ImageShape(SIDE, SIDE, 4)))
    assert np.array_equal(found[: SIDE // 2], values[: SIDE // 2])


@pytest.mark.parametrize("colour", [0, 255])
def test_a_palette_with_a_transparent_colour_hides_it(colour: int) -> None:
    image = Image.new("P", (SIDE, SIDE))
    image.putpalette([colour] * 3 + [9, 8, 7])
    image.paste(1, (0, 0, SIDE // 2, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "GIF", transparency=0)
    found = decode(buffer.getvalue(), Preprocessing(ImageShape(SIDE, SIDE, 4)))
    assert (found[:, SIDE // 2 :] == 0).all()
    assert (found[:, : SIDE // 2] == [9, 8, 7, 255]).all()


def test_what_a_model_makes_follows_the_same_rule() -> None:
    images = torch.rand(3, 4, 8, 8) * 2 - 1
    images[:, 3, ::2] = -1.2
    found = to_pixels(images)
    assert (found[:, ::2] == 0).all()
    assert (found[:, 1::2, :, :3] > 0).any()


@pytest.mark.parametrize(("made_by", "bad"), [(2, 0), (VERSION, 1)])
def test_a_cache_of_another_version_is_made_anew(
    made_by: int, bad: int, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that another version could not read is tried again."""
    folder = tmp_path / "sprites"
    folder.mkdir()
    for k in range(3):
        (folder / f"{k}.png").write_bytes(encoded(cut_out(k)))
    (folder / "new.png").write_bytes(b"something that this version does not read")
    wanted = Preprocessing(ImageShape(SIDE, SIDE, 4))
    source = open_source(str(folder))
    with monkeypatch.context() as older:
        older.setattr(preprocessing, "VERSION", made_by)
        assert len(prepare(source, wanted, max_bad=1).bad) == 1
    (folder / "new.png").write_bytes(encoded(cut_out(9)))  # the source still has its fingerprint
    found = prepare(source, wanted, max_bad=1)
    assert (len(found.bad), len(found)) == (bad, 4 - bad)


def test_training_sees_no_hidden_colours_and_gives_none_back(
    tmp_path: Path, own_cache: Path
) -> None:
    runs = []
    for hidden in (0, 255):
        folder = tmp_path / f"{hidden}" / "sprites"
        folder.mkdir(parents=True)
        for k in range(16):
            values = cut_out(hidden)
            values[0, 0, :3] = 10 * k
            (folder / f"{k:02d}.png").write_bytes(encoded(values))
        runs.append(tmp_path / f"{hidden}" / "run")
        done = gentool_command(
            "train", "vae", "--data", folder, "--out", runs[-1], "--images", 32, "--batch", 8,
            "--width", 8, "--device", "cpu", "--holdout", 0, "--seed", 1,
        )  # fmt: skip
        assert done.code == 0, done.err
    weights = [load_file(run / "model.safetensors") for run in runs]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    out = tmp_path / "out.npz"
    done = gentool_command("sample", runs[0], "-n", 8, "-o", out, "--device", "cpu")
    assert done.code == 0, done.err
    images = np.load(out)["images"]
    assert images.shape[-1] == 4
    assert (images[images[..., 3] == 0] == 0).all()


def test_runs_and_models_of_older_versions_are_told_apart(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older version trained on hidden colours: the run says so, and the model is evaluated."""
    folder = tmp_path / "sprites"
    folder.mkdir()
    for k in range(64):
        values = cut_out(200)
        values[0, 0, :3] = 3 * k
        (folder / f"{k:02d}.png").write_bytes(encoded(values))
    options = ["--batch", 8, "--width", 8, "--device", "cpu", "--holdout", 0.3, "--seed", 1]
    run = tmp_path / "run"
    with monkeypatch.context() as older:
        older.setattr(preprocessing, "VERSION", 2)
        older.setattr(preprocessing, "hide_colours", lambda pixels: pixels)
        train = ["train", "vae", "--data", folder, "--out", run, *options]
        assert gentool_command(*train, "--images", 32).code == 0
    again = gentool_command(*train, "--images", 64)
    assert again.code == 2
    assert "other images" in again.err
    assert "pixels of alpha 0 as black" in again.err
    assert gentool_command(*train, "--images", 64, "--override").code == 0
    with monkeypatch.context() as older:
        older.setattr(preprocessing, "VERSION", 2)
        older.setattr(preprocessing, "hide_colours", lambda pixels: pixels)
        train = ["train", "vae", "--data", folder, "--out", tmp_path / "other", *options]
        assert gentool_command(*train, "--images", 32).code == 0
    scored = gentool_command(
        "evaluate", tmp_path / "other", "--data", folder, "--features", "random", "-n", 20,
        "--metrics", "frechet", "--device", "cpu",
    )  # fmt: skip
    assert "pixels of alpha 0 as black" in scored.err, scored.err
    assert scored.code == 0
