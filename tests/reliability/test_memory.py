"""Out of memory in a real training: the batch is split, with the same result and a message."""

from pathlib import Path

import pytest
import torch
from conftest import TINY, gentool_command
from forkserver import ForkServer
from safetensors.torch import load_file

PROMISE = "out of memory: the batch in parts, the same result up to rounding"
BATCH = 16
MODELS: dict[str, list[object]] = {  # without batch normalisation, which sees the parts
    "gan": ["gan", "-o", "network=r3", "-o", "penalties=r1+r2", "-o", "encoder_share=0"],
    "vae": ["vae", "-o", "prior=normal"],
    "vampvae": ["vampvae"],
    "vqvae": ["vqvae"],
    "autoencoder": ["autoencoder"],
}
SHORT = {("gan", "backward", 3)}
CASES = [
    pytest.param(m, moment, step, fits,
                 marks=[] if (m, moment, fits) in SHORT else pytest.mark.slow)
    for m in MODELS
    for moment in ("forward", "backward")
    for step, fits in ((0, 8), (2, 3), (5, 1))
]  # fmt: skip


def command(model: str, data: Path, out: Path, *more: object) -> list[object]:
    """A run of eight steps."""
    return ["train", *MODELS[model], "--data", data, "--out", out, *TINY, "--images", 8 * BATCH,
            "--score-every", 0, *more]  # fmt: skip


@pytest.mark.promise(PROMISE)
@pytest.mark.parametrize(("model", "moment", "step", "fits"), CASES)
def test_a_batch_in_parts_gives_the_same_weights(
    model: str, moment: str, step: int, fits: int,
    fork_server: ForkServer, image_folder: Path, tmp_path: Path,
) -> None:  # fmt: skip
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert fork_server.run(*command(model, image_folder, whole)).code == 0
    spoil = {"kind": "starve", "fits": fits, "moment": moment, "step": step}
    done = fork_server.run(*command(model, image_folder, parts), spoil=spoil)
    assert done.code == 0, done.err
    size = next(s for s in (8, 4, 2, 1) if s <= fits)
    assert f"a batch of {BATCH} is now split into parts of {size} images" in done.err
    expected, found = (load_file(f / "model.safetensors") for f in (whole, parts))
    assert expected.keys() == found.keys()
    # Adam turns a gradient that rounding alone made into a whole step, so not every weight to 1e-5
    gaps = torch.cat([(expected[k] - found[k]).abs().flatten() for k in expected
                      if expected[k].is_floating_point()])  # fmt: skip
    assert bool(gaps.median() < 1e-5 and gaps.quantile(0.99) < 1e-3)


def test_not_even_one_image(fork_server: ForkServer, image_folder: Path, tmp_path: Path) -> None:
    spoil = {"kind": "starve", "fits": 0, "moment": "backward", "step": 3}
    out = tmp_path / "run"
    done = fork_server.run(*command("vae", image_folder, out, "--save-every", BATCH), spoil=spoil)
    assert done.code == 5, done.err
    assert "out of memory on cpu, even with a split batch" in done.err
    done = fork_server.run(*command("vae", image_folder, out))  # with memory again
    assert done.code == 0, done.err


@pytest.mark.parametrize("fits", [pytest.param(16, marks=pytest.mark.slow), 5])
def test_an_automatic_batch_fits_and_is_kept_by_the_run(
    fits: int, fork_server: ForkServer, image_folder: Path, tmp_path: Path
) -> None:
    spoil = {"kind": "starve", "fits": fits, "moment": "forward", "step": 0}
    out = tmp_path / "run"
    arguments = command("vae", image_folder, out, "--batch", "auto")
    done = fork_server.run(*arguments, "--stop-after", 8, spoil=spoil)
    assert done.code == 75, done.err
    batch = next(s for s in (16, 8, 4) if s <= fits)
    assert f"batch {batch}: {2 * batch} images do not fit into memory" in done.err
    assert "in parts" not in done.err
    again = fork_server.run(*arguments)  # though there is memory for more now
    assert again.code == 0, again.err
    assert f"--batch {batch} (auto measures only for a new run)" in again.err


def test_an_automatic_batch_where_all_fit(image_folder: Path, tmp_path: Path) -> None:
    arguments = command("vae", image_folder, tmp_path / "run", "--batch", "auto")
    done = gentool_command(*arguments)
    assert done.code == 0, done.err
    assert "fits into memory" in done.err


@pytest.mark.parametrize("word", ["many", "-1", "1.5", "0"])
def test_a_batch_that_is_no_number(word: str, image_folder: Path, tmp_path: Path) -> None:
    done = gentool_command(*command("vae", image_folder, tmp_path / "run", "--batch", word))
    assert done.code == 2
    assert "batch" in done.err
