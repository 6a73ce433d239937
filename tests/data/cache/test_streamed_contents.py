"""Streamed images with other contents under equal names, sizes and times are other images."""

import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import draw
from PIL import Image

from gentool.core.images import ImageShape
from gentool.data import Dataset, Preprocessing, open_joined, prepare
from gentool.data.sources.shards import write_shards

PREPROCESSING = Preprocessing(ImageShape(16, 16, 3))
COUNT = 6
OLD, NEW = 0, 100  # first numbers of the images in a set
Made = Callable[[Path, int], None]


def streamed(place: Path, prefix: str = "") -> Dataset:
    source = open_joined([f"{prefix}{place}"])
    return prepare(source, PREPROCESSING, cache="never")


def bitmaps(place: Path, first: int) -> None:
    """A folder of images that all have the same size in bytes."""
    place.mkdir(exist_ok=True)
    for k in range(COUNT):
        Image.fromarray(draw(first + k)).save(place / f"{k}.bmp")
        os.utime(place / f"{k}.bmp", (10**9, 10**9))


def a_tar(place: Path, first: int, time: int = 0) -> None:
    content = place.with_name("content")
    bitmaps(content, first)

    def dated(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime = time
        return member

    with tarfile.open(place, "w") as out:
        for k in range(COUNT):
            out.add(content / f"{k}.bmp", f"{k}.bmp", filter=dated)
    shutil.rmtree(content)


def a_zip(place: Path, first: int) -> None:
    content = place.with_name("content")
    bitmaps(content, first)
    with zipfile.ZipFile(place, "w") as out:
        for k in range(COUNT):
            out.writestr(zipfile.ZipInfo(f"{k}.bmp"), (content / f"{k}.bmp").read_bytes())
    shutil.rmtree(content)


PLACES: dict[str, Made] = {"set": bitmaps, "set.tar": a_tar, "set.zip": a_zip}


@pytest.mark.parametrize("name", PLACES)
def test_other_contents_are_seen(name: str, tmp_path: Path, own_cache: Path) -> None:
    place, make = tmp_path / name, PLACES[name]
    make(place, OLD)
    before, info = streamed(place), place.stat()
    assert streamed(place).fingerprint == before.fingerprint
    make(place, NEW)
    os.utime(place, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert streamed(place).fingerprint != before.fingerprint
    make(place, OLD)
    assert streamed(place).fingerprint == before.fingerprint


def test_one_of_two_joined_sets_is_seen(tmp_path: Path, own_cache: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    bitmaps(first, OLD)
    bitmaps(second, OLD)
    both = [str(first), str(second)]
    before = prepare(open_joined(both), PREPROCESSING, cache="never")
    bitmaps(second, NEW)
    after = prepare(open_joined(both), PREPROCESSING, cache="never")
    assert after.fingerprint != before.fingerprint


def test_the_times_inside_a_tar_count(tmp_path: Path, own_cache: Path) -> None:
    place = tmp_path / "set.tar"
    a_tar(place, OLD, 1000)
    before = streamed(place)
    a_tar(place, OLD, 2000)
    assert streamed(place).fingerprint != before.fingerprint


def test_local_shards_with_an_equal_index(tmp_path: Path, own_cache: Path) -> None:
    content, place = tmp_path / "content", tmp_path / "shards"

    def make(first: int) -> None:
        bitmaps(content, first)
        write_shards(open_joined([str(content)]), PREPROCESSING, place, replace=place.exists())

    make(OLD)
    index, before = (place / "index.json").read_bytes(), streamed(place, "shards:")
    make(NEW)
    chunks = sorted(place.glob("*.bin"))
    (place / "index.json").write_bytes(index)
    assert len(chunks) == 1
    assert streamed(place, "shards:").fingerprint != before.fingerprint


def test_a_run_of_an_older_version_goes_on(tmp_path: Path, own_cache: Path) -> None:
    """It has the fingerprint without the contents."""
    place = tmp_path / "set"
    bitmaps(place, OLD)
    found = streamed(place)
    older = found.older_fingerprint
    assert older not in ("", found.fingerprint)
    assert found.as_before(older[:16]).fingerprint == older
    assert found.as_before(found.fingerprint[:16]).fingerprint == found.fingerprint
    assert found.as_before("0123456789abcdef") is found
