"""Intake notes: what is taken, what is passed over and why, the same in every container."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, draw, gentool_command, write_images
from containers import KINDS, write_files
from PIL import Image

from gentool.core.errors import DataError
from gentool.core.images import ImageShape
from gentool.data import Preprocessing, open_source
from gentool.data.intake import (
    HIDDEN,
    LITTER,
    NO_SUFFIX,
    Intake,
    Passed,
    Tally,
    joined,
    lines_of,
)
from gentool.data.sources import folder as folders
from gentool.data.sources.concat import JoinedSource
from gentool.data.sources.index import KEPT_ABOVE
from gentool.data.sources.table import FolderSource, open_sources


def encoded(number: int = 0, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw(number)).save(buffer, kind)
    return buffer.getvalue()


PNG = encoded()
LITTERED = {
    "cat/a.png": PNG, "dog/b.png": PNG,
    "cat/@eaDir/a.png/SYNOFILE_THUMB_M.png": PNG, "@eaDir/x.jpg": PNG, "$RECYCLE.BIN/d.png": PNG,
    "System Volume Information/e.png": PNG, "#recycle/f.png": PNG, "lost+found/g.png": PNG,
    "dog/@Recycle/h.png": PNG, ".thumbnails/i.png": PNG, "dog/deep/__pycache__/j.png": PNG,
    "__MACOSX/cat/._a.png": PNG, "cat/._a.png": PNG, "Thumbs.db": b"x", "dog/Desktop.ini": b"x",
}  # fmt: skip


def rows(intake: Intake) -> dict[str, tuple[int, str]]:
    return {row.reason: (row.count, row.first) for row in intake.passed}


@pytest.mark.parametrize("kind", KINDS)
def test_what_systems_leave_behind_is_passed_over_and_counted(kind: str, tmp_path: Path) -> None:
    source = open_source(write_files(kind, tmp_path, LITTERED))
    assert source.paths == ("cat/a.png", "dog/b.png")
    assert source.classes == ("cat", "dog")
    assert rows(source.intake) == {LITTER: (13, "#recycle")}


@pytest.mark.parametrize("kind", KINDS)
def test_other_files_are_counted_by_suffix(kind: str, tmp_path: Path) -> None:
    files = {"a.png": PNG, "b.HEIC": b"", "c.heic": b"", "notes.txt": b"", "README": b"text",
             "photo.jpg?w=100": PNG, ".hidden.png": PNG, "b.png": PNG}  # fmt: skip
    intake = open_source(write_files(kind, tmp_path, files)).intake
    assert intake.taken == 2
    assert rows(intake) == {
        ".heic": (2, "b.HEIC"), ".txt": (1, "notes.txt"), NO_SUFFIX: (2, "README"),
        HIDDEN: (1, ".hidden.png"),
    }  # fmt: skip
    assert "without a suffix (README: a text)" in lines_of(intake, brief=True)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_label_files_are_not_counted(kind: str, tmp_path: Path) -> None:
    files = {"a.png": PNG, "b.png": PNG, "labels.csv": b"a.png,x\nb.png,y\n"}
    intake = open_source(write_files(kind, tmp_path, files)).intake
    assert intake.passed == ()
    assert intake.classes_from == "labels.csv"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JFI", ".pjpeg", ".pjp", ".jif"])
def test_other_suffixes_of_jpeg_are_taken(suffix: str, kind: str, tmp_path: Path) -> None:
    files = {f"a{suffix}": encoded(0, "JPEG"), "b.jpg": encoded(1, "JPEG")}
    source = open_source(write_files(kind, tmp_path, files))
    assert len(source) == 2
    assert source.open(0).image.size == (16, 16)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["TGA", "DDS", "SGI", "PCX", "QOI"])
def test_formats_of_games_and_scanners_are_taken_pixel_by_pixel(
    name: str, kind: str, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, name)
    source = open_source(write_files(kind, tmp_path, {f"a.{name.lower()}": buffer.getvalue()}))
    found = source.load(0, Preprocessing(ImageShape(16, 16, 3))).pixels
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_without_any_suffix_the_content_decides(kind: str, tmp_path: Path) -> None:
    files = {f"cat/{k:02d}": encoded(k) for k in range(3)} | {"dog/12.03.2020": encoded(4, "JPEG")}
    source = open_source(write_files(kind, tmp_path, files | {"README": b"some text"}))
    assert len(source) == 4
    assert source.classes == ("cat", "dog")


def test_one_file_with_a_suffix_leaves_those_without_alone(tmp_path: Path) -> None:
    """As the links and blobs of a cache, of which each image would be taken twice."""
    source = open_source(write_files("folder", tmp_path, {"a.png": PNG, "blobs/0123": PNG}))
    assert source.paths == ("a.png",)
    assert source.intake.passed == (Passed(NO_SUFFIX, 1, "blobs/0123", "a PNG image"),)


def test_a_sample_of_many_files_without_suffix_suffices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(write_files("folder", tmp_path, {f"{k:03d}": PNG for k in range(200)}))
    assert len(source) == 200


@pytest.mark.parametrize("kind", KINDS)
def test_without_images_the_error_says_what_there_is(kind: str, tmp_path: Path) -> None:
    place = write_files(kind, tmp_path, {"a.heic": b"", "b.heic": b"", "c.txt": b""})
    with pytest.raises(DataError, match=r"There is 2 \.heic \(a\.heic\), 1 \.txt \(c\.txt\)"):
        open_source(place)


def test_notes_are_kept_with_the_index(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "TRUSTED_ABOVE", KEPT_ABOVE)
    folder = write_images(tmp_path / "large", 2)
    for k in range(KEPT_ABOVE):
        (folder / "bar" / f"x{k}.png").touch()
    (folder / "notes.txt").touch()
    first = FolderSource(folder)
    assert rows(first.intake) == {".txt": (1, "notes.txt")}
    with monkeypatch.context() as patch:
        patch.setattr(folders, "build_index", None)
        assert FolderSource(folder).intake == first.intake
    (folder / "more.txt").touch()  # changes no image, so that the fingerprint stays
    assert rows(FolderSource(folder).intake) == {".txt": (2, "more.txt")}
    assert rows(FolderSource(folder).intake) == {".txt": (2, "more.txt")}


def test_a_tally_has_an_end() -> None:
    tally = Tally()
    for k in range(1000):
        tally.add(f".{k}", f"x.{k}")
    assert len(tally.passed()) == 101
    assert sum(row.count for row in tally.passed()) == 1000


def test_notes_survive_json() -> None:
    intake = Intake(
        3, (Passed(".txt", 2, "ä\udcff.txt"),), "the folders", ("no",), ("a",), ("b",), True
    )
    assert Intake.of_json(json.loads(json.dumps(intake.as_json()))) == intake


def test_joined_notes_add_up() -> None:
    one = Intake(3, (Passed(".txt", 2, "a.txt"), Passed(HIDDEN, 1, ".x")))
    both = joined([one, Intake(4, (Passed(".txt", 5, "b.txt"),))])
    assert both.taken == 7
    assert both.passed == (Passed(".txt", 7, "a.txt"), Passed(HIDDEN, 1, ".x"))


def test_a_joined_set_says_whose_missing_classes_cost_the_classes(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 4)
    write_files("folder", tmp_path, {"x.png": PNG, "y.png": PNG})
    source = open_sources([str(tmp_path / "a"), str(tmp_path / "set")])
    assert isinstance(source, JoinedSource)
    assert source.classes == ()
    assert lines_of(source.intake, brief=True) == [
        "warning: no classes: set has none, and the others are joined with it"
    ]
    with pytest.raises(DataError, match=r"--labels folders: all images are in one folder"):
        open_sources([str(tmp_path / "a"), str(tmp_path / "set")], labels="folders")


def test_every_command_prints_the_same_notes(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set", 16)
    (folder / "notes.txt").write_text("hello")
    (folder / "Thumbs.db").touch()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "cover.png")
    passed = "1 .txt (notes.txt), 1 left by an operating system or a NAS (Thumbs.db)"
    lost = "no classes: 1 of 17 images are in no class folder; the first is cover.png"
    check = gentool_command("data", "check", folder)
    assert "passed over 1 files with the suffix .txt, the first notes.txt" in check.out
    assert lost in check.out
    told = json.loads(gentool_command("data", "check", folder, "--json").out)["intake"]
    assert told["taken"] == 17
    assert told["passed_over"][0] == {
        "reason": ".txt",
        "count": 1,
        "first": "notes.txt",
        "about": "",
    }
    assert told["classes_from"] is None
    pack = gentool_command("data", "pack", folder, tmp_path / "x.zip", "--json")
    assert f"passed over: {passed}" in pack.err
    assert json.loads(pack.out)["intake"] == told
    train = ["train", "vae", "--data", folder, "--out", tmp_path / "run", *TINY, "--images", 16]
    done = gentool_command(*train, "--json")
    assert done.code == 0, done.err
    assert f"passed over: {passed}" in done.err
    assert f"warning: {lost}" in done.err
    assert json.loads(done.out)["intake"] == told
    quiet = gentool_command(*train, "-q")
    assert f"warning: {lost}" in quiet.err
    assert "passed over" not in quiet.err
    assert "no classes" not in gentool_command(*train, "--unconditional", "--override").err


@pytest.mark.parametrize("system", [0, 3])
def test_backslashes_in_an_archive_separate_folders(system: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("e\\cat\\1.png", "e\\dog\\2.png", "e\\@eaDir\\3.png"):
            info = zipfile.ZipInfo("x")
            info.filename, info.create_system = name, system
            archive.writestr(info, PNG)
    source = open_source(tmp_path / "x.zip")
    assert source.paths == ("cat/1.png", "dog/2.png")
    assert source.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [("é/日.png".encode(), "é/日.png"), ("é.png".encode("cp437"), "é.png"), (b"a.png", "a.png")],
)
def test_names_in_a_zip_without_the_flag_of_utf8(raw: bytes, wanted: str, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    placeholder = "x" * len(raw)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{placeholder}", PNG)
        archive.writestr("0/z.png", PNG)
    path.write_bytes(path.read_bytes().replace(placeholder.encode(), raw))
    assert open_source(path).paths == ("0/z.png", wanted)


def test_the_name_in_the_unicode_field_of_a_zip_counts(tmp_path: Path) -> None:
    import struct
    import zlib

    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("caf_.png")
        name = struct.pack("<BL", 1, zlib.crc32(b"caf_.png")) + "café.png".encode()
        info.extra = struct.pack("<HH", 0x7075, len(name)) + name
        archive.writestr(info, PNG)
    assert open_source(path).paths == ("café.png",)


def test_a_dead_link_is_called_one(tmp_path: Path) -> None:
    write_images(tmp_path / "set", 2)
    (tmp_path / "set" / "bar" / "x.png").symlink_to("/mnt/gone/x.png")
    done = gentool_command("data", "check", tmp_path / "set")
    assert "bad: bar/x.png: FileNotFoundError" in done.out or "it is a link to" in done.out
    assert "link to /mnt/gone/x.png, where there is nothing" in done.out


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_which_no_image_is_taken_is_warned_of(kind: str, tmp_path: Path) -> None:
    """A class would be gone otherwise, which a count of suffixes does not say."""
    files = {"cat/1.png": PNG, "ape/1.png": PNG, "dog/1.heic": b"", "dog/2.heic": b"",
             "cat/2.heic": b"", "cat/raw/1.cr2": b"", "docs/x.pdf": b""}  # fmt: skip
    source = open_source(write_files(kind, tmp_path, files))
    assert source.classes == ("ape", "cat")
    folders = [warning.split()[2] for warning in source.intake.warnings]
    assert folders == ["cat/raw", "dog"]
    assert "holds 2 images of a format that is not read (.heic)" in source.intake.warnings[1]


def test_a_dead_link_without_a_suffix_is_not_called_an_empty_file(tmp_path: Path) -> None:
    write_images(tmp_path, 4)
    (tmp_path / "other").symlink_to(tmp_path / "nowhere")
    assert open_source(tmp_path).intake.passed == (Passed(NO_SUFFIX, 1, "other"),)
