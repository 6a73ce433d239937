"""A full disk: the last good files stay complete, and the run continues when space is free."""

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TINY, Finished, gentool_command
from forkserver import ForkServer
from promises import record
from safetensors.torch import load_file

from gentool.checkpoint import load_model, read_file
from gentool.core import atomic_files as files
from gentool.core.atomic_files import require_room
from gentool.core.errors import Stopped, UsageError
from gentool.training.snapshots import Keep, parse_keep

PROMISE = "a write that fails: last good files whole, exit 75"


def arguments(data: Path, out: Path, *more: object) -> list[object]:
    """A tiny run that saves at every fourth step."""
    return ["train", "gan", "--data", data, "--out", out, "--images", 320, *TINY,
            "--save-every", 64, "--keep", 2, *more]  # fmt: skip


@contextlib.contextmanager
def failing(at: int, number: int) -> Iterator[None]:
    """Step ``at`` of writing files fails in this process."""
    left = at

    def observer(step: str, path: Path) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(number, os.strerror(number), str(path))

    files.observers.append(observer)
    try:
        yield
    finally:
        files.observers.remove(observer)


def whole(out: Path) -> bool:
    """Whether what lies in a run folder can all be opened, with nothing half written."""
    for path in out.rglob("*.safetensors"):
        load_file(path)
    for name in ("model.safetensors", "state.safetensors"):
        if (out / name).exists():
            read_file(out / name)
    return not list(out.rglob("*.tmp"))


def told(done: Finished) -> bool:
    """Whether the stop was said with bytes needed and free."""
    return done.code == 75 and " bytes are needed, " in done.err and " are free. " in done.err


@pytest.fixture(scope="module")
def undisturbed(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The model file of a run whose disk has room."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert gentool_command(*arguments(image_folder, out)).code == 0
    return (out / "model.safetensors").read_bytes()


def survives(at: int, data: Path, out: Path, undisturbed: bytes) -> bool:
    """Fail at one step of writing, look, and go on."""
    with failing(at, errno.ENOSPC):
        done = gentool_command(*arguments(data, out))
    good = told(done) and whole(out)
    again = gentool_command(*arguments(data, out))
    same = (out / "model.safetensors").read_bytes() == undisturbed
    return good and again.code == 0 and same


@pytest.mark.promise(PROMISE)
@pytest.mark.parametrize(
    "at", [1, 9, 50, *(pytest.param(k, marks=pytest.mark.slow) for k in (2, 6, 12, 16, 33, 77))]
)
def test_a_write_that_fails(
    at: int, image_folder: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    assert survives(at, image_folder, tmp_path / "run", undisturbed)


@pytest.mark.promise(PROMISE)
@pytest.mark.slow
@pytest.mark.parametrize("at", range(1, 101))
def test_each_of_the_first_hundred_writes_fails(
    at: int, image_folder: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    images = 640  # long enough to write that often
    out = tmp_path / "run"
    with failing(at, errno.ENOSPC):
        done = gentool_command(*arguments(image_folder, out, "--images", images))
    assert told(done) and whole(out), done.err
    done = gentool_command(*arguments(image_folder, out, "--images", images))
    assert done.code == 0, done.err


def test_other_errors_of_a_disk_are_told_too(image_folder: Path, tmp_path: Path) -> None:
    with failing(20, errno.EIO):
        done = gentool_command(*arguments(image_folder, tmp_path))
    assert done.code == 2
    assert f"cannot write the run folder {tmp_path}: Input/output error" in done.err
    assert whole(tmp_path)


@pytest.mark.promise(PROMISE)
def test_a_limit_on_the_size_of_files(
    fork_server: ForkServer, image_folder: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    """RLIMIT_FSIZE, in a real process: the model fits, the state does not."""
    stopped = fork_server.run(*arguments(image_folder, tmp_path, "--stop-after", 64))
    assert stopped.code == 75
    before = (tmp_path / "state.safetensors").read_bytes()
    done = fork_server.run(*arguments(image_folder, tmp_path), largest_file=50_000)
    assert told(done) and whole(tmp_path), done.err
    assert f"File too large in {tmp_path}: " in done.err
    assert (tmp_path / "state.safetensors").read_bytes() == before
    assert fork_server.run(*arguments(image_folder, tmp_path)).code == 0
    assert (tmp_path / "model.safetensors").read_bytes() == undisturbed


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of this size; skips the test where none can be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_too_small_is_told_before_training(
    image_folder: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 128) as disk:
        done = gentool_command(*arguments(image_folder, disk / "run"))
        assert record("too little room is told before training", told(done)), done.err
        assert f"there is not enough free space in {disk}" in done.err
        assert not [f for f in (disk / "run").iterdir() if f.name != ".lock"]


@pytest.mark.promise(PROMISE)
def test_a_disk_that_fills_up_while_training(
    fork_server: ForkServer, image_folder: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 1024) as disk:
        out = disk / "run"
        long = arguments(image_folder, out, "--images", 100_000)
        child = fork_server.start(*long)
        deadline = time.monotonic() + 60
        while not (out / "model.safetensors").exists():
            assert time.monotonic() < deadline, child.err
            time.sleep(0.01)
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        done = child.wait()
        assert told(done) and whole(out), done.err
        assert load_model(out).model.shape.height == 16
        (disk / "filler").unlink()
        more = fork_server.run(*long, "--stop-after", 160)
        assert "continuing at" in more.err
        assert "stopped at" in more.err


def test_room_is_counted_in_bytes(tmp_path: Path) -> None:
    require_room(tmp_path / "absent" / "deep", 1)
    with pytest.raises(Stopped, match=r": 1,000,000,000,000,000,000 bytes are needed"):
        require_room(tmp_path, 10**18)


# --- how many models are kept -------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "kept"), [("last", 0), ("best", 0), ("2", 2), ("all", 5)])
def test_never_more_models_than_were_asked_for(
    keep: str, kept: int, image_folder: Path, tmp_path: Path
) -> None:
    most = 0

    def observer(step: str, path: Path) -> None:
        nonlocal most
        most = max(most, len(list(tmp_path.glob("snapshots/*"))))

    files.observers.append(observer)
    try:
        done = gentool_command(*arguments(image_folder, tmp_path, "--keep", keep))
    finally:
        files.observers.remove(observer)
    assert done.code == 0, done.err
    snapshots = sorted(tmp_path.glob("snapshots/*"))
    assert (most, len(snapshots)) == (kept, kept)
    for number, snapshot in zip(range(5 - kept, 5), snapshots, strict=True):
        assert load_model(snapshot).header["training"]["images"] == 64 * (number + 1)
    if kept:
        assert snapshots[-1].read_bytes() == (tmp_path / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("keep", "best"), [("last", False), ("best", True), ("1", True)])
def test_the_best_is_kept_unless_only_the_last_is(
    keep: str, best: bool, image_folder: Path, tmp_path: Path
) -> None:
    done = gentool_command(
        *arguments(image_folder, tmp_path, "--keep", keep, "--images", 64), "--score-every", 64
    )
    assert done.code == 0, done.err
    assert (tmp_path / "best.safetensors").exists() == best


def test_words_of_keep() -> None:
    assert parse_keep("best") == Keep() == Keep(best=True, numbered=0)
    assert parse_keep("12") == Keep(numbered=12)
    for word in ("", "0", "-1", "first", "1.5", "9" * 30, "²"):
        with pytest.raises(UsageError, match="write last, best, all, or a number"):
            parse_keep(word)
