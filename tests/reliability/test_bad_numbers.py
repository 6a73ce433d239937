"""NaN and infinity in a real training: return to the last good state, or exit 6 with good files."""

import itertools
import json
import math
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from conftest import TINY
from forkserver import ForkServer
from safetensors.torch import load_file

from gentool.core.signals import StopFlag
from gentool.data import open_dataset
from gentool.models.vae.model import VAE
from gentool.training.display import Display
from gentool.training.divergence import NotFinite, check_weights
from gentool.training.loop import Trainer
from gentool.training.settings import Settings
from gentool.training.setup import Setup

PROMISE = "numbers gone wrong: back to the last good state, or exit 6 with good files"
BATCH, STEPS, SAVE_STEPS, LR = 16, 110, 20, 1e-3
RUNS: dict[str, list[object]] = {
    "game": ["gan", "-o", "encoder_share=0"],
    "encoder": ["gan", "-o", "encoder_share=0.9"],  # from step 11 on
    "vae": ["vae"],
    "codes": ["fsq", "-o", "prior_share=0.01"],
    "prior": ["fsq", "-o", "prior_share=0.99"],  # from step 2 on
    "layers": ["hvae", "-o", "layers=4"],
}
NETWORKS = {  # run, phase, what the names of the network's weights begin with
    "discriminator": ("game", "discriminator", ""),
    "generator": ("game", "generator", ""),
    "encoder": ("encoder", "encoder", ""),
    "vae encoder": ("vae", "vae", "encoder"),
    "vae decoder": ("vae", "vae", "decoder"),
    "codec": ("codes", "codes", ""),
    "transformer": ("prior", "prior", ""),
    "top-down ladder": ("layers", "hvae", "decoder"),
}
ONCE = {("discriminator", "loss", 50)}
AGAIN = {*ONCE, ("vae decoder", "gradient", 1)}  # which leaves no file


def cases(short: set[tuple[str, str, int]]) -> list[object]:
    """All of them, most of them slow."""
    every = itertools.product(NETWORKS, ("loss", "gradient", "weight"), (1, 50, 99))
    return [pytest.param(*c, marks=[] if c in short else pytest.mark.slow) for c in every]


def command(run: str, data: Path, out: Path) -> list[object]:
    """A run of 110 steps that saves after every 20th and keeps every file."""
    return ["train", *RUNS[run], "--data", data, "--out", out, *TINY, "--images", BATCH * STEPS,
            "--save-every", BATCH * SAVE_STEPS, "--keep", "all", "--lr", LR]  # fmt: skip


def struck(network: str, what: str, step: int, times: int) -> dict[str, object]:
    """What ``poison`` shall do."""
    _, phase, part = NETWORKS[network]
    return {"kind": "strike", "phase": phase, "part": part, "what": what, "step": step,
            "times": times}  # fmt: skip


def test_numbers_whose_sum_would_overflow_are_finite() -> None:
    huge = {"a": torch.full((3,), 2e38), "b": torch.full((3,), 2e38)}
    check_weights(huge, "tensor")
    with pytest.raises(NotFinite, match="the tensor b"):
        check_weights(huge | {"b": torch.tensor([math.inf])}, "tensor")


def test_a_prior_that_cannot_be_fitted_is_a_setback(image_folder: Path, tmp_path: Path) -> None:
    """Its weights are finite, and yet what the encoder makes of an image is not."""
    settings = Settings(out=str(tmp_path / "run"), size="16", mode="rgb", images=48, batch=16,
                        lr=1e-3, device="cpu", precision="float32")  # fmt: skip
    setup = Setup("vae", VAE.Config(width=4, latent_size=4), settings, time.monotonic())
    data = open_dataset(str(image_folder), size="16")
    trainer = Trainer(data.split(0), setup, Display(StopFlag(), 48, quiet=True))
    for weight in trainer.average.get_submodule("encoder").parameters():
        weight.data.fill_(1e38)
    with pytest.raises(NotFinite, match="average is fitted"):
        trainer.save()
    assert not (tmp_path / "run" / "state.safetensors").exists()


def finite(path: Path) -> bool:
    """Whether every number in a file is."""
    return all(t.isfinite().all() for t in load_file(path).values() if t.is_floating_point())


@pytest.fixture(scope="module")
def alone(
    fork_server: ForkServer, image_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Run -> the folder of a training in which nothing goes wrong."""

    @cache
    def folder(run: str) -> Path:
        out = tmp_path_factory.mktemp("alone") / "run"
        done = fork_server.run(*command(run, image_folder, out))
        assert done.code == 0, done.err
        return out

    return folder


@pytest.mark.promise(PROMISE)
@pytest.mark.parametrize(("network", "what", "step"), cases(ONCE))
def test_once_is_got_over(
    network: str, what: str, step: int, fork_server: ForkServer, image_folder: Path, tmp_path: Path
) -> None:
    out, run = tmp_path / "run", NETWORKS[network][0]
    spoil = struck(network, what, step, times=1)
    done = fork_server.run(*command(run, image_folder, out), spoil=spoil)
    assert done.code == 0, done.err
    notes = [
        r for r in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "setback" in r
    ]
    assert len(notes) == 1
    assert notes[0]["images"] == step // SAVE_STEPS * SAVE_STEPS * BATCH
    assert notes[0]["lr"] == LR / 2
    assert "half the learning rate" in done.err
    kept = [out / "model.safetensors", *(out / "snapshots").iterdir()]
    assert all(map(finite, kept))


@pytest.mark.promise(PROMISE)
@pytest.mark.parametrize(("network", "what", "step"), cases(AGAIN))
def test_again_and_again_ends_with_a_diagnosis_and_the_last_good_file(
    network: str, what: str, step: int,
    fork_server: ForkServer, image_folder: Path, alone: Callable[[str], Path], tmp_path: Path,
) -> None:  # fmt: skip
    out, (run, phase, part) = tmp_path / "run", NETWORKS[network]
    done = fork_server.run(
        *command(run, image_folder, out), spoil=struck(network, what, step, times=99)
    )
    assert done.code == 6, done.err
    assert done.err.count("half the learning rate") == 4  # three setbacks, and the diagnosis
    last = done.err.splitlines()[-1]
    assert f"phase '{phase}'" in last
    if what != "loss":
        assert f"{what} " in last
        assert part in last
    assert "--lr" in last
    images = step // SAVE_STEPS * SAVE_STEPS * BATCH
    if not images:
        assert not (out / "model.safetensors").exists()
        return
    good = load_file(alone(run) / "snapshots" / f"{images:012d}.safetensors")
    found = load_file(out / "model.safetensors")
    assert good.keys() == found.keys()
    assert all(torch.equal(good[k], found[k]) for k in good)
