"""Several processes train the same model as one; if one is lost, the others stop."""

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
from gentool.models import MODELS

SAME = "1, 2 and 3 processes, in turns too: the same weights but for rounding (1e-5)"
LOST = "one of 2 or 4 processes killed: the others leave within 30 s, or torchrun restarts the run"
TOGETHER = "a signal, a lack of memory or a bad number in one process: all do the same"
LEAVE_SECONDS = 30
PRESETS = [*MODELS, "vqvae", "vampvae"]  # and what begins at images, or learns from their codes
WORKER = Path(__file__).parents[1] / "helpers" / "rank_worker.py"
# Biases that normalisation takes away again, by the batch or, in such narrow networks, by the
# channel, and the means that hold them: their gradient is rounding alone, which Adam makes as large
# as any other.
SHIFTS = ("body.2.bias", "body.3.bias", "body.5.bias", "running_mean",
          "codec.encoder.body.0.bias", "codec.decoder.body.0.bias", "encoder.0.body.0.bias",
          "decoder.1.body.0.bias", "decoder.1.body.9.bias")  # fmt: skip


def torchrun(
    processes: int, *arguments: object, restarts: int = 0, spoil: dict[str, object] | None = None
) -> "subprocess.Popen[bytes]":
    """Start the program under torchrun, in a session of its own; ``spoil`` is a job of poison."""
    program = ["-m", "gentool"] if spoil is None else [str(WORKER), json.dumps(spoil)]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
                f"--max-restarts={restarts}", *program]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, *launcher, *map(str, arguments)],
        env=environment({"PYTHONPATH": str(WORKER.parent)}),
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


def wait_for_state(out: Path) -> None:
    """Until the run has saved once."""
    deadline = time.monotonic() + 60
    while not (out / "state.safetensors").exists():
        assert time.monotonic() < deadline, "nothing was saved"
        time.sleep(0.05)


def assert_same_weights(found: Path, expected: Path) -> None:
    """Models of two run folders are equal but for rounding."""
    a, b = (load_file(f / "model.safetensors") for f in (found, expected))
    assert a.keys() == b.keys()
    for name in a:
        if not name.endswith(SHIFTS):
            torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.slow  # processes that begin take longer than all the rest
@pytest.mark.promise(SAME)
@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("model", PRESETS)
def test_several_processes_give_the_weights_of_one(
    model: str, processes: int, image_folder: Path, tmp_path: Path
) -> None:
    one, several = tmp_path / "one", tmp_path / "several"
    assert gentool_command(*command(model, image_folder, one, 64)).code == 0
    process = torchrun(processes, *command(model, image_folder, several, 64, "--json"))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    assert json.loads(out)["images"] == 64  # one of them speaks
    assert_same_weights(several, one)


CODEBOOK = """
import sys
import numpy as np
import torch
from safetensors.torch import save_file
from gentool.core.distributed import joined
from gentool.models.quantisers.codebook import Codebook
from gentool.core.rng import Draw

cpu = torch.device("cpu")
with joined(cpu) as ranks:
    torch.manual_seed(0)
    codebook, grid = Codebook(12, 3), torch.randn(7, 3, 4, 4)
    codebook.begin(grid + ranks.rank)
    codebook.vectors[[3, 8]] = 50.0
    codebook.counts[[3, 8]] = 0.01
    first, last = ranks.share(7)
    tally = codebook.open_tally()
    for step in range(4):
        turn = Draw(0, "codes", np.arange(first, last) + 7 * step, step, cpu)
        codebook.learn(grid[first:last] + 0.1 * step, turn, tally)
    save_file({**codebook.state_dict(), **tally.state_dict()}, f"{sys.argv[1]}/{ranks.rank}.st")
"""


