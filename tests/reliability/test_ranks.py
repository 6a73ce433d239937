"""Several processes train the model of one; a lost one leaves the others not hanging."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import TINY, environment, gentool_command
from safetensors.torch import load_file

from gentool.checkpoint import read_file

LEAVE_SECONDS = 30
# Biases that batch normalisation takes away again, and the means that hold them: their gradient is
# rounding alone, which Adam makes as large as any other.
SHIFTS = ("net.body.2.bias", "net.body.5.bias", "running_mean")


def torchrun(processes: int, *arguments: object, restarts: int = 0) -> "subprocess.Popen[bytes]":
    """Start the program under torchrun, in a session of its own."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
                f"--max-restarts={restarts}", "-m", "gentool"]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, *launcher, *map(str, arguments)], env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def command(model: str, data: Path, out: Path, images: int, *more: object) -> list[object]:
    """A tiny run."""
    return ["train", model, "--data", data, "--out", out, "--images", images, *TINY, *more]


def workers(launcher: int) -> list[int]:
    """The processes of the ranks."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(launcher)], capture_output=True, check=False
    )
    return [int(word) for word in listed.stdout.split()]


@pytest.mark.parametrize(
    ("model", "processes"),
    [("gan", 2), *(pytest.param(m, n, marks=pytest.mark.slow)
                   for m in ("gan", "vae", "autoencoder") for n in (2, 3))],
)  # fmt: skip
def test_several_processes_give_the_weights_of_one(
    model: str, processes: int, image_folder: Path, tmp_path: Path
) -> None:
    one, several = tmp_path / "one", tmp_path / "several"
    assert gentool_command(*command(model, image_folder, one, 64)).code == 0
    process = torchrun(processes, *command(model, image_folder, several, 64, "--json"))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    assert json.loads(out)["images"] == 64  # one of them speaks
    expected, found = (load_file(f / "model.safetensors") for f in (one, several))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        if name.endswith(SHIFTS):
            continue
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("restarts", [0, 1])
def test_a_lost_process_ends_or_restarts_the_run(
    restarts: int, image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = command("vae", image_folder, out, 6400)
    first = gentool_command(*arguments, "--stop-after", 160)
    assert first.code == 75
    process = torchrun(4, *arguments, restarts=restarts)
    deadline = time.monotonic() + 60
    while len(ranks := workers(process.pid)) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(8)  # into training
    os.kill(ranks[2], signal.SIGKILL)
    process.communicate(timeout=120 if restarts else LEAVE_SECONDS)
    assert (process.returncode == 0) == bool(restarts)
    header, _ = read_file(out / "state.safetensors")
    assert header["images"] == 6400 if restarts else header["images"] >= 160
