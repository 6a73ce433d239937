"""Data sets: splits, weights, margins, bad files; equal in memory, on disk and streamed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_images
from odd_sources import SIDE, Faults, Squares, square, squares

from gentool.core.errors import DataError, UsageError
from gentool.core.images import ImageShape, Pixels
from gentool.data import Dataset, Preprocessing, Subset, open_dataset, prepare, write_bad_files
from gentool.data.cache.prepare import CACHE_MODES
from gentool.data.dataset import times_in_epoch
from gentool.data.sources.table import Loaded

SHAPE, STORED = ImageShape(SIDE, SIDE, 3), ImageShape(24, 20, 3)
PREPROCESSING = Preprocessing(SHAPE)


@pytest.fixture(autouse=True)
def _cache(own_cache: Path) -> None:
    """A cache of its own for each test."""


class Labelled(Squares):
    """Squares with three classes, 0 1 2 0 1 2 ..., and weights if given."""

    classes = ("a", "b", "c")

    def __init__(
        self, count: int, faults: Faults | None = None, weights: list[float] | None = None
    ) -> None:
        super().__init__(count, faults)
        labels: Any = np.arange(count) % 3
        self.labels = labels
        self.fingerprint += " labelled"
        self.repeats = None if weights is None else np.array(weights, dtype=np.float32)


# --- the modes agree ----------------------------------------------------------------------------


@pytest.mark.parametrize("cache", CACHE_MODES)
def test_every_mode_gives_the_same_images(cache: str, tmp_path: Path, own_cache: Path) -> None:
    folder = write_images(tmp_path / "toys", 40)
    data = open_dataset(str(folder), "16", "rgb", cache=cache)  # type: ignore[arg-type]
    wanted = open_dataset(str(folder), "16", "rgb", cache="disk")
    rows = np.array([3, 39, 3, 0])
    assert len(data) == len(data.images) == 40
    assert data.images.shape == (40, 16, 16, 3)
    assert data.images[:1].dtype == np.uint8
    some = np.arange(40) % 3 == 0
    indices: list[Any] = [rows, slice(5, 12, 2), slice(None), [1, 2], some, -rows, 7, np.int64(8)]
    for chosen in indices:
        got, right = data.images[chosen], wanted.images[chosen]
        assert isinstance(got, np.ndarray)
        assert np.array_equal(got, right)
    assert data.images[rows[:0]].shape == (0, 16, 16, 3)
    with pytest.raises(IndexError):
        data.images[np.array([0, 40])]
    assert data.labels is not None
    assert wanted.labels is not None
    assert data.labels.tolist() == wanted.labels.tolist()
    assert data.labels.dtype == np.int64
    assert data.classes == wanted.classes
    assert not data.images.flags.writeable if isinstance(data.images, np.ndarray) else True


@pytest.mark.parametrize("cache", ["ram", "never"])
def test_nothing_is_written_in_memory_or_streaming(cache: str, own_cache: Path) -> None:
    data = prepare(Squares(20), PREPROCESSING, cache=cache)  # type: ignore[arg-type]
    assert np.array_equal(data.images[:], squares(list(range(20))))
    assert not own_cache.exists()


def test_another_mode_is_a_clear_error() -> None:
    with pytest.raises(UsageError, match=r"'disc'.* auto, disk, ram, never"):
        prepare(Squares(20), PREPROCESSING, cache="disc")  # type: ignore[arg-type]


# --- a disk that is too small -------------------------------------------------------------------


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose disks have 1 MB left."""
    import shutil

    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=10**6))
    yield


@pytest.mark.usefixtures("full")
def test_what_does_not_fit_is_streamed_and_says_so(own_cache: Path) -> None:
    data = prepare(Squares(3000), PREPROCESSING)
    (note,) = data.notes
    assert "GB are free at" in note
    assert note.endswith("streamed from the source")
    assert np.array_equal(data.images[np.array([2999, 5])], squares([2999, 5]))
    assert not own_cache.exists()


