"""Frames of animations as images: all that are whole, none that is no image, by content."""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import draw, gentool_command
from PIL import Image, TiffImagePlugin

from gentool.core.errors import UsageError
from gentool.core.images import ImageShape
from gentool.data import Preprocessing, open_source, prepare
from gentool.data.encoded import frame_numbers
from gentool.data.opening import open_joined
from gentool.data.preprocessing import open_image

SIDE = 32
FRAMES = 6
RGB = Preprocessing(ImageShape(SIDE, SIDE, 3))
FILMS: dict[str, dict[str, Any]] = {
    "GIF": {"disposal": 2}, "WEBP": {"lossless": True}, "PNG": {}, "AVIF": {"quality": 90},
    "TIFF": {},
}  # fmt: skip


def pictures(count: int = FRAMES, side: int = SIDE) -> list[Image.Image]:
    """Noise, so that every frame takes many bytes."""
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(count)]


def film(kind: str, images: Sequence[Image.Image]) -> bytes:
    buffer = io.BytesIO()
    images[0].save(buffer, kind, save_all=True, append_images=images[1:], **FILMS[kind])
    return buffer.getvalue()


@pytest.mark.parametrize("kind", FILMS)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_frames_are_found_by_content(kind: str, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"film{suffix}").write_bytes(film(kind, pictures()))
    pictures()[0].save(tmp_path / "still.jpg")
    source = open_joined([str(tmp_path)], all_frames=True)
    assert len(source) == FRAMES + 1
    found = prepare(source, RGB)
    assert len(found) == FRAMES + 1
    assert len(set(found.hashes.tolist())) == FRAMES + 1
    if kind in ("WEBP", "PNG", "TIFF"):
        wanted = np.stack([np.asarray(picture) for picture in pictures()])
        assert np.array_equal(found.images[:FRAMES], wanted)


@pytest.mark.parametrize("kind", FILMS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.62, 0.85, 0.95])
def test_a_film_that_is_cut_keeps_its_whole_frames(kind: str, share: float) -> None:
    data = film(kind, pictures())
    whole = [np.asarray(open_image(data, k).convert("RGB")) for k in frame_numbers(data)]
    assert len(whole) == FRAMES
    cut = data[: int(len(data) * share)]
    numbers = frame_numbers(cut)
    good = 0
    for number in numbers:
        try:
            image = open_image(cut, number)
        except Exception:
            assert number == numbers[-1]  # nothing but the frame that is cut
            break
        assert np.array_equal(np.asarray(image.convert("RGB")), whole[number])
        good += 1
    if kind != "TIFF":  # the list of tags of a page may stand at the end of the file
        assert good >= int(share * FRAMES) - (2 if kind == "AVIF" else 1)  # its first is larger
    assert good < len(numbers) or kind == "GIF"  # a cut between two frames of a GIF leaves no trace


@pytest.mark.parametrize("share", [0.5, 0.85])
@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_the_first_frame_of_a_film_that_is_cut_is_read(kind: str, share: float) -> None:
    data = film(kind, pictures())
    first = open_image(data[: int(len(data) * share)])
    assert np.array_equal(np.asarray(first), np.asarray(open_image(data)))


def tiff_with(kinds: list[dict[int, int]], sides: list[int]) -> bytes:
    """A TIFF whose pages have these tags and sides."""
    buffer = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(buffer) as out:
        for number, (tags, side) in enumerate(zip(kinds, sides, strict=True)):
            info = TiffImagePlugin.ImageFileDirectory_v2()
            for tag, value in tags.items():
                info[tag] = value
            Image.fromarray(draw(number, side=side)).save(out, "TIFF", tiffinfo=info)
            out.newFrame()
    return buffer.getvalue()


@pytest.mark.parametrize(("kinds", "wanted"), [
    ([{}, {}], [0, 1]),
    ([{}, {254: 1}], [0]),
    ([{}, {255: 3}, {255: 2}], [0, 1]),
    ([{254: 1}, {254: 0}], [1]),
    ([{254: 0}, {254: 1}, {254: 2}, {254: 4}], [0, 2]),
    ([{254: 1}], [0]),
])  # fmt: skip
def test_thumbnails_and_masks_of_a_tiff_are_no_images(
    kinds: list[dict[int, int]], wanted: list[int]
) -> None:
    data = tiff_with(kinds, [SIDE] * len(kinds))
    assert frame_numbers(data) == wanted
    assert np.array_equal(np.asarray(open_image(data)), draw(wanted[0], side=SIDE))


def test_a_photo_with_a_second_picture_in_its_file_is_one_image(tmp_path: Path) -> None:
    first, second = pictures(2)
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[second])
    assert len(open_joined([str(tmp_path)], all_frames=True)) == 1
    assert open_source(str(tmp_path)).open(0).image.size == (SIDE, SIDE)


def check(*arguments: object) -> dict[str, Any]:
    done = gentool_command("data", "check", *arguments, "--json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


@pytest.mark.parametrize("packed", [False, True])
def test_check_tells_frames_apart(packed: bool, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "a.gif").write_bytes(film("GIF", pictures(4)))
    (folder / "b.gif").write_bytes(film("GIF", pictures(4)))
    (folder / "c.png").write_bytes(film("PNG", pictures(6)[4:]))
    place = folder
    if packed:
        place = tmp_path / "films.zip"
        with zipfile.ZipFile(place, "w") as out:
            for path in sorted(folder.iterdir()):
                out.write(path, path.name)
    found = check(place, "--all-frames")
    assert found["images"] == found["readable"] == 10
    assert found["duplicates"] == [
        ["a.gif", "b.gif"], *([f"a.gif#{k}", f"b.gif#{k}"] for k in (1, 2, 3))
    ]  # fmt: skip
    assert found["formats"] == {"GIF": 8, "PNG": 2}


def test_what_check_calls_good_is_what_training_takes(tmp_path: Path) -> None:
    data = film("GIF", pictures())
    (tmp_path / "cut.gif").write_bytes(data[: len(data) // 2])
    (tmp_path / "cut.jpg").write_bytes(film("WEBP", pictures())[:-900])
    (tmp_path / "thumbnail.tif").write_bytes(tiff_with([{}, {254: 1}], [SIDE, 8]))
    (tmp_path / "text.png").write_bytes(b"not an image")
    for frames in (False, True):
        source = open_joined([str(tmp_path)], all_frames=frames)
        dataset = prepare(source, RGB, max_bad=1)
        found = check(tmp_path, *(["--all-frames"] if frames else []))
        assert found["images"] == len(source)
        assert found["readable"] == len(dataset)
        assert [(row["image"], row["reason"]) for row in found["bad"]] == list(dataset.bad)
        assert (len(dataset) > 6) == frames


def test_frames_of_joined_sets(tmp_path: Path, own_cache: Path) -> None:
    """Also beside a set that is no files."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "film.webp").write_bytes(film("WEBP", pictures()))
    np.save(tmp_path / "c.npy", np.zeros((3, SIDE, SIDE, 3), np.uint8))
    specs = [str(tmp_path / "a"), str(tmp_path / "b@2"), str(tmp_path / "c.npy")]
    source = open_joined(specs, all_frames=True)
    assert len(source) == 2 * FRAMES + 3
    assert source.repeats is not None
    assert source.repeats.tolist() == [1] * FRAMES + [2] * FRAMES + [1] * 3
    assert len(prepare(source, RGB)) == len(source)
    with pytest.raises(UsageError, match="no frames"):
        open_joined([specs[2], specs[2]], all_frames=True)
