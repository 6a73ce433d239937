"""The 1,000 modes: equally frequent, and read back without error."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import gentool_command
from PIL import Image

from gentool.core.errors import UsageError
from gentool.core.images import Pixels
from gentool.data import open_source
from gentool.data.sources.stacked_digits import MODES, UNREADABLE, Modes, coverage, read_modes


def drawn(numbers: range, height: int = 32, width: int = 32) -> Pixels:
    """Images of the set."""
    return np.stack([Modes().render(k, height, width) for k in numbers])


@pytest.mark.parametrize("size", [(32, 32), (32, 48), (64, 64)])
def test_the_rule_reads_every_mode_back(size: tuple[int, int]) -> None:
    start = 123_456_000
    numbers = read_modes(drawn(range(start, start + MODES), *size))
    np.testing.assert_array_equal(numbers, np.arange(MODES))


def test_what_shows_no_number_is_unreadable() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    assert (read_modes(noise) == UNREADABLE).all()
    assert (read_modes(np.zeros((1, 32, 32, 3), np.uint8)) == UNREADABLE).all()
    one_channel_empty = drawn(range(20))
    one_channel_empty[..., 1] = 0
    assert (read_modes(one_channel_empty) == UNREADABLE).all()


def test_the_digits_of_a_number_stand_in_red_green_and_blue() -> None:
    image = drawn(range(481, 482))
    assert read_modes(image[..., ::-1]).tolist() == [184]


def test_coverage_counts_modes_and_measures_evenness() -> None:
    even = coverage(np.arange(5 * MODES) % MODES)
    assert even == {"modes": 1000, "modes kl": 0, "modes unreadable": 0}
    half = coverage(np.arange(MODES) % 500)
    assert half["modes"] == 500
    assert half["modes kl"] == pytest.approx(np.log(2))
    assert coverage(np.array([UNREADABLE, 7]))["modes unreadable"] == 0.5
    assert coverage(np.full(4, UNREADABLE))["modes"] == 0


def test_the_set_has_no_classes_and_each_mode_equally_often() -> None:
    source = open_source("builtin:modes:3000")
    assert source.labels is None
    assert source.classes == ()
    numbers = [int(Modes().factors(k)["number"]) for k in range(3000)]
    assert (np.bincount(numbers) == 3).all()
    with pytest.raises(UsageError, match="Use builtin:modes:4000"):
        open_source("builtin:modes:3001")
    found = source.read_modes(drawn(range(10)))
    assert found is not None
    assert found.tolist() == list(range(10))
    assert open_source("builtin:digits:10").read_modes(drawn(range(1))) is None


def test_evaluate_reads_the_modes_of_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k, image in enumerate(drawn(range(64))):
        Image.fromarray(image if k else 0 * image).save(folder / f"{k}.png")
    done = gentool_command(
        "evaluate", folder, "--data", "builtin:modes:1000", "--metrics", "modes",
        "--features", "random", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    (found,) = json.loads(done.out)["scores"]
    assert found["modes"] == 63
    assert found["modes unreadable"] == 1 / 64
    assert found["modes kl"] == pytest.approx(np.log(1000 / 63))