@pytest.mark.usefixtures("full")
def test_what_does_not_fit_but_must_is_a_clear_error() -> None:
    with pytest.raises(DataError, match=r"GB are free at .*Free some space, set GENTOOL_CACHE"):
        prepare(Squares(3000), PREPROCESSING, cache="disk")


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    ("cache", "word"), [("auto", "GB are free"), ("never", "squares can be read only")]
)
def test_a_stream_cannot_be_read_in_a_random_order(cache: str, word: str) -> None:
    source = Squares(3000, access="sequential")
    with pytest.raises(DataError, match=f"{word}.*from start to end"):
        prepare(source, PREPROCESSING, cache=cache)  # type: ignore[arg-type]


# --- bad files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", ["disk", "ram"])
def test_too_many_bad_files_are_named_with_the_next_step(cache: str) -> None:
    source = Squares(200, Faults(bad=frozenset({7, 8, 90, 199})))
    with pytest.raises(DataError) as caught:
        prepare(source, PREPROCESSING, cache=cache)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "4 of 200 images cannot be read, more than --max-bad 0.01: square 7: told to be bad; "
        "square 8: told to be bad; square 90: told to be bad. Repair or remove them, or allow "
        "--max-bad 0.02"
    )
    assert caught.value.exit_code == 3
    assert len(prepare(source, PREPROCESSING, cache=cache, max_bad=0.02)) == 196  # type: ignore[arg-type]


def test_just_as_many_as_allowed_are_accepted() -> None:
    assert len(prepare(Squares(200, Faults(bad=frozenset({1, 2}))), PREPROCESSING)) == 198


def test_the_limit_holds_for_what_is_already_in_the_cache() -> None:
    source = Squares(100, Faults(bad=frozenset({1, 2, 3})))
    prepare(source, PREPROCESSING, max_bad=0.5)
    with pytest.raises(DataError, match="3 of 100 images cannot be read"):
        prepare(source, PREPROCESSING)
    with pytest.raises(DataError, match=r"square 1: told to be bad.*--strict"):
        prepare(source, PREPROCESSING, max_bad=0.5, strict=True)


def test_a_large_set_of_bad_files_is_given_up_early(tmp_path: Path) -> None:
    source = Squares(2900, Faults(bad=frozenset(range(1, 2900, 2)), log=tmp_path / "log"))
    with pytest.raises(DataError, match=r"of the first \d+ \(of 2,900\) images cannot be read"):
        prepare(source, PREPROCESSING)
    assert len((tmp_path / "log").read_text().split()) < 2000


def test_strict_stops_at_the_first(tmp_path: Path) -> None:
    source = Squares(2900, Faults(bad=frozenset({40, 41}), log=tmp_path / "log"))
    with pytest.raises(DataError, match=r"^square 40: told to be bad\. Repair or remove it"):
        prepare(source, PREPROCESSING, strict=True)
    assert len((tmp_path / "log").read_text().split()) < 2000


@pytest.mark.parametrize("max_bad", [0.01, 1.0])
def test_none_that_can_be_read_is_an_error_of_its_own(max_bad: float) -> None:
    source = Squares(30, Faults(bad=frozenset(range(30))))
    with pytest.raises(DataError, match="none of the 30 images can be read; the first: square 0"):
        prepare(source, PREPROCESSING, max_bad=max_bad)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_is_from_0_to_1(share: float) -> None:
    with pytest.raises(UsageError, match=r"max-bad .*from 0 to 1"):
        prepare(Squares(3), PREPROCESSING, max_bad=share)


def test_the_list_of_bad_files_is_one_line_each(tmp_path: Path) -> None:
    bad = [("a\nb\t.png", "torn\x1b[31m"), ("ü ö.png", "empty"), ("x\udcff.png", "no")]
    path = write_bad_files(tmp_path / "run", bad)
    assert path == tmp_path / "run" / "bad_files.txt"
    assert path.read_text(encoding="utf-8").splitlines() == [
        "a\\nb\\t.png\ttorn\\x1b[31m", "ü ö.png\tempty", "x\\xff.png\tno",
    ]  # fmt: skip
    assert write_bad_files(tmp_path / "run", []) is None
    assert not path.exists()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write"):
        write_bad_files(tmp_path / "file", bad)


# --- streaming ----------------------------------------------------------------------------------


