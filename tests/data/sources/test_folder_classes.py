"""Classes from folders: one rule in every container, and a reason where there are none."""

import io
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, draw, gentool_command, write_images
from containers import KINDS, write_files
from PIL import Image

from gentool.core.errors import DataError
from gentool.data import open_dataset, open_source
from gentool.data.intake import lines_of
from gentool.data.labels.layouts import suspicions


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw(0)).save(buffer, "PNG")
    return buffer.getvalue()


PNG = _png()


def tree(*names: str) -> dict[str, bytes]:
    return dict.fromkeys(names, PNG)


SAME = {
    "plain": (["cat/1.png", "dog/1.png"], ("cat", "dog")),
    "wrapped twice": (["e/images/cat/1.png", "e/images/dog/1.png"], ("cat", "dog")),
    "deep below the classes": (["cat/a/b/1.png", "dog/1.png"], ("cat", "dog")),
    "one folder": (["cat/1.png", "cat/2.png"], ()),
    "one wrapped folder": (["e/cat/1.png", "e/cat/2.png"], ()),
    "a cover": (["cat/1.png", "dog/1.png", "cover.png"], ()),
    "a wrapped cover": (["e/cat/1.png", "e/dog/1.png", "e/cover.png"], ()),
    "flat": (["1.png", "2.png"], ()),
    "called samples": (["samples/1.png", "snapshots/1.png"], ("samples", "snapshots")),
    "parts": (["train/cat/1.png", "val/cat/1.png", "test/2.png"], ()),
    "wrapped parts": (["ds/train/cat/1.png", "ds/val/cat/1.png"], ()),
    "a train among other vehicles": (["train/1.png", "bus/1.png"], ("bus", "train")),
    "masks": (["images/1.png", "masks/1.png"], ()),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("names", "classes"), SAME.values(), ids=SAME)
