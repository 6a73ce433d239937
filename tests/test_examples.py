"""The examples, each as a process of its own with small settings: what they make, and its truth."""

import math
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Finished, environment, run_python
from PIL import Image

EXAMPLES = ROOT / "examples"
PICTURES = ("two_player_game.py", "autoencoder_vs_vae.py")


def assert_png(path: Path, width: int, height: int) -> None:
    """A whole PNG of at least this size, with something on it."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width >= width and image.height >= height
        assert len(image.convert("RGB").getcolors(maxcolors=2**24) or []) > 100


# --- two_player_game ----------------------------------------------------------------------------

NUMBER = r"([+-]?\d+\.\d+)"
MOMENT = re.compile(rf"step +(\d+) +largest gap .* {NUMBER} +V\(D,G\) {NUMBER} .* {NUMBER}$")


@pytest.mark.parametrize("arguments", [(), ("--loss", "minimax", "--data", "gaussian")])
def test_trained_discriminator_is_the_papers_optimum(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "game.png"
    done = run_python(EXAMPLES / "two_player_game.py", "--steps", 40, "--out", out, *arguments)
    assert done.code == 0, done.err
    *lines, path = done.lines
    assert path == str(out)
    assert_png(out, 1000, 700)
    moments = [match.groups() for line in lines if (match := MOMENT.match(line))]
    assert [int(step) for step, *_ in moments] == [0, 1, 6, 40]
    for _, gap, value, optimum in moments:
        assert float(gap) < 0.03
        assert float(value) == pytest.approx(float(optimum), abs=0.002)
        assert -math.log(4) < float(optimum) < 0
    # The generator lowers what is left for the best discriminator.
    assert float(moments[-1][3]) < float(moments[0][3]) - 0.02


# --- autoencoder_vs_vae -------------------------------------------------------------------------


# --- generate_batch -----------------------------------------------------------------------------
