"""What a run folder tells of the images of the run, and what is said when they differ."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY, Finished, draw, gentool_command, write_images
from PIL import Image

from gentool.data import preprocessing
from gentool.data.sources import base
from gentool.training.run_data import Changes, Kind

COUNT = 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in two classes."""
    return write_images(tmp_path / "set", COUNT)


def train(data: Path, out: Path, images: int, *more: object) -> Finished:
    """Train with the command line."""
    return gentool_command(
        "train", "vae", "--data", data, "--out", out, "--images", images, *TINY, *more
    )


def files_of(folder: Path) -> list[Path]:
    """The images of a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _adds(folder: Path) -> None:
    Image.fromarray(draw(900)).save(files_of(folder)[0].with_name("zz-new.png"))


def _removes(folder: Path) -> None:
    for file in files_of(folder)[:2]:
        file.unlink()


def _changes(folder: Path) -> None:
    Image.fromarray(draw(901)).save(files_of(folder)[3])


def _moves(folder: Path) -> None:
    file = files_of(folder)[0]
    file.rename(folder / "zzz.png")


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "came": (_adds, "1 image came (bar/zz-new.png), 0 went"),
    "went": (_removes, "0 images came, 2 went (the first {0})"),
    "changed": (_changes, "0 images came, 0 went, 1 changed ({3})"),
    "renamed": (_moves, "1 image came (zzz.png), 1 went ({0})"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_run_whose_images_differ_says_which(
    kind: str, folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    out = tmp_path / "run"
    assert train(folder, out, 32, "--labels", "none").code == 0
    change, words = CHANGES[kind]
    names = [path.relative_to(folder).as_posix() for path in files_of(folder)]
    change(folder)
    done = train(folder, out, 64, "--labels", "none")
    assert done.code == 2
    assert words.format(*names) in done.err
    assert "--override goes on with them" in done.err
    assert " was " not in done.err
    forced = train(folder, out, 64, "--labels", "none", "--override")
    assert forced.code == 0, forced.err
    assert f"continuing with other images: {words.format(*names)}" in forced.err
    assert train(folder, out, 96, "--labels", "none").code == 0  # they are the run's now


def test_another_class_is_a_change(folder: Path, tmp_path: Path, own_cache: Path) -> None:
    names = [path.relative_to(folder).as_posix() for path in files_of(folder)]

    def label(first: str) -> None:
        rows = [f"{name},{'ab'[k % 2]}" for k, name in enumerate(names[1:])]
        (tmp_path / "l.csv").write_text("\n".join([f"{names[0]},{first}", *rows]) + "\n")

    label("a")
    out, labels = tmp_path / "run", ("--labels", tmp_path / "l.csv")
    assert train(folder, out, 32, *labels).code == 0
    label("b")
    done = train(folder, out, 64, *labels)
    assert done.code == 2
    assert f"0 images came, 0 went, 1 changed class ({names[0]})" in done.err


def test_a_run_without_a_list_says_that_it_is_not_known(
    folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    out = tmp_path / "run"
    assert train(folder, out, 32).code == 0
    (out / "images.index").unlink()
    _adds(folder)
    done = train(folder, out, 64)
    assert done.code == 2
    assert "which of the images differ is not known" in done.err
    (out / "images.index").write_bytes(b"something else")
    assert "not known" in train(folder, out, 64).err
    assert train(folder, out, 64, "--override").code == 0
    assert (out / "images.index").read_bytes() == b"something else"  # no run wrote it


def test_of_streamed_images_some_are_compared(
    folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    """Of 64 images and fewer, all are."""
    out = tmp_path / "run"
    assert train(folder, out, 32, "--cache", "never").code == 0
    file = files_of(folder)[2]
    info, content = file.stat(), file.read_bytes()
    file.write_bytes(content[:-1] + b"\xff")
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))
    done = train(folder, out, 64, "--cache", "never")
    assert done.code == 2
    assert "no image came or went, but sizes, times or contents of the files" in done.err
    file.write_bytes(content)
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))
    again = train(folder, out, 64, "--cache", "never")
    assert again.code == 0, again.err
    assert "written or copied since the last command of this run" in again.err
    assert "written or copied" not in train(folder, out, 96, "--cache", "never").err
    _adds(folder)
    assert "1 image came (bar/zz-new.png), 0 went. " in train(folder, out, 64).err  # from the cache


def test_a_damaged_list_is_no_list(folder: Path, tmp_path: Path, own_cache: Path) -> None:
    out = tmp_path / "run"
    assert train(folder, out, 32).code == 0
    whole = (out / "images.index").read_bytes()
    _adds(folder)
    damages = [
        whole.replace(b'"|u1"', b'"|O8"'), whole.replace(b'"count": 32', b'"count": -2'),
        whole.replace(b'"own hashes"', b'"own hashed"'), whole[:200], whole[:-64],
    ]  # fmt: skip
    for damaged in damages:
        assert damaged != whole
        (out / "images.index").write_bytes(damaged)
        done = train(folder, out, 64)
        assert done.code == 2, done.err
        assert "which of the images differ is not known" in done.err


def test_images_and_settings_are_told_together(
    folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    out = tmp_path / "run"
    assert train(folder, out, 32).code == 0
    _adds(folder)
    done = train(folder, out, 64, "--override", "--lr", 0.5)
    assert done.code == 0, done.err
    (line,) = [line for line in done.err.splitlines() if "continuing with other settings" in line]
    assert "--lr was " in line
    assert "1 image came (bar/zz-new.png), 0 went; " in line


def test_files_that_are_prepared_otherwise_are_no_other_files(
    folder: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a new version of gentool or of Pillow that prepares images in another way."""
    out = tmp_path / "run"
    assert train(folder, out, 32).code == 0
    made = preprocessing.convert
    monkeypatch.setattr(base, "convert", lambda image, how: 255 - made(image, how))
    done = train(folder, out, 64, "--cache", "ram")
    assert done.code == 2
    assert "the files are the same, but they are prepared or read in another way" in done.err


