"""``train --log``: each tracker's own library reads what was logged; a failure ends no training."""

import importlib
import sqlite3
import sys
import warnings
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, gentool_command
from PIL import Image

import gentool
from gentool.core.errors import Stopped, UsageError
from gentool.report.facts import read_facts
from gentool.trackers.table import TRACKERS, Start, refuse_missing

BASE: dict[str, Any] = {
    "data": "builtin:shapes:64",
    "size": 16,
    "batch": 16,
    "device": "cpu",
    "width": 4,
}


def start_of(folder: Path, images: int = 0) -> Start:
    """What a tracker is told of a run in ``folder``."""
    return Start(folder, "run", "0123456789ab", images, {"batch": "16", "preset": "vae"})


def picture(folder: Path) -> Path:
    """A small picture in a PNG file."""
    path = folder / "sheet.png"
    Image.new("RGB", (8, 4), (255, 0, 0)).save(path)
    return path


def filled(name: str, folder: Path) -> None:
    """Log two values and a picture, continue at the first of them, and log another second one."""
    first = TRACKERS[name].start(start_of(folder))
    first.scalars(16, {"loss": 2.0})
    first.picture(16, "samples", picture(folder))
    first.scalars(32, {"loss": 9.0})
    first.close()
    again = TRACKERS[name].start(start_of(folder, images=16))
    again.scalars(32, {"loss": 1.0})
    again.close()


