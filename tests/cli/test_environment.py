"""``GENTOOL_*`` variables: every option has one, flags override it, and errors name it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import gentool_command, words

from gentool.cli import app, environment


@pytest.mark.parametrize("verb", environment.verbs(app))
def test_every_option_has_its_variable(verb: str) -> None:
    command: Any = typer.main.get_command(app)
    for word in verb.split():
        command = command.commands[word]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    for option in options:
        flag = next(word for word in option.opts if word.startswith("--"))
        variable = f"GENTOOL_{flag[2:].upper().replace('-', '_')}"
        assert option.envvar == (None if flag == "--cache" else variable)
    assert options


def test_a_verb_takes_its_options_from_the_environment(gan: Path, tmp_path: Path) -> None:
    env = {"GENTOOL_COUNT": "2", "GENTOOL_SEED": "9", "GENTOOL_JSON": "yes",
           "GENTOOL_OUTPUT": str(tmp_path / "my out"), "GENTOOL_TRUNCATION": "0.5"}  # fmt: skip
    done = gentool_command("sample", gan, env=env)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["seeds"], told["images"]) == ([9], 2)
    assert len(list((tmp_path / "my out").iterdir())) == 2


def resolved(image_folder: Path, *arguments: object, env: Mapping[str, str]) -> dict[str, object]:
    done = gentool_command(
        "train", "vae", "--size", 16, "--device", "cpu", "--dry-run", "--json", *arguments,
        env={"GENTOOL_DATA": str(image_folder), **env},
    )  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(done.out)
    return {k: (v["value"], v["origin"]) for k, v in found.items()}


def test_an_option_of_the_model_comes_from_the_environment(image_folder: Path) -> None:
    env = {"GENTOOL_OPTION": "latent_size=5", "GENTOOL_WIDTH": "6"}
    found = resolved(image_folder, env=env)
    assert found["-o latent_size"] == (5, "environment GENTOOL_OPTION")
    assert found["-o width"] == (6, "environment GENTOOL_WIDTH")
    assert found["data"] == (str(image_folder), "environment GENTOOL_DATA")
    found = resolved(image_folder, "--width", 8, env={"GENTOOL_OPTION": "width=5"})
    assert found["-o width"] == (8, "flag --width")


BAD = {
    "word for a number": (("sample", "x"), {"GENTOOL_COUNT": "many"}),
    "out of range": (("sample", "x"), {"GENTOOL_TRUNCATION": "7"}),
    "no yes or no": (("list",), {"GENTOOL_JSON": "maybe"}),
    "seed": (("reconstruct", "x", "y"), {"GENTOOL_SEED": "x y"}),
    "seeds": (("interpolate", "x"), {"GENTOOL_SEEDS": "a-b"}),
    "batch of train": (("train", "gan", "--data", "x"), {"GENTOOL_BATCH": "0"}),
    "option of train": (("train", "gan", "--data", "builtin:shapes:8"),
                        {"GENTOOL_OPTION": "lose=hinge"}),
    "length": (("average", "x"), {"GENTOOL_LENGTH": "9"}),
    "two on stdout": (("sample", "x"), {"GENTOOL_OUTPUT": "-", "GENTOOL_JSON": "1"}),
    "device": (("doctor",), {"GENTOOL_DEVICE": "gpu"}),
    "spaces of a list": (("train", "gan"), {"GENTOOL_DATA": "/no where"}),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "env"), BAD.values(), ids=BAD)
def test_an_error_names_the_variable_that_causes_it(
    arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    done = gentool_command(*arguments, env=env)
    assert done.code in (2, 3, 4), done.err
    assert done.out == ""
    name, value = list(env.items())[-1]
    assert "(from the environment: " in words(done.err)
    assert f"{name}={value}" in words(done.err)


def test_an_error_of_a_flag_blames_no_variable() -> None:
    done = gentool_command("sample", "x", "-n", 0, env={"GENTOOL_COUNT": "5"})
    assert done.code == 2
    assert "GENTOOL" not in done.err


WINS = {
    "seed over seeds": (("--seed", 3), {"GENTOOL_SEEDS": "5,6"}, [3]),
    "seeds over seed": (("--seeds", "5,6"), {"GENTOOL_SEED": "3"}, [5, 6]),
    "seed over latents": (("--seed", 3), {"GENTOOL_LATENTS": "none.safetensors"}, [3]),
    "JSON over a tar": (("--json",), {"GENTOOL_OUTPUT": "-"}, [0]),
    "JSON over zero bytes": (("--json",), {"GENTOOL_PRINT0": "1"}, [0]),
}


@pytest.mark.parametrize(("flags", "env", "seeds"), WINS.values(), ids=WINS)
def test_a_flag_wins_over_a_variable_that_it_excludes(
    flags: tuple[object, ...], env: dict[str, str], seeds: list[int], gan: Path, tmp_path: Path
) -> None:
    env = {"GENTOOL_JSON": "1", **env}
    done = gentool_command("sample", gan, "-n", 1, *flags, cwd=tmp_path, env=env)
    assert done.code == 0, done.err
    assert json.loads(done.out)["seeds"] == seeds


def test_a_variable_without_effect_on_the_output_is_ignored(gan: Path, tmp_path: Path) -> None:
    everywhere = {"GENTOOL_FORMAT": "jpg", "GENTOOL_MILLISECONDS": "80", "GENTOOL_DEVICE": "cpu"}
    sheet, strip = tmp_path / "sheet.png", tmp_path / "strip.png"
    for arguments in (("sample", gan, "-n", 2, "-o", sheet), ("interpolate", gan, "-o", strip)):
        done = gentool_command(*arguments, env=everywhere)
        assert done.code == 0, done.err
    done = gentool_command("sample", gan, "-n", 2, "-o", tmp_path / "folder", env=everywhere)
    assert done.code == 0, done.err
    assert {path.suffix for path in (tmp_path / "folder").iterdir()} == {".jpg"}


def test_latents_and_a_tar_win_too(gan: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.safetensors"
    done = gentool_command("sample", gan, "-n", 2, "--save-latents", kept, "-o", tmp_path / "a")
    assert done.code == 0, done.err
    env = {"GENTOOL_SEED": "5", "GENTOOL_JSON": "true", "GENTOOL_CLASS": "disc"}
    done = gentool_command("sample", gan, "--latents", kept, "-o", "-", env=env)
    assert done.code == 0, done.err
    assert b"ustar" in done.stdout
    photo = tmp_path / "a" / "seed000000-000000.png"
    out = tmp_path / "rows.png"
    done = gentool_command("traverse", gan, photo, "--directions", 1, "-o", out, env=env)
    assert done.code == 0, done.err


STRANGERS = {
    "GENTOOL_BACTH": "Did you mean GENTOOL_BATCH?",
    "GENTOOL_DEVCE": "Did you mean GENTOOL_DEVICE?",
    "GENTOOL_CAHCE": "Did you mean GENTOOL_CACHE?",
    "gentool_batch": "Did you mean GENTOOL_BATCH?",
    "GENTOL_BATCH": "Did you mean GENTOOL_BATCH?",
    "GENTOOL_QQQQ": "see gentool --help",
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_variable_that_is_none_is_said_once_on_stderr(name: str) -> None:
    done = gentool_command("list", "--json", env={name: "1"})
    assert done.code == 0
    json.loads(done.out)
    (line,) = done.err.splitlines()
    assert line.startswith(f"warning: the environment variable {name} is not a setting of gentool")
    assert STRANGERS[name] in line


def test_a_variable_of_another_verb_or_program_is_no_stranger() -> None:
    env = {"GENTOOL_DIRECTIONS": "3", "GENTOOL_CACHE_BYTES": "50G", "GENTLE_BATCH": "1",
           "_GENTOOL_COMPLETE_X": "", "GENTOOL_DEBUG": "0", "OMP_NUM_THREADS": "1"}  # fmt: skip
    assert gentool_command("list", "losses", env=env).err == ""


def test_debug_may_be_off_in_the_environment(tmp_path: Path) -> None:
    done = gentool_command("info", tmp_path / "none", env={"GENTOOL_DEBUG": "0"})
    assert done.code == 4
    assert "Traceback" not in done.err


def test_the_root_help_tells_of_the_environment() -> None:
    assert "GENTOOL_BATCH=32" in gentool_command("--help").out
