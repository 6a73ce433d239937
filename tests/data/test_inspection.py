"""``gentool data check`` and ``pack``: counts, faults, duplicates, and the content of a pack."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import draw, gentool_command, run_python, write_images
from PIL import Image

from gentool.data import open_dataset, open_source
from gentool.data.inspection import survey


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Twelve images, a copy, a recompressed copy, a recoloured one and two broken files."""
    folder = write_images(tmp_path / "zoo", 12, side=40)
    first = folder / "disc" / "000.png"
    (folder / "bar" / "copy.png").write_bytes(first.read_bytes())
    image = Image.open(first)
    image.save(folder / "disc" / "again.jpg", quality=85)
    red, green, blue = image.split()
    Image.merge("RGB", (blue, red, green)).save(folder / "disc" / "recoloured.png")
    (folder / "disc" / "page.png").write_text("<html>")
    (folder / "disc" / "short.png").write_bytes(first.read_bytes()[:200])
    return folder


def test_a_survey_finds_what_was_put_there(zoo: Path) -> None:
    found = survey(open_source(str(zoo)), lambda done, total: None)
    assert found.total == 17
    assert found.formats == {"PNG": 14, "JPEG": 1}
    assert found.modes == {"RGB": 15}
    assert found.sizes == {(40, 40): 15}
    assert found.classes == {"bar": 7, "disc": 8}
    assert found.duplicates == [["bar/copy.png", "disc/000.png"]]
    assert ["bar/copy.png", "disc/again.jpg"] in found.near
    assert not any("disc/recoloured.png" in group for group in found.near)
    assert [name for name, _ in found.bad] == ["disc/page.png", "disc/short.png"]


def test_check_says_it_and_writes_a_sheet(zoo: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    done = gentool_command("data", "check", zoo, "-o", sheet)
    assert done.code == 0, done.err
    for fragment in (
        "17, of which 15 can be read", "PNG 14, JPEG 1", "bar 7, disc 8",
        "bar/copy.png = disc/000.png", "40x40 rgb", "bad: disc/page.png: it is an HTML page",
    ):  # fmt: skip
        assert fragment in done.out
    with Image.open(sheet) as image:
        assert image.size[0] > 40 * 3
    answer = json.loads(gentool_command("data", "check", zoo, "--size", "32", "--json").out)
    assert answer["readable"] == 15
    assert answer["training"]["size"] == "32x32"
    assert [b["image"] for b in answer["bad"]] == ["disc/page.png", "disc/short.png"]


def test_check_of_a_drawn_set(own_cache: Path) -> None:
    done = gentool_command("data", "check", "builtin:digits:60")
    assert done.code == 0
    assert "drawn 60" in done.out
    assert not own_cache.exists()  # looking leaves nothing behind


def test_check_does_not_import_torch(zoo: Path) -> None:
    script = (
        "import sys\nfrom gentool.cli import app\n"
        f"app(['data', 'check', {str(zoo)!r}], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    assert run_python("-c", script).code == 0


def test_a_pack_trains_to_the_same_pixels(zoo: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed.zip"
    done = gentool_command("data", "pack", zoo, out, "--size", "32")
    assert done.code == 0, done.err
    assert done.lines == [str(out)]
    assert "skipped disc/short.png" in done.err
    assert "15 images of 32x32 rgb, 2 skipped" in done.err
    before, after = open_dataset(str(zoo), "32", max_bad=0.2), open_dataset(str(out), "32")
    assert np.array_equal(before.images[:], after.images[:])
    assert after.classes == before.classes
    assert before.labels is not None
    assert after.labels is not None
    assert np.array_equal(before.labels, after.labels)
    again = tmp_path / "again.zip"
    gentool_command("data", "pack", zoo, again, "--size", "32")
    assert again.read_bytes() == out.read_bytes()


def test_a_pack_of_a_drawn_set_has_its_classes(tmp_path: Path) -> None:
    out = tmp_path / "digits.zip"
    assert gentool_command("data", "pack", "builtin:digits:20", out).code == 0
    with zipfile.ZipFile(out) as archive:
        names = archive.namelist()
        assert len(names) == 20
        assert {name.split("/")[0] for name in names} == {str(d) for d in range(10)}
        with Image.open(io.BytesIO(archive.read(names[3]))) as image:
            assert image.mode == "L"


def test_files_that_differ_in_their_suffix_keep_apart(tmp_path: Path) -> None:
    for name in ("a.png", "a.bmp"):
        (tmp_path / "two").mkdir(exist_ok=True)
        Image.fromarray(draw(0)).save(tmp_path / "two" / name)
    out = tmp_path / "two.zip"
    assert gentool_command("data", "pack", tmp_path / "two", out).code == 0
    assert zipfile.ZipFile(out).namelist() == ["a.png", "a-2.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "fragment"),
    [
        (("check", "nowhere"), 3, "nothing at nowhere"),
        (("check", "builtin:digits:20", "-o", "sheet.txt"), 2, "-o sheet.txt"),
        (("pack", "builtin:digits:20", "out.tar"), 2, "out.tar must end in .zip"),
        (("pack", "builtin:digits:20", "/proc/none/out.zip"), 2, "cannot write /proc/none"),
    ],
)
def test_wrong_arguments_are_explained(
    arguments: tuple[str, ...], code: int, fragment: str, tmp_path: Path
) -> None:
    done = gentool_command("data", *arguments, cwd=tmp_path)
    assert done.code == code
    assert fragment in done.err
    assert "Traceback" not in done.err


def test_nothing_readable_packs_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no")
    done = gentool_command("data", "pack", tmp_path / "bad", tmp_path / "o.zip", "--size", "32",
                           "--mode", "rgb")  # fmt: skip
    assert done.code == 3
    assert not (tmp_path / "o.zip").exists()
    assert list(tmp_path.glob(".o.zip*")) == []
