"""``--seed random``: drawn, printed on stderr and stored; a continued training keeps its seed."""

import json
import re
from pathlib import Path

import pytest
from conftest import TINY, Finished, gentool_command
from PIL import Image

from gentool.checkpoint import load_model
from gentool.cli.repeating import without


def told(done: Finished) -> int:
    """The seed that a command told on stderr."""
    assert done.code == 0, done.err
    return int(re.findall(r"^seed (\d+)", done.err, re.MULTILINE)[0])


def test_sample_draws_a_seed_and_keeps_it(gan: Path, tmp_path: Path) -> None:
    first, second = (
        gentool_command("sample", gan, "-n", 1, "--seed", "random", "-o", tmp_path / k, "--json")
        for k in "ab"
    )
    assert told(first) != told(second)
    answer = json.loads(first.out)
    assert answer["seeds"] == [told(first)]
    with Image.open(answer["files"][0]) as image:
        assert json.loads(image.info["gentool"])["seed"] == told(first)
    again = gentool_command("sample", gan, "-n", 1, "--seed", told(first), "--json",
                            "-o", tmp_path / "c")  # fmt: skip
    (file,) = json.loads(again.out)["files"]
    assert Path(file).read_bytes() == Path(answer["files"][0]).read_bytes()


def test_other_verbs_draw_one_too(gan: Path, vae: Path, image_folder: Path, tmp_path: Path) -> None:
    done = gentool_command("traverse", gan, "--seed", "random", "--directions", 1, "--json",
                           "-o", tmp_path / "t.png")  # fmt: skip
    assert json.loads(done.out)["seed"] == told(done)
    photo = image_folder / "bar" / "001.png"
    done = gentool_command("reconstruct", vae, photo, "--draw", "--seed", "random", "--json",
                           "-o", tmp_path / "r.png")  # fmt: skip
    assert json.loads(done.out)["seed"] == told(done)
    done = gentool_command("evaluate", vae, "--data", image_folder, "-n", 20, "--seed", "random",
                           "--metrics", "frechet", "--features", "random", "--json")  # fmt: skip
    assert json.loads(done.out)["protocol"]["seed"] == told(done)


@pytest.mark.parametrize("word", ["1.5", "", "rnd", "-1", "random1", "9" * 50, "²"])
def test_another_word_is_no_seed(word: str) -> None:
    for verb in (("sample", "x"), ("evaluate", "x", "--data", "y")):
        done = gentool_command(*verb, f"--seed={word}")
        assert (done.code, done.out) == (2, "")
    done = gentool_command("train", "gan", "--data", "x", f"--seed={word}")
    assert (done.code, done.out) == (2, "")


def test_a_training_goes_on_with_the_seed_that_it_drew(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ("train", "autoencoder", "--data", image_folder, "--out", out, *TINY, "--images", 64,
               "--seed", "random", "--json", "--quiet")  # fmt: skip
    stopped = gentool_command(*command, "--stop-after", 32)
    assert (stopped.code, stopped.out) == (75, "")
    first = int(
        re.findall(r"^seed (\d+), drawn at random \(flag --seed\)$", stopped.err, re.MULTILINE)[0]
    )
    assert "error" not in stopped.err
    done = gentool_command(*command)
    assert told(done) == first
    assert f"seed {first}, the seed of the run in {out} (flag --seed)" in done.err
    assert json.loads(done.out)["seed"] == first
    assert load_model(out).header["training"]["seed"] == first


def test_a_config_file_and_the_environment_may_say_random(
    image_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "settings.toml").write_text("seed = 'random'\n")
    base = ("train", "vae", "--data", image_folder, "--size", 16, "--device", "cpu", "--dry-run",
            "--json", "--out", tmp_path / "run")  # fmt: skip
    done = gentool_command(*base, "--config", tmp_path / "settings.toml")
    found = json.loads(done.out)["seed"]
    assert 0 <= found["value"] < 2**32
    assert found["origin"] == "drawn at random (config file settings.toml)"
    done = gentool_command(*base, env={"GENTOOL_SEED": "random"})
    assert json.loads(done.out)["seed"]["origin"] == "drawn at random (environment GENTOOL_SEED)"


REPEATED = {
    "apart": (("--out", "r", "--stop-after", "9", "-q"), ("--out", "r", "-q")),
    "joined": (("--stop-after=9", "--out", "r"), ("--out", "r")),
    "last": (("--out", "r", "--stop-after", "9"), ("--out", "r")),
    "both": (("--stop-after", "9", "x", "--stop-after=8"), ("x",)),
    "as a value": (("--out", "--stop-after", "--stop-after", "9"), ("--out", "--stop-after")),
    "after the options": (("--", "--stop-after", "9"), ("--", "--stop-after", "9")),
    "another flag": (("--stop-afterwards", "9"), ("--stop-afterwards", "9")),
}


@pytest.mark.parametrize(("given", "left"), REPEATED.values(), ids=REPEATED)
def test_the_command_to_go_on_has_no_limit(given: tuple[str, ...], left: tuple[str, ...]) -> None:
    assert tuple(without(given, "--stop-after", {"--out"})) == left


def test_go_on_with_drops_a_limit_of_the_environment_too(
    image_folder: Path, tmp_path: Path
) -> None:
    command = ("train", "autoencoder", "--data", image_folder, *TINY, "--images", 64,
               "--out", tmp_path / "a\nb")  # fmt: skip
    done = gentool_command(*command, "--stop-after=16")
    again = done.err.splitlines()[-1]
    assert again.startswith("  gentool train autoencoder ")
    assert again.endswith(f"--out $'{tmp_path}/a\\012b'")
    done = gentool_command(*command, env={"GENTOOL_STOP_AFTER": "16"})
    assert done.err.splitlines()[-1].startswith("  env -u GENTOOL_STOP_AFTER gentool train ")
