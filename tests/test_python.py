"""The names that ``import gentool`` gives: what they take, and which errors they raise."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, gentool_command

import gentool
from gentool.core.errors import DataError, DeviceError, UsageError


@pytest.mark.parametrize("model", ["gan", "vae"])
def test_a_trained_model_can_be_pickled(model: str, trained: Callable[[str], Path]) -> None:
    loaded = gentool.load_model(trained(model))
    again = pickle.loads(pickle.dumps(loaded))
    assert (again.sha256, again.path, again.header) == (loaded.sha256, loaded.path, loaded.header)
    images = gentool.sample_images(again, 4, seed=3)
    np.testing.assert_array_equal(images, gentool.sample_images(loaded, 4, seed=3))


def test_no_images_are_an_empty_array(gan: Path) -> None:
    images = gentool.sample_images(gentool.load_model(gan), count=0)
    assert images.shape == (0, 16, 16, 3) and images.dtype == np.uint8


def test_images_do_not_depend_on_how_many_there_are(gan: Path) -> None:
    loaded = gentool.load_model(gan)
    many = gentool.sample_images(loaded, 70, seed=2)  # more than a block
    np.testing.assert_array_equal(gentool.sample_images(loaded, 3, seed=2, start=63), many[63:66])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": -1}, "count is -1; allowed: 0 to"),
        ({"count": 10**13}, "count is 10000000000000; allowed"),
        ({"count": 10**12}, "1,000,000,000,000 images of 16x16 rgb do not fit into memory"),
        ({"seed": -1}, "seed is -1; allowed: 0 to 9,223,372,036,854,775,807"),
        ({"seed": 2**63}, "seed is 9223372036854775808; allowed"),
        ({"start": -1}, "start is -1; allowed"),
        ({"class_name": "cat"}, "no class named 'cat'"),
    ],
)
def test_what_cannot_be_sampled_is_refused(
    wrong: dict[str, object], message: str, gan: Path
) -> None:
    loaded = gentool.load_model(gan)
    with pytest.raises(UsageError, match=message):
        gentool.sample_images(loaded, **wrong)  # type: ignore[arg-type]


def test_a_class_of_a_model_without_is_refused(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--data", image_folder, "--out", out, "--images", 16, "--unconditional", *TINY]
    assert gentool_command("train", "vae", *words).code == 0
    with pytest.raises(UsageError, match="is not conditional"):
        gentool.sample_images(gentool.load_model(out), class_name="bar")


@pytest.mark.parametrize("device", ["auto", "cpu", torch.device("cpu")], ids=str)
def test_a_model_goes_to_the_device_that_is_named(device: str | torch.device, gan: Path) -> None:
    found = gentool.load_model(gan, device=device).model.device
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu"
    assert found.type == (best if device == "auto" else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", torch.device("cuda")], ids=str)
def test_a_device_that_is_not_here_is_told(device: str | torch.device, gan: Path) -> None:
    with pytest.raises(DeviceError, match="no cuda device on this machine"):
        gentool.load_model(gan, device=device)


@pytest.mark.parametrize("device", ["nonsense", "", "cpu:x", "automatic"])
def test_a_device_that_is_none_is_refused(device: str, gan: Path) -> None:
    with pytest.raises(UsageError, match="no device"):
        gentool.load_model(gan, device=device)


def test_a_path_is_as_good_as_a_word(image_folder: Path) -> None:
    found = [gentool.open_dataset(spec, size=16) for spec in (image_folder, str(image_folder))]
    assert [len(dataset) for dataset in found] == [96, 96]
    assert found[0].fingerprint == found[1].fingerprint
    with pytest.raises(DataError, match="nothing at nowhere"):
        gentool.open_dataset(Path("nowhere"))
    with pytest.raises(DataError, match="nothing at nowhere"):
        gentool.open_dataset("nowhere")
