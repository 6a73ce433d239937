"""Training and data check say which images to look at: tiny ones, copies, likenesses, films."""

import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, gentool_command
from PIL import Image

from gentool.core.images import ImageShape
from gentool.data import Preprocessing, open_source, prepare
from gentool.data.remarks import Marks, is_far_smaller

RGB = Preprocessing(ImageShape(32, 32, 3))


def photo(seed: int, side: int = 64) -> Image.Image:
    """A smooth picture that no other seed comes near."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def scrape(tmp_path: Path) -> Path:
    """40 photos, 3 tracking pixels, 2 copies, and a photo saved again."""
    folder = tmp_path / "scrape"
    folder.mkdir()
    for k in range(40):
        photo(k).save(folder / f"{k:02d}.jpg", quality=95)
    for k in range(3):
        Image.new("RGB", (1 + k, 1), (k * 90, 0, 0)).save(folder / f"pixel{k}.gif")
    for k in (3, 4):
        (folder / f"{k:02d} copy.jpg").write_bytes((folder / f"{k:02d}.jpg").read_bytes())
    photo(7).save(folder / "again.jpg", quality=70)
    return folder


LINE = (
    "to look at: 3 images far smaller than 32x32 (pixel0.gif), 2 copies of others "
    "(03.jpg = 03 copy.jpg), 1 nearly equal to others (again.jpg = 07.jpg); gentool data check "
    "lists them"
)


@pytest.mark.parametrize("cache", ["disk", "ram"])
def test_preparation_counts_what_to_look_at(scrape: Path, own_cache: Path, cache: str) -> None:
    for _ in range(2):  # the second time from the cache
        notes = prepare(open_source(str(scrape)), RGB, cache=cache).notes  # type: ignore[arg-type]
        assert len(notes) == 1
        left, right = notes[0].split("1 nearly equal to others (")
        assert left == LINE.split("1 nearly")[0]
        assert {"again.jpg", "07.jpg"} == set(right.split(")")[0].split(" = "))


def test_a_preparation_that_was_stopped_counts_all(scrape: Path, own_cache: Path) -> None:
    whole = prepare(open_source(str(scrape)), RGB, cache="ram").notes

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(open_source(str(scrape)), RGB, stop)
    assert prepare(open_source(str(scrape)), RGB).notes == whole


def test_bad_files_do_not_shift_the_names(scrape: Path, own_cache: Path) -> None:
    (scrape / "00 broken.jpg").write_bytes(b"nothing")
    (scrape / "05 broken.jpg").write_bytes(b"nothing")
    notes = prepare(open_source(str(scrape)), RGB, max_bad=1).notes
    assert "(03.jpg = 03 copy.jpg)" in notes[0]
    assert "(pixel0.gif)" in notes[0]


def test_nothing_to_look_at_is_no_note(tmp_path: Path, own_cache: Path) -> None:
    for k in range(12):
        photo(k).save(tmp_path / f"{k}.png")
    assert prepare(open_source(str(tmp_path)), RGB).notes == ()
    assert prepare(open_source("builtin:shapes:300"), RGB).notes == ()


def test_train_says_it_again_from_the_cache(scrape: Path, own_cache: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        done = gentool_command(
            "train", "gan", "--data", scrape, "--out", tmp_path / name, "--images", 32, *TINY,
        )  # fmt: skip
        assert done.code == 0, done.err
        assert "3 images far smaller than 16x16 (pixel0.gif)" in done.err
        assert "2 copies of others" in done.err
    done = gentool_command("data", "check", scrape, "--size", "32")
    assert "3 images are far smaller than 32x32" in done.out
    assert "pixel0.gif (1x1)" in done.out


def film(seed: int, count: int) -> list[Image.Image]:
    return [photo(100 * seed + k, 32) for k in range(count)]


KINDS: dict[str, Callable[[list[Image.Image], io.BytesIO], None]] = {
    ".gif": lambda f, out: f[0].save(out, "GIF", save_all=True, append_images=f[1:]),
    ".webp": lambda f, out: f[0].save(out, "WEBP", save_all=True, append_images=f[1:]),
    ".png": lambda f, out: f[0].save(out, "PNG", save_all=True, append_images=f[1:]),
    ".avif": lambda f, out: f[0].save(out, "AVIF", save_all=True, append_images=f[1:]),
    ".tif": lambda f, out: f[0].save(out, "TIFF", save_all=True, append_images=f[1:]),
}


def written(folder: Path, films: int, stills: int, suffix: str) -> Path:
    folder.mkdir()
    for k in range(films + stills):
        buffer = io.BytesIO()
        KINDS[suffix](film(k, 3 if k < films else 1), buffer)
        (folder / f"{k:02d}{suffix}").write_bytes(buffer.getvalue())
    return folder


@pytest.mark.parametrize("suffix", KINDS)
def test_a_folder_of_films_names_all_frames(suffix: str, tmp_path: Path, own_cache: Path) -> None:
    folder = written(tmp_path / "films", 6, 2, suffix)
    told = f"6 of 8 files have several frames or pages (00{suffix})"
    for _ in range(2):
        notes = prepare(open_source(str(folder)), RGB).notes
        assert any(note.startswith(told) and "--all-frames" in note for note in notes)
    done = gentool_command("data", "check", folder)
    assert told in done.out
    done = gentool_command("data", "check", folder, "--all-frames")
    assert "have several frames" not in done.out
    assert "20, of which 20 can be read" in done.out


def test_a_few_films_among_others_are_named_by_check_only(tmp_path: Path, own_cache: Path) -> None:
    folder = written(tmp_path / "mixed", 1, 7, ".gif")
    assert not any("frames" in n for n in prepare(open_source(str(folder)), RGB).notes)
    found = json.loads(gentool_command("data", "check", folder, "--json").out)
    assert found["with_further_frames"] == ["00.gif"]
    assert any("--all-frames" in remark for remark in found["remarks"])


@pytest.mark.parametrize(("size", "small"), [
    ((8, 8), False), ((7, 8), True), ((300, 7), True), ((8, 8000), False), ((1, 1), True),
])  # fmt: skip
def test_far_smaller_is_enlarged_more_than_four_times(size: tuple[int, int], small: bool) -> None:
    assert is_far_smaller(size, RGB.shape) == small


def test_marks_of_chunks_add_up() -> None:
    rng = random.Random(0)
    parts = [Marks(1, k, 0, -1) if rng.random() < 0.5 else Marks(0, -1, 1, k) for k in range(9)]
    total = Marks()
    for part in parts:
        total = total.plus(part)
    assert total.small + total.films == 9
    assert total.first_small == next(k for k, part in enumerate(parts) if part.small)
    assert total.first_film == next(k for k, part in enumerate(parts) if part.films)
