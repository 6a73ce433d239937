"""Options of the command line for images: every way of reading them gives the same model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, Finished, gentool_command, run_gentool, write_images
from PIL import Image

from gentool.checkpoint import load_model, read_file
from gentool.core.images import ImageShape, to_unit
from gentool.core.rng import data_order
from gentool.data import (
    Dataset,
    Preprocessing,
    Subset,
    make_preprocessing,
    open_dataset,
    open_source,
    prepare,
)
from gentool.training.batches import Feeder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 images in two class folders."""
    return write_images(tmp_path_factory.mktemp("toys") / "toys", 100)


def train(out: Path, *more: object) -> Finished:
    """A tiny GAN."""
    return gentool_command("train", "gan", "--out", out, "--images", 128, *TINY, *more)


def weights(out: Path) -> dict[str, torch.Tensor]:
    """The averaged weights of a run."""
    return read_file(out / "model.safetensors")[1]


def same(a: Path, b: Path) -> bool:
    """Whether two runs ended in the same weights, bit by bit."""
    first, second = weights(a), weights(b)
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def plain(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with no option."""
    out = tmp_path_factory.mktemp("plain") / "run"
    assert train(out, "--data", toys).code == 0
    return out


def test_five_per_cent_of_broken_files_change_nothing(
    toys: Path, plain: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(toys, tmp_path / "toys")
    for number in range(5):
        (folder / "bar" / f"a-broken{number}.png").write_bytes(b"<html>" * number)
    refused = train(tmp_path / "refused", "--data", folder)
    assert refused.code == 3
    assert "5 of 105 images cannot be read, more than --max-bad 0.01" in refused.err
    assert not (tmp_path / "refused" / "model.safetensors").exists()
    done = train(tmp_path / "run", "--data", folder, "--max-bad", 0.1)
    assert done.code == 0, done.err
    assert "skipped 5 of 105 images that cannot be read" in done.err
    assert same(tmp_path / "run", plain)
    lines = (tmp_path / "run" / "bad_files.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == [f"bar/a-broken{k}.png" for k in range(5)]
    strict = train(tmp_path / "strict", "--data", folder, "--max-bad", 0.1, "--strict")
    assert strict.code == 3
    assert "--strict" in strict.err


@pytest.mark.parametrize("cache", ["disk", "ram", "never"])
def test_the_way_of_the_images_does_not_change_the_model(
    cache: str, toys: Path, plain: Path, tmp_path: Path, own_cache: Path
) -> None:
    done = train(tmp_path / "run", "--data", toys, "--cache", cache)
    assert done.code == 0, done.err
    assert same(tmp_path / "run", plain)
    prepared = own_cache.exists() and any((p / "images.u8").exists() for p in own_cache.iterdir())
    assert prepared == (cache == "disk")


def test_a_packed_zip_a_tar_and_shards_give_the_same_model(
    toys: Path, plain: Path, tmp_path: Path
) -> None:
    shutil.make_archive(str(tmp_path / "toys"), "gztar", toys.parent, "toys")
    assert gentool_command("data", "pack", toys, tmp_path / "toys.zip").code == 0
    for number, data in enumerate(("toys.tar.gz", "toys.zip")):
        out = tmp_path / f"run{number}"
        assert train(out, "--data", tmp_path / data).code == 0
        assert same(out, plain)
    pytest.importorskip("litdata")
    done = run_gentool("data", "shards", toys, tmp_path / "shards", "--size", 16)
    assert done.code == 0, done.err
    assert done.lines == [str(tmp_path / "shards")]
    out = tmp_path / "from-shards"
    done = train(out, "--data", f"shards:{tmp_path / 'shards'}")
    assert done.code == 0, done.err
    assert same(out, plain)


def test_several_sources_are_joined_with_weights(toys: Path, tmp_path: Path) -> None:
    done = train(tmp_path / "run", "--data", toys, "--data", f"{toys}@2", "--seed", 3)
    assert done.code == 0, done.err
    header = load_model(tmp_path / "run").header
    assert header["classes"] == ["bar", "disc"]
    assert header["training"]["data"]["images"] == 200
    assert "on 200 images from" in done.err


def test_labels_from_a_table_make_other_classes(toys: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    paths = open_source(str(toys)).paths
    table.write_text(
        "".join(f"{path},{'even' if k % 2 else 'odd'}\n" for k, path in enumerate(paths))
    )
    assert train(tmp_path / "run", "--data", toys, "--labels", table).code == 0
    assert load_model(tmp_path / "run").header["classes"] == ["even", "odd"]
    assert train(tmp_path / "none", "--data", toys, "--labels", "none").code == 0
    assert load_model(tmp_path / "none").model.classes == 0


def test_the_policy_is_in_the_file_and_other_verbs_keep_it(toys: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = gentool_command(
        "train", "autoencoder", "--data", toys, "--out", out, "--images", 64, *TINY,
        "--fit", "pad", "--background", "#ff0000",
    )  # fmt: skip
    assert done.code == 0, done.err
    loaded = load_model(out)
    assert loaded.preprocessing == make_preprocessing(ImageShape(16, 16, 3), "pad", "#ff0000")
    Image.new("RGB", (64, 16), "blue").save(tmp_path / "wide.png")
    done = gentool_command(
        "reconstruct", out, tmp_path / "wide.png", "-o", tmp_path / "o", "--device", "cpu"
    )
    with Image.open(done.lines[0].split("\t")[0]) as image:
        assert image.getpixel((3, 1)) == (255, 0, 0)  # the original, padded as in training
        assert image.getpixel((3, 8)) == (0, 0, 255)
    again = gentool_command(
        "train",
        "autoencoder",
        "--data",
        toys,
        "--out",
        out,
        "--images",
        128,
        *TINY,
        "--fit",
        "crop",
    )
    assert again.code == 2
    assert "--fit was pad and is crop" in again.err
    answer = gentool_command("evaluate", out, "--data", toys, "--features", "random", "-n", 20,
                             "--metrics", "frechet", "--device", "cpu", "--json")  # fmt: skip
    assert json.loads(answer.out)["protocol"]["fit"] == "pad"


def test_frames_of_an_animation_are_trained_on(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), (k, 255 - k, 0)) for k in range(0, 250, 10)]
    (tmp_path / "films").mkdir()
    frames[0].save(tmp_path / "films" / "a.png", save_all=True, append_images=frames[1:])
    done = train(tmp_path / "run", "--data", tmp_path / "films", "--all-frames")
    assert done.code == 0, done.err
    assert "on 25 images" in done.err
    alone = train(tmp_path / "alone", "--data", tmp_path / "films")
    assert alone.code == 3
    assert "1 images are fewer than a batch" in alone.err


# --- augmentation and windows --------------------------------------------------------------------


def _dataset(toys: Path, margin: float = 0.0) -> Dataset:
    return prepare(open_source(str(toys)), Preprocessing(ImageShape(16, 16, 3), margin=margin))


def test_augmented_batches_are_a_function_of_the_counter(toys: Path) -> None:
    dataset = _dataset(toys)
    images = dataset.whole
    feeder = Feeder(images, 1, 8, CPU, "flip+colour")
    plainly = Feeder(images, 1, 8, CPU)
    first = feeder.batch(8).images
    assert not torch.equal(first, plainly.batch(8).images)
    assert first.abs().max() <= 1
    feeder.batch(16)
    assert torch.equal(feeder.batch(8).images, first)
    # A batch of 4 sees what the batch of 8 sees at those places.
    assert torch.equal(Feeder(images, 1, 4, CPU, "flip+colour").batch(12).images, first[4:])


def test_flips_mirror_half_of_the_images(toys: Path) -> None:
    dataset = _dataset(toys)
    flipped, straight = (
        Feeder(dataset.whole, 0, 100, CPU, "flip"),
        Feeder(dataset.whole, 0, 100, CPU),
    )
    a, b = flipped.batch(0).images, straight.batch(0).images
    mirrored = [
        torch.equal(x, y.flip(2)) and not torch.equal(x, y) for x, y in zip(a, b, strict=True)
    ]
    kept = [torch.equal(x, y) for x, y in zip(a, b, strict=True)]
    assert all(m or k for m, k in zip(mirrored, kept, strict=True))
    assert 30 < sum(mirrored) < 70


def test_windows_lie_anywhere_in_what_is_stored(toys: Path) -> None:
    dataset = _dataset(toys, margin=0.25)
    assert dataset.stored.shape[1:3] == (20, 20)
    feeder = Feeder(dataset.whole, 0, 1, CPU)
    places = set()
    for start in range(200):
        image = feeder.batch(start).images[0]
        whole = to_unit(torch.from_numpy(dataset.stored[data_order(0, start, 1, len(dataset))]))[0]
        places |= {
            (top, left) for top in range(5) for left in range(5)
            if torch.equal(whole[:, top : top + 16, left : left + 16], image)
        }  # fmt: skip
    assert len(places) == 25


def test_streamed_batches_are_those_of_the_cache(toys: Path) -> None:
    source = open_source(str(toys))
    wider = Preprocessing(ImageShape(16, 16, 3), margin=0.25)
    some = np.arange(100)
    cached = Feeder(Subset(prepare(source, wider), some), 0, 16, CPU, "flip")
    decoded = prepare(source, wider, cache="never")
    assert decoded.streamed
    streamed = Feeder(Subset(decoded, some), 0, 16, CPU, "flip")
    for start in (0, 16, 32, 0, 160):
        a, b = cached.batch(start), streamed.batch(start)
        assert torch.equal(a.images, b.images)
        assert a.labels is not None
        assert b.labels is not None
        assert torch.equal(a.labels, b.labels)


# --- the cache -----------------------------------------------------------------------------------


def test_the_cache_is_listed_verified_and_pruned(toys: Path, own_cache: Path) -> None:
    open_dataset(str(toys), "16")
    done = gentool_command("data", "cache")
    assert done.code == 0
    assert str(own_cache) in done.lines[0]
    assert any(" images " in line for line in done.lines[1:])
    answer = json.loads(gentool_command("data", "cache", "--verify", "--json").out)
    (entry,) = [e for e in answer["entries"] if e["kind"] == "images"]
    images = Path(entry["path"]) / "images.u8"
    content = bytearray(images.read_bytes())
    content[100] ^= 255
    images.write_bytes(content)
    damaged = gentool_command("data", "cache", "--verify")
    assert damaged.code == 3
    assert "1 entries are damaged" in damaged.err
    assert gentool_command("data", "cache", "--prune", "5d").code == 0
    assert images.exists()
    done = gentool_command("data", "cache", "--prune", "all")
    assert "deleted 1 entries" in done.err
    assert not images.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "fragment"),
    [
        (("train", "gan", "--data", "TOYS", "--fit", "squeeze"), 2, "no fit named 'squeeze'"),
        (("train", "gan", "--data", "TOYS", "--background", "whit"), 2, "background 'whit'"),
        (("train", "gan", "--data", "TOYS", "--augment", "flip+flop"), 2, "named 'flop'"),
        (("train", "gan", "--data", "TOYS", "--margin", "2"), 2, "--margin is 2"),
        (("train", "gan", "--data", "TOYS", "--cache", "tape"), 2, "no cache mode 'tape'"),
        (("train", "gan", "--data", "TOYS", "--labels", "nothing.csv"), 3, "nothing.csv"),
        (("train", "gan", "--data", "torchvision:CIFAR10"), 3, "--download"),
        (("train", "gan", "--data", "TOYS", "--cache", "never", "--holdout", "0.1"), 2,
         "--cache disk, or --holdout 0"),
        (("data", "cache", "--prune", "much"), 2, "--prune much"),
        (("data", "shards", "TOYS", "TOYS"), 2, "is an input of this command"),
    ],
)  # fmt: skip
def test_wrong_words_are_explained(
    arguments: tuple[str, ...], code: int, fragment: str, toys: Path, tmp_path: Path,
    own_cache: Path,
) -> None:  # fmt: skip
    words = [str(toys) if word == "TOYS" else word for word in arguments]
    done = gentool_command(*words, *(TINY if words[0] == "train" else ()), cwd=tmp_path)
    assert done.code == code, done.err
    assert fragment in done.err
    assert "Traceback" not in done.err
