"""Archives: members are read at their offsets, and equal what the standard library reads."""

import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import IMAGES, draw

from gentool.core.errors import DataError
from gentool.core.picture_files import encode
from gentool.data import open_dataset, open_source
from gentool.data.encoded import BadImage
from gentool.data.sources import archive_index as members
from gentool.data.sources import tar as tars
from gentool.data.sources.index import KEPT_ABOVE
from gentool.data.sources.table import ArchiveSource

PNG = encode(draw(0), ".png")


def tar_of(folder: Path, path: Path, top: str = "", mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, top or ".")
    return path


def write_tar(path: Path, *entries: tarfile.TarInfo | str) -> Path:
    """A tar of these members, each a PNG unless it says otherwise."""
    with tarfile.open(path, "w") as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry) if isinstance(entry, str) else entry
            if info.isreg():
                info.size = len(PNG)
            archive.addfile(info, io.BytesIO(PNG))
    return path


def tar_entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def write_zip(
    path: Path, *names: str, data: bytes = PNG, compression: int = zipfile.ZIP_STORED
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in names:
            archive.writestr(name, data)
    return path


def zip_link(path: Path, name: str, target: str) -> Path:
    """A zip with an image and a symbolic link, as Info-ZIP's ``zip -y`` makes it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.png", PNG)
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = 0o120777 << 16
        archive.writestr(info, target)
    return path


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", ["", "toys/", "./a/b/toys"])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_a_tar_equals_its_folder(
    mode: str, top: str, image_folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    path = tar_of(image_folder, tmp_path / "pack.tar.x", top, mode)
    source, folder = open_source(str(path)), open_source(str(image_folder))
    assert source.paths == folder.paths
    assert source.classes == folder.classes == ("bar", "disc")
    assert isinstance(source, ArchiveSource)
    for k in range(0, IMAGES, 7):
        assert source.read(k) == (image_folder / folder.paths[k]).read_bytes()
    unpacked = list(own_cache.iterdir()) if own_cache.exists() else []
    assert [p.suffix for p in unpacked] == ([] if mode == "w" else [".tar"])
    before = [p.stat().st_ino for p in unpacked]
    open_source(str(path))
    assert [p.stat().st_ino for p in unpacked] == before


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_long_and_odd_names_in_a_tar(kind: int, tmp_path: Path) -> None:
    names = ["d" * 90 + "/" + "x" * 90 + ".png", "ü/日本.png"]
    with tarfile.open(tmp_path / "x.tar", "w", format=kind) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(PNG)
            archive.addfile(info, io.BytesIO(PNG))
    source = open_source(str(tmp_path / "x.tar"))
    assert source.paths == names
    assert np.array_equal(np.asarray(source.open(1).image), draw(0))


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("before", [b"", b"#!/bin/sh\n" * 100], ids=["plain", "after a script"])
@pytest.mark.parametrize("comment", [b"", b"PK\5\6 is no end"])
def test_zips_of_all_kinds(
    packing: int, before: bytes, comment: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(before)
    with zipfile.ZipFile(path, "a", packing) as archive:
        for k in range(20):
            archive.writestr(f"ü{k:02d}.png", encode(draw(k), ".png"))
        archive.comment = b"" if comment else b"some words"
    if comment:
        data = bytearray(path.read_bytes()) + comment
        data[-len(comment) - 2 : -len(comment)] = struct.pack("<H", len(comment))
        path.write_bytes(data)
    source = open_source(str(path))
    assert source.paths == [f"ü{k:02d}.png" for k in range(20)]
    for k in (0, 7, 19):
        assert np.array_equal(np.asarray(source.open(k).image), draw(k))


def test_a_zip64_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes, offsets and counts in their wide form, as of an archive over 4 GB."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for k in range(9):
            with archive.open(f"{k}.png", "w", force_zip64=True) as file:
                file.write(encode(draw(k), ".png"))
    assert b"PK\6\6" in (tmp_path / "x.zip").read_bytes()
    source = open_source(str(tmp_path / "x.zip"))
    assert [np.array_equal(np.asarray(source.open(k).image), draw(k)) for k in range(9)] == [
        True
    ] * 9


def test_a_member_beyond_four_gigabytes_is_read(tmp_path: Path) -> None:
    """The file has a hole of 5 GB, which takes no room on the disk."""
    path = tmp_path / "x.zip"
    with path.open("wb") as file:
        file.truncate(5 * 2**30)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a.png", PNG)
    source = open_source(str(path))
    assert np.array_equal(np.asarray(source.open(0).image), draw(0))


def test_of_two_members_of_one_name_the_later_counts(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for k in range(3):
            info = tarfile.TarInfo("b.png" if k == 1 else "a.png")
            data = encode(draw(k), ".png")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    source = open_source(str(tmp_path / "x.tar"))
    assert source.paths == ("a.png", "b.png")
    assert np.array_equal(np.asarray(source.open(0).image), draw(2))


def test_threads_and_processes_read_at_once(image_folder: Path, tmp_path: Path) -> None:
    source = ArchiveSource(tar_of(image_folder, tmp_path / "x.tar"))
    wanted = [source.read(k) for k in range(IMAGES)]
    again = pickle.loads(pickle.dumps(source))
    wrong: list[int] = []

    def check() -> None:
        wrong.extend(k for k in range(IMAGES) if again.read(k) != wanted[k])

    threads = [threading.Thread(target=check) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_name_with_a_second_suffix_is_kept(image_folder: Path, tmp_path: Path) -> None:
    for name, wanted in (("a.tar", "a"), ("b.tar.gz", "b"), ("c.v2.tgz", "c.v2")):
        mode = "w:gz" if "gz" in name else "w"
        assert open_source(str(tar_of(image_folder, tmp_path / name, mode=mode))).name == wanted


# --- the index ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_the_index_of_a_large_archive_is_kept(
    kind: str, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"c{k % 2}/{k}.png" for k in range(KEPT_ABOVE + 1)]
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        write_zip(path, *names)
    else:
        plain = write_tar(tmp_path / "x.tar", *names)
        if kind == "tar.gz":
            subprocess.run(["gzip", "-k", plain], check=True)
    first = ArchiveSource(path)
    assert len(pickle.dumps(first)) < 1000
    listed: list[str] = []

    def note(self: ArchiveSource, name: str, *how: object) -> None:
        listed.append(name)
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(ArchiveSource, "index_of", note)
        second = ArchiveSource(path)
        assert second.paths == first.paths
        assert second.fingerprint == first.fingerprint
        assert second.classes == ("c0", "c1")
        assert second.read(5) == PNG
        with pytest.raises(AssertionError):
            ArchiveSource(path, refresh=True)
        with pytest.raises(AssertionError):
            ArchiveSource(path, "none")
        os.utime(path, ns=(0, 0))
        with pytest.raises(AssertionError):
            ArchiveSource(path)


# --- what is refused ----------------------------------------------------------------------------

OUTSIDE = ["../x.png", "/x.png", "a/../../x.png", "a/..", "\\x.png", "..\\x.txt", "C:\\x.png"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_that_points_outside_is_refused_by_name(
    kind: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "inner" / "x"
    path.parent.mkdir()
    (write_zip if kind == "zip" else write_tar)(path, "good.png", name)
    with pytest.raises(DataError) as caught:
        open_source(str(path))
    assert f"its member {name} points outside" in str(caught.value)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


LINKS = {"": False, "good.png": False, "a/../b": False, "../x": True, "/etc/passwd": True,
         "a/../../x": True, "C:\\x": True}  # fmt: skip


@pytest.mark.parametrize(("target", "refused"), LINKS.items())
@pytest.mark.parametrize("kind", ["zip", "symlink", "hard link"])
def test_links_are_passed_over_and_refused_if_they_point_outside(
    kind: str, target: str, refused: bool, tmp_path: Path
) -> None:
    if kind == "hard link" and target == "a/../b":
        pytest.skip("a hard link names a member, and these may not hold ..")
    path = tmp_path / "x"
    if kind == "zip":
        zip_link(path, "link.png", target)
    else:
        flag = tarfile.SYMTYPE if kind == "symlink" else tarfile.LNKTYPE
        write_tar(path, "good.png", tar_entry("link.png", flag, target))
    if refused:
        with pytest.raises(DataError, match="outside the archive"):
            open_source(str(path))
    else:
        assert open_source(str(path)).paths == ("good.png",)


def test_a_link_may_rise_within_the_archive(tmp_path: Path) -> None:
    link = tar_entry("a/b/link.png", tarfile.SYMTYPE, "../../good.png")
    assert open_source(str(write_tar(tmp_path / "x", "good.png", link))).paths == ("good.png",)


def test_devices_and_pipes_in_a_tar_are_passed_over(tmp_path: Path) -> None:
    kinds = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
    odd = [tar_entry(f"{k}.png", kind) for k, kind in enumerate(kinds)]
    assert open_source(str(write_tar(tmp_path / "x", "good.png", *odd))).paths == ("good.png",)


def test_a_member_bomb_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", "bomb.png", data=bytes(2**25),
                     compression=zipfile.ZIP_DEFLATED)  # fmt: skip
    with pytest.raises(DataError, match=r"its member bomb\.png claims to unpack .* to 33,554,432"):
        open_source(str(path))
    write_zip(path, "bomb.txt", data=bytes(2**25), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match="no images"):
        open_source(str(path))


def test_a_member_that_claims_more_than_an_image_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("big.png")
    info.size = 2**31
    with (tmp_path / "x.tar").open("wb") as file:
        file.write(info.tobuf())
        file.truncate(2**31 + 4096)
    with pytest.raises(DataError, match=r"big\.png .* 2,147,483,648 bytes"):
        open_source(str(tmp_path / "x.tar"))


def test_a_member_that_lies_about_its_size_is_bad_and_bounded(tmp_path: Path) -> None:
    """It claims 1,000 bytes and unpacks to 100 MB, of which 1,001 are made."""
    path = write_zip(tmp_path / "x.zip", "a.png", data=bytes(10**8),
                     compression=zipfile.ZIP_DEFLATED)  # fmt: skip
    data = path.read_bytes().replace(struct.pack("<L", 10**8), struct.pack("<L", 1000))
    path.write_bytes(data)
    with pytest.raises(BadImage, match="length"):
        open_source(str(path)).open(0)


def test_a_compressed_tar_that_unpacks_too_far_is_refused(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tars, "SMALL_BYTES", 2**21)
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
        info = tarfile.TarInfo("a.png")
        info.size = 2**25
        archive.addfile(info, io.BytesIO(bytes(2**25)))
    with pytest.raises(DataError, match="more than 200 times its size"):
        open_source(str(tmp_path / "x.tgz"))
    assert list(own_cache.iterdir()) == []


def test_without_room_a_compressed_tar_says_so(
    image_folder: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tars, "KEPT_FREE_BYTES", 2**62)
    monkeypatch.setattr(tars, "BLOCK_BYTES", 2**10)
    path = tar_of(image_folder, tmp_path / "x.tgz", mode="w:gz")
    with pytest.raises(DataError, match="GENTOOL_CACHE"):
        open_source(str(path))
    assert list(own_cache.iterdir()) == []


def test_an_encrypted_zip_says_so(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", "a.png", "b.txt")
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\1\2")
    data[entry + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="is encrypted"):
        open_source(str(path))


def test_an_unknown_packing_is_refused_by_name(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", "a.png", compression=zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match=r"a\.png .*method 14"):
        open_source(str(path))


def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(2**20)
        file.write(PNG)
    made = subprocess.run(["tar", "--sparse", "-cf", "x.tar", "a.png"], cwd=tmp_path, check=False)
    if made.returncode:
        pytest.skip("no GNU tar here")
    with pytest.raises(DataError, match="tar --sparse"):
        open_source(str(tmp_path / "x.tar"))


# --- damage -------------------------------------------------------------------------------------


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
def test_an_archive_cut_short_is_an_error(
    kind: str, share: float, image_folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        write_zip(path, *(f"{k}.png" for k in range(50)))
    else:
        tar_of(image_folder, path, mode="w" + kind[3:].replace(".", ":"))
    cut(path, int(path.stat().st_size * share))
    if kind == "tar" and share == 0.999:
        cut(path, path.stat().st_size // 10240 * 10240)
    with pytest.raises(DataError):
        open_source(str(path))


@pytest.mark.parametrize("writer", [write_zip, write_tar])
def test_no_mutation_crashes(writer: Callable[..., Path], tmp_path: Path) -> None:
    """1,000 seeded changes of bytes: an error in our words, or images, or bad images."""
    whole = writer(tmp_path / "x", *(f"d{k % 2}/{k}.png" for k in range(6))).read_bytes()
    random = np.random.default_rng(0)
    opened = 0
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(random.integers(1, 6)):
            data[random.integers(len(data))] = random.integers(256)
        (tmp_path / "x").write_bytes(data)
        try:
            source = open_source(str(tmp_path / "x"))
        except DataError:
            continue
        opened += 1
        for k in range(len(source)):
            try:
                source.open(k)
            except (BadImage, OSError):
                continue
    assert opened > 50


def test_a_gzip_of_something_else_is_no_tar(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"words " * 1000)
    subprocess.run(["gzip", tmp_path / "x"], check=True)
    with pytest.raises(DataError, match="gzip file"):
        open_source(str(tmp_path / "x.gz"))


def test_a_damaged_member_of_a_tar_is_what_the_decoder_says(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", "a.png", "b.png")
    data = bytearray(path.read_bytes())
    data[512 + 20] ^= 255
    path.write_bytes(data)
    dataset = open_dataset(str(path), "16", "rgb", max_bad=1)
    assert [name for name, _ in dataset.bad] == ["a.png"]


def test_the_limits_are_those_that_are_told() -> None:
    assert members.MAX_RATIO == 200
    assert sys.maxsize > 2**32  # offsets beyond 4 GB
