"""Settings that a command does not give are those of the run; given ones are kept or refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Finished, gentool_command

from gentool.checkpoint import load_model, read_file, write_file
from gentool.core import devices
from gentool.models.presets import PRESETS

LESS = ["--size", 16, "--width", 4, "-o", "latent_size=8"]


def train(data: Path, out: Path, *more: object) -> Finished:
    """A run on the CPU whose precision, batch and rate are left open."""
    words = ["train", "vae", "--data", data, "--out", out, "--images", 64, "--device", "cpu"]
    return gentool_command(*words, *more)


def rewrite(out: Path, **changes: object) -> None:
    """Say something else in the header of a state, under the right checksum."""
    header, tensors = read_file(out / "state.safetensors")
    header["identity"] |= changes.pop("identity", {})
    write_file(out / "state.safetensors", tensors, header | changes)


@pytest.fixture(scope="module")
def stopped(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was begun with settings of its own and stopped."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    done = train(
        image_folder, out, *LESS, "--precision", "bfloat16", "--batch", 8, "--seed", 3,
        "--lr", 2e-3, "--mode", "grey", "--holdout", 0.2, "--unconditional", "--fit", "pad",
        "--augment", "flip", "-o", "beta=2", "--stop-after", 8,
    )  # fmt: skip
    assert done.code == 75, done.err
    return out


@pytest.fixture
def begun(stopped: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def test_what_is_not_said_is_as_the_run_began(begun: Path, image_folder: Path) -> None:
    done = train(image_folder, begun)
    assert done.code == 0, done.err
    (line,) = [
        line for line in done.err.splitlines() if line.startswith("continuing with the settings")
    ]
    for words in ("--precision bfloat16 (not float32)", "--batch 8 (not 16)", "--seed 3 (not 0)",
                  "--mode grey (not rgb)", "-o width 4 (not 48)", "--fit pad (not crop)",
                  "-o beta 2.0 (not 1.0)", "--unconditional True (not False)"):  # fmt: skip
        assert words in line or ("bfloat16" in words and devices.cpu_has_bfloat16())
    header = load_model(begun).header
    training = header["training"]
    assert (training["batch"], training["seed"], training["lr"]) == (8, 3, 2e-3)
    assert training["precision"] == "bfloat16"
    assert (training["data"]["holdout"], training["data"]["fit"]) == (0.2, "pad")
    assert (header["config"]["width"], header["config"]["beta"]) == (4, 2.0)


def test_the_same_command_on_a_machine_without_bfloat16_goes_on(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for there, auto in ((True, ()), (False, ("--precision", "auto"))):
        out = tmp_path / f"run{there}"
        monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda there=there: there)
        assert train(image_folder, out, *LESS, *auto, "--stop-after", 16).code == 75
        monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda there=there: not there)
        done = train(image_folder, out, *LESS, *auto)
        assert done.code == 0, done.err
        kept, other = ("bfloat16", "float32") if there else ("float32", "bfloat16")
        assert (
            f"continuing with the settings of the run: --precision {kept} (not {other})" in done.err
        )
        assert ("slow on this CPU" in done.err) == there
        assert load_model(out).header["training"]["precision"] == kept


def test_the_same_command_on_a_machine_where_presets_are_others_goes_on(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS["vae"].cpu, "width", 4)
    assert train(image_folder, tmp_path / "run", "--stop-after", 16).code == 75
    monkeypatch.setitem(PRESETS["vae"].cpu, "width", 6)
    monkeypatch.setitem(PRESETS["vae"].cpu, "batch", 64)
    monkeypatch.setitem(PRESETS["vae"].cpu, "lr", 1e-2)
    done = train(image_folder, tmp_path / "run")
    assert done.code == 0, done.err
    for words in ("-o width 4 (not 6)", "--batch 16 (not 64)", "--lr 0.001 (not 0.01)"):
        assert words in done.err


def test_the_same_command_on_the_same_machine_says_nothing_of_it(
    image_folder: Path, tmp_path: Path
) -> None:
    assert train(image_folder, tmp_path / "run", *LESS, "--stop-after", 16).code == 75
    done = train(image_folder, tmp_path / "run", *LESS)
    assert done.code == 0, done.err
    assert "continuing with the settings" not in done.err


def test_another_device_is_told_unless_it_was_asked_for(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    out = tmp_path / "run"
    assert train(image_folder, out, *LESS, "--stop-after", 16).code == 75
    rewrite(out, device="cuda")
    assert "cuda before" not in train(image_folder, out, *LESS, "--dry-run").err
    assert train(image_folder, out, *LESS, "--stop-after", 16).code == 75
    rewrite(out, device="cuda")
    done = train(image_folder, out, *LESS, "--device", "auto", "--quiet")
    assert "the run was on cuda, which is not available; it continues on cpu" in done.err


def test_an_automatic_batch_is_that_of_the_run_unmeasured(begun: Path, image_folder: Path) -> None:
    done = train(image_folder, begun, "--batch", "auto")
    assert done.code == 0, done.err
    assert "--batch 8 (auto measures only for a new run)" in done.err
    assert "images/s in 3 steps" not in done.err


@pytest.mark.parametrize("how", ["flag", "environment", "config file"])
def test_what_was_said_is_refused_alone_or_goes_over_the_run(
    how: str, begun: Path, image_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "lr.toml").write_text("lr = 0.1\n")
    words = {"flag": ["--lr", 0.1], "config file": ["--config", tmp_path / "lr.toml"]}.get(how, [])
    env = {"GENTOOL_LR": "0.1"} if how == "environment" else {}
    base = ["train", "vae", "--data", image_folder, "--out", begun, "--images", 64, *words]
    done = gentool_command(*base, "--device", "cpu", env=env)
    assert done.code == 2
    assert "holds a run with other settings: --lr was 0.002 and is 0.1. Choose" in done.err
    done = gentool_command(*base, "--device", "cpu", "--override", env=env)
    assert done.code == 0, done.err
    assert "continuing with other settings: --lr was 0.002 and is 0.1\n" in done.err
    assert load_model(begun).header["training"]["seed"] == 3


def test_a_dry_run_shows_what_comes_from_the_run(begun: Path, image_folder: Path) -> None:
    done = train(image_folder, begun, "--dry-run", "--json")
    found = json.loads(done.out)
    assert found["seed"] == {"value": 3, "origin": f"the run in {begun}"}
    assert found["-o width"] == {"value": 4, "origin": f"the run in {begun}"}
    assert found["size"]["value"] == "16x16"
    assert found["mode"] == {"value": "grey", "origin": f"the run in {begun}"}


def test_another_preset_is_another_run(image_folder: Path, tmp_path: Path) -> None:
    """Though the model is the same."""
    out = tmp_path / "run"
    base = ["--data", image_folder, "--out", out, "--images", 32, *TINY]
    assert gentool_command("train", "vae", *base).code == 0
    done = gentool_command("train", "beta-vae", *base)
    assert done.code == 2
    assert "-o beta was 1.0 and is 4.0" in done.err


def test_a_state_of_before_says_no_preset_and_no_device(begun: Path, image_folder: Path) -> None:
    header, tensors = read_file(begun / "state.safetensors")
    old = {k: v for k, v in header.items() if k not in ("preset", "device")}
    write_file(begun / "state.safetensors", tensors, old)
    assert train(image_folder, begun).code == 0


HOSTILE: dict[str, Any] = {
    "a list as a batch": {"--batch": [1] * 9},
    "a batch of none": {"--batch": 0},
    "a rate beyond numbers": {"--lr": "x" * 500},
    "a seed below all": {"--seed": -1},
    "a word as a flag": {"--unconditional": "yes"},
    "a number as a fit": {"--fit": {"a": 1}},
    "no such precision": {"--precision": "float8"},
    "a list as a precision": {"--precision": ["float32"]},
    "a width of words": {"-o width": "wide"},
    "a width beyond all": {"-o width": 10**9},
    "an option of another type": {"-o beta": None},
    "no such likelihood": {"-o likelihood": "os.system"},
}


@pytest.mark.parametrize("identity", HOSTILE.values(), ids=HOSTILE)
def test_a_state_that_lies_is_refused(
    identity: dict[str, object], begun: Path, image_folder: Path
) -> None:
    rewrite(begun, identity=identity)
    done = train(image_folder, begun)
    assert done.code == 4, done.err
    (last,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert f"{begun / 'state.safetensors'} is damaged (identity: " in last
    assert len(last) < 400


@pytest.mark.parametrize("shape", ["99999x1 rgb", "16x16 nonsense", 7, [1], "", "x"], ids=str)
def test_a_shape_that_is_none_is_refused(shape: object, begun: Path, image_folder: Path) -> None:
    rewrite(begun, identity={"--size and --mode": shape})
    done = train(image_folder, begun)
    assert done.code in (2, 4), done.err
    assert "Traceback" not in done.err


def test_threads_and_instructions_are_in_the_file_and_shown(vae: Path) -> None:
    """The same bytes are promised where both are the same."""
    training = load_model(vae).header["training"]
    assert training["threads"] == torch.get_num_threads()
    assert training["instructions"] == torch.backends.cpu.get_cpu_capability()
    shown = gentool_command("info", vae).lines
    assert any(line.split() == ["training", "threads", "1"] for line in shown)
    assert any(line.split()[:2] == ["training", "instructions"] for line in shown)
