"""Exported models compute what the model computes, in other programs and at every batch size."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SIDE, gentool_command, run_python
from PIL import Image

import gentool
from gentool.core.errors import GentoolError
from gentool.core.images import ImageShape, to_pixels
from gentool.core.options import from_json, to_json
from gentool.core.rng import normal, uniform
from gentool.export.graphs import parts_of
from gentool.export.hub_folder import model_card
from gentool.export.onnx_files import difference, onnx_bytes
from gentool.export.page_graphs import plan_drawing
from gentool.models import MODELS
from gentool.models.presets import PRESETS
from gentool.outputs.marks import EXPORTED, HUB_FILES, read_mark

onnxruntime = pytest.importorskip("onnxruntime")


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def exported(vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all files of a small VAE."""
    folder = tmp_path_factory.mktemp("exported")
    done = gentool_command(
        "export", vae, "--onnx", folder / "m.onnx", "--torch", folder / "m.pt2", "--json"
    )
    assert done.code == 0, done.err
    rows = json.loads(done.out)["files"]
    assert [Path(row["file"]).name for row in rows] == [
        f"m{part}{suffix}"
        for suffix in (".onnx", ".pt2") for part in ("", ".prior", ".encoder")
    ]  # fmt: skip
    assert all(row["largest_difference"] <= 1e-4 for row in rows)
    return folder


def test_prior_and_decoder_draw_the_samples_of_gentool(exported: Path, vae: Path) -> None:
    """From the same noise: image k of seed 5 is a function of (seed, purpose, k)."""
    model = gentool.load(vae, "cpu")
    size = model.loaded.model.noise_map.size  # type: ignore[union-attr]
    indices = np.arange(9)
    noise = normal(5, "prior", indices, size).astype(np.float32)
    numbers = uniform(5, "prior/component", indices, 1)[:, 0].astype(np.float32)
    (latents,) = session(exported / "m.prior.onnx").run(None, {"noise": noise, "uniform": numbers})
    (images,) = session(exported / "m.onnx").run(None, {"latents": latents})
    found = to_pixels(torch.from_numpy(images)).astype(int)
    assert np.abs(found - model.sample(9, 5)).max() <= 1
    assert found.std() > 5


def test_the_encoder_finds_the_latents_of_gentool(exported: Path, vae: Path) -> None:
    model = gentool.load(vae, "cpu")
    images = model.sample(3, 1)
    unit = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    (found,) = session(exported / "m.encoder.onnx").run(None, {"images": unit.numpy()})
    with torch.no_grad():
        wanted = model.loaded.model.encode(unit).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_program_of_torch_runs_without_gentool(exported: Path) -> None:
    code = (
        "import sys, torch; module = torch.export.load(sys.argv[1]).module();"
        "print([list(module(torch.zeros(n, int(sys.argv[2]))).shape) for n in (1, 5)]);"
        "assert 'gentool' not in sys.modules"
    )
    (inputs,) = session(exported / "m.onnx").get_inputs()
    done = run_python("-c", code, exported / "m.pt2", inputs.shape[1])
    assert done.code == 0, done.err
    shapes = json.loads(done.out)
    assert [shape[0] for shape in shapes] == [1, 5]
    assert shapes[0][1:] == shapes[1][1:]


@pytest.mark.parametrize("name", ["m.onnx", "m.encoder.onnx", "m.pt2", "m.prior.pt2"])
def test_files_are_recognised_by_their_recipe(name: str, exported: Path, vae: Path) -> None:
    mark = read_mark(exported / name)
    assert mark is not None and mark.kind == EXPORTED
    assert mark.recipe["model_sha256"] == gentool.load(vae, "cpu").loaded.sha256


def test_a_file_of_another_model_or_program_is_not_replaced(
    exported: Path, gan: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.onnx"
    mine.write_bytes(b"\x08\x07not of gentool")
    for path, words in ((exported / "m.onnx", "with other settings"), (mine, "already exists")):
        before = path.read_bytes()
        done = gentool_command("export", gan, "--onnx", path)
        assert done.code == 2
        assert words in done.err
        assert path.read_bytes() == before


@pytest.mark.parametrize("wrong", [0.01, float("nan"), float("inf")])
def test_a_file_that_computes_something_else_is_refused(wrong: float, gan: Path) -> None:
    part = parts_of(gentool.load(gan, "cpu").loaded.model)[0]
    assert part.difference(part.module) == 0
    with pytest.raises(GentoolError, match="the exported decoder differs"):
        part.difference(lambda *inputs: part.module(*inputs) + wrong)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "--onnx FILE.onnx, --torch"),
        (("--push", "a/b"), "--hub FOLDER"),
        (("--onnx", "x.pt"), ".onnx"),
        (("--torch", "x.onnx"), ".pt2"),
    ],
)
def test_outputs_without_a_right_name_are_refused(
    more: tuple[str, ...], words: str, gan: Path
) -> None:
    done = gentool_command("export", gan, *more)
    assert done.code == 2
    assert words in done.err


