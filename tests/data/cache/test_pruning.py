"""The cache folder: listed, verified, limited; entries in use and other files are never deleted."""

import gc
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HELPERS, environment
from odd_sources import SIDE, Faults, Squares, squares

from gentool.core.errors import DataError, Stopped, UsageError
from gentool.core.images import ImageShape
from gentool.data import Dataset, Preprocessing, list_entries, prepare, prune, verify
from gentool.data.cache.pruning import cache_limit

PREPROCESSING = Preprocessing(ImageShape(SIDE, SIDE, 3))
DAY = 86_400.0


@pytest.fixture(autouse=True)
def cache(own_cache: Path) -> Path:
    """A cache of its own for each test."""
    own_cache.mkdir()
    return own_cache


def make(count: int, days: float = 0.0) -> Path:
    """An entry of so many images, last used so many days ago."""
    prepare(Squares(count), PREPROCESSING)
    gc.collect()
    (path,) = (e.path for e in list_entries() if e.about.startswith(f"{count:,} images"))
    used = time.time() - days * DAY
    os.utime(path, (used, used))
    return path


def names() -> set[str]:
    """Names of what is listed."""
    return {entry.path.name for entry in list_entries()}


def test_an_empty_cache_lists_nothing(cache: Path) -> None:
    assert list_entries() == []
    cache.rmdir()
    assert list_entries() == []
    assert prune(everything=True) == []


def test_entries_are_listed_by_their_last_use(cache: Path) -> None:
    new, old = make(60, days=1), make(50, days=3)
    first, second = list_entries()
    assert (first.path, second.path) == (old, new)
    assert first.kind == "images"
    assert first.about == "50 images of squares, 16x16 rgb"
    assert not first.in_use
    assert first.bytes >= 50 * 768
    assert first.used == pytest.approx(time.time() - 3 * DAY, abs=60)


def test_using_an_entry_makes_it_the_latest() -> None:
    old, new = make(60, days=5), make(50, days=3)
    prepare(Squares(60), PREPROCESSING)
    assert [e.path for e in list_entries()] == [new, old]


def test_other_things_of_gentool_count_and_those_of_others_do_not(cache: Path) -> None:
    for name in ("classifier-0a", "features-1b", "index-2c", "index-2c.tar", "notes.txt", "a-b"):
        (cache / name).write_text(name)
    (cache / "own" / "images").mkdir(parents=True)
    (cache / "torchvision-MNIST").mkdir()
    (cache / "torchvision-MNIST" / "data").write_bytes(bytes(5000))
    kinds = {e.path.name: e.kind for e in list_entries()}
    assert kinds == {
        "classifier-0a": "classifier", "features-1b": "features", "index-2c": "index",
        "index-2c.tar": "index", "torchvision-MNIST": "download",
    }  # fmt: skip
    prune(max_bytes=0)
    assert names() == {"torchvision-MNIST"}
    prune(everything=True)
    assert sorted(p.name for p in cache.iterdir()) == ["a-b", "notes.txt", "own"]


def test_old_entries_are_dropped() -> None:
    old, new = make(60, days=40), make(50, days=3)
    dropped = prune(older_than=30 * DAY)
    assert [e.path for e in dropped] == [old]
    assert names() == {new.name}


def test_the_least_recently_used_go_until_the_rest_fits() -> None:
    paths = [make(40 + k, days=10 - k) for k in range(4)]
    sizes = {e.path: e.bytes for e in list_entries()}
    prune(max_bytes=sizes[paths[2]] + sizes[paths[3]])
    assert names() == {paths[2].name, paths[3].name}
    prune(free=1)
    assert names() == {paths[3].name}


def test_an_entry_in_use_stays() -> None:
    held = prepare(Squares(60), PREPROCESSING)
    other = make(50)
    assert {e.path: e.in_use for e in list_entries()}[other] is False
    assert [e.in_use for e in list_entries() if e.path != other] == [True]
    prune(everything=True)
    assert len(names()) == 1
    part = held.images[3:5]
    del held
    gc.collect()
    prune(everything=True)
    assert len(names()) == 1  # a view of the images holds the entry
    assert np.array_equal(part, squares([3, 4]))
    del part
    gc.collect()
    prune(everything=True)
    assert names() == set()


