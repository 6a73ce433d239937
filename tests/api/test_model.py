"""``gentool.load``: what a model from a file gives, and which errors it raises."""

import copy
import inspect
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, draw, gentool_command, run_python
from numpy.typing import NDArray
from typer.models import OptionInfo

import gentool
from gentool.cli import interpolate, reconstruct, sample
from gentool.core.errors import DataError, DeviceError, UsageError
from gentool.models import MODELS


def arrays(path: Path) -> NDArray[np.uint8]:
    """The images in an archive of arrays."""
    with np.load(path) as found:
        images: NDArray[np.uint8] = found["images"]
    return images


@pytest.fixture(scope="module")
def photos() -> NDArray[np.uint8]:
    """Three images of the shape of the tiny models."""
    return np.stack([draw(k) for k in range(3)])


@pytest.mark.parametrize("name", MODELS)
def test_results_are_those_of_the_command_line(
    name: str, trained: Callable[[str], Path], photos: NDArray[np.uint8], tmp_path: Path
) -> None:
    run, model = trained(name), gentool.load(trained(name), "cpu")
    np.savez(tmp_path / "photos.npz", images=photos)
    pairs = [
        (("sample", run), model.sample()),
        (("sample", run, "-n", 3, "--seed", 5, "--start", 2), model.sample(3, 5, start=2)),
        (("interpolate", run, "--steps", 2), model.interpolate(steps=2)),
        (
            ("interpolate", run, "--seeds", "4,1", "--steps", 3, "--loop", "--method", "lerp"),
            model.interpolate([4, 1], 3, method="lerp", loop=True),
        ),
        (
            ("reconstruct", run, tmp_path / "photos.npz", "--only", "--steps", 2),
            model.reconstruct(photos, steps=2),
        ),
    ]
    for number, (words, images) in enumerate(pairs):
        done = gentool_command(*words, "-o", tmp_path / f"{number}.npz", "--device", "cpu")
        assert done.code == 0, done.err
        np.testing.assert_array_equal(arrays(tmp_path / f"{number}.npz"), images)


@pytest.mark.parametrize("name", MODELS)
def test_latents_decode_and_gradients_flow_back(
    name: str, trained: Callable[[str], Path], photos: NDArray[np.uint8]
) -> None:
    model = gentool.load(trained(name), "cpu")
    latents = model.encode(photos)
    images = model.decode(latents)
    assert images.shape == photos.shape and images.dtype == np.uint8
    if latents.is_floating_point():
        latents.requires_grad_()
        as_tensor = model.decode(latents, as_tensor=True)
        assert as_tensor.shape == (3, 3, 16, 16)
        as_tensor.square().sum().backward()  # type: ignore[no-untyped-call]
        assert latents.grad is not None and latents.grad.abs().sum() > 0


@pytest.mark.parametrize("name", MODELS)
def test_a_decoder_is_traced_and_exported(name: str, trained: Callable[[str], Path]) -> None:
    model = gentool.load(trained(name), "cpu")
    latents = model.loaded.model.prior(np.arange(2), 0)
    others = model.loaded.model.prior(np.arange(3), 1)
    with torch.no_grad():
        expected = model.decoder(others)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the newest torch deprecates it, and shapes are fixed
            traced: Any = torch.jit.trace(  # type: ignore[no-untyped-call]
                model.decoder, latents, check_trace=False
            )
        torch.testing.assert_close(traced(others), expected)
        batch = {0: torch.export.Dim("batch", min=2)}
        exported = torch.export.export(model.decoder, (latents,), dynamic_shapes=(batch,))
        torch.testing.assert_close(exported.module()(others), expected)


THERE = """
import pickle, sys
from pathlib import Path
import numpy as np
np.save(sys.argv[2], pickle.loads(Path(sys.argv[1]).read_bytes()).sample(4, seed=3))
"""


def test_a_model_goes_to_another_process_and_can_be_copied(vae: Path, tmp_path: Path) -> None:
    model = gentool.load(vae, "cpu")
    here = model.sample(4, seed=3)
    np.testing.assert_array_equal(copy.deepcopy(model).sample(4, seed=3), here)
    (tmp_path / "model").write_bytes(pickle.dumps(model))
    done = run_python("-c", THERE, tmp_path / "model", tmp_path / "there.npy")
    assert done.code == 0, done.err
    np.testing.assert_array_equal(np.load(tmp_path / "there.npy"), here)


@pytest.mark.parametrize("name", MODELS)
def test_a_trained_model_can_be_pickled(name: str, trained: Callable[[str], Path]) -> None:
    model = gentool.load(trained(name), "cpu")
    again = pickle.loads(pickle.dumps(model))
    assert again.info() == model.info()
    np.testing.assert_array_equal(again.sample(4, seed=3), model.sample(4, seed=3))


