"""The built-in sets: determinism, factors that match the images, variety, any size."""

import colorsys
from typing import cast

import numpy as np
import pytest

from gentool.data.sources.builtin import BUILTIN

SETS = list(BUILTIN)


@pytest.mark.parametrize("name", SETS)
def test_an_image_is_a_function_of_its_number(name: str) -> None:
    drawn = BUILTIN.get(name)
    first = [drawn.render(i, 32, 32) for i in (5, 2, 2**40)]
    again = [BUILTIN.get(name).render(i, 32, 32) for i in (2**40, 2, 5)]
    for a, b in zip(first, reversed(again), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("size", [(16, 16), (20, 20), (48, 64), (512, 16), (28, 28)])
def test_any_size_can_be_drawn(name: str, size: tuple[int, int]) -> None:
    image = BUILTIN.get(name).render(7, *size)
    assert image.shape == (*size, BUILTIN.get(name).channels)
    assert image.dtype == np.uint8
    assert image.std() > 0


@pytest.mark.parametrize("name", [name for name in SETS if BUILTIN.get(name).classes])
def test_classes_are_equally_many_and_named_in_the_factors(name: str) -> None:
    drawn = BUILTIN.get(name)
    labels = [drawn.label(i) for i in range(60 * len(drawn.classes))]
    assert set(np.bincount(labels).tolist()) == {60}
    for index in range(30):
        assert drawn.classes[drawn.label(index)] in drawn.factors(index).values()


@pytest.mark.parametrize("name", SETS)
def test_images_hardly_ever_repeat(name: str) -> None:
    # n images drawn from m equally likely ones collide about n^2 / 2m times: none in 3,000
    # spread over a range of ten million means m is far above a million.
    drawn = BUILTIN.get(name)
    chosen = np.random.default_rng(0).choice(10**7, 3000, replace=False)
    assert len({drawn.render(int(i), 32, 32).tobytes() for i in chosen}) == 3000


@pytest.mark.parametrize("size", [(16, 16), (20, 20), (32, 32), (48, 64), (16, 512)])
def test_a_shape_lies_wholly_inside_the_frame(size: tuple[int, int]) -> None:
    shapes = BUILTIN.get("shapes")
    for index in range(300):
        image = shapes.render(index, *size)
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert (border == border[0]).all(), index


def _mask(
    image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = (image != image[0, 0]).any(axis=2)
    return mask


def test_position_and_size_are_those_of_the_factors() -> None:
    shapes = BUILTIN.get("shapes")
    for index in range(0, 60, 6):  # circles
        f = shapes.factors(index)
        assert f["kind"] == "circle"
        ys, xs = np.nonzero(_mask(shapes.render(index, 128, 128)))
        radius = 128 * cast("float", f["size"])
        assert xs.mean() + 0.5 == pytest.approx(
            radius + 1 + cast("float", f["x"]) * (126 - 2 * radius), abs=0.5
        )
        assert ys.mean() + 0.5 == pytest.approx(
            radius + 1 + cast("float", f["y"]) * (126 - 2 * radius), abs=0.5
        )
        assert len(xs) == pytest.approx(np.pi * (0.8 * radius) ** 2, rel=0.1)


def test_colours_are_those_of_the_factors() -> None:
    shapes = BUILTIN.get("shapes")
    for index in range(0, 60, 6):
        f = shapes.factors(index)
        image = shapes.render(index, 64, 64).astype(float)
        ys, xs = (int(np.median(a)) for a in np.nonzero(_mask(image.astype(np.uint8))))
        hue, _, value = colorsys.rgb_to_hsv(*(image[ys, xs] / 255))
        turn = abs(hue - cast("float", f["hue"]))
        assert min(turn, 1 - turn) < 0.01
        assert value == pytest.approx(f["brightness"], abs=0.01)


def test_shapes_of_two_classes_differ_in_form() -> None:
    # How much of each ring around its centre a shape fills knows no place, size, angle or colour.
    shapes = BUILTIN.get("shapes")
    profiles = []
    for index in range(120):
        f = {k: v for k, v in shapes.factors(index).items() if isinstance(v, float)}
        radius = 128 * f["size"]
        x, y = (radius + 1 + f[axis] * (126 - 2 * radius) for axis in ("x", "y"))
        steps = np.arange(128) + 0.5
        rings = (8 * np.hypot(steps[None] - x, steps[:, None] - y) / radius).astype(int)
        mask = _mask(shapes.render(index, 128, 128))
        profiles.append([mask[rings == ring].mean() for ring in range(8)])
    table = np.array(profiles).reshape(20, 6, 8)
    means = table[:10].mean(axis=0)
    nearest = ((table[10:, :, None] - means) ** 2).sum(axis=-1).argmin(axis=-1)
    assert (nearest == np.arange(6)).all()


def test_digits_of_a_class_look_more_alike_than_digits_of_two() -> None:
    digits = BUILTIN.get("digits")
    images = np.stack([digits.render(i, 28, 28) for i in range(2000)]).astype(float)
    means = images.reshape(200, 10, -1).mean(axis=0)
    nearest = ((images.reshape(2000, 1, -1) - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == np.arange(2000) % 10).mean() > 0.7  # by the class mean alone; chance is 0.1


def test_digits_are_strokes_on_black() -> None:
    digits = BUILTIN.get("digits")
    for index in range(100):
        image = digits.render(index, 28, 28)
        assert image.max() > 200
        assert 0.03 < (image > 127).mean() < 0.4
        assert not image[0].any()
        assert not image[-1].any()
