"""``reconstruct --draw`` and ``--keep-top``, ``sample --keep-top``: which layers are sampled."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Finished, gentool_command
from PIL import Image


def pictures(done: Finished) -> list[np.ndarray]:
    """The pictures that a command names on stdout."""
    assert done.code == 0, done.err
    return [np.array(Image.open(line.split("\t")[0])) for line in done.lines]


def rebuild(run: Path, image_folder: Path, out: Path, *more: object) -> Finished:
    """Reconstruct two images."""
    photos = [image_folder / "bar" / "001.png", image_folder / "disc" / "002.png"]
    return gentool_command("reconstruct", run, *photos, "-o", out, *more)


def same(a: Finished, b: Finished) -> bool:
    """Whether two commands made the same pictures."""
    return all(np.array_equal(x, y) for x, y in zip(pictures(a), pictures(b), strict=True))


@pytest.mark.parametrize("model", ["vae", "vae-gan", "hvae"])
def test_a_draw_depends_on_the_seed_and_which_was_taken_is_said(
    model: str, trained: Callable[[str], Path], image_folder: Path, tmp_path: Path
) -> None:
    run = trained(model)
    mean = rebuild(run, image_folder, tmp_path / "mean", "--json")
    first, second, again = (
        rebuild(run, image_folder, tmp_path / f"{k}", "--draw", "--seed", seed)
        for k, seed in enumerate((1, 2, 1))
    )
    assert "2 images from the posterior mean, mean PSNR" in mean.err
    answer = json.loads(mean.out)
    assert answer["draw"] is False  # the mean, and so no seed
    assert "seed" not in answer
    assert "2 images from samples of the posterior, mean PSNR" in first.err
    assert same(first, again)
    with Image.open(first.lines[0].split("\t")[0]) as picture:
        made = json.loads(picture.info["gentool"])
    assert (made["draw"], made["seed"]) == (True, 1)
    assert not same(first, second)
    means = [np.array(Image.open(row["file"])) for row in answer["images"]]
    assert not all(np.array_equal(a, b) for a, b in zip(means, pictures(first), strict=True))


@pytest.mark.parametrize("model", ["gan", "autoencoder", "fsq"])
def test_models_without_a_posterior_refuse_to_draw(
    model: str, trained: Callable[[str], Path], image_folder: Path, tmp_path: Path
) -> None:
    done = rebuild(trained(model), image_folder, tmp_path / "out", "--draw")
    assert done.code == 2
    assert "no posterior. Leave --draw out" in done.err


def test_a_reconstruction_keeps_the_top_and_draws_the_rest(
    trained: Callable[[str], Path], image_folder: Path, tmp_path: Path
) -> None:
    run = trained("hvae")
    plain, all_kept, none_kept, some = (
        rebuild(run, image_folder, tmp_path / f"{k}", *more)
        for k, more in enumerate(
            [(), ("--keep-top", 4), ("--keep-top", 0), ("--keep-top", 3, "--seed", 1)]
        )
    )
    assert same(plain, all_kept)
    assert not same(plain, none_kept)
    assert not same(none_kept, some)
    too_many = rebuild(run, image_folder, tmp_path / "x", "--keep-top", 5)
    assert (too_many.code, "only 4 layers of latents" in too_many.err) == (2, True)


def test_variations_differ_below_the_layers_that_they_share(
    trained: Callable[[str], Path], tmp_path: Path
) -> None:
    def sample(name: str, *more: object) -> list[np.ndarray]:
        run, out = trained("hvae"), tmp_path / name
        return pictures(gentool_command("sample", run, "-n", 3, "--seed", 4, "-o", out, *more))

    plain, varied = sample("plain"), sample("varied", "--keep-top", 3)
    assert np.array_equal(plain[0], varied[0])
    assert not np.array_equal(varied[0], varied[1])
    assert not np.array_equal(plain[1], varied[1])
    alike = sample("alike", "--keep-top", 4)
    assert all(np.array_equal(alike[0], picture) for picture in alike)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            ("sample", "hvae", "--keep-top", 2, "--seeds", "1-3"),
            "with -n",
        ),
        (
            ("sample", "gan", "--keep-top", 2),
            "does not support --keep-top; it has truncation",
        ),
        (("sample", "fsq", "--keep-top", 2), "it has temperature, top-k, top-p. Leave"),
        (("sample", "vae", "--top-k", 2), "does not support --top-k; it has no drawing options"),
        (("sample", "gan", "--class", "x"), "no class named 'x'"),
        (("reconstruct", "vae", "--keep-top", 2), "Leave --keep-top out"),
        (("reconstruct", "vae", "--draw", "--steps", 3), "--draw uses only the encoder"),
        (
            ("reconstruct", "vae", "--keep-top", 1, "--fit-weights", "x"),
            "--keep-top samples new pictures",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    command: tuple[object, ...], words: str, trained: Callable[[str], Path], image_folder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    verb, model, *rest = command
    images = [image_folder / "bar" / "001.png"] if verb == "reconstruct" else []
    done = gentool_command(verb, trained(str(model)), *images, *rest, "-o", tmp_path / "out")
    assert done.code == 2
    assert words in done.err
