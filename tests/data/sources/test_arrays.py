"""Arrays of numbers as images: types, shapes, levels, and labels beside them."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import gentool_command
from numpy.typing import NDArray
from PIL import Image

from gentool.core.errors import DataError, UsageError
from gentool.data import (
    Dataset,
    Sample,
    open_dataset,
    open_source,
    open_sources,
    resolve_levels,
)

COUNT, SIDE = 6, 16


def unit(channels: int = 3) -> NDArray[np.float64]:
    """Values from 0 to 1, both included, (N, H, W, C)."""
    found = np.random.default_rng(0).random((COUNT, SIDE, SIDE, channels))
    found[:, 0, 0], found[:, 0, 1] = 0, 1
    return found


def opened(path: Path, **options: Any) -> Dataset:
    return open_dataset(str(path), SIDE, cache="ram", **options)


def levels_of(path: Path) -> str:
    return resolve_levels(Sample(open_source(str(path))), "auto")[0]


TYPES: dict[str, tuple[NDArray[Any], str]] = {
    "floats to 1": (unit().astype(np.float32), "0:1"),
    "floats to 255": (unit() * 255, "0:255"),
    "half precision from -1": ((unit() * 2 - 1).astype(np.float16), "-1:1"),
    "12 bits": (np.round(unit() * 4095).astype(np.uint16), "0:4095"),
    "big-endian": (np.round(unit() * 65535).astype(">u2"), "0:65535"),
    "64-bit integers": (np.round(unit() * 255).astype(np.int64), "0:255"),
    "unsigned 32-bit": (np.round(unit() * (2**32 - 1)).astype(np.uint32), "0:4294967295"),
    "signed bytes": ((unit() * 200 - 100).astype(np.int8), "-100:100"),
}  # fmt: skip


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("kind", TYPES)
def test_numbers_of_any_type_get_one_scale(
    kind: str, channels: int | None, tmp_path: Path, own_cache: Path
) -> None:
    values, levels = TYPES[kind]
    values = values[..., 0] if channels is None else values[..., :channels]
    np.save(tmp_path / "set.npy", values)
    assert levels_of(tmp_path / "set.npy") == levels
    found = opened(tmp_path / "set.npy")
    assert found.shape.mode == ("rgb" if channels == 3 else "grey")
    low, high = map(float, levels.split(":"))
    wanted = np.clip((values.astype(np.float64) - low) / (high - low) * 255, 0, 255)
    wanted = wanted.reshape(found.images.shape)
    assert np.abs(found.images[:].astype(float) - wanted).max() <= 0.51
    assert len(set(found.hashes.tolist())) == COUNT


def test_colours_in_the_low_bits_are_colours(tmp_path: Path, own_cache: Path) -> None:
    """The upper 8 bits of 16, or of 32, are black here."""
    for dtype in (np.uint16, np.int32):
        np.save(tmp_path / "set.npy", np.round(unit() * 255).astype(dtype))
        found = opened(tmp_path / "set.npy")
        assert found.shape.mode == "rgb"
        assert np.array_equal(found.images[:], np.round(unit() * 255))


def test_alpha_of_floats(tmp_path: Path, own_cache: Path) -> None:
    np.save(tmp_path / "set.npy", unit(4))
    found = opened(tmp_path / "set.npy")
    assert found.shape.mode == "rgba"
    assert np.abs(found.images[:][..., 3] - unit(4)[..., 3] * 255).max() <= 0.51


def test_truth_values_are_black_and_white(tmp_path: Path, own_cache: Path) -> None:
    np.save(tmp_path / "set.npy", unit()[..., 0] > 0.5)
    found = opened(tmp_path / "set.npy")
    assert np.array_equal(found.images[:][..., 0], (unit()[..., 0] > 0.5) * 255)


def test_columns_first_and_given_levels(tmp_path: Path, own_cache: Path) -> None:
    values = np.round(unit() * 4095).astype(np.uint16)
    np.save(tmp_path / "c.npy", values)
    np.save(tmp_path / "f.npy", np.asfortranarray(values))
    assert np.array_equal(
        opened(tmp_path / "c.npy").images[:], opened(tmp_path / "f.npy").images[:]
    )
    half = opened(tmp_path / "c.npy", levels="0:2047")
    assert (half.images[:] == 255).mean() > 0.4
    full = opened(tmp_path / "c.npy", levels="full")
    assert full.images[:].max() == 16


def test_bytes_are_preferred_among_arrays(tmp_path: Path, own_cache: Path) -> None:
    photos = np.round(unit() * 255).astype(np.uint8)
    np.savez(tmp_path / "set.npz", depth=unit()[..., 0], photos=photos)
    assert np.array_equal(opened(tmp_path / "set.npz").images[:], photos)
    np.savez(tmp_path / "floats.npz", ids=np.arange(COUNT), photos=unit())
    assert np.array_equal(opened(tmp_path / "floats.npz").images[:], photos)


@pytest.mark.parametrize("labels", [
    np.eye(3)[np.arange(COUNT) % 3], np.eye(3, dtype=bool)[np.arange(COUNT) % 3],
    np.arange(COUNT) % 3, (np.arange(COUNT) % 3).astype(np.float32), np.arange(COUNT)[:, None] % 3,
])  # fmt: skip
def test_labels_beside_the_images(labels: NDArray[Any], tmp_path: Path, own_cache: Path) -> None:
    photos = np.round(unit() * 255).astype(np.uint8)
    np.savez(tmp_path / "set.npz", images=photos, labels=labels)
    source = open_source(str(tmp_path / "set.npz"))
    assert (source.classes, source.intake.passed) == (("0", "1", "2"), ())
    assert source.labels is not None
    assert source.labels.tolist() == [0, 1, 2, 0, 1, 2]
    for names in (np.array(["cat", "dog", "fox"]), np.array([b"cat", b"dog", b"fox"])):
        np.savez(tmp_path / "set.npz", images=photos, labels=labels, class_names=names)
        source = open_source(str(tmp_path / "set.npz"))
        assert (source.classes, source.intake.passed) == (("cat", "dog", "fox"), ())


def test_rows_that_mark_no_class_or_two_are_passed_over(tmp_path: Path, own_cache: Path) -> None:
    photos = np.round(unit() * 255).astype(np.uint8)
    for marks in (np.zeros((COUNT, 3)), np.ones((COUNT, 3)), np.full((COUNT, 2), 0.5)):
        np.savez(tmp_path / "set.npz", images=photos, labels=marks)
        source = open_source(str(tmp_path / "set.npz"))
        assert source.labels is None
        assert [row.first for row in source.intake.passed] == ["labels"]


REFUSED: dict[str, tuple[NDArray[Any], str]] = {
    "one image": (unit()[0], r"a single image; join several with numpy.stack"),
    "rows": (unit().reshape(COUNT, -1), r"or rows of pixels \(then use .reshape\)"),
    "channels first": (unit().transpose(0, 3, 1, 2), r"\.transpose\(0, 2, 3, 1\)"),
    "complex": (unit() * 1j, "images are numbers"),
    "objects": (np.array([np.zeros(2), np.zeros(3)], dtype=object), "different sizes"),
    "too large": (np.full((2, SIDE, SIDE), 2**40), "more than 32 bits"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_array_of_images_says_why(kind: str, tmp_path: Path) -> None:
    values, words = REFUSED[kind]
    np.save(tmp_path / "set.npy", values)
    with pytest.raises(DataError, match=words):
        open_source(str(tmp_path / "set.npy"))


def test_the_advice_on_a_folder_of_single_arrays_works(tmp_path: Path, own_cache: Path) -> None:
    folder = tmp_path / 'it\'s $(touch bad) "so"'
    folder.mkdir()
    for k, values in enumerate(unit()):
        np.save(folder / f"{k}.npy", values)
    with pytest.raises(DataError, match=r"numpy\.stack") as refused:
        open_source(str(folder))
    line = str(refused.value).partition("to one array: ")[2].partition(", and give")[0]
    line = line.replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, check=True)
    assert levels_of(tmp_path / "images.npy") == "0:1"
    assert not (tmp_path / "bad").exists()
    np.save(folder / "0.npy", unit())  # a set, which is advised itself
    with pytest.raises(DataError, match=r"Give --data .*0\.npy"):
        open_source(str(folder))


def test_labels_for_an_array_name_the_way(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", unit())
    with pytest.raises(UsageError, match=r"numpy\.savez"):
        open_source(str(tmp_path / "set.npy"), labels="labels.csv")


def test_the_model_of_an_array_knows_its_levels(tmp_path: Path, own_cache: Path) -> None:
    np.save(tmp_path / "set.npy", np.round(unit() * 4095).astype(np.uint16))
    checked = gentool_command("data", "check", tmp_path / "set.npy")
    assert "levels 0:4095" in checked.out
    assert "duplicates       none" in checked.out


def test_ages_beside_the_images_are_not_called_subjects(tmp_path: Path, own_cache: Path) -> None:
    """Also where two arrays are joined."""
    photos = np.zeros((40, SIDE, SIDE, 3), np.uint8)
    np.savez(tmp_path / "set.npz", images=photos, labels=np.arange(40) % 30 + 18)
    for specs in ([tmp_path / "set.npz"], [tmp_path / "set.npz"] * 2):
        (told,) = open_sources(specs).intake.class_warnings
        assert "If they are measurements, such as ages" in told


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_without_a_number_is_broken_and_not_black(channels: int, tmp_path: Path) -> None:
    images = unit(channels).astype(np.float32)
    images[2] = np.nan
    images[3, 1:] = np.inf  # one row has numbers
    np.save(tmp_path / "a.npy", images)
    ((name, reason),) = opened(tmp_path / "a.npy", max_bad=0.5).bad
    assert name == "000002"
    assert "all are NaN" in reason


def test_a_file_without_a_number_is_broken_and_not_black(tmp_path: Path) -> None:
    values = unit(1)[..., 0].astype(np.float32)
    values[0] = np.nan
    for number, image in enumerate(values):
        Image.fromarray(image).save(tmp_path / f"{number}.tif")
    assert [name for name, _ in opened(tmp_path, max_bad=0.5).bad] == ["0.tif"]
