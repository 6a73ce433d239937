"""Two trainings into one folder: the second refuses and names the first."""

import signal
import socket
import time
from pathlib import Path

import pytest
from conftest import TINY, Finished, gentool_command
from forkserver import KILLED, Child, ForkServer
from promises import record

from gentool.core.errors import UsageError
from gentool.training.run_lock import HOLDER_NAME, LOCK_NAME, locked, refuse_if_locked

PROMISE = "two trainings in one folder: the second refuses"
LONG = 100_000


@pytest.fixture
def arguments(image_folder: Path, tmp_path: Path) -> list[object]:
    """A run that takes long."""
    return ["train", "gan", "--data", image_folder, "--out", tmp_path / "run", *TINY,
            "--save-every", 160]  # fmt: skip


def started(fork_server: ForkServer, arguments: list[object], out: Path) -> Child:
    """The first training, once it has saved."""
    child = fork_server.start(*arguments, "--images", LONG)
    deadline = time.monotonic() + 60
    while not (out / "state.safetensors").exists():
        assert time.monotonic() < deadline, child.err
        time.sleep(0.01)
    return child


def refused(done: Finished, first: Child) -> bool:
    """Whether the second was refused with the name of the first."""
    named = f"process {first.pid} on {socket.gethostname()}, since 20" in done.err
    return record(PROMISE, done.code == 2 and named and "choose another --out" in done.err)


def test_the_second_refuses_and_names_the_first(
    fork_server: ForkServer, arguments: list[object], tmp_path: Path, own_cache: Path
) -> None:
    out = tmp_path / "run"
    first = started(fork_server, arguments, out)
    assert refused(fork_server.run(*arguments, "--images", LONG), first)
    assert refused(gentool_command(*arguments, "--images", 160), first)
    fresh = tmp_path / "fresh"
    done = gentool_command(*arguments, "--images", 160, env={"GENTOOL_CACHE": str(fresh)})
    assert refused(done, first)
    assert not fresh.exists()  # said before any image is prepared
    first.send(signal.SIGTERM)
    assert first.wait().code == 75
    assert not (out / HOLDER_NAME).exists()


def test_the_lock_of_a_killed_training_is_stale(
    fork_server: ForkServer, arguments: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = started(fork_server, arguments, out)
    first.send(signal.SIGKILL)
    assert first.wait().code == KILLED
    assert (out / LOCK_NAME).exists()
    assert str(first.pid) in (out / HOLDER_NAME).read_text()
    done = gentool_command(*arguments, "--images", LONG, "--stop-after", 16)
    assert record("the lock of a killed training is stale", done.code == 75), done.err
    assert "continuing at" in done.err


@pytest.mark.parametrize("words", ["", "{", "[1]", "{}", '{"pid": 1}', "\x00" * 9000])
def test_a_holder_that_cannot_be_read_still_holds(words: str, tmp_path: Path) -> None:
    with locked(tmp_path):
        (tmp_path / HOLDER_NAME).write_text(words)
        with pytest.raises(UsageError, match="another process is training in"):
            refuse_if_locked(tmp_path)


def test_a_folder_that_is_not_locked_refuses_nothing(tmp_path: Path) -> None:
    refuse_if_locked(tmp_path / "absent")
    with locked(tmp_path / "made"):
        pass
    refuse_if_locked(tmp_path / "made")
    assert [p.name for p in (tmp_path / "made").iterdir()] == [LOCK_NAME]
