"""Paths on stdout: the bytes of the file system for programs, escaped text for people."""

import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import draw, environment, gentool_command, run_gentool
from PIL import Image

ODD = (b"a b.png", b"a\nb.png", b"a\\nb.png", b"a\tb.png", b"10\xe2\x80\xaf00.png", b"\xff.png",
       b"\x1b[31m.png", b"'$(x)'.png", "ü.png".encode(), b"-.png")  # fmt: skip


@pytest.fixture
def photos(tmp_path: Path) -> list[bytes]:
    """Photos whose names are hard to hand on."""
    folder = os.fsencode(tmp_path / "photos")
    os.mkdir(folder)  # noqa: PTH102 - bytes
    for number, name in enumerate(ODD):
        Image.fromarray(draw(number)).save(os.fsdecode(folder + b"/" + name), format="PNG")
    return [folder + b"/" + name for name in ODD]


def test_paths_ended_by_zero_bytes_are_those_of_the_files(
    vae: Path, photos: list[bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    done = gentool_command("score", folder, "--model", vae, "--importance", 1, "--print0")
    assert done.code == 0, done.err
    *records, end = done.stdout.split(b"\0")
    assert end == b""
    assert set(records) == set(photos)
    done = gentool_command("reconstruct", vae, folder, "-o", tmp_path / "s.png", "--print0")
    *records, sheet, _ = done.stdout.split(b"\0")
    assert set(records) == set(photos)
    assert sheet == os.fsencode(tmp_path / "s.png")


def test_a_line_break_is_all_that_lines_cannot_carry(
    vae: Path, photos: list[bytes], tmp_path: Path
) -> None:
    done = gentool_command("score", tmp_path / "photos", "--model", vae, "--importance", 1)
    lines = done.stdout.splitlines()
    assert {photo for photo in photos if b"\n" not in photo} < {
        line.split(b"\t", 2)[-1] for line in lines
    }


@pytest.mark.parametrize("name", ["a\u202f\nb", "\udcff"])
def test_every_verb_that_writes_prints_the_name_that_opens(
    name: str, gan: Path, image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / name
    commands = (
        ("sample", gan, "-n", 1, "-o", out / "s"),
        ("interpolate", gan, "--seeds", "1,2", "--steps", 2, "-o", out / "i.png"),
        ("traverse", gan, "--directions", 1, "-o", out / "t.png"),
        ("data", "pack", image_folder, out / "p.zip", "--size", 16),
        ("average", gan, "--length", 0.05, "-o", out / "a.safetensors"),
    )
    for command in commands:
        done = gentool_command(*command, "--print0")
        assert done.code == 0, done.err
        (path,) = done.stdout.removesuffix(b"\0").split(b"\0")
        assert os.path.isfile(path), path  # noqa: PTH113 - bytes
        assert path.startswith(os.fsencode(out))


def test_json_of_odd_names_is_valid(vae: Path, photos: list[bytes], tmp_path: Path) -> None:
    done = gentool_command("score", tmp_path / "photos", "--model", vae, "--importance", 1,
                           "--json")  # fmt: skip
    assert done.stdout.isascii()
    assert {os.fsencode(row["image"]) for row in json.loads(done.stdout)["images"]} == set(photos)


def test_the_locale_does_not_matter(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "ü\u202f.zip"
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run_gentool("data", "pack", image_folder, out, "--size", 16, env=env)
    assert done.code == 0, done.err
    assert done.stdout == os.fsencode(out) + b"\n"


def on_terminal(*arguments: object) -> tuple[int, bytes]:
    """Run the program on a terminal; exit code, and what both streams show."""
    mine, theirs = pty.openpty()
    command = [sys.executable, "-m", "gentool", *map(str, arguments)]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment()) as process:
        os.close(theirs)
        seen = b""
        try:
            while piece := os.read(mine, 65536):
                seen += piece
        except OSError:  # the end of a terminal on Linux
            pass
    os.close(mine)
    return process.returncode, seen.replace(b"\r\n", b"\n")


def test_paths_are_escaped_for_people(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "a\n\\n\x1b[31m.zip"
    code, seen = on_terminal("data", "pack", image_folder, out, "--size", 16)
    assert code == 0, seen
    assert os.fsencode(tmp_path) + rb"/a\n\\n\x1b[31m.zip" in seen.splitlines()


@pytest.mark.parametrize("verb", ["sample", "reconstruct", "interpolate", "traverse"])
def test_a_terminal_takes_no_tar(verb: str) -> None:
    photo = ["photo.png"] if verb == "reconstruct" else []
    code, seen = on_terminal(verb, "no-model", *photo, "-o", "-")
    assert code == 2
    assert seen.startswith(b"error: -o - writes a tar archive to stdout, which is a terminal")


def test_a_csv_on_stdout_leaves_the_table_to_stderr(vae: Path, image_folder: Path) -> None:
    common = ("evaluate", vae, "--data", image_folder, "-n", 20, "--split", "all")
    done = gentool_command(*common, "--metrics", "reconstruction", "--per-image", "-")
    assert done.code == 0, done.err
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert len(rows) == 20
    assert set(rows[0]) == {"target", "image", "mse", "psnr", "ssim", "recipe"}
    assert "psnr" in done.err
    done = gentool_command(*common, "--metrics", "likelihood", "--per-unit", "-")
    assert done.code == 0, done.err
    assert done.lines[0].startswith("target,unit,")
    assert len(done.lines) > 8