def events_of(folder: Path) -> Any:
    """What TensorBoard reads from event files."""
    event_accumulator = importlib.import_module(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    found = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return found


def entries(log: bytes) -> Iterator[bytes]:
    """The entries of a file of wandb without its 7 first bytes, which has the form of LevelDB.

    Blocks of 32 KiB hold parts of entries: a checksum, the length, and whether the entry is whole
    (1), begins (2), goes on (3) or ends (4). The first block is shorter by the 7 bytes.
    """
    place, entry = 0, b""
    while place < len(log):
        left = 2**15 - (place + 7) % 2**15
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(log[place + 4 : place + 6], "little"), log[place + 6]
        entry += log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield entry
            entry = b""


def needs(name: str) -> None:
    """Skip where the library of a tracker is not installed."""
    if find_spec(TRACKERS[name].library) is None:
        pytest.skip(f"{name} is not installed: pip install 'gentool[{TRACKERS[name].extra}]'")


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_hides_what_a_continued_run_repeats(tmp_path: Path) -> None:
    needs("tensorboard")
    filled("tensorboard", tmp_path)
    found = events_of(tmp_path / "tensorboard")
    assert [(e.step, e.value) for e in found.Scalars("loss")] == [(16, 2.0), (32, 1.0)]
    (image,) = found.Images("samples")
    assert (image.step, image.width, image.height) == (16, 8, 4)
    assert "settings/text_summary" in found.Tags()["tensors"]


@pytest.mark.filterwarnings("ignore")
def test_wandb_writes_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    filled("wandb", tmp_path)
    records = importlib.import_module("wandb.proto.wandb_internal_pb2")
    logged = []
    for file in sorted(tmp_path.glob("wandb/offline-run-*/run-0123456789ab.wandb")):
        for data in entries(file.read_bytes()[7:]):
            record = records.Record()
            record.ParseFromString(data)
            items = record.history.item
            logged.append({(i.key or i.nested_key[0]): i.value_json for i in items})
    losses = [(row["images"], row["loss"]) for row in logged if "loss" in row]
    assert losses == [("16", "2"), ("32", "9"), ("32", "1")]
    assert any("samples" in row for row in logged)
    assert list(tmp_path.glob("wandb/offline-run-*/files/media/images/samples_*.png"))


@pytest.mark.filterwarnings("ignore")
def test_trackio_writes_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needs("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    filled("trackio", tmp_path)
    assert capsys.readouterr().out == ""
    (file,) = (tmp_path / "trackio").glob("gentool*.db")
    with sqlite3.connect(file) as database:
        rows = database.execute("SELECT step, metrics FROM metrics ORDER BY id").fetchall()
    steps = [step for step, metrics in rows if "loss" in str(metrics)]
    assert steps == [16, 32, 32]
    assert list((tmp_path / "trackio").rglob("*.png"))


def test_a_missing_library_is_named_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, row in TRACKERS.items():
        monkeypatch.setitem(sys.modules, row.library, None)
        with pytest.raises(UsageError) as caught:
            refuse_missing([name])
        assert f"pip install 'gentool[{row.extra}]'" in str(caught.value)


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    words = ("train", "vae", "--data", "builtin:shapes:64", "--log", "tensorbord", "--dry-run")
    done = gentool_command(*words, cwd=tmp_path)
    assert done.code == 2
    assert "Did you mean 'tensorboard'? (choices: tensorboard, trackio, wandb)" in done.err


class Recorded:
    """A tracker that keeps what it gets; it fails at a given step."""

    def __init__(self, start: Start, fails_at: int = -1) -> None:
        self.start, self.fails_at = start, fails_at
        self.values: list[tuple[int, set[str]]] = []
        self.pictures: list[tuple[int, str]] = []
        self.closed = False

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the step and the names."""
        if step == self.fails_at:
            raise OSError("the disk of the tracker is full")
        self.values.append((step, set(values)))

    def picture(self, step: int, name: str, file: Path) -> None:
        """Keep the step and the name."""
        assert file.is_file()
        self.pictures.append((step, name))

    def close(self) -> None:
        """Remember it."""
        self.closed = True


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Recorded]]:
    """The trackers that were started, in place of TensorBoard."""
    made: list[Recorded] = []

    class Row:
        """A row of the table that needs no library."""

        library, extra = "sys", "none"

        def start(self, start: Start) -> Recorded:
            """Begin to track."""
            made.append(Recorded(start))
            return made[-1]

    monkeypatch.setitem(TRACKERS, "tensorboard", Row())
    yield made


@pytest.mark.filterwarnings("ignore:samples are only")
def test_values_scores_and_pictures_have_the_same_steps_after_a_stop(
    recorded: list[Recorded], tmp_path: Path
) -> None:
    how = {**BASE, "out": str(tmp_path / "run"), "log": "tensorboard", "score_every": 32}
    with pytest.raises(Stopped):
        gentool.train("autoencoder", images=64, stop_after=32, **how)
    gentool.train("autoencoder", images=64, **how)
    first, second = recorded
    assert (first.start.images, second.start.images) == (0, 32)
    assert first.start.key == second.start.key
    assert first.start.settings["log"] == "tensorboard"
    assert [step for step, names in first.values if "fd_random" in names] == [32]
    assert [step for step, names in second.values if "fd_random" in names] == [64]
    assert any(step == 64 and "mse" in names for step, names in second.values)
    assert {(32, "samples"), (32, "reconstructions")} <= set(first.pictures)
    assert {(64, "samples"), (64, "reconstructions")} <= set(second.pictures)
    assert first.closed and second.closed
    facts = read_facts(tmp_path / "run")
    assert facts is not None and " --log tensorboard" in facts.command


def test_a_tracker_that_fails_is_reported_once_and_the_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Row:
        """A row of the table whose tracker fails."""

        library, extra = "sys", "none"

        def start(self, start: Start) -> Recorded:
            """Begin to track."""
            return Recorded(start, fails_at=32)

    monkeypatch.setitem(TRACKERS, "tensorboard", Row())
    how = {**BASE, "out": str(tmp_path / "run"), "log": ["tensorboard"], "score_every": 32}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = gentool.train("autoencoder", images=64, **how)
    assert run.images == 64
    assert len([w for w in caught if "--log tensorboard failed" in str(w.message)]) == 1


def test_the_command_logs_and_keeps_stdout_clean(tmp_path: Path) -> None:
    needs("tensorboard")
    out = tmp_path / "run"
    done = gentool_command(
        "train", "vae", "--data", "builtin:shapes:64", "--size", 16, *TINY, "--images", 64,
        "--out", out, "--log", "tensorboard", "--score-every", 32,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.out == f"{out / 'model.safetensors'}\n"
    found = events_of(out / "tensorboard")
    assert {"fd_random", "elbo", "psnr"} <= set(found.Tags()["scalars"])
    assert {"samples", "reconstructions"} <= set(found.Tags()["images"])