HOLD = """
import sys
sys.path.insert(0, {here!r})
from odd_sources import Squares, SIDE
from gentool.data import Preprocessing, prepare
from gentool.core.images import ImageShape
data = prepare(Squares(60), Preprocessing(ImageShape(SIDE, SIDE, 3)))
print("ready", flush=True)
sys.stdin.read()
"""


def test_an_entry_that_another_process_uses_stays_until_that_is_killed() -> None:
    code = HOLD.format(here=str(HELPERS))
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert prune(everything=True) == []
        process.kill()
        process.wait()
    assert len(prune(everything=True)) == 1


def test_an_unfinished_build_is_listed_and_can_be_dropped() -> None:
    def stop(done: int, total: int) -> None:
        entry = list_entries()
        if done:
            assert [e.kind for e in entry] == ["unfinished"]
            assert entry[0].in_use  # by us
            assert prune(everything=True) == []
            raise Stopped("stopped", interrupted=True)

    with pytest.raises(Stopped):
        prepare(Squares(500), PREPROCESSING, stop)
    (entry,) = list_entries()
    assert (entry.kind, entry.in_use) == ("unfinished", False)
    with pytest.raises(DataError, match="gentool data cache --list"):
        verify(entry)
    assert prune(everything=True) == [entry]


def test_the_cache_stays_within_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(400, days=2)
    size = list_entries()[0].bytes
    monkeypatch.setenv("GENTOOL_CACHE_BYTES", str(int(2.5 * size)))
    make(401, days=1)
    assert first.exists()
    make(402)
    assert not first.exists()
    assert len(names()) == 2


def test_what_is_used_now_may_be_larger_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENTOOL_CACHE_BYTES", "1")
    data = prepare(Squares(100), PREPROCESSING)
    assert len(names()) == 1
    assert np.array_equal(data.images[:], squares(list(range(100))))


@pytest.mark.parametrize(
    ("word", "size"),
    [("1000", 1000), ("5K", 5000), ("50G", 50 * 10**9), ("2t", 2 * 10**12)],
)
def test_the_limit_can_be_set(word: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENTOOL_CACHE_BYTES", word)
    assert cache_limit() == size


@pytest.mark.parametrize("word", ["many", "-5", "5.5G", "G", "٣"])
def test_a_limit_that_is_no_size_is_refused(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENTOOL_CACHE_BYTES", word)
    with pytest.raises(UsageError, match=f"(?i)GENTOOL_CACHE_BYTES={word:.20} "):
        cache_limit()


def test_the_limit_is_half_of_the_disk(cache: Path) -> None:
    assert cache_limit() == shutil.disk_usage(cache).total // 2


def test_a_whole_entry_is_verified() -> None:
    assert verify(make(50)) is None
    prepare(Squares(99, Faults(bad=frozenset({0}))), PREPROCESSING, max_bad=0.1)
    assert [verify(e) for e in list_entries()] == [None, None]


def _labelled() -> Dataset:
    source = Squares(50)
    labels: Any = np.arange(50) % 2
    source.labels, source.classes = labels, ("a", "b")
    return prepare(source, PREPROCESSING)


DAMAGES = {
    "images.u8": "its pixels or labels were changed",
    "labels.npy": "its pixels or labels were changed",
    "hashes.npy": "its list of hashes was changed",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gentool.data.cache.entry.MOST_CHECKED", 1000)  # as of a large set
    _labelled()
    gc.collect()
    (entry,) = list_entries()
    assert verify(entry) is None
    data = bytearray((entry.path / name).read_bytes())
    data[200] ^= 1
    (entry.path / name).write_bytes(data)
    assert verify(entry) == DAMAGES[name]


def test_missing_parts_are_found() -> None:
    path = make(50)
    (path / "hashes.npy").unlink()
    assert verify(path) == "its files do not match each other"
    (path / "meta.json").write_text("{}")
    assert verify(path) == "meta.json is missing or damaged"
    assert [e.about for e in list_entries()] == ["damaged"]
    with pytest.raises(DataError, match="gentool data cache --list"):
        verify(path.parent / "nothing")
