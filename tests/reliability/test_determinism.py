"""The same command gives the same bytes with any hash seed of Python, in separate processes."""

import hashlib
from pathlib import Path

import pytest
from conftest import TINY, run_gentool

from gentool.models import MODELS


@pytest.mark.slow
@pytest.mark.promise("the same command five times, Python's hash seed varied: the same bytes")
@pytest.mark.parametrize("model", MODELS)
def test_five_processes_give_byte_identical_model_files(
    model: str, image_folder: Path, tmp_path: Path
) -> None:
    found = set()
    for salt in ("0", "1", "4321", "4294967295", "random"):
        out = tmp_path / salt
        done = run_gentool(
            "train", model, "--data", image_folder, "--out", out, "--images", 320, *TINY,
            env={"PYTHONHASHSEED": salt},
        )  # fmt: skip
        assert done.code == 0, done.err
        found.add(hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest())
    assert len(found) == 1
