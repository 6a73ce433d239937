"""``gentool train``: its output, its files, and the origin of its settings."""

import json
import math
import os
import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import IMAGES, SIDE, TINY, Finished, gentool_command, words, write_images
from PIL import Image
from safetensors.torch import load_file

from gentool.checkpoint import load_model, read_file
from gentool.core.options import Scalar
from gentool.core.signals import StopFlag
from gentool.models import MODELS
from gentool.models.presets import PRESETS, budget_of
from gentool.training.display import Display

VAE_LOSSES = {"elbo", "kl", "kl_largest_unit", "active_units"}
TAIL_LOSSES = {"features", "adversarial", "d_loss", "margin", "r1", "r2"}
CODES_LOSSES = TAIL_LOSSES | {"l1", "perplexity", "code_usage", "nats_per_code"}
GAME_LOSSES = {"d_loss", "g_loss", "margin", "logits/real", "logits/fake"}
LOSSES = {
    "gan": GAME_LOSSES | {"r1", "r2", "gamma"},
    "vae": VAE_LOSSES,
    "vampvae": VAE_LOSSES - {"kl_largest_unit"},  # its KL is of all units at once
    "beta-vae": VAE_LOSSES,
    "iwae": {"iw_bound", "elbo", "kl", "active_units"},
    "autoencoder": {"mse"},
    "wae": {"mse", "mmd"},
    "rae": {"mse", "code-l2", "decoder-l2"},
    "dcgan": GAME_LOSSES,
    "sngan": GAME_LOSSES,
    "wgan-gp": GAME_LOSSES | {"wgan-gp"},
    "r3gan": GAME_LOSSES | {"r1", "r2", "gamma"},
    "stylegan2": GAME_LOSSES | {"r1", "gamma", "path-length"},
    "fastgan": GAME_LOSSES | {"reconstruction"},
    "fsq": CODES_LOSSES,
    "vqvae": CODES_LOSSES,
    "vae-gan": VAE_LOSSES | TAIL_LOSSES,
    "hvae": {"elbo", "kl", "bits_per_dim", "skipped_hvae"} | {f"kl/{k}" for k in range(4)},
}
ENCODER_LOSSES = {"encoder_pixels", "encoder_samples", "encoder_z"}  # the last phase of a GAN
UNREACHED = {"sngan", "wgan-gp"}  # five turns a step: none begins in the last tenth of 320 images


def train(model: str, data: object, out: Path, *more: object) -> Finished:
    """Train a tiny model in ``out``."""
    return gentool_command("train", model, "--data", data, "--out", out, *TINY, *more)


def resolved(*arguments: object, **more: object) -> dict[str, dict[str, Scalar]]:
    """What ``--dry-run --json`` says: value and origin of every setting."""
    done = gentool_command("train", *arguments, "--dry-run", "--json", **more)  # type: ignore[arg-type]
    assert done.code == 0, done.err
    found: dict[str, dict[str, Scalar]] = json.loads(done.out)
    return found


