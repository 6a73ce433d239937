"""``gentool.train`` and ``gentool.evaluate``: the same files and figures as the command line."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SIDE, gentool_command

import gentool
from gentool.core.errors import Stopped, UsageError
from gentool.models import MODELS
from gentool.models.presets import PRESETS
from gentool.training.settings import DECLARED

SMALL: dict[str, Any] = {
    "size": SIDE, "batch": 16, "width": 4, "precision": "float32", "device": "cpu", "images": 48,
}  # fmt: skip
OPTIONS = {"latent_size": 8}


def flags(settings: dict[str, Any]) -> list[object]:
    """The same settings as flags."""
    return [word for name, value in settings.items() for word in (f"--{name}", value)]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in MODELS else pytest.mark.slow) for n in PRESETS]
)
def test_the_files_are_those_of_the_command_line(
    name: str, image_folder: Path, tmp_path: Path
) -> None:
    run = gentool.train(name, image_folder, out=tmp_path / "a", options=OPTIONS, **SMALL)
    words = ("--data", image_folder, "--out", tmp_path / "b", "-o", "latent_size=8")
    done = gentool_command("train", name, *words, *flags(SMALL))
    assert done.code == 0, done.err
    assert (run.folder / "model.safetensors").read_bytes() == (
        tmp_path / "b" / "model.safetensors"
    ).read_bytes()
    assert {p.name for p in run.folder.iterdir()} == {p.name for p in (tmp_path / "b").iterdir()}
    assert run.images >= 48 and run.log[-1]["images"] == run.images


def test_the_same_call_goes_on_and_the_command_too(image_folder: Path, tmp_path: Path) -> None:
    given = {"out": tmp_path / "run", "options": OPTIONS, **SMALL}
    with pytest.raises(Stopped, match="stopped at 16 images"):
        gentool.train("gan", image_folder, stop_after=16, **given)
    assert not gentool.train("gan", image_folder, **given).already_complete
    assert gentool.train("gan", image_folder, **given).already_complete
    words = ("--data", image_folder, "--out", tmp_path / "run", "-o", "latent_size=8")
    done = gentool_command("train", "gan", *words, *flags(SMALL))
    assert "already complete" in done.err


def test_ctrl_c_saves_and_raises(image_folder: Path, tmp_path: Path) -> None:
    seen = []

    def interrupt(images: int, share: float) -> None:
        seen.append((images, share))
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    given = {"out": tmp_path / "run", "options": OPTIONS, **SMALL}
    with pytest.raises(KeyboardInterrupt, match="saved in"):
        gentool.train("gan", image_folder, progress=interrupt, **given)
    assert seen == [(16, 16 / 48), (32, 32 / 48)]
    run = gentool.train("gan", image_folder, **given)
    assert run.images == 48 and run.load("cpu").sample(1).shape == (1, SIDE, SIDE, 3)


def test_a_second_ctrl_c_and_one_after_the_last_step_raise_too(
    image_folder: Path, tmp_path: Path
) -> None:
    def twice(images: int, share: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    def late(images: int, share: float) -> None:
        if share == 1:
            os.kill(os.getpid(), signal.SIGINT)

    # As in a shell's foreground; a process that is started in the background ignores SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, interrupt in enumerate((twice, late)):
        with pytest.raises(KeyboardInterrupt):
            gentool.train("gan", image_folder, out=tmp_path / str(number), options=OPTIONS,
                          progress=interrupt, **SMALL)  # fmt: skip
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_numbers_of_numpy_and_a_size_as_a_pair_are_taken(
    image_folder: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {
        **SMALL, "size": (np.int64(SIDE), SIDE), "batch": np.int32(16), "images": np.int64(16),
    }  # fmt: skip
    options: dict[str, Any] = {"latent_size": np.int64(8)}
    run = gentool.train("gan", [image_folder], out=tmp_path, options=options, **given)
    assert run.images == 16


def test_nothing_is_printed_off_a_terminal_unless_asked_for(
    image_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gentool.train("gan", image_folder, out=tmp_path / "a", options=OPTIONS, **SMALL)
    assert capfd.readouterr() == ("", "")
    gentool.train("gan", image_folder, out=tmp_path / "b", options=OPTIONS, progress=True, **SMALL)
    assert "gan on 96 images" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bach": 3}, "no setting named 'bach'. Did you mean 'batch'"),
        ({"batch": 0}, "--batch is 0; allowed: 1 to"),
        ({"seed": "x"}, "--seed x: write a whole number, or random"),
        ({"options": {"loss": "hingee"}}, "Did you mean 'hinge'"),
        ({"images": 9, "minutes": 1.0}, "two budgets"),
        ({"model": "gam"}, "Did you mean 'gan'"),
        ({"data": []}, "train needs images"),
        ({"data": None}, "train needs images"),
        ({"data": " "}, "train needs images"),
        ({"keep": "foo"}, "--keep foo"),
        ({"stop_after": 0}, "stop_after is 0"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    wrong: dict[str, Any], message: str, image_folder: Path, tmp_path: Path
) -> None:
    given = {"model": "gan", "data": image_folder, "out": tmp_path / "run", **wrong}
    with pytest.raises(UsageError, match=message):
        gentool.train(**given)
    assert not (tmp_path / "run").exists()


def test_every_setting_is_documented() -> None:
    words = gentool.train.__doc__ or ""
    assert all(f"        {name} (" in words for name in DECLARED if name != "data")


def test_scores_are_those_of_the_command_line(gan: Path, image_folder: Path) -> None:
    found = gentool.evaluate(gan, image_folder, metrics=["kernel"], count=20, features="random",
                             device="cpu")  # fmt: skip
    done = gentool_command("evaluate", gan, "--data", image_folder, "--metrics", "kernel", "-n",
                           20, "--features", "random", "--device", "cpu", "--json")  # fmt: skip
    told = json.loads(done.out)
    assert told["protocol"] == json.loads(json.dumps(found.protocol))
    (row,) = told["scores"]
    assert {k: v for k, v in row.items() if k not in ("target", "notes")} == found.table[0].values
    with pytest.raises(UsageError, match="Did you mean 'count'"):
        gentool.evaluate(gan, image_folder, cuont=3)
