"""Every odd file becomes the expected image or gives the expected reason; mutants do no harm."""

import os
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from odd_files import PICTURE, RAMP, Beast, beasts, saved
from PIL import Image

from gentool.core.errors import UsageError
from gentool.core.images import ImageShape
from gentool.data import open_source, prepare
from gentool.data.encoded import BadImage, frame_numbers
from gentool.data.preprocessing import Preprocessing, decode
from gentool.data.sources.frames import FramesSource

RGB = Preprocessing(ImageShape(16, 16, 3))
ZOO = beasts()


def test_the_zoo_is_large() -> None:
    assert len(ZOO) >= 60
    assert len({beast.name for beast in ZOO}) == len(ZOO)


@pytest.mark.parametrize("beast", ZOO, ids=lambda beast: beast.name)
def test_a_beast_becomes_what_it_should(beast: Beast) -> None:
    began = time.monotonic()
    if isinstance(beast.expected, str):
        with pytest.raises(BadImage) as caught:
            decode(beast.data, RGB)
        assert beast.expected in str(caught.value)
        assert str(caught.value).isprintable()
        assert 0 < len(str(caught.value)) < 300
    else:
        found = decode(beast.data, RGB)
        off = np.abs(found.astype(int) - beast.expected)
        if beast.name == "nan-float.tif":
            off[0, 0] = 0
        if beast.name in ("rgb.jpg", "progressive.jpg"):  # halved chroma blurs across the middle
            off[6:10] = off[:, 6:10] = 0
        assert off.max() <= beast.tolerance
    assert time.monotonic() - began < 1


def test_the_whole_zoo_in_a_folder(tmp_path: Path) -> None:
    for beast in ZOO:
        (tmp_path / beast.name).write_bytes(beast.data)
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "again").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    dataset = prepare(open_source(str(tmp_path)), RGB, max_bad=1)
    wrong = sorted(beast.name for beast in ZOO if isinstance(beast.expected, str))
    assert sorted(name for name, _ in dataset.bad) == sorted([*wrong, "dangling.png", "pipe.png"])
    assert len(dataset) == len(ZOO) - len(wrong)


@pytest.mark.parametrize("all_frames", [False, True])
def test_frames_of_animations_are_images_when_asked(tmp_path: Path, all_frames: bool) -> None:
    for beast in ZOO:
        if beast.name.startswith(("animated", "rgb.")):
            path = tmp_path / ("many" if beast.name.startswith("animated") else "one") / beast.name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(beast.data)
    source = open_source(str(tmp_path))
    if all_frames:
        source = FramesSource(source, lambda done, total: None)
    dataset = prepare(source, RGB)
    assert dataset.labels is not None
    names = [source.describe(k) for k in range(len(source))]
    if not all_frames:
        assert len(dataset) == 8
        return
    assert np.bincount(dataset.labels).tolist() == [12, 4]
    assert names[:3] == ["many/animated.gif", "many/animated.gif#1", "many/animated.gif#2"]
    assert source.paths[1:3] == names[1:3]
    red, blue = dataset.images[1].mean(axis=(0, 1)), dataset.images[2].mean(axis=(0, 1))
    assert red[0] > 240 > 20 > red[2]
    assert blue[2] > 240 > 20 > blue[0]
    assert len(set(dataset.hashes.tolist())) == 16


def test_frames_need_files() -> None:
    with pytest.raises(UsageError, match="--all-frames"):
        FramesSource(open_source("builtin:digits:5"), lambda done, total: None)
    assert frame_numbers(b"nothing") == [0]


# --- the choices of preprocessing ---------------------------------------------------------------


def _wide() -> bytes:
    """32x16, left half black, right half the picture."""
    return saved(Image.fromarray(np.concatenate([np.zeros_like(PICTURE), PICTURE], axis=1)))


def test_crop_pad_and_stretch() -> None:
    crop = decode(_wide(), Preprocessing(ImageShape(16, 16, 3), "crop"))
    assert crop[:, :7].max() <= 1
    np.testing.assert_array_equal(crop[:, 9:15], PICTURE[:, 1:7])
    pad = decode(_wide(), Preprocessing(ImageShape(16, 16, 3), "pad", "#ff8000"))
    assert (pad[:4] == (255, 128, 0)).all()
    assert (pad[12:] == (255, 128, 0)).all()
    assert pad[5:11, :6].max() <= 1
    stretch = decode(_wide(), Preprocessing(ImageShape(16, 16, 3), "stretch"))
    assert stretch[:, :6].max() <= 2
    assert (np.abs(stretch[0, 9:11].astype(int) - (200, 40, 30)) < 20).all()