# --- a run and what it leaves -------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", [p if p in MODELS else pytest.param(p, marks=pytest.mark.slow) for p in PRESETS]
)
def test_stdout_holds_the_model_path_alone_and_stderr_ends_with_the_next_commands(
    model: str, image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = train(model, image_folder, out, "--images", 64)
    assert done.code == 0, done.err
    assert done.out == f"{out / 'model.safetensors'}\n"
    commands = [f"  {line}" for line in next_lines(out, image_folder)]
    assert done.err.splitlines()[-4:] == ["next:", *commands]
    assert "\x1b" not in done.err


def next_lines(out: Path, images: Path) -> list[str]:
    """The commands that a run in ``out`` ends with."""
    run = shlex.quote(str(out))
    return [
        f"gentool sample {run} -n 64",
        f"gentool interpolate {run} --seeds 0-4 -o film.gif",
        f"gentool evaluate {run} --data {images}",
    ]


def test_the_next_commands_work_as_they_stand(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "my run"
    done = train("vae", image_folder, out, "--images", 32)
    lines = done.err.splitlines()[-3:]
    assert lines == [f"  {line}" for line in next_lines(out, image_folder)]
    for line in lines:
        more = ("-n", "64") if "evaluate" in line else ()
        after = gentool_command(*shlex.split(line)[1:], *more, cwd=tmp_path)
        assert after.code == 0, after.err
    assert len(list((tmp_path / "samples").iterdir())) == 64
    assert (tmp_path / "film.gif").is_file()


def test_the_end_says_how_far_the_run_came(image_folder: Path, tmp_path: Path) -> None:
    done = train("autoencoder", image_folder, tmp_path / "run", "--images", 64, "--score-every", 32)
    told = done.err.splitlines()
    (length,) = (line for line in told if line.startswith("64 of the 200,000 images that "))
    assert "autoencoder usually needs: go on with --images 200000" in length
    (score,) = (line for line in told if line.startswith("FD-random "))
    assert "distance to the data: lower is better" in score
    (rebuilt,) = (line for line in told if line.startswith("PSNR "))
    assert rebuilt.endswith(" dB of reconstructed training images: higher is better")
    again = train("autoencoder", image_folder, tmp_path / "run", "--images", 64)
    assert again.err.splitlines()[-7:] == told[-7:]
    quiet = train("autoencoder", image_folder, tmp_path / "run", "--images", 64, "--json", "-q")
    scores = json.loads(quiet.out)["scores"]
    assert scores.keys() == {"fd_random", "psnr"}
    assert f"{scores['fd_random']:.3g}" in score and f"{scores['psnr']:.1f}" in rebuilt


def test_a_stopped_run_names_its_report(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = train("autoencoder", image_folder, out, "--images", 64, "--stop-after", 32)
    assert done.code == 75
    assert f"report: {out / 'report.html'}" in done.err.splitlines()


@pytest.mark.parametrize("model", PRESETS)
def test_log_lines_are_json_with_images_and_the_losses(
    model: str, trained: Callable[[str], Path]
) -> None:
    lines = (trained(model) / "log.jsonl").read_text().splitlines()
    assert lines
    logged: set[str] = set()
    for record in map(json.loads, lines):
        assert all(math.isfinite(v) for v in record.values())
        logged |= set(record)
    after = set() if PRESETS[model].model != "gan" or model in UNREACHED else ENCODER_LOSSES
    gradients = {name for name in logged if name.startswith("grad_")}
    assert gradients
    if after:
        assert gradients == {f"grad_{name}" for name in ("discriminator", "generator", "encoder")}
    logged -= {*gradients, "psnr"}  # the error of reconstructions, where there is an encoder
    assert {"images", "seconds", "share", "images_per_second"} | LOSSES[model] | after == logged
    assert json.loads(lines[-1])["images"] == 320
    assert json.loads(lines[-1])["share"] == 1


@pytest.mark.parametrize("model", PRESETS)
def test_previews_show_samples_and_reconstructions(
    model: str, trained: Callable[[str], Path]
) -> None:
    names = {p.name for p in (trained(model) / "samples").iterdir()}
    wanted = {"000000320.png"}
    if model not in UNREACHED:
        wanted.add("000000320-reconstructions.png")
    assert wanted <= names  # on a very slow machine there are earlier ones, by the clock
    with Image.open(trained(model) / "samples" / "000000320.png") as sheet:
        assert sheet.mode == "RGB"
        assert sheet.size == (8 * (SIDE + 2) - 2,) * 2  # 64 tiles, a gap of 2 between


def test_run_folder_holds_eight_things_and_no_leftovers(vae: Path) -> None:
    names = sorted(p.name for p in vae.iterdir())
    assert names == [
        ".lock", "images.index", "intake.json", "log.jsonl", "model.safetensors", "report.html",
        "run.json", "samples", "state.safetensors",
    ]  # fmt: skip
    modes = {p.stat().st_mode & 0o777 for p in vae.iterdir() if p.is_file() and p.name != ".lock"}
    assert modes == {0o666 & ~_umask()}


def _umask() -> int:
    """Return the umask of this process."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_default_run_folder_is_named_after_model_and_data(
    image_folder: Path, tmp_path: Path
) -> None:
    done = gentool_command(
        "train", "gan", "--data", image_folder, "--images", 32, *TINY, cwd=tmp_path
    )
    assert done.lines == [str(Path("runs") / "gan-toys" / "model.safetensors")]
    assert (tmp_path / "runs" / "gan-toys" / "state.safetensors").is_file()


def test_a_builtin_set_needs_no_file(tmp_path: Path) -> None:
    done = gentool_command(
        "train", "gan", "--data", "builtin:shapes:64", "--images", 32, *TINY, cwd=tmp_path
    )
    assert done.code == 0, done.err
    assert load_model(tmp_path / "runs" / "gan-shapes").header["classes"][0] == "circle"


@pytest.mark.parametrize("model", PRESETS)
def test_one_plain_image_is_enough(model: str, tmp_path: Path) -> None:
    """No variance anywhere: nothing that is fitted to the images may divide by it."""
    (tmp_path / "plain").mkdir()
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "plain" / "black.png")
    done = train(model, tmp_path / "plain", tmp_path / "run", "--images", 4, "--batch", 1)
    assert done.code == 0, done.err
    sampled = gentool_command("sample", tmp_path / "run", "-n", 3, cwd=tmp_path)
    assert sampled.code == 0, sampled.err


def test_budget_is_rounded_up_to_whole_steps(image_folder: Path, tmp_path: Path) -> None:
    done = train("autoencoder", image_folder, tmp_path / "run", "--images", 20, "--json")
    assert json.loads(done.out)["images"] == 32


def test_json_result(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = train("autoencoder", image_folder, out, "--images", 32, "--json")
    answer = json.loads(done.out)
    assert answer.pop("intake")["classes_from"] == "the folders"
    assert answer.pop("report") == str(out / "report.html")
    assert answer.pop("next") == next_lines(out, image_folder)
    assert answer.pop("scores").keys() == {"psnr"}
    assert answer.pop("usual_images") == 200_000
    assert answer == {"model": str(out / "model.safetensors"), "images": 32, "seed": 0}


def test_quiet_says_nothing(image_folder: Path, tmp_path: Path) -> None:
    done = train("autoencoder", image_folder, tmp_path / "run", "--images", 32, "--quiet")
    assert done.err == ""


def test_choices_made_unasked_are_said(image_folder: Path, tmp_path: Path) -> None:
    done = gentool_command(
        "train", "vae", "--data", image_folder, "--out", tmp_path / "run", "--images", 16,
        "--batch", 16, "--width", 4, "--device", "cpu",
    )  # fmt: skip
    assert f"vae on {IMAGES} images from {image_folder}, cpu" in done.err
    assert f"size {SIDE}x{SIDE}: " in done.err
    assert "mode rgb: 64 of 64 " in done.err


def test_files_that_cannot_be_read_are_named_counted_and_left_out(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "toys", 100)
    (folder / "bar" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    done = train("autoencoder", folder, tmp_path / "run", "--images", 16)
    assert done.code == 0
    assert "skipped bar/broken.png: " in done.err
    assert "skipped 1 of 101 images that cannot be read" in done.err
    assert load_model(tmp_path / "run").header["training"]["data"]["images"] == 100


def test_class_folders_stand_in_the_model_file(vae: Path) -> None:
    assert load_model(vae).header["classes"] == ["bar", "disc"]


# --- repeating the command ----------------------------------------------------------------------


def test_repeating_a_complete_run_says_so_and_touches_nothing(
    image_folder: Path, tmp_path: Path
) -> None:
    first = train("autoencoder", image_folder, tmp_path / "run", "--images", 64)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    again = train("autoencoder", image_folder, tmp_path / "run", "--images", 64)
    assert again.code == 0
    assert again.out == first.out
    assert "already complete: 64 images" in again.err
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_larger_budget_goes_on(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train("autoencoder", image_folder, out, "--images", 64)
    before = load_file(out / "model.safetensors")
    done = train("autoencoder", image_folder, out, "--images", 128, "--json")
    assert json.loads(done.out)["images"] == 128
    assert "continuing at 64 images" in done.err
    after = load_file(out / "model.safetensors")
    assert any(not after[k].equal(before[k]) for k in before)
    images = [json.loads(line)["images"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert images == [64, 128]


def test_a_run_can_be_moved_and_goes_on(image_folder: Path, tmp_path: Path) -> None:
    train("autoencoder", image_folder, tmp_path / "here", "--images", 32)
    shutil.move(tmp_path / "here", tmp_path / "there")
    done = train("autoencoder", image_folder, tmp_path / "there", "--images", 64)
    assert done.code == 0
    assert "continuing at 32 images" in done.err


def test_a_model_without_its_state_is_not_overwritten(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train("autoencoder", image_folder, out, "--images", 16)
    (out / "state.safetensors").unlink()
    before = (out / "model.safetensors").read_bytes()
    done = train("autoencoder", image_folder, out, "--images", 32)
    assert done.code == 2
    assert f"{out} holds a model but no state" in done.err
    assert "--out" in done.err
    assert (out / "model.safetensors").read_bytes() == before


def test_minutes_end_in_time_and_leave_a_usable_model(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    began = time.monotonic()
    done = train("gan", image_folder, out, "--minutes", 0.05, "--json")
    took = time.monotonic() - began
    assert done.code == 0, done.err
    assert took < 3 * 1.5
    assert json.loads(done.out)["images"] > 0
    assert json.loads((out / "log.jsonl").read_text().splitlines()[-1])["share"] == 1
    assert gentool_command("sample", out, "-n", 2, cwd=tmp_path).code == 0
    again = train("gan", image_folder, out, "--minutes", 0.05)
    assert "already complete" in again.err


def test_the_smallest_budget_of_time_still_leaves_a_model(
    image_folder: Path, tmp_path: Path
) -> None:
    done = train("autoencoder", image_folder, tmp_path / "run", "--minutes", 0.01)
    assert done.code == 0, done.err
    load_model(tmp_path / "run")


# --- settings -----------------------------------------------------------------------------------


def test_without_data_the_builtin_sets_are_named() -> None:
    done = gentool_command("train", "gan")
    assert done.code == 2
    assert "builtin:shapes" in done.err
    assert "builtin:digits" in done.err
    assert "gentool train gan --data builtin:shapes" in done.err


def test_dry_run_leaves_nothing_behind(image_folder: Path, tmp_path: Path, own_cache: Path) -> None:
    done = gentool_command("train", "gan", "--data", image_folder, "--dry-run", cwd=tmp_path)
    assert done.code == 0
    assert list(tmp_path.iterdir()) == []
    assert not own_cache.exists()


def test_a_line_of_the_log_tells_how_many_layers_are_in_use(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with StopFlag() as stop, Display(stop, 64, quiet=False) as display:
        display.progress(64, 1.0)
        record = {"images": 64.0, "share": 1.0, "images_per_second": 9.0, "kl": 5.05}
        display.logged(record | {"kl/0": 5.0, "kl/1": 0.05, "kl/2": 0.0})
    said = capsys.readouterr().err
    assert "kl 5.05  layers in use 1 of 3" in said
    assert "kl/0" not in said


def test_steps_left_out_are_shown_where_there_are_some(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"images": 64.0, "share": 1.0, "images_per_second": 9.0, "kl": 5.05}
    said = []
    for share in (0.0, 0.03):
        with StopFlag() as stop, Display(stop, 64, quiet=False) as display:
            display.logged(record | {"skipped_hvae": share})
        said.append(capsys.readouterr().err)
    assert "kl 5.05" in said[0] and "skipped" not in said[0]
    assert "kl 5.05  skipped_hvae 0.03" in said[1]


def test_dry_run_shows_value_and_origin_of_each(image_folder: Path) -> None:
    found = resolved(
        "gan", "--data", image_folder, "--batch", 32, "-o", "loss=hinge", "--device", "cpu"
    )
    assert found["batch"] == {"value": 32, "origin": "flag --batch"}
    assert found["data"] == {"value": str(image_folder), "origin": "flag --data"}
    assert found["seed"] == {"value": 0, "origin": "default"}
    assert found["out"] == {"value": str(Path("runs") / "gan-toys"), "origin": "default"}
    assert found["size"] == {"value": f"{SIDE}x{SIDE}", "origin": "found from the data"}
    assert found["mode"] == {"value": "rgb", "origin": "found from the data"}
    assert found["lr"] == {"value": PRESETS["gan"].cpu["lr"], "origin": "preset gan on cpu"}
    assert found["-o loss"] == {"value": "hinge", "origin": "flag -o"}
    assert found["-o norm"]["origin"] == "default"
    assert found["-o width"]["origin"] == "preset gan on cpu"
    assert found["-o augment"] == {"value": "diffaugment", "origin": "found from the data"}


@pytest.mark.parametrize(
    ("augment", "likelihood"),
    [("none", "logistic-mixture"), ("flip", "logistic-mixture"), ("flip+colour", "gaussian")],
)
def test_only_what_changes_grey_levels_rules_out_a_mass(
    augment: str, likelihood: str, image_folder: Path
) -> None:
    found = resolved("hvae", "--data", image_folder, "--augment", augment, "--device", "cpu")
    assert found["-o likelihood"]["value"] == likelihood


@pytest.mark.parametrize(
    ("preset", "size", "batch", "lr"),
    [("gan", 32, 64, 1e-3), ("gan", "48x64", 32, 5e-4), ("vae", 64, 16, 1e-3)],
)
def test_larger_images_on_a_cpu_have_smaller_batches_and_rates(
    preset: str, size: object, batch: int, lr: float, image_folder: Path
) -> None:
    common = (preset, "--data", image_folder, "--size", size, "--device", "cpu")
    found = resolved(*common)
    assert (found["batch"]["value"], found["lr"]["value"]) == (batch, lr)
    origins = {found[name]["origin"] == "found from the data" for name in ("batch", "lr")}
    assert origins == {batch == 32}
    told = resolved(*common, "--batch", 48)
    assert (told["batch"]["value"], told["lr"]["value"]) == (48, lr)


def test_a_game_on_few_images_has_a_budget_for_them(image_folder: Path) -> None:
    assert budget_of("gan", "cpu", 48) == budget_of("gan", "cuda", 48) == 300_000
    assert budget_of("gan", "cuda", 5_000) == 1_500_000
    assert budget_of("gan", "cuda", 50_000) is budget_of("vae", "cuda", 48) is None
    common = ("gan", "--data", image_folder, "--device", "cpu")
    assert resolved(*common)["images"] == {"value": 300_000, "origin": "found from the data"}
    assert resolved(*common, "--images", 64)["images"]["value"] == 64
    assert "images" not in resolved(*common, "--minutes", 1)


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("beta-vae", {"beta": 4.0, "prior": "mixture"}),
        ("vampvae", {"prior": "vamp", "components": 64}),
        ("iwae", {"samples": 10}),
        ("vae", {"grid": 0, "latent_size": 6}),
        ("vqvae", {"quantiser": "vq", "latent_size": 16}),
        ("wae", {"regularisers": "mmd", "latent_size": 64}),
    ],
)
def test_a_preset_of_another_s_model_reaches_its_options(
    preset: str, options: dict[str, Scalar], image_folder: Path
) -> None:
    for device in ("cpu", "cuda"):
        found = resolved(preset, "--data", image_folder, "--device", "cpu")
        assert {k: found[f"-o {k}"]["value"] for k in options} == options
        row = PRESETS[preset].settings(device)
        assert {k: v for k, v in row.items() if k in options} == {
            k: v for k, v in options.items() if k in row
        }


def test_dry_run_as_text_says_the_same_as_json(image_folder: Path) -> None:
    arguments = ("vae", "--data", image_folder, "--device", "cpu", "--minutes", 2)
    found = resolved(*arguments)
    text = gentool_command("train", *arguments, "--dry-run").lines
    assert len(text) == len(found)
    for line, (name, setting) in zip(text, found.items(), strict=True):
        assert words(line) == words(f"{name} {setting['value']} {setting['origin']}")


def test_a_dry_run_is_what_a_run_does(image_folder: Path, tmp_path: Path) -> None:
    found = resolved("vae", "--data", image_folder, *TINY, "--images", 16)
    train("vae", image_folder, tmp_path / "run", "--images", 16)
    header = load_model(tmp_path / "run").header
    for name in ("seed", "batch", "lr", "precision", "device"):
        assert header["training"][name] == found[name]["value"]
    for name, value in header["config"].items():
        assert found[f"-o {name}"]["value"] == value


LAYERS = {
    "flag": (("--batch", 24), {"GENTOOL_BATCH": "32"}, "batch = 40", 24, "flag --batch"),
    "environment": ((), {"GENTOOL_BATCH": "32"}, "batch = 40", 32, "environment GENTOOL_BATCH"),
    "config file": ((), {}, "batch = 40", 40, "config file settings.toml"),
    "preset": ((), {}, "", PRESETS["gan"].cpu["batch"], "preset gan on cpu"),
}


@pytest.mark.parametrize(("flags", "env", "toml", "value", "origin"), LAYERS.values(), ids=LAYERS)
def test_the_higher_layer_wins(
    flags: tuple[object, ...],
    env: dict[str, str],
    toml: str,
    value: int,
    origin: str,
    image_folder: Path,
    tmp_path: Path,
) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(toml)
    found = resolved(
        "gan", "--data", image_folder, "--device", "cpu", "--config", config, *flags, env=env
    )
    assert found["batch"] == {"value": value, "origin": origin}


def test_a_model_option_comes_from_flag_then_config_then_preset(
    image_folder: Path, tmp_path: Path
) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("seed = 7\n[options]\nwidth = 6\nloss = 'hinge'\npenalty = 2\n")
    found = resolved(
        "gan", "--data", image_folder, "--device", "cpu", "--config", config, "-o", "loss=minimax"
    )
    assert found["-o loss"] == {"value": "minimax", "origin": "flag -o"}
    assert found["-o width"] == {"value": 6, "origin": "config file settings.toml"}
    assert found["-o penalty"] == {"value": 2.0, "origin": "config file settings.toml"}
    assert found["seed"] == {"value": 7, "origin": "config file settings.toml"}


def test_everything_can_come_from_a_config_file(image_folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(
        f"data = '{image_folder}'\nout = '{tmp_path / 'run'}'\nsize = 16\nimages = 32\nbatch = 16\n"
        "lr = 1e-3\nseed = 3\ndevice = 'cpu'\nprecision = 'float32'\nmode = 'grey'\nwidth = 4\n"
    )
    done = gentool_command("train", "autoencoder", "--config", config)
    assert done.code == 0, done.err
    loaded = load_model(tmp_path / "run")
    assert loaded.header["training"]["seed"] == 3
    assert str(loaded.model.shape) == "16x16 grey"


def test_images_and_minutes_replace_each_other(image_folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("images = 500\n")
    base = ("gan", "--data", image_folder, "--device", "cpu")
    assert "minutes" not in resolved(*base)
    found = resolved(*base, "--minutes", 2)
    assert found["minutes"] == {"value": 2.0, "origin": "flag --minutes"}
    assert "images" not in found
    found = resolved(*base, "--config", config, "--minutes", 2)
    assert "images" not in found
    assert resolved(*base, "--config", config)["images"]["value"] == 500


def test_a_flag_budget_replaces_one_of_the_environment(image_folder: Path) -> None:
    found = resolved(
        "gan", "--data", image_folder, "--device", "cpu", "--minutes", 2,
        env={"GENTOOL_IMAGES": "500"},
    )  # fmt: skip
    assert found["minutes"] == {"value": 2.0, "origin": "flag --minutes"}
    assert "images" not in found


def test_width_is_a_flag_of_its_own_and_an_option(image_folder: Path) -> None:
    base = ("gan", "--data", image_folder, "--device", "cpu")
    assert resolved(*base, "--width", 8)["-o width"]["value"] == 8
    assert resolved(*base, "-o", "width=12")["-o width"] == {"value": 12, "origin": "flag -o"}
    assert resolved(*base, env={"GENTOOL_WIDTH": "9"})["-o width"]["value"] == 9


def test_width_names_its_origin(image_folder: Path) -> None:
    base = ("gan", "--data", image_folder, "--device", "cpu")
    assert resolved(*base, "--width", 8)["-o width"]["origin"] == "flag --width"
    found = resolved(*base, env={"GENTOOL_WIDTH": "9"})
    assert found["-o width"]["origin"] == "environment GENTOOL_WIDTH"


def test_an_empty_variable_is_no_setting(image_folder: Path) -> None:
    found = resolved("gan", "--data", image_folder, "--device", "cpu", env={"GENTOOL_BATCH": ""})
    assert found["batch"]["origin"] == "preset gan on cpu"


def test_size_and_mode_change_the_shape(image_folder: Path) -> None:
    found = resolved("gan", "--data", image_folder, "--size", "20x16", "--mode", "grey")
    assert found["size"] == {"value": "20x16", "origin": "flag --size"}
    assert found["mode"] == {"value": "grey", "origin": "flag --mode"}


def test_home_is_understood_in_data_and_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_images(tmp_path / "toys", 16)
    done = gentool_command(
        "train", "autoencoder", "--data", "~/toys", "--out", "~/run", "--images", 16, *TINY
    )
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_what_ails_a_run_is_said_on_the_way(image_folder: Path, tmp_path: Path) -> None:
    done = gentool_command(
        "train", "vae", "--data", image_folder, "--out", tmp_path / "run", "--images", 4800,
        "--lr", 0.02, *TINY, "-o", "grid=1", "-o", "beta=10000",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "warning: posterior collapse" in done.err


def test_a_title_is_kept_and_shown_and_makes_no_other_run(
    image_folder: Path, tmp_path: Path
) -> None:
    words = ("train", "gan", "--data", image_folder, "--out", tmp_path / "run", *TINY)
    assert gentool_command(*words, "--images", 32, "--name", "first  of\ttwo").code == 0
    assert "first  of\\ttwo" in gentool_command("info", tmp_path / "run").out
    assert gentool_command(*words, "--images", 64, "--name", "second").code == 0
    done = gentool_command("info", tmp_path / "run", "--json")
    assert json.loads(done.out)["training"]["name"] == "second"
    assert gentool_command(*words, "--images", 96).code == 0  # it keeps its title
    done = gentool_command("info", tmp_path / "run", "--json")
    assert json.loads(done.out)["training"]["name"] == "second"
    assert gentool_command(*words, "--name", "x" * 201).code == 2


def test_a_run_that_is_over_takes_a_new_title_and_keeps_its_tensors(
    image_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ("train", "vae", "--data", image_folder, "--out", run, "--images", 32, *TINY)
    assert gentool_command(*words).code == 0
    header, before = read_file(run / "model.safetensors")
    done = gentool_command(*words, "--name", "late")
    assert done.code == 0, done.err
    named, after = read_file(run / "model.safetensors")
    assert named["training"] == {**header["training"], "name": "late"}
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert "already complete" in gentool_command(*words).err


def test_the_average_may_be_set_by_a_flag_or_an_option(image_folder: Path, tmp_path: Path) -> None:
    given = (("--ema-images", 77), ("-o", "ema_images=77"), ("--ema-images", 5, "-o",
             "ema_images=77"))  # fmt: skip
    for more in given:
        done = gentool_command("train", "gan", "--data", image_folder, *TINY, *more, "--dry-run",
                               "--json")  # fmt: skip
        assert json.loads(done.out)["-o ema_images"]["value"] == 77


def test_a_wrong_wish_of_what_to_keep_is_refused_before_the_work(
    image_folder: Path, tmp_path: Path
) -> None:
    words = ("train", "gan", "--data", image_folder, "--out", tmp_path / "run", "--keep", "foo")
    for more in ((), ("--dry-run",)):
        done = gentool_command(*words, *more)
        assert done.code == 2 and "--keep foo" in done.err
    assert not (tmp_path / "run").exists()
