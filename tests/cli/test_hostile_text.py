"""Hostile text in names of classes, data, files and options, such as terminal escape codes.

Printed text is escaped and stays in one line; a file name that is made of it names no other place.
"""

import csv
import json
import os
import shutil
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest
from conftest import Finished, draw, gentool_command
from forged_files import Json, with_header
from PIL import Image

pytestmark = pytest.mark.promise("text that lies: shown as text, in its line, in its folder")

LIES = (
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b]8;;http://a\x1b\\link", "\x9b31m", "a\rb",
    "\x08", "line\nerror: forged", "tab\tbed", "\u202egnp.exe", "\u2066x\u2069", "\u200b\ufeff",
    "\u2028p", "\ud800", "[bold red]markup[/]", "[/nothing]", "[link=http://a]b[/link]",
    "<script>x()</script>", "&amp;\"'", "../../etc/x", "/etc/x", "..", ".", "", "a/b", "a\\b",
    "CON", "%s{0}", "'; rm -rf /;",
)  # fmt: skip


def is_plain(text: str) -> bool:
    """Nothing in it that a terminal would obey rather than show."""
    return all(unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in text)


def assert_harmless(done: Finished) -> None:
    """Every line of both streams holds visible text alone (and the tabs between cells)."""
    for text in (done.out, done.err):
        for line in text.split("\n"):
            assert is_plain(line.replace("\t", "")), line


@pytest.fixture
def hostile(gan: Path, tmp_path: Path) -> Path:
    """A run whose model file holds lies wherever it holds words; as many classes as before."""
    data = (gan / "model.safetensors").read_bytes()

    def lie(header: dict[str, object]) -> None:
        header["classes"] = ["\x1b[31m[bold]a\n", "a\u202eb"]
        header["training"] = {
            "data": {"name": LIES[0] + LIES[6], "images": LIES[2], "fit": "crop"},
            LIES[6]: LIES[3],
            "device": "".join(LIES),
        }

    path = tmp_path / "lies" / "model.safetensors"
    path.parent.mkdir()
    path.write_bytes(with_header(data, lie))
    return path.parent


def test_info_shows_lies_in_their_lines(hostile: Path, gan: Path) -> None:
    done = gentool_command("info", hostile)
    assert done.code == 0, done.err
    assert_harmless(done)
    assert not [line for line in done.lines if line.startswith("error")]
    shown = next(line for line in done.lines if line.startswith("classes"))
    assert r"\x1b[31m[bold]a\n, a\u202eb" in shown


def test_json_gives_every_word_back_in_ascii(hostile: Path) -> None:
    done = gentool_command("info", hostile, "--json")
    assert done.out.isascii()
    assert_harmless(done)
    answer = json.loads(done.out)
    assert answer["classes"] == ["\x1b[31m[bold]a\n", "a\u202eb"]
    assert answer["training"]["device"] == "".join(LIES)


def test_an_unknown_class_is_named_with_its_neighbours_escaped(hostile: Path) -> None:
    done = gentool_command("sample", hostile, "--class", "\x1b[31m[bold]b\n")
    assert done.code == 2
    assert_harmless(done)
    assert len(done.err.splitlines()) == 1
    assert "[bold]" in done.err


def with_classes(gan: Path, path: Path, names: tuple[str, str]) -> Path:
    """The GAN of two classes, with other names for them."""
    data = (gan / "model.safetensors").read_bytes()
    path.write_bytes(with_header(data, lambda header: header.update(classes=list(names))))
    return path


@pytest.mark.parametrize("lie", LIES)
def test_files_named_after_a_class_stay_in_their_folder(
    lie: str, gan: Path, tmp_path: Path
) -> None:
    model = with_classes(gan, tmp_path / "model.safetensors", (lie, "other"))
    out = tmp_path / "inner" / "out"
    done = gentool_command("sample", model, "-n", 2, "--class", "all", "-o", out, cwd=tmp_path)
    assert done.code == 0, done.err
    assert_harmless(done)
    names = [path.name for path in out.iterdir()]
    assert len(names) == 4
    assert all(is_plain(name) and name.endswith(".png") for name in names)
    assert {p.name for p in tmp_path.iterdir()} == {"model.safetensors", "inner"}
    assert [p.name for p in (tmp_path / "inner").iterdir()] == ["out"]
    kinds = set()
    for path in out.iterdir():
        with Image.open(path) as image:
            kinds.add(json.loads(image.info["gentool"])["class"])
    assert kinds == {lie, "other"}


@pytest.mark.parametrize("names", [("a/b", "a:b"), ("A", "a"), ("\ud800" * 9, "\x1b" * 9),
                                   ("\U00020000" * 999, "\U00020000" * 998)])  # fmt: skip
