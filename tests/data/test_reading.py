"""A sample of a source: what it opened is prepared without being opened again."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import write_images
from odd_sources import SIDE, Faults, Squares, squares

from gentool.core.errors import DataError
from gentool.core.images import ImageShape
from gentool.data import Preprocessing, Sample, open_source, open_sources, prepare
from gentool.data.sources.base import Source

HOW = Preprocessing(ImageShape(SIDE, SIDE, 3))
MANY = 3200  # enough for worker processes


@pytest.fixture(autouse=True)
def _cache(own_cache: Path) -> None:
    """A cache of its own for each test."""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where sources write the number of every image that is opened, in whatever process."""
    return tmp_path / "log"


def opened(log: Path) -> Counter[int]:
    """How often each image was opened."""
    return Counter(map(int, log.read_text().split()))


@pytest.mark.parametrize("count", [100, MANY])
@pytest.mark.parametrize("cache", ["disk", "ram"])
def test_what_a_sample_has_opened_is_not_opened_again(count: int, cache: str, log: Path) -> None:
    source = Squares(count, Faults(log=log, bad=frozenset({0, 2})))
    sample = Sample(source)
    assert len(list(sample.images())) == 63  # without image 0; 2 is not in it
    assert sample.prepared(HOW).shape == (63, SIDE, SIDE, 3)
    assert sum(opened(log).values()) == 64
    data = prepare(source, HOW, cache=cache, max_bad=0.1, sample=sample)  # type: ignore[arg-type]
    assert opened(log) == dict.fromkeys(range(count), 1)
    kept = [k for k in range(count) if k not in (0, 2)]
    assert np.array_equal(data.images[:], squares(kept))
    assert data.hashes.tolist() == [k * 7919 for k in kept]
    assert [reason for _, reason in data.bad] == ["told to be bad"] * 2


def test_of_a_stream_the_first_images_are_the_sample(log: Path) -> None:
    source = Squares(200, Faults(log=log), access="sequential")
    sample = Sample(source)
    list(sample.images())
    prepare(source, HOW, sample=sample)
    assert [int(number) for number in log.read_text().split()] == list(range(200))


def test_other_preprocessing_opens_nothing_again(log: Path) -> None:
    source = Squares(100, Faults(log=log))
    sample = Sample(source)
    list(sample.images())
    wide = Preprocessing(ImageShape(SIDE, 2 * SIDE, 3), "stretch")
    assert sample.prepared(wide).shape == (64, SIDE, 2 * SIDE, 3)
    assert sample.prepared(HOW).shape == (64, SIDE, SIDE, 3)
    assert set(opened(log).values()) == {1}


def test_images_that_take_too_much_memory_are_opened_again(log: Path) -> None:
    source = Squares(100, Faults(log=log))
    two = 2 * 4 * SIDE * SIDE
    sample = Sample(source, most_bytes=two)
    list(sample.images())
    data = prepare(source, HOW, sample=sample)
    assert Counter(opened(log).values()) == {1: 100 - 62, 2: 62}
    assert np.array_equal(data.images[:], squares(list(range(100))))


def test_a_temporary_fault_is_met_by_a_second_attempt(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.touch()
    source = Squares(10, Faults(unreadable=frozenset({4}), locked=locked))
    sample = Sample(source)
    assert len(list(sample.images())) == 9
    locked.unlink()
    assert len(prepare(source, HOW, sample=sample)) == 10


def test_a_sample_without_a_good_image_is_an_error() -> None:
    sample = Sample(Squares(3, Faults(bad=frozenset({0, 1, 2}))))
    with pytest.raises(
        DataError, match=r"none of the 3 inspected images .*square 0: told to be bad"
    ):
        list(sample.images())


def test_forgotten_images_are_opened_again(log: Path) -> None:
    sample = Sample(Squares(3, Faults(log=log)))
    list(sample.images())
    sample.forget()
    list(sample.images())
    assert opened(log) == {0: 2, 1: 2, 2: 2}


@pytest.mark.parametrize("joined", [False, True])
def test_a_sample_changes_no_pixel(joined: bool, tmp_path: Path) -> None:
    """Sets that are drawn are drawn at the wanted size, not resized from another."""
    folder = str(write_images(tmp_path / "toys", 40, 30))
    how = Preprocessing(ImageShape(48, 24, 3), "pad", "red", 0.25)

    def source() -> Source:
        return open_sources(["builtin:shapes:40", folder]) if joined else open_source(folder)

    sample = Sample(source())
    list(sample.images())
    without = prepare(source(), how, cache="ram")
    with_sample = prepare(source(), how, cache="ram", sample=sample)
    assert with_sample.fingerprint == without.fingerprint
    assert np.array_equal(with_sample.hashes, without.hashes)
    assert np.array_equal(with_sample.stored[:], without.stored[:])
