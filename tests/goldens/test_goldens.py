"""Every model family makes the recorded tensors and pixels, and old files open.

The record contains some kinds of machines. On another kind, the tests only check that everything
runs; see ``paths.py`` for comparing two versions there.
"""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from paths import FAMILIES, PATHS, RECORDED, kind_of_machine, make

from gentool.models.presets import PRESETS

IN_EVERY_RUN = ("gan", "stylegan2", "vae", "hvae", "autoencoder", "vqvae")
KNOWN = json.loads(RECORDED.read_text())


def test_every_family_is_followed() -> None:
    assert set(FAMILIES) == set(PRESETS)
    assert all(set(paths) == set(PATHS) for paths in KNOWN.values())


@pytest.mark.promise("old files open, old runs go on, and every family makes the same bytes")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, marks=[] if p in IN_EVERY_RUN or p.startswith("old") else pytest.mark.slow)
        for p in PATHS
    ],
)
def test_tensors_and_pixels_are_those_that_were_recorded(path: str) -> None:
    made = make(path)
    kind = kind_of_machine()
    if kind not in KNOWN:
        pytest.skip(f"it ran; nothing is recorded for {kind}")
    assert made == KNOWN[kind][path]
