"""Tests that need a GPU; run them with ``pytest -m gpu``."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import gentool_command

from gentool.checkpoint import load_model
from gentool.inference.sampling import sample_images
from gentool.models import MODELS

DEVICES = [
    name
    for name, here in (("cuda", torch.cuda.is_available()), ("mps", torch.mps.is_available()))
    if here
]
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not DEVICES, reason="no GPU here")]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", list(MODELS))
def test_a_model_trained_on_a_gpu_makes_the_same_images_on_a_cpu(
    name: str, device: str, image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = ("train", name, "--data", image_folder, "--out", out, "--size", 16, "--batch", 16,
               "--width", 8, "--images", 640, "--device", device)  # fmt: skip
    assert gentool_command(*command, "--stop-after", 320).code == 75
    done = gentool_command(*command)
    assert done.code == 0, done.err
    there = sample_images(load_model(out, device), 8).astype(int)
    here = sample_images(load_model(out, "cpu"), 8).astype(int)
    assert np.abs(there - here).max() <= 2  # grey levels; the rounding of two libraries
