"""The cache: an entry is complete or absent, is reused if it is valid, and else rebuilt."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import draw, environment, gentool_command, write_images
from PIL import Image

from gentool.core.errors import DataError, Stopped
from gentool.core.images import ImageShape
from gentool.data import Dataset, Preprocessing, cache_folder, open_dataset, open_source, prepare

SHAPE = ImageShape(16, 16, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images."""
    return write_images(tmp_path / "toys", 10)


def load(folder: Path, size: str = "16", mode: str = "rgb") -> Dataset:
    """The images of a folder, by way of the cache."""
    return open_dataset(str(folder), size, mode)


def folders(cache: Path) -> list[Path]:
    """The entries, without the lock files."""
    return sorted(path for path in cache.iterdir() if path.name != ".locks")


def entries(cache: Path) -> dict[str, tuple[int, int]]:
    """Name -> inode and time of every entry's pixels."""
    found = {}
    for path in folders(cache):
        info = (path / "images.u8").stat()
        found[path.name] = (info.st_ino, info.st_mtime_ns)
    return found


def test_a_second_look_decodes_nothing(folder: Path, own_cache: Path) -> None:
    first = load(folder)
    before = entries(own_cache)
    calls: list[int] = []
    second = prepare(
        open_source(str(folder)), Preprocessing(SHAPE), lambda done, total: calls.append(done)
    )
    assert entries(own_cache) == before
    assert calls == []
    assert np.array_equal(first.images[:], second.images[:])
    assert (first.fingerprint, first.classes, first.bad) == (
        second.fingerprint, second.classes, second.bad,
    )  # fmt: skip
    assert first.labels is not None
    assert second.labels is not None
    assert first.labels.tolist() == second.labels.tolist()


def test_the_pixels_are_mapped_and_cannot_be_written(folder: Path, own_cache: Path) -> None:
    images = load(folder).images
    assert isinstance(images, np.memmap)
    assert images.dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        images[0, 0, 0, 0] = 1


def test_bad_files_are_remembered(folder: Path, own_cache: Path) -> None:
    (folder / "bar" / "001.png").write_bytes(b"")
    source, wanted = open_source(str(folder)), (("bar/001.png", "the file is empty"),)
    assert prepare(source, Preprocessing(SHAPE), max_bad=0.1).bad == wanted
    assert prepare(source, Preprocessing(SHAPE), max_bad=0.1).bad == wanted


@pytest.mark.parametrize("other", [("20", "rgb"), ("16", "grey"), ("16x20", "rgb")])
def test_another_shape_is_another_entry(
    other: tuple[str, str], folder: Path, own_cache: Path
) -> None:
    load(folder)
    before = entries(own_cache)
    load(folder, *other)
    after = entries(own_cache)
    assert len(after) == 2
    assert before.items() <= after.items()


def test_a_changed_image_is_seen(folder: Path, own_cache: Path) -> None:
    first = load(folder)
    Image.fromarray(draw(77)).save(folder / "bar" / "001.png")
    second = load(folder)
    assert second.fingerprint != first.fingerprint
    assert np.array_equal(second.images[0], draw(77))


def test_an_image_changed_without_a_change_of_size_is_seen(folder: Path, own_cache: Path) -> None:
    path = folder / "bar" / "001.bmp"
    Image.fromarray(draw(1)).save(path)
    first = load(folder)
    info = path.stat()
    Image.fromarray(draw(99)).save(path)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns + 1))
    assert path.stat().st_size == info.st_size
    assert load(folder).fingerprint != first.fingerprint


def test_more_and_fewer_images_are_seen(folder: Path, own_cache: Path) -> None:
    assert len(load(folder)) == 10
    Image.fromarray(draw(50)).save(folder / "bar" / "new.png")
    assert len(load(folder)) == 11
    (folder / "bar" / "001.png").unlink()
    assert len(load(folder)) == 10


def test_equal_images_elsewhere_have_an_equal_fingerprint(
    folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    copy = tmp_path / "other"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)  # new times
    assert load(copy).fingerprint == load(folder).fingerprint
    assert len(entries(own_cache)) == 2


# --- damage -------------------------------------------------------------------------------------

DAMAGES: dict[str, Callable[[Path], object]] = {
    "pixels cut short": lambda e: (e / "images.u8").write_bytes(b"123"),
    "pixels lost": lambda e: (e / "images.u8").unlink(),
    "no meta data": lambda e: (e / "meta.json").unlink(),
    "meta data cut short": lambda e: (e / "meta.json").write_text('{"count": 1'),
    "meta data empty": lambda e: (e / "meta.json").write_text(""),
    "meta data a list": lambda e: (e / "meta.json").write_text("[]"),
    "meta data no text": lambda e: (e / "meta.json").write_bytes(b"\xff\xfe\xfd"),
    "meta data without a key": lambda e: (e / "meta.json").write_text('{"count": 10}'),
    "another format": lambda e: _set(e, "format", 1),
    "another count": lambda e: _set(e, "count", 9),
    "count a word": lambda e: _set(e, "count", "many"),
    "count negative": lambda e: _set(e, "count", -10),
    "count of none": lambda e: _set(e, "count", 0),
    "another shape": lambda e: _set(e, "height", 12),
    "one pixel": lambda e: _flip(e / "images.u8", 5000),
    "one hash": lambda e: _flip(e / "hashes.npy", 150),
    "one label": lambda e: _flip(e / "labels.npy", 128),
    "no hashes": lambda e: (e / "hashes.npy").unlink(),
    "hashes that are pickled": lambda e: np.save(e / "hashes.npy", np.array([{}] * 10)),
    "a label too few": lambda e: np.save(e / "labels.npy", np.zeros(9, np.int64)),
    "labels that are no classes": lambda e: np.save(e / "labels.npy", np.full(10, 7)),
    "no list of bad files": lambda e: (e / "bad.json").unlink(),
    "empty folder": lambda e: _empty(e),
}


