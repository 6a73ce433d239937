"""``--data`` that is no source of images: what is there, and the next step; and arrays as data."""

import io
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, gentool_command, words, write_images

from gentool.core.errors import DataError
from gentool.data import open_dataset, open_source
from gentool.data.intake import lines_of
from gentool.data.sources.array import NOT_USED, is_array_file

HEADS = {
    "x.rar": (b"Rar!\x1a\x07\0", ["a RAR archive", "unrar x", "give the folder"]),
    "x.7z": (b"7z\xbc\xaf\x27\x1c\0\0", ["a 7z archive", "7z x", "give the folder"]),
    "x.mp4": (b"\0\0\0\x18ftypmp42" + bytes(30), ["a film", "ffmpeg -i", "give frames/"]),
    "x.mkv": (b"\x1aE\xdf\xa3" + bytes(30), ["a film", "ffmpeg -i"]),
    "x.parquet": (b"PAR1" + bytes(30), ["a Parquet table", "--data hub:"]),
    "x.h5": (b"\x89HDF\r\n\x1a\n", ["an HDF5 file", "numpy.save"]),
    "x.pkl": (b"\x80\4\x95", ["a Python pickle", "numpy.save"]),
    "x.heic": (b"\0\0\0\x18ftypheic" + bytes(30), ["an HEIC image", "Give the folder"]),
    "labels.txt": (b"a.png 3\n", ["a text", "--labels"]),
    "page.zip": (b"<!DOCTYPE html>", ["an HTML page", "Download or copy it again"]),
    "lfs.zip": (b"version https://git-lfs.github.com/spec/v1\n", ["git lfs pull"]),
    "annex.zip": (b"/annex/objects/MD5E-s1--abc.zip\n", ["git annex get"]),
    "empty.zip": (b"", ["an empty file", "Download or copy it again"]),
    "zeros.tar.zip": (bytes(2000), ["a file of zeros", "Download or copy it again"]),
}


def refusal(spec: object) -> str:
    with pytest.raises(DataError) as caught:
        open_source(str(spec))
    text = str(caught.value)
    assert len(text) < 500
    return text


@pytest.mark.parametrize("name", HEADS)
def test_a_file_of_another_kind_is_called_what_it_is(name: str, tmp_path: Path) -> None:
    data, wanted = HEADS[name]
    (tmp_path / name).write_bytes(data)
    text = refusal(tmp_path / name)
    assert "is a file, but not a zip or tar" in text
    for word in wanted:
        assert word in text


INSIDE = {
    "photos.zip": "There is 1 .zip (photos.zip). Give --data {folder}/photos.zip",
    "photos.tar.gz": "Give --data {folder}/photos.tar.gz",
    "array.npz": "Give --data {folder}/array.npz",
    "array.npy": "Give --data {folder}/array.npy",
    "photos.rar": "unrar x {folder}/photos.rar",
    "data.parquet": "Give --data hub:{folder}",
    "film.mp4": "ffmpeg -i {folder}/film.mp4",
    "a.heic": "Convert such files to PNG or JPEG",
    "train.tfrecord": "Write its images as files",
    "train-images-idx3-ubyte.gz": "torchvision:MNIST",
    "notes.txt": "Give a folder of images",
}


