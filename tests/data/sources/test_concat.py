"""Several sources as one: order of images, classes by name, weights."""

import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import draw, write_images
from PIL import Image

from gentool.core.errors import DataError, UsageError
from gentool.core.images import ImageShape
from gentool.data import Preprocessing, open_source, open_sources, prepare
from gentool.data.sources.concat import split_weight

SHAPE = ImageShape(16, 16, 3)


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str, str]:
    """A folder of classes bar and disc, a zip of disc and more, and one without classes."""
    first = write_images(tmp_path / "first", 4)
    for k, name in enumerate(("disc/a.png", "disc/b.png", "zebra/c.png")):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(k + 50)).save(tmp_path / "in" / name)
    with zipfile.ZipFile(tmp_path / "second.zip", "w") as archive:
        for file in sorted((tmp_path / "in").rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path / "in"))
    plain = tmp_path / "plain"
    plain.mkdir()
    Image.fromarray(draw(99)).save(plain / "x.png")
    return str(first), str(tmp_path / "second.zip"), str(plain)


def test_images_come_in_turn_with_classes_by_name(places: tuple[str, str, str]) -> None:
    joined = open_sources(places[:2])
    parts = [open_source(place) for place in places[:2]]
    assert len(joined) == 7
    assert joined.classes == ("bar", "disc", "zebra")
    assert joined.labels is not None
    wanted = []
    for part in parts:
        assert part.labels is not None
        wanted += [part.classes[k] for k in part.labels]
    assert [joined.classes[k] for k in joined.labels] == wanted
    assert list(joined.paths) == [*parts[0].paths, *parts[1].paths]
    assert (joined.paths[-1], joined.paths[4:6]) == ("zebra/c.png", ("disc/a.png", "disc/b.png"))
    assert joined.describe(4) == "second: disc/a.png"
    assert joined.name == "first+second"
    assert joined.repeats is None
    preprocessing = Preprocessing(SHAPE)
    for k in range(7):
        part, inside = (parts[0], k) if k < 4 else (parts[1], k - 4)
        assert np.array_equal(
            joined.load(k, preprocessing).pixels, part.load(inside, preprocessing).pixels
        )
        assert np.array_equal(np.asarray(joined.open(k).image), np.asarray(part.open(inside).image))
    for beyond in (7, -1):
        with pytest.raises(IndexError):
            joined.load(beyond, preprocessing)


def test_one_source_without_classes_leaves_the_whole_without(places: tuple[str, str, str]) -> None:
    joined = open_sources(places)
    assert (joined.classes, joined.labels) == ((), None)


def test_weights_are_told_per_image(places: tuple[str, str, str]) -> None:
    joined = open_sources([places[0] + "@2.5", places[1]])
    assert joined.repeats is not None
    assert joined.repeats.dtype == np.float32
    assert joined.repeats.tolist() == [2.5] * 4 + [1] * 3


def test_drawn_images_join_files_and_go_through_the_cache(places: tuple[str, str, str]) -> None:
    joined = open_sources([places[2], "builtin:shapes:5@3"])
    assert list(joined.paths) == ["x.png", "", "", "", "", ""]
    dataset = prepare(joined, Preprocessing(SHAPE))
    assert np.array_equal(dataset.images[0], draw(99))
    alone = prepare(open_source("builtin:shapes:5"), Preprocessing(SHAPE))
    assert np.array_equal(dataset.images[1:], alone.images[:])


def test_the_strictest_way_of_access_counts(places: tuple[str, str, str]) -> None:
    joined = open_sources(places[:2])
    assert joined.access == "processes"
    joined.sources[1].access = "threads"  # type: ignore[attr-defined]
    assert type(joined)(joined.sources, (1, 1)).access == "threads"  # type: ignore[call-arg,attr-defined]


def test_a_worker_gets_the_same(places: tuple[str, str, str]) -> None:
    joined = open_sources(places)
    again = pickle.loads(pickle.dumps(joined))
    assert again.fingerprint == joined.fingerprint
    assert np.array_equal(np.asarray(again.open(5).image), np.asarray(joined.open(5).image))


def test_fingerprints_follow_the_sources_and_their_order(places: tuple[str, str, str]) -> None:
    a, b, c = places
    found = [open_sources(s).fingerprint for s in ([a, b], [b, a], [a, b, c], [a, a])]
    assert len(set(found)) == 4
    assert open_sources([a, b]).fingerprint == found[0]


def test_a_single_source_is_itself(places: tuple[str, str, str]) -> None:
    assert open_sources([places[0]]).fingerprint == open_source(places[0]).fingerprint
    assert open_sources([places[0] + "@3"]).repeats is None


@pytest.mark.parametrize(("spec", "parted"), [
    ("a", ("a", 1)), ("a@2", ("a", 2)), ("a@0.5", ("a", 0.5)), ("a@b", ("a@b", 1)),
    ("@2", ("@2", 1)), ("a@b@3", ("a@b", 3)), ("builtin:x:10@1e2", ("builtin:x:10", 100)),
    ("2", ("2", 1)),
])  # fmt: skip
def test_weights(spec: str, parted: tuple[str, float]) -> None:
    assert split_weight(spec) == parted


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "1e9"])
def test_weights_that_are_none(weight: str) -> None:
    with pytest.raises(UsageError, match="a weight is a number above 0"):
        split_weight(f"a@{weight}")


def test_a_folder_may_end_as_a_weight_does(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos@2", 2)
    assert len(open_sources([str(folder)])) == 2
    joined = open_sources([f"{folder}@3", str(folder)])
    assert joined.repeats is not None
    assert joined.repeats.tolist() == [3, 3, 1, 1]


def test_what_cannot_be_joined(places: tuple[str, str, str]) -> None:
    with pytest.raises(UsageError, match="--data"):
        open_sources([])
    with pytest.raises(UsageError, match=r"file of labels .*only one source"):
        open_sources(places, labels="labels.csv")
    with pytest.raises(DataError, match="nothing at nowhere"):
        open_sources([places[0], "nowhere@2"])
    assert open_sources(places[:2], labels="none").labels is None


def test_the_source_without_folders_is_named(places: tuple[str, str, str]) -> None:
    first, _, plain = places
    for joined in ([first, plain], [plain, first]):
        with pytest.raises(DataError, match=rf"^{re.escape(plain)}: --labels folders: all"):
            open_sources(joined, labels="folders")
    with pytest.raises(DataError, match=r"^--labels folders"):
        open_sources([plain], labels="folders")