def _empty(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.mkdir()


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def _set(entry: Path, key: str, value: object) -> None:
    meta = json.loads((entry / "meta.json").read_text())
    (entry / "meta.json").write_text(json.dumps({**meta, key: value}))


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_entry_is_built_anew(name: str, folder: Path, own_cache: Path) -> None:
    whole = load(folder)
    wanted = np.array(whole.images)
    assert whole.labels is not None
    labels = whole.labels.tolist()
    (entry,) = folders(own_cache)
    DAMAGES[name](entry)
    again = load(folder)
    assert np.array_equal(again.images[:], wanted)
    assert again.labels is not None
    assert again.labels.tolist() == labels
    assert folders(own_cache) == [entry]


def test_a_file_in_the_place_of_an_entry_is_a_clear_error(folder: Path, own_cache: Path) -> None:
    load(folder)
    (entry,) = folders(own_cache)
    shutil.rmtree(entry)
    entry.write_text("in the way")
    with pytest.raises(DataError, match="cannot write the image cache"):
        load(folder)
    assert entry.read_text() == "in the way"


# --- interruption -------------------------------------------------------------------------------


def test_an_interrupted_build_is_no_entry(folder: Path, own_cache: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise Stopped("stopped", interrupted=True)

    with pytest.raises(Stopped):
        prepare(open_source(str(folder)), Preprocessing(SHAPE), stop)
    (entry,) = folders(own_cache)
    assert not (entry / "meta.json").exists()
    assert len(load(folder)) == 10


def test_a_build_interrupted_at_the_very_end_has_only_to_be_finished(
    folder: Path, own_cache: Path
) -> None:
    def stop(done: int, total: int) -> None:
        if done == total:
            raise Stopped("stopped", interrupted=True)

    with pytest.raises(Stopped):
        prepare(open_source(str(folder)), Preprocessing(SHAPE), stop)
    (entry,) = folders(own_cache)
    assert not (entry / "meta.json").exists()
    before = entries(own_cache)
    assert len(load(folder)) == 10
    assert entries(own_cache) == before


def test_progress_counts_up_to_the_total(folder: Path, own_cache: Path) -> None:
    calls: list[tuple[int, int]] = []
    prepare(
        open_source("builtin:shapes:1200"), Preprocessing(SHAPE), lambda d, t: calls.append((d, t))
    )
    assert calls[0] == (0, 1200)
    assert calls[-1] == (1200, 1200)
    assert [d for d, _ in calls] == sorted(d for d, _ in calls)
    assert len(calls) > 2


BUILD = """
import sys, time
from pathlib import Path
from gentool.data import open_dataset
go = Path(sys.argv[2])
Path(sys.argv[3]).touch()
while not go.exists():
    time.sleep(0.001)
data = open_dataset(sys.argv[1], "32", "rgb")
print(len(data), data.fingerprint)
"""


def test_two_processes_may_build_the_same_entry_at_once(tmp_path: Path, own_cache: Path) -> None:
    go = tmp_path / "go"
    ready = [tmp_path / f"ready{k}" for k in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD, "builtin:shapes:2000", str(go), str(mark)],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for mark in ready
    ]  # fmt: skip
    deadline = time.monotonic() + 120
    while not all(mark.exists() for mark in ready):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    go.touch()
    results = [process.communicate(timeout=120) for process in processes]
    assert [p.returncode for p in processes] == [0, 0], results
    assert results[0][0] == results[1][0]
    assert len(folders(own_cache)) == 1
    dataset = open_dataset("builtin:shapes:2000", "32", "rgb")
    assert results[0][0] == f"2000 {dataset.fingerprint}\n"


# --- the place ----------------------------------------------------------------------------------


def test_a_cache_below_a_file_is_a_clear_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GENTOOL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"cannot write the image cache .*Set GENTOOL_CACHE"):
        load(folder)
    done = gentool_command("train", "gan", "--data", folder, "--batch", 4, "--out", tmp_path / "r")
    assert done.code == 3
    assert "Set GENTOOL_CACHE" in done.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache_is_a_clear_error(folder: Path, own_cache: Path) -> None:
    own_cache.mkdir()
    own_cache.chmod(0o500)
    with pytest.raises(DataError, match="cannot write the image cache"):
        load(folder)
    own_cache.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_full_cache_may_become_read_only(folder: Path, own_cache: Path) -> None:
    load(folder)
    own_cache.chmod(0o500)
    assert len(load(folder)) == 10
    own_cache.chmod(0o700)


def test_the_place_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GENTOOL_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GENTOOL_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="places differ between systems")
def test_the_default_place_is_the_one_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GENTOOL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "gentool"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "gentool"


def test_a_long_name_still_makes_an_entry(tmp_path: Path, own_cache: Path) -> None:
    folder = write_images(tmp_path / ("ü" * 100), 2)
    assert len(load(folder)) == 2
    (entry,) = folders(own_cache)
    assert len(os.fsencode(entry.name)) < 255
