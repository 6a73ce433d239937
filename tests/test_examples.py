"""The examples, each in its own process with small settings: their results are checked."""

import importlib.util
import math
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import ROOT, Finished, draw, environment, run_python, write_idx
from PIL import Image

from gentool.checkpoint import load_model

EXAMPLES = ROOT / "examples"
GAME, CONTRAST = EXAMPLES / "two_player_game.py", EXAMPLES / "autoencoder_vs_vae.py"
BATCH, LIKELIHOOD = EXAMPLES / "generate_batch.sh", EXAMPLES / "likelihood.sh"


def assert_picture(path: Path, width: int, height: int) -> None:
    """A whole PNG of at least this size, with something on it."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width >= width and image.height >= height
        assert len(image.convert("RGB").getcolors(maxcolors=2**24) or []) > 100


def load(path: Path) -> ModuleType:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "example", [GAME, pytest.param(CONTRAST, marks=pytest.mark.slow)], ids=lambda path: path.stem
)
def test_missing_matplotlib_is_named_with_its_extra(example: Path, tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('as if it were not installed')\n")
    done = run_python(example, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert done.code == 1
    assert "pip install 'gentool[examples]'" in done.err
    assert "Traceback" not in done.err


# --- two_player_game ----------------------------------------------------------------------------

NUMBER = r"([+-]?\d+\.\d+)"
MOMENT = re.compile(rf"step +(\d+) +largest gap .* {NUMBER} +V\(D,G\) {NUMBER} .* {NUMBER}$")


def test_trained_discriminator_is_the_papers_optimum(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "game.png"
    done = run_python(GAME, "--steps", 40, "--loss", "minimax", "--out", out)
    assert done.code == 0, done.err
    *lines, path = done.lines
    assert path == str(out)
    assert_picture(out, 1000, 700)
    moments = [match.groups() for line in lines if (match := MOMENT.match(line))]
    assert [int(step) for step, *_ in moments] == [0, 1, 6, 40]
    for _, gap, value, optimum in moments:
        assert float(gap) < 0.03
        assert float(value) == pytest.approx(float(optimum), abs=0.002)
        assert -math.log(4) < float(optimum) < 0
    assert float(moments[-1][3]) < float(moments[0][3]) - 0.02  # G leaves D less and less


def test_density_in_closed_form_is_that_of_the_generators_draws() -> None:
    pytest.importorskip("matplotlib")
    game = load(GAME)
    torch.manual_seed(0)
    generator = game.Generator().double()
    for parameter in generator.parameters():  # any shape, not the straight line it begins as
        torch.nn.init.normal_(parameter, std=0.7)
    with torch.no_grad():
        x = generator(game.draw_normal(200_000).double())
        edges = torch.linspace(float(x.min()), float(x.max()), 41, dtype=torch.float64)
        fine = torch.linspace(float(x.min()), float(x.max()), 4001, dtype=torch.float64)
        heights = generator.density(fine)
    shares = torch.histc(x, 40, float(edges[0]), float(edges[-1])) / len(x)
    pieces = heights.unfold(0, 101, 100)
    exact = torch.trapezoid(pieces, dx=float(fine[1] - fine[0]))
    assert torch.allclose(shares, exact, atol=1e-3)


# --- autoencoder_vs_vae -------------------------------------------------------------------------


def contrast(folder: Path, *arguments: object) -> dict[str, str]:
    """Run the example; what it prints, by the words before the colon."""
    pytest.importorskip("matplotlib")
    out = folder / "contrast.png"
    done = run_python(CONTRAST, "--runs", folder / "runs", "--out", out, *arguments)
    assert done.code == 0, done.err
    *lines, path = done.lines
    assert path == str(out)
    assert_picture(out, 1400, 900)
    return dict(line.split(": ") for line in lines)


def test_kl_gives_the_vae_codes_the_spread_of_its_prior(tmp_path: Path) -> None:
    found = contrast(tmp_path, "--images", 6400, "--digits", 1000)
    assert len(found) == 6
    spread = [float(number) for number in re.findall(NUMBER, found["VAE"])]
    assert len(spread) == 2
    assert all(0.6 < deviation < 1.4 for deviation in spread)
    for name in ("autoencoder", "vae"):
        assert (tmp_path / "runs" / name / "model.safetensors").is_file()


@pytest.mark.slow
def test_only_the_vae_makes_all_digits_from_the_prior(tmp_path: Path) -> None:
    found = contrast(tmp_path)
    missed, made = found["Autoencoder, z from N(0, I)"], found["VAE, the same z from N(0, I)"]
    assert len(missed.split()) - 1 <= 8  # the first word is "digits"
    assert made == "digits 0 1 2 3 4 5 6 7 8 9"


# --- the scripts --------------------------------------------------------------------------------


def run_script(
    script: Path, folder: Path, *arguments: object, env: dict[str, str] | None = None
) -> Finished:
    """Run a script where ``gentool`` on the path is the one that is tested."""
    shim = folder / "bin" / "gentool"
    shim.parent.mkdir(exist_ok=True)
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gentool "$@"\n')
    shim.chmod(0o755)
    path = os.pathsep.join([str(shim.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [script, *map(str, arguments)],
        cwd=folder, env=environment({"PATH": path, **(env or {})}), capture_output=True,
        timeout=300, check=False,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout, done.stderr.decode())


@pytest.mark.skipif(sys.platform == "win32", reason="a bash script")
def test_batch_makes_exactly_its_files_and_shards_equal_one_run(vae: Path, tmp_path: Path) -> None:
    done = run_script(BATCH, tmp_path, vae, "out", 5)
    assert done.code == 0, done.err
    out = tmp_path / "out"
    images = [f"seed-{seed}/seed{seed:06d}-{k:06d}.png" for seed in (0, 1) for k in range(5)]
    lists = [f"lists/seed-{seed}-{start}.json" for seed in (0, 1) for start in (0, 2)]
    found = [p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()]
    assert sorted(found) == sorted([*images, *lists, "seed-0.tar.gz", "grid.png"])
    assert done.lines == [f"out/{name}" for name in images]
    assert (out / images[0]).read_bytes() != (out / images[5]).read_bytes()
    with tarfile.open(out / "seed-0.tar.gz") as whole:  # made in one run
        for member in whole.getmembers():
            content = whole.extractfile(member)
            assert content is not None
            assert content.read() == (out / "seed-0" / member.name).read_bytes()
        assert len(whole.getmembers()) == 5


@pytest.mark.skipif(sys.platform == "win32", reason="a bash script")
@pytest.mark.parametrize(
    "arguments", [(), ("model", "out"), ("model", "out", "0"), ("m", "o", "x")]
)
def test_batch_explains_its_usage(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run_script(BATCH, tmp_path, *arguments)
    assert done.code == 2
    assert "usage: generate_batch.sh MODEL OUT COUNT" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a bash script")
def test_batch_stops_at_the_first_error(tmp_path: Path) -> None:
    done = run_script(BATCH, tmp_path, tmp_path / "absent.safetensors", "out", 2)
    assert done.code == 4
    assert "no model file" in done.err
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.skipif(sys.platform == "win32", reason="a bash script")
@pytest.mark.parametrize(
    ("recipe", "latents", "batch"),
    [("burda", 50, 20), pytest.param("pythae", 40, 100, marks=pytest.mark.slow)],
)
def test_likelihood_trains_both_and_prints_their_bounds(
    recipe: str, latents: int, batch: int, tmp_path: Path
) -> None:
    few = {"IMPORTANCE": "5", "RECIPE": recipe}
    done = run_script(LIKELIHOOD, tmp_path, "builtin:digits:300", 400, "out", env=few)
    assert done.code == 0, done.err
    header = load_model(tmp_path / "out" / "iwae").header
    assert header["config"]["latent_size"] == latents
    assert header["training"]["batch"] == batch
    table = " ".join(done.lines)
    assert "out/vae" in table and "out/iwae" in table
    assert len(re.findall(r" -\d{3}", table)) == 4  # ELBO and bound of both
    for name in ("elbo", r"iw-\d+"):
        assert re.search(rf"{name} \+-  +\d\S*  +\d", done.out)  # the standard errors of both
    assert "split=held-out" in done.err
    assert run_script(LIKELIHOOD, tmp_path, 1, 2, 3, 4).code == 2
    assert run_script(LIKELIHOOD, tmp_path, env={"RECIPE": "bruda"}).code == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a bash script")
def test_likelihood_of_a_torchvision_set_is_that_of_its_part_for_testing(
    own_cache: Path, tmp_path: Path
) -> None:
    raw = own_cache / "torchvision-MNIST" / "MNIST" / "raw"
    for part, count in (("train", 40), ("t10k", 24)):
        images = np.stack([draw(k, 28)[..., 0] for k in range(count)])
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    few = {"IMPORTANCE": "5"}
    done = run_script(LIKELIHOOD, tmp_path, "torchvision:MNIST", 80, "out", env=few)
    assert done.code == 0, done.err
    assert re.search(r"likelihood images +24 +24", done.out)
    assert "data=MNIST-test" in done.err
