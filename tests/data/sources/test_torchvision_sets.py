"""Sets of torchvision: files written in their real format, then read by torchvision."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import draw, write_idx
from numpy.typing import NDArray
from PIL import Image
from torchvision import datasets

from gentool.core.errors import DataError, UsageError
from gentool.core.images import ImageShape
from gentool.data import Preprocessing, open_source, prepare
from gentool.data.sources.torchvision_sets import SETS, TESTS


def grey_images(count: int) -> NDArray[np.uint8]:
    return np.stack([draw(k, 28)[..., 0] for k in range(count)])


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_sets_in_idx_files(name: str, own_cache: Path) -> None:
    raw = own_cache / f"torchvision-{name}" / name / "raw"
    images, labels = grey_images(12), (np.arange(12) % 10).astype(np.uint8)
    for part in ("train", "t10k"):
        write_idx(raw / f"{part}-images-idx3-ubyte", images if part == "train" else images[5:8])
        write_idx(raw / f"{part}-labels-idx1-ubyte", labels if part == "train" else labels[5:8])
    source = open_source(f"torchvision:{name}")
    assert (len(source), source.name, source.access) == (12, name, "threads")
    assert source.labels is not None
    assert source.labels.tolist() == labels.tolist()
    assert len(source.classes) == 10
    assert source.classes[3] == getattr(datasets, name).classes[3]
    dataset = prepare(source, Preprocessing(ImageShape(28, 28, 1)), max_bad=1)
    assert np.array_equal(dataset.images[:][..., 0], images)
    assert len(set(dataset.hashes.tolist())) == len(np.unique(images, axis=0))
    assert source.describe(3) == f"torchvision:{name} image 3"
    tested = open_source(f"torchvision:{name}:test")
    assert (len(tested), tested.name) == (3, f"{name}-test")
    assert tested.labels is not None
    assert tested.labels.tolist() == [5, 6, 7]
    found = prepare(tested, Preprocessing(ImageShape(28, 28, 1)), max_bad=1)
    assert np.array_equal(found.images[:][..., 0], images[5:8])
    assert tested.describe(2) == f"torchvision:{name}:test image 2"
    assert tested.fingerprint != source.fingerprint
    before = source.fingerprint
    write_idx(raw / "train-images-idx3-ubyte", 255 - images)
    assert open_source(f"torchvision:{name}").fingerprint != before


def test_cifar_batches_are_compared_with_their_checksums(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python pickles, which torchvision opens only if their MD5 is on its list."""
    folder = own_cache / "torchvision-CIFAR10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    images = np.stack([draw(k, 32) for k in range(6)])
    planes = images.transpose(0, 3, 1, 2).reshape(6, -1)
    files = {
        "data_batch_1": {"data": planes[:4], "labels": [3, 1, 2, 0]},
        "data_batch_2": {"data": planes[4:], "labels": [1, 1]},
        "batches.meta": {"label_names": ["a", "b", "c", "d"]},
    }
    sums = {}
    for name, content in files.items():
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    with pytest.raises(DataError, match="--download"):
        open_source("torchvision:CIFAR10")
    kind = datasets.CIFAR10
    monkeypatch.setattr(kind, "train_list", [[n, sums[n]] for n in files if "data" in n])
    monkeypatch.setattr(kind, "test_list", [])
    meta = {**kind.meta, "md5": sums["batches.meta"]}
    monkeypatch.setattr(kind, "meta", meta)
    source = open_source("torchvision:CIFAR10")
    assert source.classes == ("a", "b", "c", "d")
    assert source.labels is not None
    assert source.labels.tolist() == [3, 1, 2, 0, 1, 1]
    for k in range(6):
        assert np.array_equal(np.asarray(source.open(k).image), images[k])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # left open there
def test_a_set_that_lies_in_files(own_cache: Path) -> None:
    """German traffic signs: class folders of PPM, which a folder of one's own may not hold."""
    root = own_cache / "torchvision-GTSRB" / "gtsrb" / "GTSRB" / "Training"
    for k in range(4):
        path = root / f"{k // 2:05d}" / f"{k}.ppm"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(k)).save(path)
    source = open_source("torchvision:GTSRB")
    assert source.labels is not None
    assert source.labels.tolist() == [0, 0, 1, 1]
    assert source.classes == ("0", "1")
    assert np.array_equal(np.asarray(source.open(3).image), draw(3))
    (root / "00001" / "3.ppm").write_bytes(b"P6 16 16 255 cut short")
    dataset = prepare(
        open_source("torchvision:GTSRB"), Preprocessing(ImageShape(16, 16, 3)), max_bad=1
    )
    assert len(dataset) == 3
    assert dataset.bad[0][0] == "torchvision:GTSRB image 3"


@pytest.mark.parametrize("name", SETS)
def test_what_is_not_here_names_the_switch_that_fetches_it(name: str, own_cache: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_source(f"torchvision:{name}")
    message = str(caught.value)
    assert f"torchvision:{name}" in message
    assert "--download" in message or "pip install" in message
    assert len(message) < 500


def test_a_failed_download_says_why(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(DataError, match=r"torchvision:MNIST .*downloaded to .*: "):
        open_source("torchvision:MNIST", download=True)


@pytest.mark.parametrize("name", SETS)
def test_the_part_for_testing_is_one_that_torchvision_knows(name: str, own_cache: Path) -> None:
    """Its constructors check the part's name before they look for files."""
    if name not in TESTS:
        with pytest.raises(UsageError, match=f"{name} has no test set"):
            open_source(f"torchvision:{name}:test")
        return
    with pytest.raises(DataError) as caught:
        open_source(f"torchvision:{name}:test")
    assert "Unknown value" not in str(caught.value)
    assert "unexpected" not in str(caught.value)


def test_no_other_part_is_known() -> None:
    with pytest.raises(UsageError, match="or the name and :test"):
        open_source("torchvision:MNIST:valid")


@pytest.mark.parametrize("name", ["", "Mnist", "FakeData", "os"])
def test_no_such_set(name: str) -> None:
    with pytest.raises(UsageError, match=r"torchvision set .*CIFAR10"):
        open_source(f"torchvision:{name}")