@pytest.mark.slow
@pytest.mark.promise(SAME)
def test_a_codebook_restarts_at_the_same_vectors_in_all_processes(tmp_path: Path) -> None:
    script = tmp_path / "codebook.py"
    script.write_text(CODEBOOK)
    found = []
    for processes in (1, 3):
        out = tmp_path / str(processes)
        out.mkdir()
        command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        subprocess.run(
            [sys.executable, *command, str(script), str(out)],
            env=environment(), capture_output=True, check=True, timeout=120,
        )  # fmt: skip
        found += [load_file(out / f"{rank}.st") for rank in range(processes)]
    assert found[0]["vectors"].abs().max() < 10  # the dead are alive
    for name, expected in found[0].items():
        assert torch.equal(found[1][name], found[2][name])
        assert torch.equal(found[1][name], found[3][name])
        torch.testing.assert_close(found[1][name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.promise(LOST)
@pytest.mark.parametrize(
    ("processes", "restarts"),
    [(2, 0), *(pytest.param(4, k, marks=pytest.mark.slow) for k in (0, 3))],
)
def test_a_lost_process_ends_or_restarts_the_run(
    processes: int, restarts: int, image_folder: Path, tmp_path: Path
) -> None:
    alone, out = tmp_path / "alone", tmp_path / "run"
    process = torchrun(processes, *command("vae", image_folder, out, 1600, "--save-every", 160),
                       restarts=restarts)  # fmt: skip
    wait_for_state(out)
    os.kill(workers(process.pid)[processes // 2], signal.SIGKILL)
    _, err = process.communicate(timeout=120 if restarts else LEAVE_SECONDS)
    assert (process.returncode == 0) == bool(restarts), err.decode()
    header, _ = read_file(out / "state.safetensors")
    assert header["images"] == 1600 if restarts else 160 <= header["images"] < 1600
    if restarts:
        torchrun(processes, *command("vae", image_folder, alone, 1600)).communicate(timeout=120)
        a, b = (load_file(f / "model.safetensors") for f in (alone, out))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.promise(SAME)
def test_a_run_goes_on_in_two_processes(image_folder: Path, tmp_path: Path) -> None:
    """The short one of those below."""
    whole, mixed = tmp_path / "whole", tmp_path / "mixed"
    assert gentool_command(*command("vae", image_folder, whole, 64)).code == 0
    arguments = command("vae", image_folder, mixed, 64)
    assert gentool_command(*arguments, "--stop-after", 32).code == 75
    process = torchrun(2, *arguments)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    assert_same_weights(mixed, whole)


@pytest.mark.slow
@pytest.mark.promise(SAME)
@pytest.mark.parametrize("model", PRESETS)
def test_a_run_goes_on_in_one_two_and_three_processes(
    model: str, image_folder: Path, tmp_path: Path
) -> None:
    whole, mixed = tmp_path / "whole", tmp_path / "mixed"
    assert gentool_command(*command(model, image_folder, whole, 96)).code == 0
    arguments = command(model, image_folder, mixed, 96)
    assert gentool_command(*arguments, "--stop-after", 32).code == 75
    torchrun(2, *arguments, "--stop-after", 32).communicate(timeout=120)
    assert read_file(mixed / "state.safetensors")[0]["images"] == 64
    process = torchrun(3, *arguments)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    assert_same_weights(mixed, whole)


@pytest.mark.slow
@pytest.mark.promise(TOGETHER)
def test_memory_that_runs_out_in_one_process_splits_the_batch_of_all(
    image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    spoil: dict[str, object] = {"kind": "starve", "fits": 4, "moment": "backward", "step": 2}
    process = torchrun(2, *command("vae", image_folder, out, 96), spoil=spoil)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    assert err.decode().count("parts of 8 images") == 1  # one of them speaks
    assert read_file(out / "state.safetensors")[0]["part"] == 8


@pytest.mark.slow
@pytest.mark.promise(TOGETHER)
def test_a_number_gone_wrong_in_one_process_takes_all_back(
    image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    spoil: dict[str, object] = {"kind": "strike", "phase": "vae", "step": 3, "times": 1,
                                "what": "loss", "part": ""}  # fmt: skip
    process = torchrun(2, *command("vae", image_folder, out, 96), spoil=spoil)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    header, _ = read_file(out / "state.safetensors")
    assert (header["images"], header["setbacks"]) == (96, 1)


@pytest.mark.slow
@pytest.mark.promise(TOGETHER)
def test_a_signal_to_one_process_stops_all_and_saves(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = torchrun(2, *command("vae", image_folder, out, 10**6, "--save-every", 160))
    wait_for_state(out)
    os.kill(workers(process.pid)[-1], signal.SIGTERM)
    _, err = process.communicate(timeout=LEAVE_SECONDS)
    assert process.returncode != 0
    assert b"saved in" in err
    assert read_file(out / "state.safetensors")[0]["images"] >= 160