def test_classes_are_the_same_in_every_container(
    names: list[str], classes: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    source = open_source(write_files(kind, tmp_path, tree(*names)))
    assert source.classes == classes
    assert (source.labels is not None) == bool(classes)
    assert bool(source.intake.no_classes) != bool(classes)
    assert len(source) == len(names)
    assert source.intake.classes_from == ("the folders" if classes else "")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("names", [["1.png"], ["a/1.png", "b/2.png", "3.png"], ["a/1.png"]])
def test_classes_that_are_asked_for_and_not_there_are_an_error(
    names: list[str], kind: str, tmp_path: Path
) -> None:
    place = write_files(kind, tmp_path, tree(*names))
    with pytest.raises(DataError, match=r"--labels folders: "):
        open_source(place, labels="folders")
    done = gentool_command("data", "check", place, "--labels", "folders")
    assert done.code == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_file_in_the_only_folder_counts(kind: str, tmp_path: Path) -> None:
    files = tree("e/images/1.png", "e/images/2.png") | {
        "e/images/labels.csv": b"1.png,x\n2.png,y\n"
    }
    assert open_source(write_files(kind, tmp_path, files)).classes == ("x", "y")


LAYOUTS = {
    "parts": (["train/1.png", "val/1.png", "test/1.png"], "set/train"),
    "years": (["train2017/1.png", "val2017/1.png"], "set/train2017"),
    "with classes": (["Training/cat/1.png", "Testing/cat/1.png"], "set/Training"),
    "yolo": (["images/train/1.png", "images/val/1.png"], "set/images/train"),
    "roboflow": (["train/images/1.png", "valid/images/1.png"], "set/train"),
    "pairs": (["trainA/1.png", "trainB/1.png", "testA/1.png"], "set/trainA"),
    "masks": (["images/1.png", "masks/1.png"], "set/images"),
    "voc": (["JPEGImages/1.png", "SegmentationClass/1.png"], "set/JPEGImages"),
    "pets": (["annotations/trimaps/1.png", "images/1.png"], "set/images"),
}


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize(("names", "wanted"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_of_data_sets_is_no_classes_and_the_right_folder_is_named(
    names: list[str], wanted: str, kind: str, tmp_path: Path
) -> None:
    place = write_files(kind, tmp_path, tree(*names))
    (line,) = lines_of(open_source(place).intake, brief=True)
    assert line.startswith("warning: no classes: ")
    assert f"--data {tmp_path / wanted}" in line
    assert len(open_source(place, labels="folders").classes) >= 2  # if that is what is wanted


def test_parts_inside_class_folders_are_warned_of(tmp_path: Path) -> None:
    files = tree("nut/train/1.png", "nut/test/1.png", "bolt/train/1.png", "bolt/test/1.png")
    source = open_source(write_files("folder", tmp_path, files))
    assert source.classes == ("bolt", "nut")
    assert "the class folders hold test and train" in source.intake.class_warnings[0]


def test_other_classes_give_another_cache_entry(tmp_path: Path, own_cache: Path) -> None:
    """The rule changed: names alone do not say which classes were cached."""
    place = write_files("folder", tmp_path, tree("train/1.png", "val/1.png"))
    assert open_source(place).fingerprint != open_source(place, labels="folders").fingerprint
    assert open_dataset(str(place), "16", "rgb").classes == ()


# --- suspicious classes -------------------------------------------------------------------------


def warnings_for(**counts: int) -> list[str]:
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), list(counts.values()))
    return suspicions(list(counts), labels)


def test_a_folder_per_subject_is_warned_of() -> None:
    (line,) = warnings_for(**{f"s{k:02d}": 1 for k in range(40)})
    assert "40 classes for only 40 images" in line
    assert "--unconditional" in line


def test_folders_numbered_like_the_parts_of_a_set_are_warned_of() -> None:
    labels = np.repeat(np.arange(3, dtype=np.int32), 100)
    (told,) = suspicions(["00000", "01000", "02000"], labels)
    assert "00000, 01000 and 02000" in told and "--unconditional" in told
    assert suspicions([str(k) for k in range(3)], labels) == []
    assert suspicions(["1900", "1901", "1902"], labels) == []


def test_a_class_of_very_few_images_is_warned_of() -> None:
    (line,) = warnings_for(cat=200, dog=2)
    assert "very few images of dog (2), against 200" in line
    assert "--unconditional" in line


@pytest.mark.parametrize("counts", [{"a": 20, "b": 30}, {"a": 2, "b": 3}, {"a": 100, "b": 30}])
def test_ordinary_classes_are_not_suspicious(counts: dict[str, int]) -> None:
    assert warnings_for(**counts) == []


@pytest.mark.parametrize("twin", ["Cat", "CAT", "cat ", "ｃａｔ", "c_at"])
def test_classes_that_differ_only_in_case_are_hinted_at(twin: str, tmp_path: Path) -> None:
    other = "c at" if "_" in twin else "cat"
    source = open_source(
        write_files("folder", tmp_path, tree(f"{other}/1.png", "dog/1.png", f"{twin}/1.png"))
    )
    assert any("nearly the same name" in line for line in lines_of(source.intake, brief=True))


@pytest.mark.parametrize("unconditional", [False, True])
def test_train_warns_unless_it_is_unconditional(unconditional: bool, tmp_path: Path) -> None:
    for k in range(16):
        folder = tmp_path / "set" / f"subject{k:02d}"
        folder.mkdir(parents=True)
        Image.fromarray(draw(k)).save(folder / "x.png")
    more = ["--unconditional"] if unconditional else []
    done = gentool_command("train", "vae", "--data", tmp_path / "set", "--dry-run", *TINY, *more)
    assert done.code == 0
    done = gentool_command(
        "train", "vae", "--data", tmp_path / "set", "--out", tmp_path / "run", *TINY, *more,
        "--images", 16,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert ("16 classes for only 16 images" in done.err) is not unconditional


# --- forms of letters ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_in_two_forms_of_unicode_is_one(kind: str, tmp_path: Path) -> None:
    composed, split = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    names = [f"{composed}/1.png", f"{split}/2.png", "thé/1.png"]
    source = open_source(write_files(kind, tmp_path, tree(*names)))
    assert source.classes == (composed, unicodedata.normalize("NFC", "thé"))
    assert source.labels is not None
    assert np.bincount(source.labels).tolist() == [2, 1]


def test_a_class_is_found_in_either_form(tmp_path: Path) -> None:
    write_images(tmp_path / "set", 16)
    (tmp_path / "set" / "bar").rename(tmp_path / "set" / unicodedata.normalize("NFD", "café"))
    run = tmp_path / "run"
    done = gentool_command("train", "vae", "--data", tmp_path / "set", "--out", run, *TINY,
                           "--images", 16)  # fmt: skip
    assert done.code == 0, done.err
    for name in (unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")):
        done = gentool_command("sample", run, "-n", 1, "--class", name, "-o", tmp_path / "x.png")
        assert done.code == 0, done.err