@pytest.mark.parametrize("name", INSIDE)
def test_a_folder_without_images_says_what_to_do_with_what_it_holds(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert INSIDE[name].format(folder=tmp_path) in refusal(tmp_path)


def test_an_archive_in_an_archive_must_be_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("inner/photos.zip", b"x")
    text = refusal(tmp_path / "x.zip")
    assert f"Unpack {tmp_path / 'x.zip'} first. Give --data inner/photos.zip" in text


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    assert "It holds nothing that could be an image" in refusal(tmp_path)


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the folder ``faces``."""
    write_images(tmp_path / "faces", 6)
    shutil.copytree(tmp_path / "faces", tmp_path / "cats")
    monkeypatch.chdir(tmp_path)
    return tmp_path


NOTHING = {
    "faces/none*.png": "a pattern that matches no file. Give the folder itself, such as "
    "--data faces",
    "faces/bar/*.png": "a pattern that matches 3 files. Give their folder: --data faces/bar",
    "faces/**/*.png": "a pattern that matches 6 files. Give their folder: --data faces",
    "*": "a pattern of 2 folders",
    "faces,cats": "It is 2 paths. Give each: --data faces --data cats",
    "faces:cats": "It is 2 paths",
    "faces cats": "It is 2 paths",
    "Faces": "Did you mean --data faces?",
    "face/bar": "Did you mean --data faces/bar?",
    " faces": "Did you mean --data faces, without spaces?",
    "shapes": "Did you mean --data builtin:shapes?",
    "cifar10": "Did you mean --data torchvision:CIFAR10?",
    "https://example.org/x.zip": "download it (curl -LO URL)",
    "file:///data/x": "Give the path: --data /data/x",
    "s3://bucket/x": "--data shards:s3://bucket/x",
    "something else": "Give a folder of images",
}


@pytest.mark.parametrize("spec", NOTHING)
def test_a_spec_that_names_nothing_gets_the_likely_one(spec: str, beside: Path) -> None:
    text = refusal(spec)
    assert text.startswith(f"there is nothing at {spec}. ")
    assert NOTHING[spec] in text


def test_a_single_image_leads_to_its_folder(beside: Path) -> None:
    assert "it is a PNG image. Give the folder with all images, such as --data faces/bar" in (
        refusal("faces/bar/001.png")
    )


@pytest.mark.parametrize("verb", [["train", "vae", "--data"], ["data", "check"]])
def test_a_pattern_that_the_shell_expanded_is_explained(verb: list[str], beside: Path) -> None:
    done = gentool_command(*verb, *sorted(str(p) for p in Path("faces/bar").iterdir()))
    assert done.code == 2
    assert "becomes many paths. Give the folder instead" in words(done.err)
    other = gentool_command(*verb, "faces", "unrelated")
    assert other.code == 2
    assert "becomes many paths" not in words(other.err)


# --- arrays -------------------------------------------------------------------------------------

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 20, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "array", [IMAGES, IMAGES[..., :1], IMAGES[..., 0], np.asfortranarray(IMAGES)]
)
@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
def test_arrays_are_data(kind: str, array: Any, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    with path.open("wb") as file:
        {"npy": np.save, "npz": np.savez, "compressed": np.savez_compressed}[kind](file, array)
    dataset = open_dataset(str(path), "20x16", "rgb" if array.shape[-1] == 3 else "grey")
    assert np.array_equal(dataset.images[:].reshape(array.shape), array)


NAMED: dict[str, tuple[dict[str, Any], str]] = {
    "one of any name": ({"foo": IMAGES}, ""),
    "one beside labels": ({"foo": IMAGES, "labels": np.full(6, 0.5)}, "labels"),
    "as keras writes it": ({"x_test": IMAGES[:2], "x_train": IMAGES, "y_train": np.zeros(6)},
                           "x_test"),
    "as medmnist writes it": ({"test_images": IMAGES[:2], "train_images": IMAGES}, "test_images"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_the_array_of_images_is_found_and_the_others_are_named(name: str, tmp_path: Path) -> None:
    arrays, other = NAMED[name]
    np.savez(tmp_path / "x.npz", **arrays)
    source = open_source(tmp_path / "x.npz")
    assert len(source) == 6
    (row,) = source.intake.passed or (None,)
    assert (row.first if row else "") == other
    assert not row or NOT_USED in lines_of(source.intake)[0]


LABELLED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "keras": ({"x_train": IMAGES, "y_train": np.array([7, 2, 2, 7, 2, 7])}, ("2", "7")),
    "medmnist": ({"train_images": IMAGES, "train_labels": np.array([[1], [0], [0], [1], [0], [1]])},
                 ("0", "1")),
    "texts": ({"images": IMAGES, "labels": np.array(["dog", "cat", "cat", "dog", "cat", "dog"])},
              ("cat", "dog")),
}  # fmt: skip


@pytest.mark.parametrize("name", LABELLED)
def test_labels_beside_the_images_of_a_file_are_its_classes(name: str, tmp_path: Path) -> None:
    arrays, classes = LABELLED[name]
    np.savez(tmp_path / "x.npz", **arrays)
    source = open_source(tmp_path / "x.npz")
    assert source.classes == classes
    assert source.labels is not None and source.labels.tolist() == [1, 0, 0, 1, 0, 1]
    assert source.intake.passed == ()
    dataset = open_dataset(str(tmp_path / "x.npz"), "20x16", "rgb")
    assert dataset.classes == classes
    assert dataset.labels is not None and dataset.labels.tolist() == [1, 0, 0, 1, 0, 1]


LABELS_OF_OTHERS: dict[str, Any] = {
    "too short": np.arange(5),
    "other shares": np.eye(6) / 2,
}


@pytest.mark.parametrize("name", LABELS_OF_OTHERS)
def test_an_array_that_is_no_label_of_each_image_gives_no_classes(
    name: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=LABELS_OF_OTHERS[name])
    source = open_source(tmp_path / "x.npz")
    assert (source.classes, source.labels) == ((), None)
    assert [row.first for row in source.intake.passed] == ["labels"]


ODD = {
    "channels first": (IMAGES.transpose(0, 3, 1, 2), "transpose(0, 2, 3, 1)"),
    "one image": (IMAGES[0], "a single image"),
    "numbers": (np.arange(5), "images are numbers"),
    "objects": (np.array([None, "x"], dtype=object), "different sizes"),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_an_array_that_is_not_of_images_says_what_to_do(
    kind: str, name: str, tmp_path: Path
) -> None:
    array, wanted = ODD[name]
    path = tmp_path / f"x.{kind}"
    (np.save if kind == "npy" else np.savez)(path, array)
    assert wanted in refusal(path)


def test_several_arrays_of_unusual_names_are_not_guessed(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=IMAGES, b=IMAGES)
    assert "several arrays of images (a, b)" in refusal(tmp_path / "x.npz")


def test_a_zip_with_an_array_beside_images_is_a_zip(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, IMAGES)
    write_images(tmp_path / "set", 4)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("features.npy", buffer.getvalue())
        for file in (tmp_path / "set").rglob("*.png"):
            archive.write(file, file.relative_to(tmp_path / "set"))
    assert not is_array_file(tmp_path / "x.zip")
    assert len(open_source(tmp_path / "x.zip")) == 4


def test_the_arrays_of_sample_are_data(vae: Path, tmp_path: Path) -> None:
    done = gentool_command("sample", vae, "-n", 20, "-o", tmp_path / "x.npz")
    assert done.code == 0, done.err
    source = open_source(tmp_path / "x.npz")
    assert len(source) == 20
    assert source.intake.passed == ()
    done = gentool_command(
        "train", "vae", "--data", tmp_path / "x.npz", "--out", tmp_path / "run", *TINY,
        "--images", 16,
    )  # fmt: skip
    assert done.code == 0, done.err


def test_an_array_cut_short_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    os.truncate(tmp_path / "x.npy", 1000)
    assert "does not match its header" in refusal(tmp_path / "x.npy")