def test_classes_never_share_a_file_name(names: tuple[str, str], gan: Path, tmp_path: Path) -> None:
    model = with_classes(gan, tmp_path / "model.safetensors", names)
    done = gentool_command("sample", model, "-n", 1, "--class", "all", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert len({p.name.casefold() for p in (tmp_path / "out").iterdir()}) == 2


def test_a_tar_of_samples_holds_plain_names(gan: Path, tmp_path: Path) -> None:
    model = with_classes(gan, tmp_path / "model.safetensors", ("../../x\n", "/y"))
    done = gentool_command("sample", model, "-n", 1, "--class", "all", "-o", "-")
    (tmp_path / "all.tar").write_bytes(done.stdout)
    with tarfile.open(tmp_path / "all.tar") as archive:
        names = archive.getnames()
    assert len(names) == 2
    assert all("/" not in name and is_plain(name) and ".." not in name for name in names)


def test_a_path_with_a_line_break_stays_in_its_line(gan: Path, tmp_path: Path) -> None:
    evil = tmp_path / "a\nerror: forged \x1b[31m[bold]"
    shutil.copytree(gan, evil)
    for arguments in (("info", evil), ("info", evil, "--verify"), ("info", evil / "none\n"),
                      ("sample", evil, "-n", 2, "-o", evil / "out")):  # fmt: skip
        done = gentool_command(*arguments)
        if arguments[0] == "sample":  # a path for a program, which wants it as it is
            assert done.stdout == b"".join(
                os.fsencode(evil / "out" / f"seed000000-00000{k}.png") + b"\n" for k in range(2)
            )
            done = Finished(done.code, b"", done.err)
        assert_harmless(done)
        assert not [
            line for line in (done.out + done.err).splitlines() if "error: forged" in line[:20]
        ]


def test_a_name_with_a_tab_adds_no_cell(vae: Path, tmp_path: Path) -> None:
    path = tmp_path / "a\t0.000000\t99.00.png"
    Image.fromarray(draw(0)).save(path)
    done = gentool_command("reconstruct", vae, path, "--steps", 0, "-o", tmp_path / "out.png")
    assert done.code == 0, done.err
    assert done.lines[0].rsplit("\t", 3)[0] == str(path)  # as it is, for a program
    assert_harmless(Finished(done.code, b"", done.err))


def test_a_seed_is_no_place_for_escapes(gan: Path) -> None:
    done = gentool_command("sample", gan, "--seeds", "\x1b[31m[bold]1\n")
    assert done.code == 2
    assert "\x1b" not in done.err
    assert "[bold]" in done.err


def labelled(folder: Path, names: tuple[str, ...]) -> Path:
    """Images with labels from a CSV file, which may hold any word at all."""
    folder.mkdir()
    with (folder / "labels.csv").open(
        "w", newline="", encoding="utf-8", errors="surrogateescape"
    ) as out:
        rows = csv.writer(out)
        rows.writerow(["path", "label"])
        for number in range(2 * len(names)):
            Image.fromarray(draw(number)).save(folder / f"{number:03d}.png")
            rows.writerow([f"{number:03d}.png", names[number % len(names)]])
    return folder


def test_classes_of_a_label_file_are_shown_escaped_and_packed_as_plain_folders(
    tmp_path: Path,
) -> None:
    visible = [lie for lie in LIES if lie.strip() and lie.isprintable()]
    names = (*visible, "\x1b[31m", ".hidden", "\u202ex")
    folder = labelled(tmp_path / "set", names)
    done = gentool_command("data", "check", folder)
    assert_harmless(done)
    packed = tmp_path / "packed.zip"
    done = gentool_command("data", "pack", folder, packed, "--size", 16)
    assert done.code == 0, done.err
    assert_harmless(done)
    with zipfile.ZipFile(packed) as archive:
        members = archive.namelist()
    assert len(members) == 2 * len(names)
    for member in members:
        kind, _, name = member.partition("/")
        assert is_plain(member)
        assert name.count("/") == 0
        assert kind not in {"", ".", ".."}
    again = gentool_command("data", "check", packed, "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["images"] == 2 * len(names)


def test_megabytes_of_words_are_shown_cut(gan: Path, tmp_path: Path) -> None:
    def lie(header: Json) -> None:
        header["classes"] = ["y" * 10**6, "z"]
        header["training"] = {"k" * 10**6: 1, "v": "w" * 10**6, "data": {"name": "n" * 10**6}}
        header["training"] |= {str(k): k for k in range(1000)}

    path = tmp_path / "model.safetensors"
    path.write_bytes(with_header((gan / "model.safetensors").read_bytes(), lie))
    done = gentool_command("info", path)
    assert done.code == 0, done.err
    assert len(done.out) < 50_000
    assert "yyy, z" in done.out