def test_a_hub_folder_holds_the_model_and_tells_what_it_is(vae: Path, tmp_path: Path) -> None:
    folder = tmp_path / "card"
    done = gentool_command("export", vae, "--hub", folder)
    assert done.code == 0, done.err
    assert sorted(done.lines) == sorted(str(folder / name) for name in HUB_FILES)
    model = gentool.load(vae, "cpu")
    assert (folder / "model.safetensors").read_bytes() == model.loaded.path.read_bytes()
    assert json.loads((folder / "config.json").read_text())["model"] == "vae"
    with Image.open(folder / "samples.png") as sheet:
        assert np.array_equal(np.asarray(sheet)[:SIDE, :SIDE], model.sample(1)[0].squeeze())
    card = (folder / "README.md").read_text()
    front = card.split("---")[1]
    assert "library_name: gentool" in front
    assert str(vae) not in card and model.loaded.sha256 in card
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert gentool_command("export", vae, "--hub", folder).code == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_hub_folder_with_foreign_files_or_another_model_is_not_replaced(
    vae: Path, gan: Path, tmp_path: Path
) -> None:
    folder, mine = tmp_path / "card", tmp_path / "mine"
    assert gentool_command("export", vae, "--hub", folder).code == 0
    assert gentool_command("export", gan, "--hub", folder).code == 2
    assert gentool_command("export", gan, "--hub", folder, "--overwrite").code == 0
    (folder / "notes.txt").write_text("mine")
    mine.mkdir()
    (mine / "README.md").write_text("mine")
    for place in (folder, mine):
        assert gentool_command("export", vae, "--hub", place, "--overwrite").code == 2
    assert (mine / "README.md").read_text() == "mine"


def test_a_card_shows_names_as_text(vae: Path) -> None:
    loaded = gentool.load(vae, "cpu").loaded
    training = {**loaded.header["training"], "name": "<script>alert(1)</script> | [x](y) `z`"}
    card = model_card(loaded, {**loaded.header, "training": training})
    assert "<script>" not in card and "[x](" not in card and "| [" not in card


@pytest.mark.parametrize("fails", [False, True])
def test_only_push_uploads(
    fails: bool, vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    calls: list[str] = []

    def upload_folder(self: object, *, repo_id: str, folder_path: Path, **_: object) -> None:
        assert sorted(path.name for path in folder_path.iterdir()) == sorted(HUB_FILES)
        calls.append(repo_id)
        if fails:
            raise OSError("no such user")

    monkeypatch.setattr(hub.HfApi, "create_repo", lambda self, name, exist_ok: f"hub/{name}")
    monkeypatch.setattr(hub.HfApi, "upload_folder", upload_folder)
    assert gentool_command("export", vae, "--hub", tmp_path / "a").code == 0
    assert calls == []
    done = gentool_command("export", vae, "--hub", tmp_path / "b", "--push", "me/faces")
    assert calls == ["me/faces"]
    assert done.code == (1 if fails else 0)
    assert ("no such user" if fails else "uploaded to hub/me/faces") in done.err


@pytest.mark.slow
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("name", PRESETS)
def test_every_part_of_every_preset_becomes_an_onnx_file(name: str, classes: int) -> None:
    preset = PRESETS[name]
    kind: Any = MODELS.get(preset.model)
    known = to_json(kind.Config())
    options = {k: v for k, v in preset.cpu.items() if k in known}
    config = from_json(kind.Config, {**options, "width": 8})
    if config.why_unconditional(classes):
        pytest.skip("this preset uses no classes")
    torch.manual_seed(0)
    model = kind(config, ImageShape(16, 24, 3), classes).eval()
    parts = parts_of(model)
    assert parts[0].name == "decoder"
    of_the_page = plan_drawing(model).parts
    for part in {(part.name, part.inputs): part for part in (*parts, *of_the_page)}.values():
        assert difference(onnx_bytes(part, {"gentool": "test"}), part) <= 1e-4
