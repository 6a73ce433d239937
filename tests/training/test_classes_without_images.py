"""Classes that have no image to train on: none of them can be read, or all would be held out."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, draw, gentool_command
from PIL import Image

from gentool.checkpoint import read_file, read_header, write_file
from gentool.core.images import ImageShape
from gentool.data import Dataset, Preprocessing, open_source, open_sources, prepare
from gentool.data.cache.prepare import CacheMode
from gentool.data.empty_classes import told_of

PREPROCESSING = Preprocessing(ImageShape(16, 16, 3))
COUNTS = {"bird": 20, "cat": 2, "dog": 20}


def write(folder: Path, *, broken: str = "", counts: dict[str, int] = COUNTS) -> Path:
    """Folders of classes; the images of one of them are cut short."""
    number = 0
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for k in range(count):
            path = folder / name / f"{k:03d}.png"
            Image.fromarray(draw(number)).save(path)
            if name == broken:
                path.write_bytes(path.read_bytes()[:60])
            number += 1
    return folder


def train(data: Path, out: Path, images: int, *more: object) -> str:
    """Train a conditional model; return stderr."""
    done = gentool_command(
        "train", "gan", "--data", data, "--out", out, "--images", images, "--max-bad", 0.5, *TINY,
        *more,
    )  # fmt: skip
    assert done.code == 0, done.err
    return done.err


# --- none can be read ---------------------------------------------------------------------------


@pytest.mark.parametrize("cache", ["disk", "ram"])
def test_a_class_without_a_readable_image_is_left_out(
    cache: CacheMode, tmp_path: Path, own_cache: Path
) -> None:
    folder = write(tmp_path / "set", broken="cat")
    for _ in range(2):  # also from the cache
        found = prepare(open_source(str(folder)), PREPROCESSING, cache=cache, max_bad=0.5)
        assert found.classes == ("bird", "dog")
        assert found.labels is not None
        assert found.labels.tolist() == [0] * 20 + [1] * 20
        assert [note for note in found.notes if "class" in note] == [
            "warning: the class cat is left out: none of the images can be read; 2 classes remain"
        ]


def test_a_list_of_classes_may_name_more_than_there_are(tmp_path: Path, own_cache: Path) -> None:
    found = prepare(open_source("builtin:shapes:3"), PREPROCESSING)
    assert found.labels is not None
    assert set(found.labels.tolist()) == set(range(len(found.classes)))
    assert len(found.classes) <= 3
    assert "there are no images" in " ".join(found.notes)


def test_notes_name_few_classes() -> None:
    assert told_of(["a"], [3]) == [
        "warning: the class a is left out: none of the images can be read"
    ]
    assert told_of(list("abcde"), [0] * 5) == [
        "the classes a, b, c and 2 more are left out: there are no images"
    ]


def test_sample_and_info_know_the_classes_that_were_trained(
    tmp_path: Path, own_cache: Path
) -> None:
    folder, out = write(tmp_path / "set", broken="cat"), tmp_path / "run"
    told = train(folder, out, 32)
    assert told.index("the class cat is left out") < told.index("conditional on 2 classes")
    assert "conditional on 3 classes" not in told
    check = gentool_command("data", "check", folder)
    assert "warning: the class cat is left out: none of the images can be read" in check.out
    assert read_header(out / "model.safetensors")[0]["classes"] == ["bird", "dog"]
    refused = gentool_command("sample", out, "-n", 1, "--class", "cat", "-o", tmp_path / "s")
    assert refused.code == 2
    assert "no class named 'cat'" in refused.err
    every = gentool_command("sample", out, "-n", 1, "--class", "all", "-o", tmp_path / "a")
    assert (every.code, len(every.lines)) == (0, 2)
    scored = gentool_command("evaluate", out, "--data", folder, "--max-bad", 0.5, "-n", 30,
                             "--device", "cpu", "--json")  # fmt: skip
    assert scored.code == 0, scored.err
    assert "the class cat is left out" in train(folder, out, 64)  # and the run goes on


def test_class_folders_that_are_asked_for_stay_several(tmp_path: Path, own_cache: Path) -> None:
    folder = write(tmp_path / "set", broken="cat", counts={"cat": 5, "dog": 40})
    args = ["train", "gan", "--data", folder, "--images", 32, "--max-bad", 0.5, *TINY, "--out"]
    asked = gentool_command(*args, tmp_path / "a", "--labels", "folders")
    assert asked.code == 3
    assert "--labels folders: only the folder dog has images that can be read" in asked.err
    assert "cat/000.png: " in asked.err
    found = gentool_command(*args, tmp_path / "b")
    assert found.code == 0
    assert "the class cat is left out: none of the images can be read; 1 class remains" in found.err


def test_a_run_of_an_older_version_goes_on_with_the_class(tmp_path: Path, own_cache: Path) -> None:
    """Its networks have a place for the class."""
    folder, out = write(tmp_path / "set", broken="cat"), tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "gentool.data.cache.prepare.without_empty_classes", lambda dataset, _: dataset
        )
        train(folder, out, 32)
    _without(out, "split")
    train(folder, out, 64)
    assert read_header(out / "model.safetensors")[0]["classes"] == ["bird", "cat", "dog"]


def _without(run: Path, key: str) -> None:
    """Take a key out of a state, as an older version did not write it."""
    header, tensors = read_file(run / "state.safetensors")
    own = {k: v for k, v in header.items() if k not in (key, "content_sha256", "gentool")}
    write_file(run / "state.safetensors", tensors, own)


# --- all held out -------------------------------------------------------------------------------


def prepared(folder: Path) -> Dataset:
    """The images of a folder."""
    return prepare(open_source(str(folder)), PREPROCESSING)


@pytest.mark.parametrize("holdout", [0.4, 0.5, 0.9, 0.99])
def test_every_class_keeps_an_image_in_training(
    holdout: float, tmp_path: Path, own_cache: Path
) -> None:
    counts = {f"c{k:02d}": 1 + k % 4 for k in range(30)}
    data = prepared(write(tmp_path / "set", counts=counts))
    before, now = data.split(holdout, keep_classes=False), data.split(holdout)
    assert now.train.labels is not None
    assert before.train.labels is not None
    assert set(now.train.labels.tolist()) == set(range(30))
    lost = set(range(30)) - set(before.train.labels.tolist())
    assert lost, "no class was lost without the rule"
    moved = np.setdiff1d(now.train.rows, before.train.rows)
    assert data.labels is not None
    assert sorted(data.labels[moved].tolist()) == sorted(lost)  # one of each, and no other
    assert sorted([*now.train.rows, *now.held_out.rows]) == list(range(len(data)))


def test_a_split_that_empties_no_class_stays_as_it_was(tmp_path: Path, own_cache: Path) -> None:
    data = prepared(write(tmp_path / "set", counts={"a": 40, "b": 40}))
    before, now = data.split(0.3, keep_classes=False), data.split(0.3)
    assert np.array_equal(now.train.rows, before.train.rows)
    assert np.array_equal(now.held_out.rows, before.held_out.rows)


def test_equal_files_stay_on_one_side(tmp_path: Path, own_cache: Path) -> None:
    """Also where one of them is the last of its class."""
    folder = write(tmp_path / "set", counts={"a": 40, "b": 1})
    only = (folder / "b" / "000.png").read_bytes()
    (folder / "a" / "copy.png").write_bytes(only)
    data = prepared(folder)
    for holdout in (0.5, 0.9, 0.99):
        train, held_out = data.split(holdout)
        assert not set(data.hashes[train.rows]) & set(data.hashes[held_out.rows])
        assert 41 in train.rows


def test_the_split_does_not_depend_on_names(tmp_path: Path, own_cache: Path) -> None:
    data = prepared(write(tmp_path / "set"))
    for k, file in enumerate(sorted((tmp_path / "set" / "cat").iterdir())):
        file.rename(file.with_name(f"x{9 - k}.png"))
    renamed = prepared(tmp_path / "set")
    for holdout in (0.5, 0.95):
        kept = (set(d.hashes[d.split(holdout).train.rows]) for d in (data, renamed))
        assert len(set(map(frozenset, kept))) == 1


def test_held_out_images_of_a_run_are_known_again(tmp_path: Path, own_cache: Path) -> None:
    counts = {f"c{k:02d}": 1 + k % 3 for k in range(30)}
    folder, out = write(tmp_path / "set", counts=counts), tmp_path / "run"
    train(folder, out, 32, "--holdout", 0.5)
    done = gentool_command(
        "evaluate", out, "--data", folder, "--split", "held-out", "--features", "random",
        "--metrics", "frechet", "--device", "cpu", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    held_out = len(prepared(folder).split(0.5).held_out)
    assert json.loads(done.out)["protocol"]["reference"] == held_out


def test_a_run_of_an_older_version_goes_on_with_its_split(tmp_path: Path, own_cache: Path) -> None:
    counts = {f"c{k:02d}": 1 + k % 3 for k in range(30)}
    folder, out = write(tmp_path / "set", counts=counts), tmp_path / "run"
    split = Dataset.split
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Dataset, "split", lambda data, share, **_: split(data, share, keep_classes=False)
        )
        train(folder, out, 32, "--holdout", 0.5)
    _without(out, "split")
    before = read_header(out / "model.safetensors")[0]["training"]["data"]
    train(folder, out, 64, "--holdout", 0.5)
    assert read_header(out / "model.safetensors")[0]["training"]["data"] == before


# --- small weights ------------------------------------------------------------------------------


def test_a_small_weight_keeps_an_image_of_each_class(tmp_path: Path, own_cache: Path) -> None:
    first = write(tmp_path / "first", counts={"a": 30, "d": 2})
    second = write(tmp_path / "second", counts={"b": 3, "c": 40})
    source = open_sources([str(first), f"{second}@0.05"])
    data = prepare(source, PREPROCESSING)
    rows = data.whole.repeated(0).rows
    assert data.labels is not None
    counts = np.bincount(data.labels[rows], minlength=4)
    assert dict(zip(data.classes, counts.tolist(), strict=True)) == {
        "a": 30,
        "d": 2,
        "b": 1,
        "c": 2,
    }
