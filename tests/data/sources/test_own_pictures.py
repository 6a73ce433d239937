"""What gentool made is not taken as data, whatever it is called and wherever it lies."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, draw, gentool_command, write_images
from containers import KINDS, write_files
from PIL import Image

from gentool.core.images import ImageShape
from gentool.core.picture_files import encode, may_hold_recipe, read_recipe, save_film
from gentool.data import Preprocessing, open_images, open_source, prepare
from gentool.data.badfiles import note_on_own
from gentool.data.intake import OWN, OWN_RUN, Intake
from gentool.data.sources import own_pictures
from gentool.data.sources.own_pictures import is_own

RECIPE: dict[str, object] = {"gentool": "1", "made_by": "sample", "seed": 3}
RGB = Preprocessing(ImageShape(16, 16, 3))


def picture(suffix: str, channels: int = 3, recipe: dict[str, object] | None = RECIPE) -> bytes:
    return encode(np.dstack([draw(0)] * 2)[..., :channels], suffix, recipe)


def film(suffix: str) -> bytes:
    buffer = io.BytesIO()
    save_film([draw(0), draw(1)], buffer, suffix, 60, RECIPE)
    return buffer.getvalue()


OWN_FILES = {
    **{f"{s[1:]} {c}": picture(s, c) for s in (".png", ".jpg", ".webp") for c in (1, 3, 4)},
    "gif film": film(".gif"), "webp film": film(".webp"),
    "long recipe": encode(draw(0), ".jpg", RECIPE | {"more": "x" * 200_000}),
}  # fmt: skip
PLAIN = picture(".png", recipe=None)


@pytest.mark.parametrize("data", OWN_FILES.values(), ids=OWN_FILES)
def test_every_picture_and_film_is_recognised_by_its_first_kilobyte(data: bytes) -> None:
    assert may_hold_recipe(data[:1024])
    assert is_own(data)


def _foreign() -> dict[str, bytes]:
    found = {s: picture(s, recipe=None) for s in (".png", ".jpg", ".webp")}
    for kind in ("JPEG", "WEBP", "PNG", "GIF", "TIFF"):
        buffer, exif = io.BytesIO(), Image.Exif()
        exif[0x010E] = "a photo of the gentool factory"
        Image.fromarray(draw(0)).save(buffer, kind, exif=exif, comment="gentool is a word")
        found[f"words in {kind}"] = buffer.getvalue()
    found["forged"] = picture(".png", recipe=None).replace(b"IDAT", b"tEXtgentool\0{", 1)
    return found


@pytest.mark.parametrize("data", _foreign().values(), ids=_foreign())
def test_pictures_of_others_are_not(data: bytes) -> None:
    assert not is_own(data)
    assert read_recipe(data) is None


def passed(intake: Intake, reason: str = OWN) -> int:
    return sum(row.count for row in intake.passed if row.reason == reason)


@pytest.mark.parametrize("kind", KINDS)
def test_own_pictures_beside_others_are_passed_over(kind: str, tmp_path: Path) -> None:
    files = {"cat/1.png": PLAIN, "dog/1.png": PLAIN, "sheet.png": picture(".png"),
             "cat/film.gif": film(".gif"), "new/a/x.webp": picture(".webp"),
             "samples/1.png": PLAIN, "samples/0.jpg": picture(".jpg")}  # fmt: skip
    source = open_source(write_files(kind, tmp_path, files))
    assert source.paths == ("cat/1.png", "dog/1.png", "samples/1.png")
    assert source.classes == ("cat", "dog", "samples")
    assert passed(source.intake) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_own_pictures_is_data(kind: str, tmp_path: Path) -> None:
    place = write_files(kind, tmp_path, {"a/1.png": picture(".png"), "b/2.png": picture(".png")})
    source = open_source(place)
    assert source.paths == ("a/1.png", "b/2.png")
    assert source.classes == ("a", "b")
    assert source.intake.own
    assert passed(source.intake) == 0
    assert prepare(source, RGB).bad == ()


@pytest.mark.parametrize("kind", KINDS)
def test_images_to_score_or_reconstruct_may_be_own(kind: str, tmp_path: Path) -> None:
    place = write_files(kind, tmp_path, {"1.png": picture(".png"), "2.png": PLAIN})
    source = open_images(place)
    assert source is not None
    assert len(source) == 2
    source.load(0, RGB)


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_the_listing_misses_is_left_out_when_it_is_read(kind: str, tmp_path: Path) -> None:
    """It is neither a bad file nor an error, however many there are and however strict one is."""
    files = {f"{k:03d}.png": encode(draw(k), ".png") for k in range(40)}
    place = write_files(kind, tmp_path, files | {"020.png": picture(".png")})
    if kind == "folder":
        os.utime(place / "020.png", (0, 0))  # older than all others
    source = open_source(place)
    assert len(source) == 40
    dataset = prepare(source, RGB, strict=True)
    assert len(dataset) == 39
    assert note_on_own(dataset.bad) == f"passed over 1 {OWN} (020.png)"
    done = gentool_command("data", "check", place)
    assert "39 can be read" in done.out or "40, of which 39" in done.out
    assert f"passed over 1 {OWN}, the first 020.png" in done.out
    assert "bad:" not in done.out


def test_a_listing_opens_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bytes] = []

    def noted(head: bytes) -> bool:
        opened.append(head)
        return may_hold_recipe(head)

    monkeypatch.setattr(own_pictures, "may_hold_recipe", noted)
    monkeypatch.setattr(own_pictures, "ALL_MISSES", 20)
    for k in range(5):
        write_images(tmp_path / f"c{k}", 40)
    assert len(open_source(tmp_path)) == 200
    assert len(opened) == 20


def test_the_newest_file_is_found_in_a_flat_folder(tmp_path: Path) -> None:
    files = {f"{k:03d}.png": PLAIN for k in range(60)}
    place = write_files("folder", tmp_path, files)
    for file in place.iterdir():
        os.utime(file, (10**9, 10**9))
    before = open_source(place)
    (place / "030-sheet.png").write_bytes(picture(".png"))
    after = open_source(place)
    assert after.fingerprint == before.fingerprint
    assert passed(after.intake) == 1


# --- by the command, as a user meets it ---------------------------------------------------------


def test_results_in_the_folder_that_is_trained_on_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    write_images(tmp_path / "p", 40)
    monkeypatch.chdir(tmp_path / "p")
    train = ["train", "vae", "--data", ".", "--stop-after", 160, *TINY]
    assert gentool_command("data", "check", ".", "-o", "sheet.png").code == 0
    first = gentool_command(*train)
    assert first.code == 75, first.err
    assert "conditional on 2 classes" in first.err
    again = gentool_command(*train)
    assert again.code == 75, again.err
    assert "continuing at 160 images" in again.err
    assert gentool_command("sample", "runs/vae-p", "-n", 4).code == 0
    assert gentool_command("sample", "runs/vae-p", "-n", 4, "-o", "bar/film.jpg").code == 0
    third = gentool_command(*train)
    assert third.code == 75, third.err
    assert "continuing at 320 images" in third.err
    source = open_source(".")
    assert source.classes == ("bar", "disc")
    assert len(source) == 40
    assert (passed(source.intake), passed(source.intake, OWN_RUN)) == (6, 1)


def test_own_classes_called_as_folders_of_a_run_stay(tmp_path: Path, vae: Path) -> None:
    """Also beside the files of a run."""
    for name in ("samples", "snapshots", "other"):
        write_files("folder", tmp_path / name, {"1.png": PLAIN})
        (tmp_path / name / "set").rename(tmp_path / name / "x")
    for file in ("state.safetensors", "log.jsonl", "model.safetensors"):
        shutil.copy(vae / file, tmp_path)
    source = open_source(tmp_path)
    assert source.classes == ("other", "samples", "snapshots")


def test_previews_of_an_old_run_without_recipes_are_passed_over(tmp_path: Path, vae: Path) -> None:
    write_images(tmp_path / "set", 4)
    shutil.copytree(vae, tmp_path / "set" / "run")
    for preview in (tmp_path / "set" / "run" / "samples").iterdir():
        preview.write_bytes(PLAIN)
    source = open_source(tmp_path / "set")
    assert source.classes == ("bar", "disc")
    assert passed(source.intake, OWN_RUN) == 1


def test_the_tar_of_sample_is_data(vae: Path, tmp_path: Path) -> None:
    done = gentool_command("sample", vae, "-n", 5, "-o", "-")
    assert done.code == 0, done.err
    (tmp_path / "x.tar").write_bytes(done.stdout)
    with tarfile.open(tmp_path / "x.tar") as archive:
        assert len(archive.getnames()) == 5
    source = open_source(tmp_path / "x.tar")
    assert len(source) == 5
    assert len(prepare(source, RGB)) == 5