def test_a_list_takes_few_bytes_for_each_image(tmp_path: Path, own_cache: Path) -> None:
    out = tmp_path / "run"
    done = gentool_command(
        "train", "vae", "--data", "builtin:shapes:5000", "--out", out, "--images", 16, *TINY
    )
    assert done.code == 0, done.err
    assert (out / "images.index").stat().st_size < 20 * 5000


def test_changes_are_told_in_words() -> None:
    assert str(Changes(Kind(1, "a"), Kind(0), Kind(2, "b"))) == (
        "1 image came (a), 0 went, 2 changed (the first b)"
    )
    assert Kind(1000, "x" * 100).told("went") == f"1,000 went (the first ...{'x' * 77})"


# --- the intake notes of a run ---------------------------------------------------------------


def test_the_run_has_the_intake_notes(folder: Path, tmp_path: Path, own_cache: Path) -> None:
    (folder / "notes.txt").touch()
    out = tmp_path / "run"
    done = train(folder, out, 32, "--json")
    told = json.loads((out / "intake.json").read_text())
    assert told["intake"] == json.loads(done.out)["intake"]
    assert (told["images"], told["data"]) == (COUNT, "set")
    shown = gentool_command("info", out)
    assert "passed over: 1 .txt (notes.txt)" in shown.out
    assert json.loads(gentool_command("info", out, "--json").out)["intake"] == told["intake"]
    assert "notes.txt" not in gentool_command("info", _alone(out, tmp_path)).out


def _alone(run: Path, tmp_path: Path) -> Path:
    """The model file of a run, taken elsewhere: it has no names of files."""
    place = tmp_path / "shared.safetensors"
    place.write_bytes((run / "model.safetensors").read_bytes())
    return place


def test_notes_of_other_images_are_not_shown(folder: Path, tmp_path: Path, own_cache: Path) -> None:
    out = tmp_path / "run"
    assert train(folder, out, 32).code == 0
    told = json.loads((out / "intake.json").read_text())
    (out / "intake.json").write_text(json.dumps({**told, "fingerprint": "other"}))
    assert json.loads(gentool_command("info", out, "--json").out)["intake"] is None
    for damage in ("{", "[]", json.dumps({**told, "intake": {"taken": "x"}})):
        (out / "intake.json").write_text(damage)
        assert gentool_command("info", out).code == 0


def test_a_file_that_no_run_wrote_is_kept(folder: Path, tmp_path: Path, own_cache: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "intake.json").write_text('{"mine": 1}')
    assert train(folder, out, 32).code == 0
    assert (out / "intake.json").read_text() == '{"mine": 1}'
