"""Encoding and decoding of images: inverses, grids, recipes, PSNR."""

import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from gentool.core.images import (
    ImageShape,
    mean_squared_error,
    psnr,
    side_problem,
    to_pixels,
    to_unit,
)
from gentool.core.picture_files import encode, save_film
from gentool.core.sheets import grid


def _random(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_pixels_survive_the_way_to_the_unit_range_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    images = to_unit(torch.from_numpy(levels))
    assert images.shape == (1, 1, 16, 16)
    assert (images.min().item(), images.max().item()) == (-1, 1)
    np.testing.assert_array_equal(to_pixels(images), levels)


def test_values_out_of_range_are_clipped() -> None:
    assert to_pixels(torch.tensor([[[[-3.0, 3.0]]]])).ravel().tolist() == [0, 255]


@pytest.mark.parametrize(("count", "columns", "shape"), [(64, None, (270, 270)), (3, 2, (66, 66)),
                                                         (1, None, (32, 32))])  # fmt: skip
def test_a_grid_holds_every_image_in_its_place(
    count: int, columns: int | None, shape: tuple[int, int]
) -> None:
    images = _random(count, 32, 32, 3)
    sheet = grid(images, columns)
    assert sheet.shape == (*shape, 3)
    across = (shape[1] + 2) // 34
    for k, image in enumerate(images):
        top, left = k // across * 34, k % across * 34
        np.testing.assert_array_equal(sheet[top : top + 32, left : left + 32], image)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_png_is_lossless_and_carries_its_recipe(channels: int) -> None:
    pixels = _random(20, 30, channels)
    image = Image.open(io.BytesIO(encode(pixels, ".png", {"seed": 3, "index": 7})))
    np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)
    assert isinstance(image, Image.Image)
    assert json.loads(image.info["gentool"]) == {"seed": 3, "index": 7}


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_other_formats_open_in_the_right_size(suffix: str, channels: int) -> None:
    image = Image.open(io.BytesIO(encode(_random(20, 30, channels), suffix)))
    assert image.size == (30, 20)


def test_transparency_is_laid_on_white_in_a_jpeg() -> None:
    clear = np.zeros((16, 16, 4), dtype=np.uint8)
    image = Image.open(io.BytesIO(encode(clear, ".jpg")))
    assert np.asarray(image).min() > 250


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_has_every_frame_and_runs_for_ever(suffix: str) -> None:
    stream = io.BytesIO()
    save_film(list(_random(5, 16, 16, 3)), stream, suffix, 40, {"gentool": "0"})
    film = Image.open(stream)
    assert getattr(film, "n_frames", 0) == 5
    assert film.info["loop"] == 0


def test_psnr_of_a_known_error() -> None:
    black, grey = np.zeros((4, 4, 3), dtype=np.uint8), np.full((4, 4, 3), 51, dtype=np.uint8)
    mse = mean_squared_error(black, grey)
    assert mse == pytest.approx(0.04)
    assert psnr(mse) == pytest.approx(-10 * math.log10(0.04))
    assert psnr(mean_squared_error(grey, grey)) == math.inf


@pytest.mark.parametrize("side", [16, 20, 512])
def test_allowed_sides(side: int) -> None:
    assert side_problem(side) is None


@pytest.mark.parametrize(("side", "near"), [(0, 16), (15, 16), (33, 32), (600, 512)])
def test_a_side_that_is_not_allowed_comes_with_one_that_is(side: int, near: int) -> None:
    problem = side_problem(side)
    assert problem is not None
    assert problem.endswith(f"try {near}")


def test_a_shape_reads_as_people_write_it() -> None:
    assert str(ImageShape(48, 64, 3)) == "48x64 rgb"
    assert ImageShape(48, 64, 3).dims == 9216
