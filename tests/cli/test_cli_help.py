"""Help, version and usage errors: quick answers from a process that never imports torch."""

import json
import re
from pathlib import Path

import pytest
from conftest import Finished, run_gentool, run_python, words

from gentool import __version__
from gentool.cli import app, environment

COMMANDS = tuple(environment.verbs(app))
HEAVY = ("torch", "torchvision", "numpy", "PIL", "safetensors")
# Runs the command line, then writes which heavy modules it imported as the last line of stderr.
GUARD = f"""
import json, sys
from gentool.cli import main
sys.argv[0] = "gentool"
try:
    main()
finally:
    print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]), file=sys.stderr)
"""


def guarded(*arguments: object, env: dict[str, str] | None = None) -> Finished:
    """Run the command line; fail if it imported anything heavy."""
    done = run_python("-c", GUARD, *arguments, env={"TERMINAL_WIDTH": "100", **(env or {})})
    *lines, imported = done.err.splitlines()
    assert json.loads(imported) == []
    return Finished(done.code, done.stdout, "\n".join(lines))


def test_the_guard_sees_a_heavy_import() -> None:
    done = run_python("-c", GUARD.replace("main()", "import numpy", 1))
    assert json.loads(done.err.splitlines()[-1]) == ["numpy"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_needs_no_torch_and_shows_examples_before_options(command: str) -> None:
    done = guarded(*command.split(), "--help")
    assert done.code == 0
    assert done.err == ""
    usage, example, options = map(done.out.index, ("Usage:", f" gentool {command}", "╭─"))
    assert usage < example < options
    assert "--help" in done.out[options:]


def test_help_of_the_program_names_every_command_and_shows_examples_first() -> None:
    done = guarded("--help")
    assert done.code == 0
    assert done.out.index("gentool train gan") < done.out.index("╭─")
    listed = done.out[done.out.index("Commands") :]
    names = {command.split()[0] for command in COMMANDS}
    assert names == set(re.findall(r"^│ (\w+) ", listed, re.MULTILINE))


def test_help_names_every_exit_code() -> None:
    text = words(guarded("--help").out)
    for part in ("0 success", "1 unexpected", "2 usage", "3 data", "4 model file", "5 device",
                 "6 diverged", "75 stopped but resumable", "130 Ctrl-C"):  # fmt: skip
        assert part in text


def test_no_arguments_show_the_help() -> None:
    done = guarded()
    assert "gentool train gan" in done.out + done.err
    assert done.code == 2


def test_short_help_flag_is_the_same_as_the_long_one() -> None:
    assert guarded("sample", "-h").out == guarded("sample", "--help").out


def test_version() -> None:
    done = guarded("--version")
    assert (done.code, done.out, done.err) == (0, f"gentool {__version__}\n", "")


def test_help_has_no_colours_off_a_terminal() -> None:
    assert "\x1b" not in guarded("train", "--help").out


def test_help_fits_a_narrow_terminal() -> None:
    done = run_gentool("train", "--help", env={"COLUMNS": "60", "TERMINAL_WIDTH": "60"})
    assert done.code == 0
    assert max(map(len, done.lines)) <= 60


USAGE_ERRORS: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown command": (("trane",), "No such command 'trane'"),
    "unknown flag": (("train", "gan", "--bacth", "3"), "No such option"),
    "near flag": (("sample", "x", "--sed", "3"), "--seed"),
    "missing model": (("train",), "Missing argument 'model'"),
    "missing file": (("sample",), "Missing argument 'model'"),
    "word for a number": (("train", "gan", "--images", "many"), "Invalid value for '--images'"),
    "count below one": (("sample", "x", "-n", "0"), "Invalid value for '-n' / '--count'"),
    "no seed": (("sample", "x", "--seeds", "a-b"), "'a-b' is not a seed. Write seeds as 0,4-9"),
    "one key frame": (("interpolate", "x", "--seeds", "3"), "--seeds 1,5-7"),
    "two things on stdout": (("sample", "x", "-o", "-", "--json"), "-o - and --json both"),
    "a tar and paths": (("interpolate", "x", "-o", "-", "--print0"), "-o - and --print0 both"),
    "two forms of paths": (
        ("score", "x", "-m", "y", "--json", "--print0"), "--json and --print0 exclude",
    ),
    "two tables on stdout": (
        ("evaluate", "x", "--data", "y", "--per-image", "-", "--per-unit", "-"),
        "--per-image - and --per-unit -",
    ),
    "a table beside JSON": (
        ("evaluate", "x", "--data", "y", "--per-image", "-", "--json"), "--per-image - and --json",
    ),
    "random among seeds": (("sample", "x", "--seeds", "random"), "random works only with --seed"),
    "seed below zero": (("sample", "x", "--seed", "-1"), "not in the range of seeds"),
    "huge seed": (("evaluate", "x", "--data", "y", "--seed", str(2**63)), "not in the range"),
    "word for a seed": (("traverse", "x", "--seed", "rnd"), "'rnd' is not a seed"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "fragment"), USAGE_ERRORS.values(), ids=USAGE_ERRORS)
def test_usage_error_is_answered_before_torch(arguments: tuple[str, ...], fragment: str) -> None:
    done = guarded(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert fragment.lower() in words(done.err).lower()  # typer changes its capitals
    assert "Traceback" not in done.err


TYPOS = {
    "model": (("train", "gann", "--data", "x"), "no model named 'gann'. Did you mean 'gan'?"),
    "model without likeness": (("train", "qqqq", "--data", "x"), "no model named 'qqqq'. (gentool"),
    "option without value": (
        ("train", "gan", "--data", "x", "-o", "loss"), "write it as -o key=value",
    ),
    "two budgets": (
        ("train", "gan", "--data", "x", "--images", "9", "--minutes", "1"), "two budgets",
    ),
    "batch out of bounds": (
        ("train", "gan", "--data", "x", "--batch", "0"), "--batch is 0; allowed: 1 to 65536",
    ),
    "seed out of bounds": (
        ("train", "gan", "--data", "x", "--seed", "-1"), "--seed is -1; allowed: 0 to",
    ),
    "config file that is not there": (
        ("train", "gan", "--data", "x", "--config", "none.toml"), "cannot read the config file",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "fragment"), TYPOS.values(), ids=TYPOS)
def test_typo_in_settings_is_answered_before_torch(
    arguments: tuple[str, ...], fragment: str
) -> None:
    done = guarded(*arguments)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert fragment in done.err
    assert len(done.err.splitlines()) == 1


def test_unknown_key_of_a_config_file_is_answered_before_torch(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("bach = 3\n")
    done = guarded("train", "gan", "--data", "x", "--config", config)
    assert done.code == 2
    assert "no setting named 'bach'. Did you mean 'batch'?" in done.err


def test_completion_of_a_model_name_needs_no_torch() -> None:
    done = guarded(
        env={
            "_GENTOOL_COMPLETE": "complete_bash",
            "COMP_WORDS": "gentool train au",
            "COMP_CWORD": "2",
        }
    )
    assert done.out.split() == ["autoencoder"]


def test_public_names_cost_nothing_until_used() -> None:
    done = run_python(
        "-c", f"import sys, gentool; print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert done.out.strip() == "[]"


def test_python_dash_m_runs_the_same_command() -> None:
    assert run_gentool("--version").out == f"gentool {__version__}\n"
    assert "python -m gentool info" in run_gentool("info", "--help").out