def test_a_bad_file_is_replaced_by_the_next_good_one_of_its_class() -> None:
    bad = frozenset({4, 7, 58, 59})
    data = prepare(Labelled(60, Faults(bad=bad)), PREPROCESSING, cache="never", max_bad=0.1)
    assert len(data.bad) == 0
    assert np.array_equal(data.images[:], squares(
        [{4: 10, 7: 10, 58: 1, 59: 2}.get(k, k) for k in range(60)]
    ))  # fmt: skip
    assert sorted(data.bad) == sorted((f"square {k}", "told to be bad") for k in bad)
    assert np.array_equal(data.images[np.array([58, 4])], squares([1, 10]))  # for good
    assert len(data.bad) == 4


def test_streaming_knows_too_many_bad_files_when_it_meets_them() -> None:
    data = prepare(Squares(200, Faults(bad=frozenset({7, 8, 90}))), PREPROCESSING, cache="never")
    assert np.array_equal(data.images[7:9], squares([9, 9]))
    with pytest.raises(DataError, match="3 of 200 images cannot be read, more than --max-bad"):
        data.images[90]
    strict = prepare(
        Squares(200, Faults(bad=frozenset({7}))), PREPROCESSING, cache="never", strict=True
    )
    with pytest.raises(DataError, match=r"square 7: told to be bad.*--strict"):
        strict.images[7]


def test_a_class_without_a_good_image_is_an_error() -> None:
    source = Labelled(9, Faults(bad=frozenset({1, 4, 7})))
    with pytest.raises(DataError, match="no image of the class of image 4 can be read"):
        prepare(source, PREPROCESSING, cache="never", max_bad=1).images[4]


def test_streaming_keeps_nothing_out() -> None:
    data = prepare(Squares(20), PREPROCESSING, cache="never")
    assert data.split(0).train.rows.tolist() == list(range(20))
    with pytest.raises(UsageError, match=r"holdout 0.1 .*--cache disk, or --holdout 0"):
        data.split(0.1)


# --- margins ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Margin(Preprocessing):
    """Preprocessing whose stored images are larger than what is seen."""

    stored_shape: ImageShape = STORED

    def __str__(self) -> str:
        return f"{self.shape} in {self.stored_shape}"


class Framed(Squares):
    """Squares with a gradient, at the stored size."""

    def load(self, index: int, preprocessing: Preprocessing) -> Loaded:
        """Image ``index``; the place of each pixel is its colour."""
        assert isinstance(preprocessing, Margin)
        return Loaded(framed(index), index)


