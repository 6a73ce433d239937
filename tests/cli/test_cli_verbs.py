"""``sample``, ``interpolate``, ``reconstruct``, ``info`` and ``list``, on tiny trained models."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    SIDE,
    TINY,
    Finished,
    draw,
    environment,
    gentool_command,
    run_gentool,
    words,
)
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open

from gentool.checkpoint import load_model
from gentool.inference.sampling import sample_images
from gentool.models import MODELS
from gentool.models.gan.losses import LOSSES
from gentool.models.likelihoods import LIKELIHOODS
from gentool.models.presets import PRESETS
from gentool.models.priors import PRIORS


def files_by_name(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of the files in a folder."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def pixels(path: Path) -> NDArray[np.uint8]:
    """An image file as an array."""
    with Image.open(path) as image:
        return np.asarray(image)


def recipe_of(source: Path | io.BytesIO) -> Mapping[str, object]:
    """The recipe in a PNG."""
    with Image.open(source) as image:
        found: Mapping[str, object] = json.loads(image.info["gentool"])
    return found


# --- sample -------------------------------------------------------------------------------------


def sample(model: Path, out: Path, *more: object) -> Finished:
    """Sample into ``out``, which must work."""
    done = gentool_command("sample", model, "-o", out, *more)
    assert done.code == 0, done.err
    return done


@pytest.mark.parametrize("model", MODELS)
def test_sample_writes_sixteen_images_and_prints_their_paths(
    model: str, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    done = gentool_command("sample", trained(model), cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.lines == [str(Path("samples") / f"seed000000-{k:06d}.png") for k in range(16)]
    for line in done.lines:
        assert pixels(tmp_path / line).shape == (SIDE, SIDE, 3)


def test_a_run_folder_stands_for_its_model_file(gan: Path, tmp_path: Path) -> None:
    sample(gan, tmp_path / "a", "-n", 3)
    sample(gan / "model.safetensors", tmp_path / "b", "-n", 3)
    assert files_by_name(tmp_path / "a") == files_by_name(tmp_path / "b")


def test_the_model_file_alone_is_enough(gan: Path, tmp_path: Path) -> None:
    copy = tmp_path / "other name.bin"
    copy.write_bytes((gan / "model.safetensors").read_bytes())
    sample(copy, tmp_path / "a", "-n", 2)
    sample(gan, tmp_path / "b", "-n", 2)
    assert files_by_name(tmp_path / "a") == files_by_name(tmp_path / "b")


@pytest.mark.parametrize("model", MODELS)
def test_image_k_of_a_seed_is_the_same_file_whatever_count_batch_and_start(
    model: str, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    run = trained(model)
    sample(run, tmp_path / "all", "-n", 70, "--seed", 5)
    whole = files_by_name(tmp_path / "all")
    for number, more in enumerate([
        ("-n", 1), ("-n", 3), ("-n", 70, "--batch", 1), ("-n", 70, "--batch", 33),
        ("-n", 2, "--start", 65), ("-n", 5, "--start", 63, "--batch", 2),
    ]):  # fmt: skip
        part = tmp_path / str(number)
        sample(run, part, "--seed", 5, *more)
        found = files_by_name(part)
        assert found == {name: whole[name] for name in found}


@pytest.mark.parametrize("count", [1, 3, 64, 70])
def test_the_network_sees_batches_of_one_size_whatever_the_count(count: int, gan: Path) -> None:
    """Why the bytes agree: libraries choose algorithms, and so rounding, by the batch size."""
    loaded = load_model(gan)
    seen: list[int] = []
    for part in loaded.model.children():
        part.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    assert len(sample_images(loaded, count, seed=3)) == count
    assert set(seen) == {64}


def test_different_seeds_and_indices_give_different_images(vae: Path, tmp_path: Path) -> None:
    sample(vae, tmp_path, "-n", 4, "--seeds", "0-3")
    assert len({pixels(p).tobytes() for p in tmp_path.iterdir()}) == 16


def test_several_seeds_give_one_image_each_named_by_seed(vae: Path, tmp_path: Path) -> None:
    done = sample(vae, tmp_path / "many", "--seeds", "0,4-6")
    names = [f"seed{s:06d}-000000.png" for s in (0, 4, 5, 6)]
    assert done.lines == [str(tmp_path / "many" / n) for n in names]
    sample(vae, tmp_path / "one", "-n", 1, "--seed", 5)
    one, many = (tmp_path / folder / "seed000005-000000.png" for folder in ("one", "many"))
    assert one.read_bytes() == many.read_bytes()


def test_several_seeds_and_indices_are_named_by_both(vae: Path, tmp_path: Path) -> None:
    sample(vae, tmp_path, "-n", 2, "--start", 3, "--seeds", "1,2")
    assert list(files_by_name(tmp_path)) == [
        f"seed{s:06d}-{k:06d}.png" for s in (1, 2) for k in (3, 4)
    ]


def test_recipe_names_hash_seed_and_index_and_no_path(gan: Path, tmp_path: Path) -> None:
    sample(gan, tmp_path, "-n", 1, "--start", 9, "--seed", 7)
    recipe = recipe_of(tmp_path / "seed000007-000009.png")
    assert (
        recipe["model_sha256"]
        == hashlib.sha256((gan / "model.safetensors").read_bytes()).hexdigest()
    )
    assert (recipe["model"], recipe["seed"], recipe["index"]) == ("gan", 7, 9)
    assert str(gan) not in json.dumps(recipe)


@pytest.mark.parametrize(("name", "kind"), [("jpg", "JPEG"), ("jpeg", "JPEG"), ("webp", "WEBP"),
                                            ("png", "PNG"), ("PNG", "PNG")])  # fmt: skip
def test_format_of_single_files(name: str, kind: str, gan: Path, tmp_path: Path) -> None:
    done = sample(gan, tmp_path, "-n", 2, "--format", name)
    assert done.lines == [str(tmp_path / f"seed000000-{k:06d}.{name.lower()}") for k in range(2)]
    with Image.open(done.lines[0]) as image:
        assert (image.format, image.size) == (kind, (SIDE, SIDE))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".webp", ".PNG"])
def test_one_grid(suffix: str, gan: Path, tmp_path: Path) -> None:
    done = sample(gan, tmp_path / f"grid{suffix}", "-n", 6)
    assert done.lines == [str(tmp_path / f"grid{suffix}")]
    # 3 columns, 2 rows, 2 pixels between
    assert pixels(tmp_path / f"grid{suffix}").shape == (2 * SIDE + 2, 3 * SIDE + 4, 3)


def test_grid_holds_the_images_row_by_row(gan: Path, tmp_path: Path) -> None:
    sample(gan, tmp_path / "grid.png", "-n", 5)
    sample(gan, tmp_path / "single", "-n", 5)
    sheet = pixels(tmp_path / "grid.png")
    for k in range(5):
        top, left = (k // 3) * (SIDE + 2), (k % 3) * (SIDE + 2)
        single = pixels(tmp_path / "single" / f"seed000000-{k:06d}.png")
        assert np.array_equal(sheet[top : top + SIDE, left : left + SIDE], single)
    assert (sheet[SIDE + 2 :, 2 * (SIDE + 2) :] == 255).all()  # the empty place
    assert recipe_of(tmp_path / "grid.png")["index"] == "0-4"


def test_arrays(gan: Path, tmp_path: Path) -> None:
    sample(gan, tmp_path / "x.npz", "-n", 2, "--seeds", "3,9", "--start", 4)
    sample(gan, tmp_path / "single", "-n", 2, "--seeds", "3,9", "--start", 4)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as archive:
        assert archive["images"].dtype == np.uint8
        assert archive["seed"].tolist() == [3, 3, 9, 9]
        assert archive["index"].tolist() == [4, 5, 4, 5]
        for image, path in zip(archive["images"], sorted((tmp_path / "single").iterdir()),
                               strict=True):  # fmt: skip
            assert np.array_equal(image, pixels(path))


@pytest.mark.parametrize("seed", [2**63, 2**64, 10**30])
def test_arrays_never_hold_a_pickle_whatever_the_seed(seed: int, gan: Path, tmp_path: Path) -> None:
    done = gentool_command("sample", gan, "-n", 1, "--seed", seed, "-o", tmp_path / "x.npz")
    if done.code == 0:
        with np.load(tmp_path / "x.npz", allow_pickle=False) as archive:
            assert int(archive["seed"][0]) == seed
    else:
        assert done.code == 2
        assert "Traceback" not in done.err


def test_tar_on_stdout_holds_the_same_files(gan: Path, tmp_path: Path) -> None:
    done = gentool_command("sample", gan, "-n", 5, "--seed", 2, "-o", "-")
    assert done.code == 0
    sample(gan, tmp_path, "-n", 5, "--seed", 2)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        members = {m.name: tar.extractfile(m) for m in tar}
        found = {name: file.read() for name, file in members.items() if file is not None}
        assert {m.mtime for m in tar.getmembers()} == {0}
    assert found == files_by_name(tmp_path)
    assert done.stdout == gentool_command("sample", gan, "-n", 5, "--seed", 2, "-o", "-").stdout


def test_tar_on_a_real_stdout(gan: Path) -> None:
    done = run_gentool("sample", gan, "-n", 3, "--format", "jpg", "-o", "-", "--device", "cpu")
    assert done.code == 0, done.err
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        assert tar.getnames() == [f"seed000000-{k:06d}.jpg" for k in range(3)]


def test_a_reader_that_goes_away_ends_the_command_quietly(gan: Path) -> None:
    command = [sys.executable, "-m", "gentool", "sample", str(gan), "-n", "100000", "-o", "-"]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(512)
        process.stdout.close()
        err = process.stderr.read().decode()
        assert process.wait(60) == 141
    assert err == ""


def test_sample_json(gan: Path, tmp_path: Path) -> None:
    done = sample(gan, tmp_path, "-n", 2, "--json")
    assert json.loads(done.out) == {
        "model": str(gan / "model.safetensors"),
        "seeds": [0],
        "files": [str(tmp_path / f"seed000000-{k:06d}.png") for k in range(2)],
        "images": 2,
    }
    assert done.err == ""


def test_sample_says_how_its_images_come_about(autoencoder: Path, tmp_path: Path) -> None:
    done = sample(autoencoder, tmp_path, "-n", 2)
    assert done.err == (
        f"2 images from {autoencoder / 'model.safetensors'}: samples decode latents drawn from a "
        "mixture of Gaussians fitted to the codes of the training images\n"
    )


def test_sampling_again_leaves_no_other_files(gan: Path, tmp_path: Path) -> None:
    sample(gan, tmp_path, "-n", 3)
    before = files_by_name(tmp_path)
    sample(gan, tmp_path, "-n", 3)
    assert files_by_name(tmp_path) == before


# --- interpolate --------------------------------------------------------------------------------


def interpolate(model: Path, out: Path | str, *more: object) -> Finished:
    """Interpolate, which must work."""
    done = gentool_command("interpolate", model, "-o", out, *more)
    assert done.code == 0, done.err
    return done


def test_strip_is_one_row_and_has_a_default_name(gan: Path, tmp_path: Path) -> None:
    done = gentool_command("interpolate", gan, "--seeds", "1,5-6", "--steps", 4, cwd=tmp_path)
    assert done.lines == ["interpolation.png"]
    height, width, _ = pixels(tmp_path / "interpolation.png").shape
    assert (height, width) == (SIDE, 9 * (SIDE + 2) - 2)


def test_a_strip_that_gets_too_wide_has_a_row_from_each_key(gan: Path, tmp_path: Path) -> None:
    interpolate(gan, tmp_path / "strip.png", "--seeds", "0-2", "--steps", 100, "--loop")
    interpolate(gan, tmp_path / "frames", "--seeds", "0-2", "--steps", 100, "--loop")
    sheet = pixels(tmp_path / "strip.png")
    assert sheet.shape[:2] == (3 * (SIDE + 2) - 2, 100 * (SIDE + 2) - 2)
    for row in range(3):
        top = row * (SIDE + 2)
        key = pixels(tmp_path / "frames" / f"seed0-seed1-seed2-{100 * row:06d}.png")
        assert np.array_equal(sheet[top : top + SIDE, :SIDE], key)


@pytest.mark.parametrize("model", MODELS)
def test_key_frames_are_image_zero_of_each_seed(
    model: str, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    interpolate(trained(model), tmp_path / "path", "--seeds", "3,8,1", "--steps", 5)
    frames = sorted((tmp_path / "path").iterdir())
    assert [p.name for p in frames] == [f"seed3-seed8-seed1-{k:06d}.png" for k in range(11)]
    sample(trained(model), tmp_path / "keys", "--seeds", "3,8,1")
    for frame, seed in zip(frames[::5], (3, 8, 1), strict=True):
        key = pixels(tmp_path / "keys" / f"seed{seed:06d}-000000.png").astype(int)
        # slerp at an end is exact but for the last bit of a float: one grey level at most
        assert np.abs(pixels(frame) - key).max() <= 1


def test_a_loop_closes_without_a_repeated_frame(gan: Path, tmp_path: Path) -> None:
    interpolate(gan, tmp_path / "open", "--seeds", "0-2", "--steps", 3)
    interpolate(gan, tmp_path / "loop", "--seeds", "0-2", "--steps", 3, "--loop")
    opened, loop = files_by_name(tmp_path / "open"), files_by_name(tmp_path / "loop")
    assert (len(opened), len(loop)) == (7, 9)
    for name in list(opened)[:7]:
        assert np.array_equal(pixels(tmp_path / "open" / name), pixels(tmp_path / "loop" / name))
    last, first = (pixels(tmp_path / "loop" / f"seed0-seed1-seed2-{k:06d}.png") for k in (8, 0))
    assert not np.array_equal(last, first)


@pytest.mark.parametrize(("name", "kind"), [("film.gif", "GIF"), ("film.webp", "WEBP")])
def test_film(name: str, kind: str, gan: Path, tmp_path: Path) -> None:
    done = interpolate(
        gan, tmp_path / name, "--seeds", "0-2", "--steps", 4, "--loop", "--milliseconds", 80
    )
    assert done.lines == [str(tmp_path / name)]
    with Image.open(tmp_path / name) as film:
        film.load()
        assert (film.format, film.size, getattr(film, "n_frames", 1)) == (kind, (SIDE, SIDE), 12)
        assert film.info["duration"] == 80
        assert film.info["loop"] == 0


@pytest.mark.parametrize(
    ("flags", "output", "words"),
    [
        (("sample", "--format", "jpg"), "one.png", "--format jpg is for a folder or a tar"),
        (("sample", "--format", "png"), "all.npz", "--format png is for a folder or a tar"),
        (("interpolate", "--milliseconds", 60), "strip.png", "--milliseconds is for a film"),
        (("interpolate", "--milliseconds", 60), "frames", "--milliseconds is for a film"),
        (("interpolate", "--mix", 3, "--steps", 4), "mix.png", "--mix writes one sheet in w"),
    ],
)
def test_an_option_without_effect_on_the_output_is_refused(
    flags: tuple[str, ...], output: str, words: str, gan: Path, tmp_path: Path
) -> None:
    verb, *rest = flags
    done = gentool_command(verb, gan, *rest, "-o", tmp_path / output, "--device", "cpu")
    assert done.code == 2
    assert words in done.err
    assert not list(tmp_path.iterdir())


def test_slerp_and_lerp_differ_between_the_keys_and_agree_on_them(
    gan: Path, tmp_path: Path
) -> None:
    for method in ("slerp", "lerp"):
        interpolate(gan, tmp_path / method, "--seeds", "0,1", "--steps", 4, "--method", method)
    a, b = ({n: pixels(tmp_path / m / n) for n in files_by_name(tmp_path / m)}
            for m in ("slerp", "lerp"))  # fmt: skip
    assert np.array_equal(a["seed0-seed1-000000.png"], b["seed0-seed1-000000.png"])
    assert np.array_equal(a["seed0-seed1-000004.png"], b["seed0-seed1-000004.png"])
    assert not np.array_equal(a["seed0-seed1-000002.png"], b["seed0-seed1-000002.png"])


@pytest.mark.parametrize(("model", "method"), [("gan", "slerp"), ("autoencoder", "lerp")])
def test_the_method_suits_the_model_unless_given(
    model: str, method: str, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    interpolate(trained(model), tmp_path / "a.png", "--seeds", "0,1", "--steps", 3)
    recipe = recipe_of(tmp_path / "a.png")
    assert recipe["method"] == method
    assert recipe["seeds"] == [0, 1]
    assert recipe["frame"] == "0-3"


def test_in_one_dimension_the_arc_is_a_line(image_folder: Path, tmp_path: Path) -> None:
    """Two numbers of opposite sign are opposite vectors, with no plane to turn in."""
    run = tmp_path / "run"
    done = gentool_command(
        "train", "gan", "--data", image_folder, "--out", run, "--images", 32, *TINY,
        "-o", "latent_size=1",
    )  # fmt: skip
    assert done.code == 0, done.err
    for method in ("slerp", "lerp"):
        interpolate(
            run, tmp_path / method, "--seeds", "0-5", "--steps", 4, "--loop", "--method", method
        )
    for a in (tmp_path / "lerp").iterdir():
        found = pixels(tmp_path / "slerp" / a.name).astype(int)
        assert np.abs(found - pixels(a)).max() <= 1


def test_interpolation_json_and_tar(gan: Path, tmp_path: Path) -> None:
    done = interpolate(gan, tmp_path / "a.jpg", "--seeds", "0,1", "--steps", 3, "--json")
    assert json.loads(done.out) == {
        "model": str(gan / "model.safetensors"), "files": [str(tmp_path / "a.jpg")], "frames": 4,
    }  # fmt: skip
    done = interpolate(gan, "-", "--seeds", "0,1", "--steps", 3)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        assert tar.getnames() == [f"seed0-seed1-{k:06d}.png" for k in range(4)]


# --- reconstruct --------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images of the model's size."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(3):
        Image.fromarray(draw(200 + k)).save(folder / f"p{k}.png")
    return folder


def measured(path: Path) -> tuple[float, float]:
    """MSE and PSNR of a written pair, original on the left."""
    both = pixels(path).astype(np.float64) / 255
    assert both.shape == (SIDE, 2 * SIDE + 2, 3)
    mse = float(((both[:, :SIDE] - both[:, -SIDE:]) ** 2).mean())
    return mse, float(10 * np.log10(1 / mse))


@pytest.mark.parametrize("model", MODELS)
def test_reconstruct_prints_path_and_figures_that_the_written_pair_bears_out(
    model: str, trained: Callable[[str], Path], photos: Path, tmp_path: Path
) -> None:
    """The GAN has no encoder: its latents are found by inversion."""
    done = gentool_command("reconstruct", trained(model), photos, "--steps", 20, cwd=tmp_path)
    assert done.code == 0, done.err
    assert len(done.lines) == 3
    for k, line in enumerate(done.lines):
        path, mse, psnr, ssim = line.split("\t")
        assert path == str(Path("reconstructions") / f"photos-p{k}.png")
        true_mse, true_psnr = measured(tmp_path / path)
        assert float(mse) == pytest.approx(true_mse, abs=5e-7)
        assert 0 <= float(ssim) < 1
        assert float(psnr) == pytest.approx(true_psnr, abs=5e-3)
        assert np.array_equal(pixels(tmp_path / path)[:, :SIDE], draw(200 + k))
    assert "3 images, mean PSNR" in done.err


def test_inversion_finds_an_image_of_the_model_better_with_more_steps(
    gan: Path, tmp_path: Path
) -> None:
    sample(gan, tmp_path / "own", "-n", 1, "--seed", 11)
    found = []
    for steps in (1, 200):
        done = gentool_command(
            "reconstruct", gan, tmp_path / "own", "--steps", steps, "--json",
            "-o", tmp_path / str(steps),
        )  # fmt: skip
        found.append(json.loads(done.out)["mean_psnr"])
    assert found[1] > found[0] + 3


def test_reconstruct_json(vae: Path, photos: Path, tmp_path: Path) -> None:
    done = gentool_command("reconstruct", vae, photos, "-o", tmp_path / "r", "--json")
    answer = json.loads(done.out)
    assert [row["image"] for row in answer["images"]] == [
        str(photos / f"p{k}.png") for k in range(3)
    ]
    for row in answer["images"]:
        assert (row["mse"], row["psnr"]) == pytest.approx(measured(Path(row["file"])))
    assert answer["mean_psnr"] == pytest.approx(np.mean([r["psnr"] for r in answer["images"]]))


def test_reconstruct_one_sheet_names_the_originals(vae: Path, photos: Path, tmp_path: Path) -> None:
    done = gentool_command("reconstruct", vae, photos, "-o", tmp_path / "sheet.png")
    assert [line.split("\t")[0] for line in done.lines] == [
        *(str(photos / f"p{k}.png") for k in range(3)), str(tmp_path / "sheet.png"),
    ]  # fmt: skip
    assert (tmp_path / "sheet.png").is_file()


def test_reconstruct_to_a_tar_prints_nothing_else(vae: Path, photos: Path) -> None:
    done = gentool_command("reconstruct", vae, photos, "-o", "-", cwd=photos)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        assert tar.getnames() == ["p0.png", "p1.png", "p2.png"]
        member = tar.extractfile("p1.png")
        assert member is not None
        recipe = recipe_of(io.BytesIO(member.read()))
    assert recipe["original"] == "p1.png"


def test_same_names_from_two_folders_are_told_apart(
    vae: Path, photos: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(draw(300)).save(other / "p0.png")
    done = gentool_command("reconstruct", vae, photos / "p0.png", other, "-o", "r", cwd=tmp_path)
    names = [Path(line.split("\t")[0]).name for line in done.lines]
    assert names == ["photos-p0.png", "other-p0.png"]


def test_images_of_other_sizes_are_fitted(vae: Path, tmp_path: Path) -> None:
    Image.fromarray(draw(1, side=50)[:40]).save(tmp_path / "large.jpg")
    done = gentool_command("reconstruct", vae, "large.jpg", "-o", "r", cwd=tmp_path)
    assert done.code == 0
    measured(tmp_path / "r" / "large.jpg.png")


def test_one_bad_image_among_good_ones_is_named_and_the_good_ones_are_done(
    vae: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "p1.png").write_bytes((photos / "p1.png").read_bytes()[:60])
    done = gentool_command("reconstruct", vae, photos, "-o", tmp_path / "r", cwd=photos)
    assert done.code == 7
    assert list(files_by_name(tmp_path / "r")) == ["p0.png", "p2.png"]
    assert len(done.lines) == 2
    assert f"error: {photos / 'p1.png'}: " in done.err
    assert done.err.splitlines()[-1] == "error: 1 of 3 images cannot be read"


def test_a_missing_image_counts_as_bad(vae: Path, photos: Path, tmp_path: Path) -> None:
    done = gentool_command(
        "reconstruct", vae, photos / "p0.png", photos / "none.png", "-o", tmp_path / "r"
    )
    assert done.code == 7
    assert f"{photos / 'none.png'}: No such file or directory" in done.err


def test_a_folder_is_searched_as_it_is_for_training(
    vae: Path, photos: Path, tmp_path: Path
) -> None:
    """Deeply, in any case, without hidden files or folders named like images."""
    (photos / "deep.png").mkdir()
    (photos / "p2.png").rename(photos / "deep.png" / "P2.PNG")
    (photos / "._p0.png").write_bytes(b"what macOS leaves beside a file")
    (photos / ".thumbs").mkdir()
    (photos / ".thumbs" / "p0.png").write_bytes(b"broken")
    done = gentool_command("reconstruct", vae, photos, "-o", tmp_path / "r", cwd=photos)
    assert done.code == 0, done.err
    assert list(files_by_name(tmp_path / "r")) == ["deep.png-P2.png", "p0.png", "p1.png"]


def test_nothing_but_bad_images_is_unusable_data(vae: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    (tmp_path / "b.png").write_bytes(b"")
    done = gentool_command(
        "reconstruct", vae, tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "r"
    )
    assert done.code == 3
    assert done.err.splitlines()[-1] == "error: none of 2 images can be read"
    assert not (tmp_path / "r").exists()


# --- info ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_info_json_is_true(model: str, trained: Callable[[str], Path]) -> None:
    path = trained(model) / "model.safetensors"
    answer = json.loads(gentool_command("info", trained(model), "--json").out)
    assert answer["file"] == str(path)
    assert answer["bytes"] == path.stat().st_size
    assert answer["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert answer["model"] == model
    assert answer["image"] == {"height": SIDE, "width": SIDE, "channels": 3}
    assert answer["classes"] == ["bar", "disc"]
    assert answer["training"]["images"] == 320
    assert answer["config"]["latent_size"] == 8
    with safe_open(path, "pt") as file:
        buffers = {"density.shares", "density.means", "density.factors", "density.mean",
                   "density.scale", "generator.class_shares", "decoder.class_shares",
                   "encoder.trained", "codec.quantiser.usage", "transformer.class_shares",
                   "transformer.trained"}  # fmt: skip
        counted = sum(
            file.get_tensor(k).numel()
            for k in file.keys()  # noqa: SIM118 (no mapping)
            if k not in buffers and "running_" not in k and "num_batches" not in k
        )
    assert answer["parameters"] == counted


def test_info_as_text_says_what_matters(vae: Path) -> None:
    done = gentool_command("info", vae)
    assert done.code == 0
    text = words(done.out)
    for part in ("model vae", "images 16x16 rgb", "classes bar, disc", "training images 320",
                 "trained on 96 images of toys", "-o latent_size 8", "-o likelihood gaussian",
                 "samples samples decode latents"):  # fmt: skip
        assert part in text


def test_info_of_a_state_points_at_the_model(vae: Path) -> None:
    done = gentool_command("info", vae / "state.safetensors")
    assert done.code == 4
    assert "is a training state, not a model. Use model.safetensors" in done.err


# --- list ---------------------------------------------------------------------------------------


def test_list_shows_every_table() -> None:
    done = gentool_command("list", "--json")
    tables = json.loads(done.out)
    assert tables["models"] == {name: preset.meaning for name, preset in PRESETS.items()}
    assert tables["losses"] == LOSSES.describe()
    assert tables["likelihoods"] == LIKELIHOODS.describe()
    assert tables["priors"] == PRIORS.describe()
    assert set(tables["data"]) == {"builtin:shapes", "builtin:digits", "builtin:modes"}
    text = gentool_command("list").out
    for title, rows in tables.items():
        assert f"\n{title}\n" in f"\n{text}"
        for name, description in rows.items():
            assert f"{name} {description}" in words(text)


@pytest.mark.parametrize("table", ["models", "losses", "likelihoods", "data"])
def test_list_shows_one_table(table: str) -> None:
    whole = json.loads(gentool_command("list", "--json").out)
    assert json.loads(gentool_command("list", table, "--json").out) == {table: whole[table]}


@pytest.mark.parametrize("model", MODELS)
def test_list_shows_the_options_of_a_model(model: str) -> None:
    answer = json.loads(gentool_command("list", model, "--json").out)
    assert {"width", "ema_images", "latent_size"} <= set(answer)
    assert answer["latent_size"] == {
        "type": "int", "default": {"fsq": 4, "hvae": 8, "vae": 6, "vae-gan": 6}.get(model, 128),
        "meaning": answer["latent_size"]["meaning"],
    }  # fmt: skip
    lines = gentool_command("list", model).lines
    assert lines[0] == f"options of {model}, for -o name=value"
    assert [line.split()[0] for line in lines[1:]] == list(answer)


def test_list_of_an_unknown_name_shows_the_nearest() -> None:
    done = gentool_command("list", "lossess")
    assert done.code == 2
    assert "no table or model named 'lossess'. Did you mean 'losses'?" in done.err
