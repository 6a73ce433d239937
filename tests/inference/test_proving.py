"""``gentool prove`` draws the recipes in pictures again and says how they compare."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import gentool_command, write_images
from PIL import Image, PngImagePlugin

import gentool
from gentool.core.errors import DataError, DeviceError, GentoolError, ModelFileError, NoEncoder
from gentool.core.picture_files import comment_of_recipe, read_recipe
from gentool.core.signals import StopFlag
from gentool.inference.latents import Latents
from gentool.inference.picks import Pick, Point, SampleOf
from gentool.inference.proving import Verdict, prove
from gentool.inference.recipe_files import recipe_text
from gentool.inference.redrawing import Redrawer
from gentool.inference.traversal import offsets_of


def proved(*arguments: object) -> list[dict[str, Any]]:
    """What ``prove --json`` says of each picture."""
    done = gentool_command("prove", *arguments, "--json")
    rows: list[dict[str, Any]] = json.loads(done.out)["pictures"]
    wrong = sum(row["result"] == "not" for row in rows)
    assert done.code == (0 if not wrong else 3 if wrong == len(rows) else 7), done.err
    return rows


def recoded(picture: Path, target: Path, change: Callable[[Image.Image], Image.Image]) -> Path:
    """The same recipe in a picture with other pixels."""
    recipe = read_recipe(picture)
    assert recipe is not None
    info = PngImagePlugin.PngInfo()
    info.add_text("gentool", json.dumps(recipe))
    with Image.open(picture) as image:
        made = change(image.convert("RGB"))
    if target.suffix == ".jpg":
        made.save(target, quality=60, comment=comment_of_recipe(recipe))
    else:
        made.save(target, pnginfo=info)
    return target


@pytest.mark.parametrize("name", ["one", "sheet.png", "sheet.jpg", "sheet.webp"])
def test_samples_are_identical(name: str, gan: Path, tmp_path: Path) -> None:
    more = ("--truncation", 0.7) if name == "sheet.png" else ("--seeds", "3,9-11")
    done = gentool_command("sample", gan, "-n", 2, *more, "-o", tmp_path / name)
    assert done.code == 0, done.err
    rows = proved(*done.lines, gan)
    assert [row["result"] for row in rows] == ["identical"] * len(done.lines)
    assert rows[0]["largest_difference"] == 0


@pytest.mark.parametrize("name", ["film.gif", "film.webp", "film.mp4", "strip.png", "frames"])
def test_interpolations_are_identical(name: str, gan: Path, tmp_path: Path) -> None:
    if name.endswith("mp4"):
        pytest.importorskip("av")
    more = ("--enlarge", 4) if name.startswith("film") else ("--loop", "--method", "lerp")
    done = gentool_command(
        "interpolate", gan, "--seeds", "1,4", "--steps", 3, *more, "-o", tmp_path / name
    )
    assert done.code == 0, done.err
    assert {row["result"] for row in proved(*done.lines, gan)} == {"identical"}


def test_traversals_are_identical(vae: Path, tmp_path: Path) -> None:
    how = ("--directions", 2, "--steps", 3, "--seed", 5)
    for name in ("sheet.png", "folder"):
        done = gentool_command("traverse", vae, *how, "-o", tmp_path / name)
        assert done.code == 0, done.err
        assert {row["result"] for row in proved(*done.lines, vae)} == {"identical"}


def test_reconstructions_need_the_originals(vae: Path, tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos", 3)
    for more in ((), ("--only",)):
        out = tmp_path / f"out{len(more)}"
        assert gentool_command("reconstruct", vae, photos, "-o", out, *more).code == 0
        pictures = sorted(out.rglob("*.png"))
        assert len(pictures) == 3
        (row,) = proved(pictures[0], vae)
        assert row["result"] == "not" and "--with FILE" in row["reason"]
        rows = proved(*pictures, vae, "--with", photos)
        assert {row["result"] for row in rows} == {"identical"}


def test_files_of_latents_and_photos_are_named_with_with(vae: Path, tmp_path: Path) -> None:
    kept, photo = tmp_path / "kept.safetensors", write_images(tmp_path / "photos", 1)
    gentool_command("sample", vae, "-n", 3, "-o", tmp_path / "a.png", "--save-latents", kept)
    gentool_command("sample", vae, "--latents", kept, "-o", tmp_path / "b.png")
    (key,) = photo.iterdir()
    gentool_command("interpolate", vae, key, kept, "--steps", 2, "-o", tmp_path / "c.png")
    pictures = tmp_path / "b.png", tmp_path / "c.png"
    assert [row["result"] for row in proved(*pictures, vae)] == ["not", "not"]
    rows = proved(*pictures, vae, "--with", kept, "--with", key)
    assert [row["result"] for row in rows] == ["identical", "identical"]


def test_favourites_of_the_explorer_need_their_file(gan: Path, tmp_path: Path) -> None:
    loaded, file = gentool.load(gan, "cpu").loaded, tmp_path / "recipe.toml"
    point = Latents(loaded.model.prior(np.arange(1), 9))
    picks: list[Pick] = [SampleOf(3, 1), Point(point), SampleOf(3, 2, drawing={"truncation": 0.5})]
    file.write_text(recipe_text(loaded, picks))
    done = gentool_command("sample", gan, "--like", file, "-o", tmp_path / "sheet.png")
    done = gentool_command("sample", gan, "--like", file, "-o", tmp_path / "folder")
    assert done.code == 0, done.err
    pictures = [*done.lines, tmp_path / "sheet.png"]
    results = [row["result"] for row in proved(*pictures, gan)]
    assert results == ["identical", "not", "identical", "not"]
    rows = proved(*pictures, gan, "--with", file)
    assert {row["result"] for row in rows} == {"identical"}


def test_other_pictures_are_not_what_the_model_makes(gan: Path, vae: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    gentool_command("sample", gan, "-n", 4, "-o", sheet)
    with Image.open(sheet) as image:
        image.save(tmp_path / "bare.png")
        width, height = image.size

    def paint(image: Image.Image) -> Image.Image:
        image.paste((255, 0, 0), (3, 4, 6, 6))
        return image

    def dim(image: Image.Image) -> Image.Image:
        return Image.fromarray(np.clip(np.asarray(image).astype(int) - 1, 0, 255).astype(np.uint8))

    recoded(sheet, tmp_path / "painted.png", paint)
    recoded(sheet, tmp_path / "near.png", dim)
    recoded(sheet, tmp_path / "large.png", lambda image: image.resize((2 * width, height)))
    recoded(sheet, tmp_path / "again.jpg", lambda image: image)
    (tmp_path / "cut.png").write_bytes(sheet.read_bytes()[:-200])
    names = ("sheet", "bare", "painted", "near", "large", "cut")
    rows = proved(*(tmp_path / f"{n}.png" for n in names), tmp_path / "again.jpg",
                  tmp_path / "none.png", gan)  # fmt: skip
    results = [row["result"] for row in rows]
    assert results == ["identical", "not", "not", "near", "not", "not", "not", "not"]
    reasons = [row["reason"] or "" for row in rows]
    for reason, words in zip(
        reasons[1:],
        ("no recipe", "columns 3 to 5 and rows 4 to 5", "threads", "resized", "decoded",
         "of its pixels differ", "no such file"),
        strict=True,
    ):  # fmt: skip
        assert words in reason
    (row,) = proved(sheet, vae)
    own = gentool.load(gan, "cpu").loaded.sha256, gentool.load(vae, "cpu").loaded.sha256
    assert row["result"] == "not"
    assert own[0][:12] in row["reason"] and own[1][:12] in row["reason"]


def test_the_name_of_a_file_does_not_matter(gan: Path, tmp_path: Path) -> None:
    gentool_command("sample", gan, "-n", 4, "-o", tmp_path / "a.png")
    gentool_command("sample", gan, "-n", 4, "-o", tmp_path / "b.webp")
    copies = tmp_path / "a.png.bak", tmp_path / "bare", tmp_path / "a.mp4", tmp_path / "b.jpg"
    for copy, source in zip(copies, ("a.png", "a.png", "a.png", "b.webp"), strict=True):
        shutil.copy(tmp_path / source, copy)
    assert [row["result"] for row in proved(*copies, gan)] == ["identical"] * 4


def test_large_sheets_are_compared(
    gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheets = tmp_path / "sheet.png", tmp_path / "sheet.jpg"
    for sheet in sheets:
        gentool_command("sample", gan, "-n", 4, "-o", sheet)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert [row["result"] for row in proved(*sheets, gan)] == ["identical"] * 2
    monkeypatch.setattr("gentool.core.free_memory.free_memory_bytes", lambda: 1_000)
    (row, _) = proved(*sheets, gan)
    assert row["result"] == "not" and "memory" in row["reason"]


@pytest.mark.parametrize("error", [DataError, NoEncoder, ModelFileError])
def test_an_error_of_one_picture_does_not_end_the_others(
    error: type[GentoolError], gan: Path, tmp_path: Path
) -> None:
    picture, loaded = tmp_path / "a.png", gentool.load(gan, "cpu").loaded
    gentool_command("interpolate", gan, "--seeds", "1,2", "--steps", 2, "-o", picture)

    def find(raised: type[GentoolError]) -> Verdict:
        def fail(_: object) -> Latents:
            raise raised("no way")

        return prove(picture, Redrawer(loaded, (), fail, StopFlag(), print))

    found = find(error)
    assert found.result == "not" and "no way" in found.reason
    with pytest.raises(DeviceError, match="no way"):
        find(DeviceError)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_films_with_other_times_are_not_identical(suffix: str, gan: Path, tmp_path: Path) -> None:
    film, slow = tmp_path / f"film{suffix}", tmp_path / f"slow{suffix}"
    gentool_command("interpolate", gan, "--seeds", "1,4", "--steps", 2, "-o", film)
    content, wanted = film.read_bytes(), 60
    if suffix == ".gif":
        before = b"\x21\xf9\x04", (wanted // 10).to_bytes(2, "little")
        place = content.index(before[0]) + 4
        assert content[place : place + 2] == before[1]
        changed = content[:place] + b"\x60\0" + content[place + 2 :]
    else:
        place = content.index(b"ANMF") + 8 + 12
        assert content[place : place + 3] == wanted.to_bytes(3, "little")
        changed = content[:place] + b"\xc0\x03\0" + content[place + 3 :]
    slow.write_bytes(changed)
    same, other = proved(film, slow, gan)
    assert same["result"] == "identical"
    assert other["result"] == "not" and other["largest_difference"] == 0
    assert "frame 1 for 960 ms" in other["reason"] and "60 ms" in other["reason"]


def test_foreign_files_beside_the_right_recipes_are_skipped(
    gan: Path, vae: Path, tmp_path: Path
) -> None:
    loaded = gentool.load(gan, "cpu").loaded
    own, other, broken = (tmp_path / f"{name}.toml" for name in ("own", "other", "broken"))
    own.write_text(recipe_text(loaded, [Point(Latents(loaded.model.prior(np.arange(1), 9)))]))
    other.write_text("title = 'of another program'")
    broken.write_text("=")
    picture = tmp_path / "a.png"
    done = gentool_command("sample", gan, "--like", own, "-o", picture)
    assert done.code == 0, done.err
    for files in ((other, own, broken), (own,)):
        (row,) = proved(picture, gan, *(word for file in files for word in ("--with", file)))
        assert row["result"] == "identical"
    (row,) = proved(picture, gan, "--with", other)
    assert row["result"] == "not" and "other.toml" in row["reason"]


def test_single_pictures_of_a_traversal_are_identical(vae: Path, tmp_path: Path) -> None:
    done = gentool_command("traverse", vae, "--directions", 1, "--steps", 7, "--amount", 1.7,
                           "-o", tmp_path / "out")  # fmt: skip
    assert done.code == 0, done.err
    assert {row["result"] for row in proved(*done.lines, vae)} == {"identical"}
    told = [read_recipe(Path(line)) or {} for line in done.lines]
    assert [recipe["deviations"] for recipe in told] == offsets_of(7, 1.7)


@pytest.mark.parametrize(
    "forged",
    [
        {"seed": -1},
        {"index": "0-99999999999"},
        {"index": "0-1,3-"},
        {"class": "no such class"},
        {"made_by": "train"},
        {"made_by": ["sample"]},
        {"truncation": "wide"},
        {"index": "sha256:00"},
        {"made_by": "interpolate", "seeds": [1, 2], "steps": 10**9, "frame": 0, "space": "z"},
        {"made_by": "interpolate", "seeds": 7, "steps": 2, "frame": 0, "space": "z"},
        {"made_by": "traverse", "direction": 10**6, "deviations": 1, "seeds": [0]},
        {"made_by": "traverse", "direction": "0,0", "deviations": [1, "x"], "seeds": [0]},
        {"made_by": "reconstruct", "original_sha256": {"a": 1}},
        {"milliseconds": -5},
    ],
)
def test_forged_recipes_are_refused_in_words(
    forged: dict[str, Any], gan: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "one.png"
    recipe = {"gentool": "0", "made_by": "sample", "seed": 0, "index": 0,
              "model_sha256": gentool.load(gan, "cpu").loaded.sha256, **forged}  # fmt: skip
    info = PngImagePlugin.PngInfo()
    info.add_text("gentool", json.dumps(recipe))
    Image.new("RGB", (32, 32)).save(picture, pnginfo=info)
    (row,) = proved(picture, gan)
    assert row["result"] == "not" and row["reason"]


def test_lines_for_people(gan: Path, tmp_path: Path) -> None:
    gentool_command("sample", gan, "-n", 1, "-o", tmp_path / "a.png")
    done = gentool_command("prove", tmp_path / "a.png", tmp_path / "b.png", gan)
    assert done.code == 7
    assert done.lines == [
        f"identical\t{tmp_path / 'a.png'}\t",
        f"not\t{tmp_path / 'b.png'}\tthere is no such file",
    ]
    assert "1 of 2 pictures" in done.err
