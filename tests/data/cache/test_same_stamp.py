"""Other images under equal names, sizes and times: the cache never gives the old ones."""

import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, draw, gentool_command
from PIL import Image

from gentool.core.errors import DataError, Stopped
from gentool.core.images import ImageShape
from gentool.data import Dataset, Preprocessing, open_joined, open_source, prepare
from gentool.data.cache import matching
from gentool.data.origin import with_origin
from gentool.data.sources import folder as folders
from gentool.data.sources import index, shards
from gentool.data.sources.shards import write_shards

PREPROCESSING = Preprocessing(ImageShape(16, 16, 3))
COUNT = 6
OLD, NEW = 0, 100  # first numbers of the images in a set

Made = Callable[[Path, int], None]  # writes the set of images that begins with a number


def load(spec: Path | str, *, refresh: bool = False) -> Dataset:
    """The images of a source, by way of the cache."""
    return prepare(open_joined([str(spec)], refresh=refresh), PREPROCESSING)


def shows(found: Dataset, first: int) -> bool:
    """Whether the images are those that begin with this number."""
    wanted = np.stack([draw(first + k) for k in range(COUNT)])
    return np.array_equal(found.images[:], wanted)


def bitmaps(place: Path, first: int) -> None:
    """A folder of images that all have the same size in bytes."""
    place.mkdir(exist_ok=True)
    for k in range(COUNT):
        Image.fromarray(draw(first + k)).save(place / f"{k}.bmp")


def with_dates_put_back(place: Path, make: Callable[[], object]) -> None:
    """Change files, and give each the time that it had."""
    files = [place, *place.glob("*")] if place.is_dir() else [place]
    before = {file: file.stat() for file in files}
    make()
    for file, info in before.items():
        assert file.is_dir() or file.stat().st_size == info.st_size
        os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))


