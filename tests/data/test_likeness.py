"""Images that are nearly equal, found by hashes of prepared pixels."""

import io
import time

import numpy as np
import pytest
from conftest import draw
from numpy.typing import NDArray
from PIL import Image

from gentool.core.images import ImageShape
from gentool.data import Preprocessing, decode
from gentool.data.likeness import Likeness, describe_images, near_pairs

NONE: NDArray[np.int64] = np.empty(0, dtype=np.int64)


def pairs(hashes: NDArray[np.uint64]) -> list[tuple[int, int]]:
    """All near pairs."""
    return [
        pair
        for firsts, seconds in near_pairs(hashes)
        for pair in zip(firsts.tolist(), seconds.tolist(), strict=True)
    ]


def test_near_pairs_are_those_of_the_double_loop() -> None:
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 2**63, 60, dtype=np.uint64)
    hashes = [int(c) for c in centres]
    for centre in centres[:40]:  # neighbours at 0 to 7 bits
        flips = rng.choice(64, rng.integers(0, 8), replace=False)
        hashes.append(int(centre) ^ sum(1 << int(b) for b in flips))
    array = np.array(hashes, dtype=np.uint64)
    naive = {
        (a, b) for b in range(len(hashes)) for a in range(b)
        if (hashes[a] ^ hashes[b]).bit_count() <= 4
    }  # fmt: skip
    assert {(min(p), max(p)) for p in pairs(array)} == naive


def test_near_pairs_of_a_crowd_link_everyone() -> None:
    parents = {k: k for k in range(500)}
    for a, b in pairs(np.zeros(500, dtype=np.uint64)):
        low, high = sorted((a, b))
        parents[high] = min(parents[high], low)
    assert all(parents[k] < k for k in range(1, 500))


@pytest.mark.parametrize("count", [0, 1])
def test_near_pairs_of_almost_nothing(count: int) -> None:
    empty: NDArray[np.uint64] = np.zeros(count, dtype=np.uint64)
    assert pairs(empty) == []


def photo(seed: int, side: int = 96) -> Image.Image:
    """A smooth picture that no other seed comes near."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def prepared(image: Image.Image, shape: ImageShape, quality: int) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return decode(buffer.getvalue(), Preprocessing(shape))


@pytest.mark.parametrize("shape", [
    ImageShape(32, 32, 3), ImageShape(64, 64, 1), ImageShape(48, 64, 3), ImageShape(16, 16, 4),
    ImageShape(256, 512, 3),
])  # fmt: skip
def test_other_files_of_the_same_picture_are_found(shape: ImageShape) -> None:
    pixels = [prepared(photo(seed), shape, 95) for seed in range(40)]
    pixels += [prepared(photo(3), shape, 70), prepared(photo(7, 192), shape, 85)]
    likeness = Likeness()
    likeness.add(np.stack(pixels), np.arange(100, 142))
    assert likeness.find(NONE) == (2, 140, 103)
    assert likeness.find(np.array([140])) == (1, 141, 107)


def test_pictures_of_one_kind_are_not_nearly_equal() -> None:
    pixels = np.stack([draw(number, side=32) for number in (0, 1, 4, 11, 15, 22)])
    likeness = Likeness()
    likeness.add(pixels, np.arange(6))
    assert likeness.find(NONE).total == 0


def test_colours_count() -> None:
    red, blue = photo(0), Image.merge("RGB", photo(0).split()[::-1])
    pixels = np.stack([np.asarray(image) for image in (red, blue)])
    likeness = Likeness()
    likeness.add(pixels, np.arange(2))
    assert likeness.find(NONE).total == 0


def test_many_equal_pages_take_seconds() -> None:
    likeness, page = Likeness(), np.full((1, 16, 16, 1), 255, dtype=np.uint8)
    likeness.add(np.repeat(page, 2**17, axis=0), np.arange(2**17))
    began = time.monotonic()
    assert likeness.find(NONE) == (2**17 - 1, 1, 0)
    assert time.monotonic() - began < 60


def test_a_hash_has_as_many_bits_as_the_known_one() -> None:
    hashes, colours = describe_images(np.stack([np.asarray(photo(k)) for k in range(9)]))
    assert hashes.dtype == np.uint64
    assert colours.shape == (9, 48)
    assert all(28 <= int(value).bit_count() <= 32 for value in hashes)