def framed(index: int) -> Pixels:
    """The stored pixels of image ``index``."""
    y, x = np.mgrid[:24, :20]
    return np.stack([y, x, np.full_like(x, index)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("cache", ["disk", "ram", "never"])
def test_of_images_with_a_margin_the_centre_is_seen(cache: str) -> None:
    data = prepare(Framed(30), Margin(SHAPE), cache=cache)  # type: ignore[arg-type]
    whole = np.stack([framed(k) for k in range(30)])
    assert data.shape == SHAPE
    assert data.stored.shape == (30, 24, 20, 3)
    assert data.images.shape == (30, 16, 16, 3)
    assert np.array_equal(data.stored[:], whole)
    assert np.array_equal(data.images[:], whole[:, 4:20, 2:18])
    assert np.array_equal(data.images[np.array([9, 2])], whole[[9, 2], 4:20, 2:18])
    if cache != "never":
        assert np.shares_memory(data.images, data.stored)


# --- subsets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", ["disk", "ram", "never"])
def test_a_subset_shows_its_images_in_its_order(cache: str) -> None:
    data = prepare(Labelled(30), PREPROCESSING, cache=cache)  # type: ignore[arg-type]
    rows = np.array([7, 2, 2, 29])
    some = Subset(data, rows)
    assert (len(some), some.name, some.classes) == (4, data.name, data.classes)
    assert some.labels is not None
    assert some.labels.tolist() == [1, 2, 2, 2]
    assert some.names == ["square 7", "square 2", "square 2", "square 29"]
    assert some.images.shape == (4, SIDE, SIDE, 3)
    assert np.array_equal(some.images[:], squares([7, 2, 2, 29]))
    assert np.array_equal(some.images[1:3], squares([2, 2]))
    assert np.array_equal(some.images[np.array([3, 0])], squares([29, 7]))
    assert np.array_equal(some.images[-1], square(29))
    assert data.streamed == (cache == "never")


def test_images_are_called_by_their_own_names_when_files_are_bad() -> None:
    bad = frozenset({0, 1, 5, 9})
    data = prepare(Squares(10, Faults(bad=bad)), PREPROCESSING, max_bad=1)
    assert data.whole.names == [f"square {k}" for k in range(10) if k not in bad]


def test_some_of_a_subset_are_the_same_each_time() -> None:
    data = prepare(Squares(100), PREPROCESSING)
    first = Subset(data, np.arange(50))
    few = first.some(20).rows
    assert np.array_equal(few, first.some(20).rows)
    assert len(np.unique(few)) == 20
    assert (few < 50).all()
    assert (np.diff(few) > 0).all()
    assert first.some(50) is first


def test_a_dataset_knows_how_it_was_prepared() -> None:
    wider = Preprocessing(SHAPE, "pad", "black")
    assert prepare(Squares(5), wider).preprocessing == wider
    assert prepare(Squares(5), wider, cache="never").preprocessing == wider


# --- splits and weights -------------------------------------------------------------------------


def with_weights(weights: list[float]) -> Dataset:
    """A data set whose images count so much."""
    return prepare(Labelled(len(weights), weights=weights), PREPROCESSING)


def test_without_weights_the_training_images_are_those_of_the_split() -> None:
    data = prepare(Squares(100), PREPROCESSING)
    train, held_out = data.split(0.3)
    assert np.array_equal(train.repeated(0).rows, train.rows)
    assert sorted([*train.rows, *held_out.rows]) == list(range(100))


def test_weights_say_how_often_an_image_stands_there() -> None:
    weights = [1.0] * 10 + [2.5] * 10 + [0.3] * 10 + [3.0] * 2
    data = with_weights(weights)
    times = np.bincount(data.whole.repeated(1).rows, minlength=32)
    assert times[:10].tolist() == [1] * 10
    assert sorted(times[10:20].tolist()) == [2] * 5 + [3] * 5
    assert sorted(times[20:30].tolist()) == [0] * 7 + [1] * 3
    assert times[30:].tolist() == [3, 3]
    first, again, other = (data.whole.repeated(seed).rows for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_weights_stay_with_their_images_when_files_are_bad() -> None:
    weights = [float(k % 4) for k in range(40)]
    source = Labelled(40, Faults(bad=frozenset({0, 5, 39})), weights)
    data = prepare(source, PREPROCESSING, max_bad=0.1)
    kept = [k for k in range(40) if k not in (0, 5, 39)]
    assert data.repeats is not None
    assert data.repeats.tolist() == [weights[k] for k in kept]
    two = Subset(data, np.array([2, 1])).weights
    assert two is not None
    assert two.tolist() == [weights[3], weights[2]]
    shown = data.whole.repeated(0).images[:]
    assert np.array_equal(shown, np.repeat(squares(kept), data.repeats.astype(int), axis=0))


def test_other_weights_use_the_same_entry(own_cache: Path) -> None:
    with_weights([1.0] * 30)
    with_weights([2.0] * 30)
    assert len(list(own_cache.glob("squares-*"))) == 1


def test_weights_that_leave_nothing_are_an_error() -> None:
    with pytest.raises(DataError, match=r"weights of squares.* none of 5 images"):
        with_weights([0.01] * 5).whole.repeated(0)


def test_every_part_of_a_weight_is_met_as_nearly_as_whole_images_allow() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        weight = np.float32(random.random() * 4)
        count = int(random.integers(1, 50))
        times = times_in_epoch(np.arange(count), np.full(count, weight), seed=3)
        assert abs(times.sum() - count * weight) <= 0.5001
        assert times.max() - times.min() <= 1


def test_labels_go_with_the_images() -> None:
    data = prepare(Labelled(50, Faults(bad=frozenset({3, 4}))), PREPROCESSING, max_bad=0.1)
    assert data.labels is not None
    kept = [k for k in range(50) if k not in (3, 4)]
    assert data.labels.tolist() == [k % 3 for k in kept]
    assert np.array_equal(data.images[2], square(2))
