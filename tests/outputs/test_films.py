"""Videos: frames and recipe are read back, a stop leaves nothing, options that fit nothing."""

import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SIDE, gentool_command
from PIL import Image

from gentool.cli.films import FilmOptions
from gentool.core.errors import UsageError
from gentool.core.images import ImageShape, Pixels
from gentool.core.picture_files import read_recipe
from gentool.outputs.destination import parse_destination
from gentool.outputs.films import Film, VideoSink
from gentool.outputs.ownership import Guard
from gentool.outputs.plan import NamedImage, Plan, Planned
from gentool.outputs.writers import into

av = pytest.importorskip("av")
VIDEOS = ("film.mp4", "film.webm")


def frames_of(path: Path) -> tuple[list[Pixels], Fraction]:
    """Decode a video with PyAV: its frames, and frames per second."""
    with av.open(path) as file:
        rate = file.streams.video[0].average_rate
        return [f.to_ndarray(format="rgb24") for f in file.decode(video=0)], rate


def interpolate(gan: Path, out: Path, *more: object) -> Any:
    return gentool_command(
        "interpolate", gan, "--seeds", "0-2", "--steps", 3, "-o", out, "--device", "cpu", *more
    )


@pytest.mark.parametrize("name", VIDEOS)
def test_a_video_has_the_frames_of_the_folder_enlarged(
    name: str, gan: Path, tmp_path: Path
) -> None:
    assert interpolate(gan, tmp_path / "folder").code == 0
    done = interpolate(gan, tmp_path / name, "--fps", 12.5, "--enlarge", 4)
    assert done.code == 0, done.err
    assert done.lines == [str(tmp_path / name)]
    frames, rate = frames_of(tmp_path / name)
    files = sorted((tmp_path / "folder").glob("*.png"))
    assert (len(frames), rate) == (len(files), Fraction(25, 2))
    for frame, file in zip(frames, files, strict=True):
        assert frame.shape == (4 * SIDE, 4 * SIDE, 3)
        with Image.open(file) as image:
            wanted = np.asarray(image.convert("RGB").resize((4 * SIDE,) * 2, 0), dtype=float)
        assert np.abs(frame - wanted).mean() < 12  # colours have half the resolution
        assert np.abs(frame.mean(axis=2) - wanted.mean(axis=2)).mean() < 8


@pytest.mark.parametrize("name", VIDEOS)
def test_the_recipe_is_read_back_and_decides_what_is_replaced(
    name: str, gan: Path, tmp_path: Path
) -> None:
    film = tmp_path / name
    assert interpolate(gan, film).code == 0
    recipe = read_recipe(film)
    assert recipe is not None
    assert (recipe["made_by"], recipe["seeds"], recipe["steps"]) == ("interpolate", [0, 1, 2], 3)
    told = json.loads(gentool_command("info", film, "--json").out)
    assert told["recipe"]["milliseconds"] == 60
    before = film.read_bytes()
    assert interpolate(gan, film).code == 0
    assert film.read_bytes() == before
    assert interpolate(gan, film, "--fps", 5).code == 2
    assert film.read_bytes() == before
    assert interpolate(gan, film, "--fps", 5, "--overwrite").code == 0


def test_a_video_of_another_program_is_not_replaced(gan: Path, tmp_path: Path) -> None:
    film = tmp_path / "holiday.mp4"
    film.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(3000))
    assert read_recipe(film) is None
    assert interpolate(gan, film, "--overwrite").code == 2


def test_a_stop_leaves_no_file(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    shape = ImageShape(16, 16, 3)
    plan = Plan(lambda: (Planned(f"{k}", {"index": k}) for k in range(5)), 5, shape)
    sink = VideoSink(film, plan, Guard([]), Film())
    pixels = np.zeros((16, 16, 3), np.uint8)
    running = into(sink, (NamedImage(f"{k}", pixels, {}) for k in range(5)))
    next(running)
    assert list(tmp_path.iterdir())  # the temporary file
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt())  # type: ignore[attr-defined]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", VIDEOS)
def test_without_the_library_a_video_is_refused_before_the_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match=r"gentool\[video\]"):
        parse_destination(str(tmp_path / name), None, Guard([]), (".mp4", ".webm"))


@pytest.mark.parametrize(
    ("seconds", "keys", "loop", "steps"),
    [(2.0, 3, False, 24), (2.0, 3, True, 17), (0.01, 3, False, 1), (1.0, 2, False, 24)],
)
def test_the_frames_last_as_long_as_is_wanted(
    seconds: float, keys: int, loop: bool, steps: int
) -> None:
    options = FilmOptions(None, 25, seconds, None, None)
    assert options.steps_between(keys, Film(40), loop=loop) == steps


@pytest.mark.parametrize(
    "more",
    [("--fps", 5, "--milliseconds", 5), ("--seconds", 3), ("--enlarge", 0), ("--fps", 0)],
)
def test_options_that_contradict_each_other_are_refused(
    more: tuple[object, ...], gan: Path, tmp_path: Path
) -> None:
    assert interpolate(gan, tmp_path / "film.gif", *more).code == 2
    assert not list(tmp_path.iterdir())


def test_an_enlarged_animation_has_sharp_edges(gan: Path, tmp_path: Path) -> None:
    for name, more in (("plain.gif", ()), ("large.gif", ("--enlarge", 3))):
        assert interpolate(gan, tmp_path / name, *more).code == 0
    with Image.open(tmp_path / "plain.gif") as plain, Image.open(tmp_path / "large.gif") as large:
        small = np.asarray(plain.convert("RGB"))
        assert np.array_equal(
            np.asarray(large.convert("RGB")), small.repeat(3, axis=0).repeat(3, axis=1)
        )