def a_tar(place: Path, first: int, mode: str = "w") -> None:
    """A tar in which all dates are 0."""
    content = place.with_name("content")
    bitmaps(content, first)

    def undated(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime = 0
        return member

    with tarfile.open(place, mode) as out:  # type: ignore[call-overload]
        for k in range(COUNT):
            out.add(content / f"{k}.bmp", f"{k}.bmp", filter=undated)
    shutil.rmtree(content)


def a_zip(place: Path, first: int) -> None:
    """A zip in which nothing is compressed."""
    content = place.with_name("content")
    bitmaps(content, first)
    with zipfile.ZipFile(place, "w") as out:
        for k in range(COUNT):
            out.writestr(zipfile.ZipInfo(f"{k}.bmp"), (content / f"{k}.bmp").read_bytes())
    shutil.rmtree(content)


def some_shards(place: Path, first: int) -> None:
    """Shards; their images are not compressed, as those of other programs may be."""
    content = place.with_name("content")
    bitmaps(content, first)
    write_shards(open_source(str(content)), PREPROCESSING, place, replace=place.exists())
    shutil.rmtree(content)


PLACES: dict[str, tuple[str, Made]] = {
    "folder": ("set", bitmaps),
    "tar": ("set.tar", a_tar),
    "zip": ("set.zip", a_zip),
}


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("kind", PLACES)
def test_other_images_with_equal_sizes_and_times_are_seen(
    kind: str, kept: bool, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an index of the archive or folder is kept."""
    monkeypatch.setattr(index, "KEPT_ABOVE", 1 if kept else 1000)
    name, make = PLACES[kind]
    place = tmp_path / name
    make(place, OLD)
    before = load(place)
    assert shows(before, OLD)
    with_dates_put_back(place, lambda: make(place, NEW))
    after = load(place)
    assert shows(after, NEW)
    assert after.fingerprint != before.fingerprint
    assert shows(load(place), NEW)
    with_dates_put_back(place, lambda: make(place, OLD))
    back = load(place)
    assert shows(back, OLD)
    assert back.fingerprint == before.fingerprint


def test_a_compressed_tar_is_unpacked_again(tmp_path: Path, own_cache: Path) -> None:
    place = tmp_path / "set.tar.gz"
    a_tar(place, OLD, "w:gz")
    assert shows(load(place), OLD)
    info = place.stat()
    a_tar(place, NEW, "w:gz")
    os.truncate(place, max(info.st_size, place.stat().st_size))  # zeros at the end are allowed
    os.utime(place, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert shows(load(place), NEW)


def test_rewritten_shards_are_seen(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if their index, in which litdata writes a time, is the same."""
    monkeypatch.setattr(shards, "encode", lambda pixels, suffix: _as_bitmap(pixels))
    place = tmp_path / "shards"
    some_shards(place, OLD)
    index, spec = (place / "index.json").read_bytes(), f"shards:{place}"
    assert shows(load(spec), OLD)
    some_shards(place, NEW)
    (place / "index.json").write_bytes(index)
    assert shows(load(spec), NEW)


def _as_bitmap(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "bmp")
    return out.getvalue()


def test_files_that_were_swapped_are_seen(tmp_path: Path, own_cache: Path) -> None:
    place = tmp_path / "set"
    bitmaps(place, OLD)
    for file in place.iterdir():
        os.utime(file, (10**9, 10**9))
    load(place)
    for old, new in (("0", "x"), ("1", "0"), ("x", "1")):
        (place / f"{old}.bmp").rename(place / f"{new}.bmp")
    assert np.array_equal(load(place).images[0], draw(1))


def test_folders_that_were_swapped_are_seen(tmp_path: Path, own_cache: Path) -> None:
    """Their files have the times that they had, also those of a change, to a few milliseconds."""
    (tmp_path / "set").mkdir()
    for first, name in ((OLD, "cat"), (NEW, "dog")):
        bitmaps(tmp_path / "set" / name, first)
    for file in (tmp_path / "set").rglob("*.bmp"):
        os.utime(file, (10**9, 10**9))
    before = load(tmp_path / "set")
    for old, new in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        (tmp_path / "set" / old).rename(tmp_path / "set" / new)
    after = load(tmp_path / "set")
    assert np.array_equal(after.images[0], before.images[COUNT])


# --- a changed stamp and equal contents ----------------------------------------------------------


def _built(cache: Path) -> dict[str, tuple[int, int]]:
    """Name -> file number and time of the pixels of every entry."""
    pixels = {path.parent.name: path.stat() for path in cache.glob("*/images.u8")}
    return {name: (info.st_ino, info.st_mtime_ns) for name, info in pixels.items()}


def _chmod(place: Path) -> None:
    for file in [place, *place.rglob("*")]:
        file.chmod(0o700)


def _copied(place: Path) -> None:
    """``cp -a`` to another place, and ``mv`` back, as from a backup."""
    copy = place.with_name("backup")
    (shutil.copytree if place.is_dir() else shutil.copy2)(place, copy)
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    copy.rename(place)


@pytest.mark.parametrize("change", [_chmod, _copied])
@pytest.mark.parametrize("kind", PLACES)
def test_equal_contents_are_not_prepared_again(
    kind: str, change: Callable[[Path], None], tmp_path: Path, own_cache: Path
) -> None:
    name, make = PLACES[kind]
    place = tmp_path / name
    make(place, OLD)
    first = load(place)
    before, stamp = _built(own_cache), open_source(str(place)).stamp
    change(place)
    assert open_source(str(place)).stamp != stamp
    second = load(place)
    assert _built(own_cache) == before
    assert second.fingerprint == first.fingerprint


def test_frames_are_compared_by_their_files(tmp_path: Path, own_cache: Path) -> None:
    place = tmp_path / "set"
    place.mkdir()

    def film(first: int) -> None:
        frames = [Image.fromarray(draw(first + k)) for k in range(COUNT)]
        frames[0].save(place / "a.tif", save_all=True, append_images=frames[1:], compression="raw")

    def frames() -> Dataset:
        return prepare(open_joined([str(place)], all_frames=True), PREPROCESSING)

    film(OLD)
    assert shows(frames(), OLD)
    before = _built(own_cache)
    _chmod(place)
    assert shows(frames(), OLD)
    assert _built(own_cache) == before
    with_dates_put_back(place, lambda: film(NEW))
    assert shows(frames(), NEW)


def test_contents_are_read_once_for_each_stamp(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two copies that share an entry do not make each other read again."""
    place = tmp_path / "set"
    bitmaps(place, OLD)
    load(place)
    shutil.copytree(place, tmp_path / "copy" / "set")
    both = (place, tmp_path / "copy" / "set")
    load(both[1])
    monkeypatch.setattr(matching, "matches", lambda *_: pytest.fail("the contents were read"))
    monkeypatch.setattr("gentool.data.cache.prepare.matches", matching.matches)
    for _ in range(2):
        assert all(shows(load(one), OLD) for one in both)
    assert len(_built(own_cache)) == 1


def test_an_entry_of_an_older_version_is_compared_once(tmp_path: Path, own_cache: Path) -> None:
    place = tmp_path / "set"
    bitmaps(place, OLD)
    (place / "broken.bmp").write_bytes(b"BM")
    prepare(open_source(str(place)), PREPROCESSING, max_bad=0.5)
    before = _built(own_cache)
    for stamps in own_cache.glob("*/stamps"):
        stamps.unlink()
    assert shows(prepare(open_source(str(place)), PREPROCESSING, max_bad=0.5), OLD)
    assert _built(own_cache) == before
    assert len(list(own_cache.glob("*/stamps"))) == 1


def test_a_broken_file_that_was_replaced_is_seen(tmp_path: Path, own_cache: Path) -> None:
    place = tmp_path / "set"
    bitmaps(place, OLD)
    good = (place / "0.bmp").read_bytes()
    (place / "0.bmp").write_bytes(bytes(len(good)))
    assert len(prepare(open_source(str(place)), PREPROCESSING, max_bad=0.5)) == COUNT - 1
    with_dates_put_back(place, lambda: (place / "0.bmp").write_bytes(good))
    assert shows(load(place), OLD)
    with_dates_put_back(place, lambda: (place / "0.bmp").write_bytes(bytes(len(good))))
    assert len(prepare(open_source(str(place)), PREPROCESSING, max_bad=0.5)) == COUNT - 1


def test_packed_images_are_compared_by_their_pixels(tmp_path: Path, own_cache: Path) -> None:
    """The hash that they carry is that of the image that they were made from."""
    place = tmp_path / "set"
    place.mkdir()

    def packed(first: int) -> None:
        for k in range(COUNT):
            out = io.BytesIO()
            Image.fromarray(draw(first + k)).save(out, "png", compress_level=0)
            (place / f"{k}.png").write_bytes(with_origin(out.getvalue(), k))

    packed(OLD)
    before, built = load(place), _built(own_cache)
    _chmod(place)
    assert load(place).fingerprint == before.fingerprint
    assert _built(own_cache) == built
    with_dates_put_back(place, lambda: packed(NEW))
    after = load(place)
    assert shows(after, NEW)
    assert np.array_equal(after.hashes, before.hashes)


def test_a_build_that_was_stopped_takes_nothing_of_other_images(
    tmp_path: Path, own_cache: Path
) -> None:
    place = tmp_path / "set"
    bitmaps(place, OLD)

    def stop(done: int, total: int) -> None:
        if done:
            raise Stopped("enough", interrupted=True)

    with pytest.raises(Stopped):
        prepare(open_source(str(place)), PREPROCESSING, stop)
    with_dates_put_back(place, lambda: bitmaps(place, NEW))
    assert shows(load(place), NEW)


# --- --refresh, and runs -------------------------------------------------------------------------


def test_refresh_reads_the_contents_of_a_set_whose_index_is_trusted(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "KEPT_ABOVE", 1)
    monkeypatch.setattr(folders, "TRUSTED_ABOVE", 2)
    place = tmp_path / "set"
    bitmaps(place, OLD)
    load(place)
    with_dates_put_back(place, lambda: bitmaps(place, NEW))
    assert shows(load(place), OLD)  # nothing was listed
    assert shows(load(place, refresh=True), NEW)
    assert shows(load(place), NEW)


def test_refresh_does_not_trust_the_file_system(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some keep neither times of changes nor numbers of files."""
    for module in ("walk", "archive", "changes"):
        path = f"gentool.data.sources.{module}.change_of"
        monkeypatch.setattr(path, lambda info: "", raising=False)
    place = tmp_path / "set"
    for first in (OLD, NEW, OLD + 50):
        if place.exists():
            with_dates_put_back(place, partial(bitmaps, place, first))
        else:
            bitmaps(place, first)
        assert shows(load(place, refresh=True), first)
        assert shows(load(place), first)


def _train(place: Path, out: Path, images: int, *more: object) -> str | None:
    done = gentool_command(
        "train", "autoencoder", "--data", place, "--out", out, "--images", images, *TINY, *more
    )
    return None if done.code == 0 else done.err


def test_a_run_goes_on_with_equal_contents_and_not_with_others(
    tmp_path: Path, own_cache: Path
) -> None:
    place, out = tmp_path / "set", tmp_path / "run"
    place.mkdir()
    for k in range(32):
        Image.fromarray(draw(k)).save(place / f"{k}.bmp")
    assert _train(place, out, 32) is None
    _copied(place)
    assert _train(place, out, 64) is None
    with_dates_put_back(place, lambda: Image.fromarray(draw(99)).save(place / "7.bmp"))
    told = _train(place, out, 96)
    assert told is not None
    assert "0 images came, 0 went, 1 changed (7.bmp)" in told
    assert _train(place, out, 96, "--override") is None


# --- what gentool data pack writes ---------------------------------------------------------------


def _pack(spec: Path, out: Path) -> zipfile.ZipFile:
    done = gentool_command("data", "pack", spec, out, "--size", 16)
    assert done.code == 0, done.err
    return zipfile.ZipFile(out)


def test_packed_images_have_the_times_of_their_files(tmp_path: Path, own_cache: Path) -> None:
    bitmaps(tmp_path / "set", OLD)
    os.utime(tmp_path / "set" / "2.bmp", (10**9 + 1, 10**9 + 1))
    with _pack(tmp_path / "set", tmp_path / "a.zip") as packed:
        assert packed.getinfo("2.png").date_time == (2001, 9, 9, 1, 46, 40)  # UTC, even seconds
        assert packed.getinfo("2.png").extra.endswith((10**9 + 1).to_bytes(4, "little"))
        assert packed.getinfo("1.png").date_time[0] > 2001
    with _pack(tmp_path / "set", tmp_path / "b.zip"):
        assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with _pack(tmp_path / "a.zip", tmp_path / "c.zip") as again:  # a zip has members with times
        assert again.getinfo("2.png").date_time == (2001, 9, 9, 1, 46, 40)


def test_a_member_of_a_tar_keeps_its_time(tmp_path: Path, own_cache: Path) -> None:
    bitmaps(tmp_path / "set", OLD)
    os.utime(tmp_path / "set" / "2.bmp", (10**9, 10**9))
    with tarfile.open(tmp_path / "set.tar", "w") as out:
        out.add(tmp_path / "set", "set")
    with _pack(tmp_path / "set.tar", tmp_path / "a.zip") as packed:
        assert packed.getinfo("2.png").date_time == (2001, 9, 9, 1, 46, 40)


def test_images_of_no_file_have_no_time(tmp_path: Path, own_cache: Path) -> None:
    with _pack(Path("builtin:shapes:4"), tmp_path / "a.zip") as packed:
        assert {member.date_time for member in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {member.extra for member in packed.infolist()} == {b""}


def test_a_source_that_breaks_off_is_an_error_and_no_other_image(
    tmp_path: Path, own_cache: Path
) -> None:
    place = tmp_path / "set"
    bitmaps(place, OLD)
    load(place)
    _chmod(place)
    source = open_source(str(place))
    shutil.rmtree(place)
    with pytest.raises(DataError):
        prepare(source, PREPROCESSING)
