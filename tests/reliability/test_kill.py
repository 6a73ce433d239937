"""``kill -9`` at any moment, also during a save: the run continues to the same last bit."""

import random
import shutil
import time
from pathlib import Path

import pytest
from conftest import TINY
from forkserver import KILLED, ForkServer
from promises import record

PROMISE = "kill -9 at any moment: same final bytes"
KEPT = 3
STEPS = 100  # of writing, in such a run


def arguments(data: Path, out: Path) -> list[object]:
    """A tiny run that saves after every other step."""
    return ["train", "gan", "--data", data, "--out", out, "--images", 192, *TINY,
            "--save-every", 32, "--keep", KEPT]  # fmt: skip


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a finished run; those that hold times and paths count by name alone."""
    files = [p for p in out.rglob("*") if p.is_file() and p.name != "log.jsonl"]
    timed = ("report.html", "run.json")
    return {str(p.relative_to(out)): b"" if p.name in timed else p.read_bytes() for p in files}


@pytest.fixture(scope="module")
def alone(
    fork_server: ForkServer, image_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The files of a run that nobody disturbs."""
    out = tmp_path_factory.mktemp("alone") / "run"
    done = fork_server.run(*arguments(image_folder, out))
    assert done.code == 0, done.err
    return contents(out)


def same_end(fork_server: ForkServer, data: Path, out: Path, alone: dict[str, bytes]) -> bool:
    """Repeat the command to its end and compare; the state's clock may differ."""
    done = fork_server.run(*arguments(data, out))
    found = contents(out)
    names = [n for n in alone if n != "state.safetensors"]
    same = done.code == 0 and found.keys() == alone.keys()
    return record(PROMISE, same and all(found[n] == alone[n] for n in names))


def killed_while_writing(
    fork_server: ForkServer, data: Path, out: Path, alone: dict[str, bytes], step: int
) -> bool:
    """Kill at one step of writing; whether that step was reached (then the end is asserted)."""
    shutil.rmtree(out, ignore_errors=True)
    code = fork_server.run(*arguments(data, out), at=step).code
    assert code in (0, KILLED)
    if code == KILLED:
        assert same_end(fork_server, data, out, alone), f"killed at step {step} of writing"
    return code == KILLED


def killed_by_the_clock(
    fork_server: ForkServer, data: Path, out: Path, alone: dict[str, bytes], seconds: float
) -> None:
    """Kill a moment after the start."""
    shutil.rmtree(out, ignore_errors=True)
    child = fork_server.start(*arguments(data, out))
    time.sleep(seconds)
    child.send(-KILLED)
    assert child.wait().code in (0, KILLED)
    assert same_end(fork_server, data, out, alone), f"killed after {seconds} s"


def attack(
    fork_server: ForkServer, data: Path, out: Path, alone: dict[str, bytes], kills: int, seed: int
) -> None:
    """Kills at seeded moments, half of them inside saving."""
    rng = random.Random(seed)
    for _ in range(kills // 2):
        killed_by_the_clock(fork_server, data, out, alone, rng.uniform(0, 0.5))
        assert killed_while_writing(fork_server, data, out, alone, rng.randint(1, STEPS))


def test_kills_now_and_then(
    fork_server: ForkServer, image_folder: Path, tmp_path: Path, alone: dict[str, bytes]
) -> None:
    attack(fork_server, image_folder, tmp_path / "run", alone, kills=4, seed=0)


def test_a_run_killed_again_and_again_goes_on_every_time(
    fork_server: ForkServer, image_folder: Path, tmp_path: Path, alone: dict[str, bytes]
) -> None:
    out = tmp_path / "run"
    for step in (5, 17, 23, 29):
        assert fork_server.run(*arguments(image_folder, out), at=step).code == KILLED
    assert same_end(fork_server, image_folder, out, alone)
    assert len(list((out / "snapshots").iterdir())) == KEPT


def test_a_run_killed_at_its_very_last_file_is_swept(
    fork_server: ForkServer, image_folder: Path, tmp_path: Path, alone: dict[str, bytes]
) -> None:
    out = tmp_path / "run"
    assert fork_server.run(*arguments(image_folder, out)).code == 0
    (out / "samples" / ".0123456789abcdef.99999999.tmp").write_bytes(b"half")
    assert same_end(fork_server, image_folder, out, alone)


@pytest.mark.slow
def test_two_hundred_kills(
    fork_server: ForkServer, image_folder: Path, tmp_path: Path, alone: dict[str, bytes]
) -> None:
    attack(fork_server, image_folder, tmp_path / "run", alone, kills=200, seed=1)


@pytest.mark.slow
def test_a_kill_at_every_step_of_writing(
    fork_server: ForkServer, image_folder: Path, tmp_path: Path, alone: dict[str, bytes]
) -> None:
    step = 1
    while killed_while_writing(fork_server, image_folder, tmp_path / "run", alone, step):
        step += 1
    assert step > STEPS
