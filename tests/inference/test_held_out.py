"""Held-out images were kept out of training, also if their files have changed since."""

import base64
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Finished, gentool_command, write_images
from PIL import Image

from gentool.checkpoint import load_model, read_file, write_file
from gentool.core.images import ImageShape
from gentool.data import Preprocessing, open_dataset, open_source
from gentool.data.origin import origin_of, with_origin
from gentool.data.sources.shards import write_shards
from gentool.inference.held_out import MOST_KEPT, KeptOut, digest, keep_out, read_kept, tell_sides

COUNT, SHARE = 90, 0.3
RULE = "--features", "random", "-n", 90, "--device", "cpu"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in two class folders, larger than the model's."""
    return write_images(tmp_path_factory.mktemp("photos") / "photos", COUNT, 20)


def _train(photos: Path, out: Path, *more: object, model: str = "vae") -> Path:
    done = gentool_command(
        "train", model, "--data", photos, "--out", out, "--images", 64, "--holdout", SHARE,
        "--score-every", 0, *TINY, *more,
    )  # fmt: skip
    assert done.code == 0, done.err
    return out


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny VAE that kept three tenths out."""
    return _train(photos, tmp_path_factory.mktemp("runs") / "vae")


@pytest.fixture(scope="module")
def unseen(run: Path, photos: Path) -> set[bytes]:
    """Pixels of the images that were truly kept out."""
    dataset = open_dataset(str(photos), "16", "rgb")
    return {image.tobytes() for image in dataset.split(SHARE).held_out.images[:]}


def _converted(folder: Path, out: Path, suffix: str, **how: Any) -> Path:
    """The images in another format."""
    for path in folder.rglob("*.png"):
        to = (out / path.relative_to(folder)).with_suffix(suffix)
        to.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(to, **how)
    return out


def _packed(photos: Path, folder: Path) -> Path:
    """A pack of the very size of the training."""
    out = folder / "pack.zip"
    done = gentool_command("data", "pack", photos, out, "--size", 16, "--mode", "rgb")
    assert done.code == 0, done.err
    return out


def _unpacked(photos: Path, folder: Path) -> Path:
    zipfile.ZipFile(_packed(photos, folder)).extractall(folder / "unpacked")
    return folder / "unpacked"


def _packed_twice(photos: Path, folder: Path) -> Path:
    out = folder / "again.zip"
    assert gentool_command("data", "pack", _packed(photos, folder), out).code == 0
    return out


def _renamed(photos: Path, folder: Path) -> Path:
    """Copies under other names, in another order."""
    for number, path in enumerate(sorted(photos.rglob("*.png"), reverse=True)):
        to = folder / "renamed" / path.parent.name / f"{number:04d}.png"
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)
    return folder / "renamed"


def _lossless(photos: Path, folder: Path) -> Path:
    return _converted(photos, folder / "bmp", ".bmp")


COPIES: dict[str, Callable[[Path, Path], Path]] = {
    "pack": _packed,
    "unpacked": _unpacked,
    "packed twice": _packed_twice,
    "renamed": _renamed,
    "lossless": _lossless,
}


def _evaluate(*arguments: object) -> Finished:
    return gentool_command("evaluate", *arguments, *RULE)


@pytest.mark.parametrize("kind", COPIES)
def test_no_copy_of_the_data_makes_a_trained_image_held_out(
    kind: str, run: Path, photos: Path, unseen: set[bytes], tmp_path: Path
) -> None:
    copy = COPIES[kind](photos, tmp_path)
    done = _evaluate(run, "--data", copy, "--metrics", "frechet,memorisation", "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert answer["protocol"]["split"] == "held-out"
    dataset = open_dataset(str(copy), "16", "rgb")
    sides = tell_sides(load_model(run), dataset)
    assert {image.tobytes() for image in sides.held_out.images[:]} == unseen
    assert answer["protocol"]["reference"] == len(sides.held_out)
    assert "memorisation" in answer["scores"][0]  # the training images are known, too
    assert len(sides.trained) + len(sides.held_out) == COUNT


def test_shards_carry_the_hash_of_the_first_file(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("litdata")
    pack, preprocessing = _packed(photos, tmp_path), Preprocessing(ImageShape(16, 16, 3))
    write_shards(open_source(str(pack)), preprocessing, tmp_path / "shards")
    again = tmp_path / "again.zip"
    assert gentool_command("data", "pack", f"shards:{tmp_path / 'shards'}", again).code == 0
    sources = [str(photos), f"shards:{tmp_path / 'shards'}", str(again)]
    marks = [
        {open_source(s).load(k, preprocessing).content_hash for k in range(COUNT)} for s in sources
    ]
    assert marks[0] == marks[1] == marks[2]


def test_what_cannot_be_known_is_never_called_held_out(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    lossy = _converted(photos, tmp_path / "jpeg", ".jpg", quality=80)
    metrics = "--metrics", "reconstruction,memorisation"
    auto = _evaluate(run, "--data", lossy, *metrics)
    assert auto.code == 0, auto.err
    assert "split=all" in auto.err
    assert "held-out" not in auto.err
    assert "it is not known which of the 90 images of jpeg it was trained on" in auto.err
    assert "memorisation was not computed: " in auto.err
    for split in ("held-out", "training"):
        done = _evaluate(run, "--data", lossy, *metrics, "--split", split)
        assert (done.code, done.out) == (3, "")
        assert f"--split {split}" in done.err
        assert "it is not known which of the 90 images of jpeg" in done.err
        assert "--split all" in done.err
    everything = _evaluate(run, "--data", lossy, "--metrics", "reconstruction", "--split", "all")
    assert everything.code == 0


def test_of_other_data_only_the_images_count_that_were_kept_out(
    run: Path, photos: Path, unseen: set[bytes], tmp_path: Path
) -> None:
    """Half of the images and as many that it never saw."""
    mixed = write_images(tmp_path / "mixed", 2 * COUNT, 20)
    for path in sorted(mixed.rglob("*.png"))[::4]:
        path.unlink()
    done = _evaluate(run, "--data", mixed, "--metrics", "reconstruction,memorisation", "--json")
    answer = json.loads(done.out)
    dataset = open_dataset(str(mixed), "16", "rgb")
    here = sum(image.tobytes() in unseen for image in dataset.images[:])
    assert 0 < here < len(unseen)
    assert answer["protocol"]["split"] == "held-out"
    assert answer["protocol"]["reference"] == here
    notes = " ".join(answer["scores"][0]["notes"])
    assert f"only the {here} that were certainly kept out are used" in notes
    assert "memorisation was not computed" in notes
    refused = _evaluate(run, "--data", mixed, "--split", "training", "--metrics", "reconstruction")
    assert refused.code == 3


def test_a_held_out_twin_of_a_training_image_is_left_out_and_said(
    photos: Path, tmp_path: Path
) -> None:
    """The same pictures in another format fall on their own sides."""
    both = shutil.copytree(photos, tmp_path / "both")
    _converted(photos, both, ".bmp")
    out = _train(both, tmp_path / "run")
    dataset = open_dataset(str(both), "16", "rgb")
    trained, kept_out = dataset.split(SHARE)
    seen = {image.tobytes() for image in trained.images[:]}
    twins = sum(image.tobytes() in seen for image in kept_out.images[:])
    assert twins
    done = _evaluate(out, "--data", both, "--metrics", "reconstruction", "-n", 999, "--json")
    answer = json.loads(done.out)
    assert answer["protocol"]["reference"] == len(kept_out) - twins
    assert any(f"{twins} of the held-out images" in n for n in answer["scores"][0]["notes"])


def test_a_margin_does_not_hide_what_was_kept_out(photos: Path, tmp_path: Path) -> None:
    out = _train(photos, tmp_path / "run", "--margin", 0.25)
    for data in (photos, _lossless(photos, tmp_path)):
        done = _evaluate(out, "--data", data, "--metrics", "reconstruction", "--json")
        protocol = json.loads(done.out)["protocol"]
        expected = len(open_dataset(str(photos), "16", "rgb").split(SHARE)[1])
        assert (protocol["split"], protocol["reference"]) == ("held-out", expected)


def test_images_that_weights_were_fitted_to_are_no_longer_held_out(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    dataset, source = open_dataset(str(photos), "16", "rgb"), open_source(str(photos))
    kept_out = dataset.split(SHARE).held_out.rows
    model = run
    for number, row in enumerate(kept_out[:2]):  # one after the other: both count
        fitted = tmp_path / f"fitted{number}.safetensors"
        done = gentool_command(
            "reconstruct", model, photos / source.paths[row], "-o", tmp_path / f"x{number}",
            "--fit-weights", fitted, "--device", "cpu",
        )  # fmt: skip
        assert done.code == 0, done.err
        model = fitted
    sides = tell_sides(load_model(model), dataset)
    assert set(kept_out) - set(sides.held_out.rows) == set(kept_out[:2])


def _older(run: Path, out: Path) -> Path:
    """The model file as it was before it kept hashes."""
    header, tensors = read_file(run / "model.safetensors")
    del header["training"]["data"]["kept_out"], header["training"]["data"]["margin"]
    write_file(out, tensors, header)
    return out


def test_older_files_open_and_claim_only_what_their_fingerprint_shows(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    old = _older(run, tmp_path / "old.safetensors")
    done = _evaluate(old, "--data", photos, "--metrics", "reconstruction")
    assert "split=held-out" in done.err
    copy = _lossless(photos, tmp_path)
    there = len(open_dataset(str(copy), "16", "rgb").split(SHARE)[1])
    here = len(open_dataset(str(photos), "16", "rgb").split(SHARE)[1])
    assert there != here  # or chance has made this test say nothing
    done = _evaluate(old, "--data", copy, "--metrics", "reconstruction")
    assert "split=all" in done.err
    assert "it is not known which" in done.err


def test_a_model_file_is_the_same_bytes_again_and_info_shows_a_count(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    again = _train(photos, tmp_path / "again")
    name = "model.safetensors"
    assert (again / name).read_bytes() == (run / name).read_bytes()
    repeated = _train(photos, run)
    assert (repeated / name).read_bytes() == (again / name).read_bytes()
    kept = read_kept(load_model(run).header)
    assert kept is not None
    shown, as_json = gentool_command("info", run), gentool_command("info", run, "--json")
    assert f"kept out {kept.images} images" in " ".join(shown.out.split())
    assert json.loads(as_json.out)["training"]["data"]["kept_out"]["images"] == kept.images
    text = base64.b64encode(kept.hashes.tobytes()).decode()
    assert text not in shown.out
    assert text not in as_json.out


def test_few_hashes_of_many_images_are_a_uniform_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset("builtin:shapes:400", "16")
    whole = keep_out(dataset.split(0.5))
    monkeypatch.setattr("gentool.inference.held_out.MOST_KEPT", 50)
    part = keep_out(dataset.split(0.5))
    assert whole.complete
    assert not part.complete
    assert (part.images, part.training) == (whole.images, whole.training)
    np.testing.assert_array_equal(part.hashes, whole.hashes[:50])
    header = {"training": {"data": {"kept_out": json.loads(json.dumps(part.to_json()))}}}
    found = read_kept(header)
    assert found is not None
    np.testing.assert_array_equal(found.hashes, part.hashes)


def test_a_digest_is_of_a_set() -> None:
    hashes = np.array([2**63, 2**63 + 5, 7], dtype=np.uint64)
    assert digest(hashes) == digest(hashes[[2, 0, 1, 1]])
    assert digest(hashes) != digest(hashes[:2])


_WHOLE = KeptOut(2, np.array([3, 9], dtype=np.uint64), "4-00").to_json()
_MANY = base64.b64encode(np.arange(MOST_KEPT + 1, dtype="<u8").tobytes()).decode()


@pytest.mark.parametrize(
    "odd",
    [
        [], "x", 3, {}, {**_WHOLE, "more": 1}, {**_WHOLE, "images": True}, {**_WHOLE, "images": -1},
        {**_WHOLE, "images": 3}, {**_WHOLE, "hashes": "é"}, {**_WHOLE, "hashes": "AAA"},
        {**_WHOLE, "hashes": "AAAA"}, {**_WHOLE, "hashes": 7}, {**_WHOLE, "training": 7},
        {**_WHOLE, "hashes": base64.b64encode(bytes(16)).decode()},
        {**_WHOLE, "images": MOST_KEPT + 1, "hashes": _MANY}, {**_WHOLE, "training": "x" * 1000},
    ],
)  # fmt: skip
def test_a_lie_about_what_was_kept_out_is_refused(
    odd: object, run: Path, photos: Path, tmp_path: Path
) -> None:
    header, tensors = read_file(run / "model.safetensors")
    header["training"]["data"]["kept_out"] = odd
    path = tmp_path / "odd.safetensors"
    write_file(path, tensors, header)
    done = _evaluate(path, "--data", photos, "--metrics", "reconstruction")
    assert (done.code, "is damaged (" in done.err) == (4, True), done.err
    assert gentool_command("info", path).code == 0


def test_average_does_not_take_trained_images_for_held_out(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    lossy = _converted(photos, tmp_path / "jpeg", ".jpg", quality=80)
    out = tmp_path / "average.safetensors"
    fitted = "average", run, "--length", 0.1, "-o", out, "--overwrite", "--data"
    assert gentool_command(*fitted, photos).code == 0
    _, whole = read_file(out)
    assert gentool_command(*fitted, _lossless(photos, tmp_path)).code == 0
    _, again = read_file(out)
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    refused = gentool_command(*fitted, lossy)
    assert refused.code == 3
    assert "--data" in refused.err
    gan = _train(photos, tmp_path / "gan", model="gan")
    done = gentool_command("average", gan, "--data", lossy, "-o", out, "--overwrite")
    assert done.code == 0, done.err
    assert "it is not known which" in done.err
    assert "the length is chosen with all of them" in done.err


def test_the_mark_of_a_packed_image_is_read_only_where_it_is_whole(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    plain = (tmp_path / "a.png").read_bytes()
    marked = with_origin(plain, 0x0123456789ABCDEF)
    assert origin_of(marked) == 0x0123456789ABCDEF
    assert origin_of(plain) is None
    (tmp_path / "b.png").write_bytes(marked)
    with Image.open(tmp_path / "b.png") as image:
        image.load()
        assert image.info["gentool-source"] == "0123456789abcdef"
    at = marked.index(b"gentool-source\0")
    for place in (at - 8, at - 1, at + 3, at + 20, at + 33):
        broken = bytearray(marked)
        broken[place] ^= 1
        assert origin_of(bytes(broken)) is None
    for end in range(0, len(marked), 7):
        assert origin_of(marked[:end]) in (None, 0x0123456789ABCDEF)
    assert origin_of(b"\xff\xd8\xff" + marked) is None