def test_a_way_of_drawing_is_for_one_call(trained: Callable[[str], Path]) -> None:
    model = gentool.load(trained("gan"), "cpu")
    before = model.sample(2)
    assert not np.array_equal(model.sample(2, truncation=0.2), before)
    np.testing.assert_array_equal(model.sample(2), before)
    with pytest.raises(UsageError, match="--top-k"):
        model.sample(2, top_k=3)


def test_images_of_another_shape_are_refused(vae: Path, photos: NDArray[np.uint8]) -> None:
    model = gentool.load(vae, "cpu")
    wrong: list[Any] = [photos[0], photos[:, :8], photos[..., :1], photos / 255]
    for images in wrong:
        with pytest.raises(UsageError, match=r"this model takes uint8 \[N, 16, 16, 3\]"):
            model.encode(images)
    with pytest.raises(UsageError, match="at least two"):
        model.interpolate([3])
    with pytest.raises(UsageError, match="no method named 'slurp'"):
        model.interpolate(method="slurp")
    with pytest.raises(UsageError, match="steps is 0"):
        model.interpolate(steps=0)
    with pytest.raises(UsageError, match="seed is -1"):
        model.interpolate([-1, 2])


def test_info_tells_what_the_command_tells(gan: Path) -> None:
    import json

    told = json.loads(gentool_command("info", gan, "--json").out)
    found = gentool.load(gan, "cpu").info()
    assert {k: told[k] for k in found} == json.loads(json.dumps(found))


COMMANDS: list[tuple[Callable[..., Any], Callable[..., Any], dict[str, object]]] = [
    (gentool.Model.sample, sample.command, {"count": 16, "seed": 0}),  # of one seed
    (gentool.Model.interpolate, interpolate.command, {"steps": 16}),  # without --seconds
    (gentool.Model.reconstruct, reconstruct.command, {}),
]


@pytest.mark.parametrize(("method", "command", "resolved"), COMMANDS)
def test_names_and_defaults_are_those_of_the_command_line(
    method: Callable[..., Any], command: Callable[..., Any], resolved: dict[str, object]
) -> None:
    options = inspect.signature(command).parameters
    own = {"self", "drawing", "images", "keys"}  # arrays, and what the command has several of
    for name, parameter in inspect.signature(method).parameters.items():
        if name in own:
            continue
        declared = options[name].default  # of an annotated parameter, the default itself
        default = declared.default if isinstance(declared, OptionInfo) else declared
        assert parameter.default == (resolved.get(name) if default is None else default), name


def test_old_names_work_with_a_warning(gan: Path) -> None:
    with pytest.warns(DeprecationWarning, match="use gentool.load"):
        loaded = gentool.load_model(gan)
    with pytest.warns(DeprecationWarning, match="use gentool.load"):
        images = gentool.sample_images(loaded, 2)
    np.testing.assert_array_equal(images, gentool.load(gan, "cpu").sample(2))


def test_no_images_are_an_empty_array(gan: Path) -> None:
    images = gentool.load(gan).sample(0)
    assert images.shape == (0, 16, 16, 3) and images.dtype == np.uint8


def test_images_do_not_depend_on_how_many_there_are(gan: Path) -> None:
    model = gentool.load(gan)
    many = model.sample(70, seed=2)  # more than a block
    np.testing.assert_array_equal(model.sample(3, seed=2, start=63), many[63:66])


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
    model = gentool.load(gan)
    with pytest.raises(UsageError, match=message):
        model.sample(**wrong)  # type: ignore[arg-type]


def test_a_class_of_a_model_without_is_refused(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--data", image_folder, "--out", out, "--images", 16, "--unconditional", *TINY]
    assert gentool_command("train", "vae", *words).code == 0
    with pytest.raises(UsageError, match="is not conditional"):
        gentool.load(out).sample(class_name="bar")


@pytest.mark.parametrize("device", ["auto", "cpu", torch.device("cpu")], ids=str)
def test_a_model_goes_to_the_device_that_is_named(device: str | torch.device, gan: Path) -> None:
    found = gentool.load(gan, device=device).loaded.model.device
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu"
    assert found.type == (best if device == "auto" else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", torch.device("cuda")], ids=str)
def test_a_device_that_is_not_here_is_told(device: str | torch.device, gan: Path) -> None:
    with pytest.raises(DeviceError, match="no cuda device on this machine"):
        gentool.load(gan, device=device)


@pytest.mark.parametrize("device", ["nonsense", "", "cpu:x", "automatic"])
def test_a_device_that_is_none_is_refused(device: str, gan: Path) -> None:
    with pytest.raises(UsageError, match="no device"):
        gentool.load(gan, device=device)


def test_a_path_is_as_good_as_a_word(image_folder: Path) -> None:
    found = [gentool.open_dataset(spec, size=16) for spec in (image_folder, str(image_folder))]
    assert [len(dataset) for dataset in found] == [96, 96]
    assert found[0].fingerprint == found[1].fingerprint
    with pytest.raises(DataError, match="nothing at nowhere"):
        gentool.open_dataset(Path("nowhere"))
    with pytest.raises(DataError, match="nothing at nowhere"):
        gentool.open_dataset("nowhere")
