"""``gentool gc`` removes older snapshots of runs and nothing else."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, gentool_command

from gentool.core.atomic_files import remove_scratch
from gentool.training.clearing import clear, plan_clearing
from gentool.training.run_lock import locked

NAMES = tuple(f"{images:012d}.safetensors" for images in (64, 128, 192, 320))


@pytest.fixture
def run(gan: Path, tmp_path: Path) -> Path:
    """A run with four snapshots, the newest of which is the model, and other files."""
    run = Path(shutil.copytree(gan, tmp_path / "runs" / "a"))
    snapshots = run / "snapshots"
    snapshots.mkdir(exist_ok=True)
    for name in NAMES[:-1]:
        shutil.copy(run / "model.safetensors", snapshots / name)
    os.link(run / "model.safetensors", snapshots / NAMES[-1])
    return run


def everything(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.name not in (".lock",)}


def leftover(folder: Path, process: int = 99_999_999, hours: float = 2) -> Path:
    """A temporary file that a command began to write; the default process does not exist."""
    path = folder / f".0123456789abcdef.{process}.tmp"
    path.write_bytes(b"half")
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))
    return path


def told(*arguments: object) -> dict[str, Any]:
    done = gentool_command("gc", *arguments, "--json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


@pytest.mark.parametrize(("keep", "gone"), [(0, 4), (1, 3), (3, 1), (9, 0), ("all", 0)])
def test_the_newest_snapshots_stay(keep: object, gone: int, run: Path) -> None:
    before, size = everything(run), (run / "model.safetensors").stat().st_size
    planned = told(run.parent, "--keep", keep, "--dry-run")
    assert everything(run) == before
    done = told(run.parent, "--keep", keep)
    assert {**planned, "dry_run": False} == done
    assert before - everything(run) == {f"snapshots/{name}" for name in NAMES[:gone]}
    assert done["bytes"] == size * min(gone, 3)  # the newest is another name of the model
    assert done["runs"][0]["bytes"] == done["bytes"]
    assert gentool_command("sample", run, "-n", 1, "-o", run.parent / "x.png").code == 0


def test_one_snapshot_stays_where_there_is_no_model(run: Path) -> None:
    (run / "model.safetensors").unlink()
    told(run, "--keep", 0)
    assert [path.name for path in (run / "snapshots").iterdir()] == [NAMES[-1]]


def test_a_run_that_is_trained_is_left_alone(run: Path) -> None:
    before = everything(run)
    with locked(run):
        row = told(run, "--keep", 0)["runs"][0]
        assert row["removed"] == [] and "is training in" in row["busy"]
    assert everything(run) == before


def test_foreign_files_links_and_damaged_files_stay(run: Path, tmp_path: Path) -> None:
    snapshots, outside = run / "snapshots", tmp_path / "outside.safetensors"
    shutil.copy(run / "model.safetensors", outside)
    (snapshots / NAMES[0]).write_bytes(b"mine")
    (snapshots / NAMES[1]).unlink()
    (snapshots / NAMES[1]).symlink_to(outside)
    (snapshots / "notes.txt").write_text("mine")
    (snapshots / "best.safetensors").write_bytes(outside.read_bytes())
    scratch = leftover(run / "samples")
    row = told(run, "--keep", 0)["runs"][0]
    assert {Path(file["path"]).name for file in row["removed"]} == {
        NAMES[2], NAMES[3], scratch.name
    }  # fmt: skip
    assert {Path(file["path"]).name for file in row["left"]} == {NAMES[0], NAMES[1]}
    assert outside.is_file() and (snapshots / NAMES[1]).is_symlink()
    assert (snapshots / "notes.txt").is_file() and (snapshots / "best.safetensors").is_file()


def test_temporary_files_that_may_still_be_written_stay(run: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        live, young, old = (
            leftover(run, other.pid),
            leftover(run, hours=0.9),
            leftover(run / "samples"),
        )
        row = told(run, "--keep", "all")["runs"][0]
        other.communicate(b"\n")
    assert [file["path"] for file in row["removed"]] == [str(old)]
    reasons = {file["path"]: file["reason"] for file in row["left"]}
    assert set(reasons) == {str(live), str(young)}
    assert str(other.pid) in reasons[str(live)] and "hour" in reasons[str(young)]
    assert live.is_file() and young.is_file()


def test_training_removes_temporary_files_of_killed_commands_only(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        live, _ = leftover(tmp_path, other.pid), leftover(tmp_path, hours=0)
        remove_scratch(tmp_path)
        other.communicate(b"\n")
    assert list(tmp_path.iterdir()) == [live]


@pytest.mark.parametrize("word", ["best", "last", "-1", "1.5", "9" * 8])
def test_keep_is_a_number_or_all(word: str, run: Path) -> None:
    before = everything(run)
    done = gentool_command("gc", run, "--keep", word)
    assert done.code == 2 and "or all" in done.err
    assert everything(run) == before


def test_a_word_for_train_in_the_environment_keeps_the_newest(run: Path) -> None:
    done = gentool_command("gc", run, env={"GENTOOL_KEEP": "best"})
    assert done.code == 0, done.err
    assert [path.name for path in (run / "snapshots").iterdir()] == [NAMES[-1]]


def test_a_folder_of_snapshots_behind_a_link_stays(run: Path, tmp_path: Path) -> None:
    (run / "snapshots").rename(tmp_path / "elsewhere")
    (run / "snapshots").symlink_to(tmp_path / "elsewhere")
    leftover(tmp_path / "elsewhere")
    row = told(run, "--keep", 0)["runs"][0]
    assert row["removed"] == [] and row["left"][0]["reason"] == "it is a link"
    assert len(list((tmp_path / "elsewhere").iterdir())) == 5


def test_a_kill_in_the_middle_loses_nothing_that_stays(run: Path) -> None:
    class Killed(BaseException):
        pass

    gone: list[object] = []

    def poll() -> None:
        if len(gone) == 2:
            raise Killed

    with pytest.raises(Killed):
        clear(run, 1, poll, gone.append)
    assert sorted(path.name for path in (run / "snapshots").iterdir()) == list(NAMES[2:])
    assert [file.path.name for file in plan_clearing(run, 1).remove] == [NAMES[2]]


def test_a_run_goes_on_after_its_snapshots_are_gone(image_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def train(images: int) -> None:
        done = gentool_command(
            "train", "gan", "--data", image_folder, "--out", run, "--keep", "all",
            "--images", images, *TINY,
        )  # fmt: skip
        assert done.code == 0, done.err

    train(32)
    assert len(told(run, "--keep", 0)["runs"][0]["removed"]) == 1
    assert list((run / "snapshots").iterdir()) == []
    train(64)
    names = {path.name for path in (run / "snapshots").iterdir()}
    assert "000000000064.safetensors" in names


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert gentool_command("gc", tmp_path / "photos", "--keep", "-1").code == 2
    done = gentool_command("gc", tmp_path / "photos")
    assert done.code == 2 and "no run folder" in done.err


def test_lines_for_people(run: Path) -> None:
    done = gentool_command("gc", run, "--keep", 3, "--dry-run")
    assert done.lines == [str(run / "snapshots" / NAMES[0])]
    assert "1 file would be removed" in done.err and "3 snapshots stay" in done.err