def test_padding_is_transparent_where_alpha_is_kept() -> None:
    padded = decode(_wide(), Preprocessing(ImageShape(16, 16, 4), "pad"))
    assert (padded[:4, :, 3] == 0).all()
    assert (padded[5:11, :, 3] == 255).all()


def test_transparency_is_laid_on_the_background() -> None:
    data = saved(Image.fromarray(np.dstack([PICTURE, RAMP])))
    found = decode(data, Preprocessing(ImageShape(16, 16, 3), background="#0000ff"))
    share = RAMP[..., None] / 255
    naive = PICTURE * share + np.array([0, 0, 255]) * (1 - share)
    assert np.abs(found - naive).max() <= 2


def test_colours_are_premultiplied_while_resizing() -> None:
    """A red square on transparent green: no green may leak into its edge."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., 1] = 255
    pixels[16:48, 16:48] = (255, 0, 0, 255)
    found = decode(saved(Image.fromarray(pixels)), Preprocessing(ImageShape(20, 20, 4)))
    seen = found[found[..., 3] > 40]
    assert (seen[:, 1] < 40).all()
    assert (seen[:, 0] > 215).all()


@pytest.mark.parametrize(("margin", "side"), [(0.0, 16), (0.125, 18), (0.25, 20)])
def test_a_margin_is_stored_around_what_is_seen(tmp_path: Path, margin: float, side: int) -> None:
    large = np.kron(PICTURE, np.ones((4, 4, 1), np.uint8))
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(large)))
    preprocessing = Preprocessing(ImageShape(16, 16, 3), margin=margin)
    dataset = prepare(open_source(str(tmp_path)), preprocessing)
    assert dataset.stored.shape == (1, side, side, 3)
    assert dataset.images.shape == (1, 16, 16, 3)
    edge = (side - 16) // 2
    window = slice(edge, edge + 16)
    np.testing.assert_array_equal(dataset.images[0], dataset.stored[0][window, window])


def test_every_choice_has_a_cache_entry_of_its_own() -> None:
    shape = ImageShape(16, 16, 3)
    words = {
        str(Preprocessing(shape)),
        str(Preprocessing(shape, "pad")),
        str(Preprocessing(shape, background="black")),
        str(Preprocessing(shape, margin=0.125)),
        str(Preprocessing(ImageShape(16, 16, 1))),
    }
    assert len(words) == 5


def test_the_text_that_cache_entries_depend_on_stays() -> None:
    plain = Preprocessing(ImageShape(16, 20, 1))
    assert str(plain) == "16x20 grey, crop, on white, policy 3"
    other = Preprocessing(ImageShape(16, 20, 1), "pad", "#ff0000", 0.125)
    assert str(other) == "16x20 grey, pad, on #ff0000, margin 0.125, policy 3"


# --- mutants -------------------------------------------------------------------------------------


def _mutants(count: int) -> list[bytes]:
    """Seeded bit flips, cuts, splices and swollen numbers of the zoo's healthy beasts."""
    rng = np.random.default_rng(0)
    healthy = [beast.data for beast in ZOO if not isinstance(beast.expected, str)]
    out = []
    for number in range(count):
        data = bytearray(healthy[rng.integers(len(healthy))])
        kind = number % 4
        if kind == 0:
            for place in rng.integers(0, len(data), rng.integers(1, 20)):
                data[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del data[int(rng.integers(len(data))) :]
        elif kind == 2:
            other = healthy[rng.integers(len(healthy))]
            at = int(rng.integers(len(data)))
            data[at:] = other[int(rng.integers(len(other))) :]
        else:
            at = int(rng.integers(min(len(data), 200)))
            data[at : at + 4] = b"\xff\xff\xff\xff" if number % 8 == 3 else b"\x7f\xff\xff\xff"
        out.append(bytes(data))
    return out


def test_two_thousand_mutants_do_no_harm() -> None:
    tracemalloc.start()
    slowest = 0.0
    good = 0
    for data in _mutants(2000):
        began = time.process_time()  # other processes share the cores
        try:
            assert decode(data, RGB).shape == (16, 16, 3)
            good += 1
        except BadImage as reason:
            assert str(reason).isprintable()
        slowest = max(slowest, time.process_time() - began)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert slowest < 1
    assert peak < 2**28
    assert 200 < good < 1800
