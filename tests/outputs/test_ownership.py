"""Which files a command may replace, with the real program, for every command that writes files.

The rule has five cases: the target is an input, a model of a run, a file that gentool did not
write, a file of gentool with another recipe, or one with the same recipe.
"""

import hashlib
import json
import os
import shutil
import signal
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import SIDE, Finished, draw, gentool_command, run_python, write_images
from PIL import Image

from gentool.core.errors import UsageError
from gentool.core.free_memory import free_memory_bytes
from gentool.core.picture_files import read_recipe
from gentool.inference.result_names import result_names
from gentool.outputs.marks import PICTURE, read_mark
from gentool.outputs.ownership import Guard


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory, gan: Path, vae: Path) -> Path:
    """A folder with two runs, photos and latents, not to be written to."""
    top = tmp_path_factory.mktemp("kit")
    shutil.copytree(gan, top / "gan")
    shutil.copytree(vae, top / "vae")
    write_images(top / "photos", 24)
    for name, run in (("z", "gan"), ("v", "vae")):
        done = gentool_command(
            "sample", run, "-n", 2, "-o", "drawn", "--save-latents", f"{name}.safetensors", cwd=top
        )
        assert done.code == 0, done.err
        shutil.rmtree(top / "drawn")
    return top


@pytest.fixture
def place(kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the kit to work in; weights are fitted in two steps."""
    monkeypatch.setattr("gentool.inference.reconstruction.FIT_STEPS", 2)
    return Path(shutil.copytree(kit, tmp_path / "place"))


def contents(folder: Path) -> dict[str, str]:
    """Path -> hash of every file below a folder."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


PHOTO = "photos/disc/000.png"
# name of a writer -> the command without its target, suffix of a target, and what changes the
# recipe; ``{}`` stands for the target.
Writer = tuple[Sequence[str], str, Sequence[str]]
WRITERS: dict[str, Writer] = {
    "sample sheet": (("sample", "gan", "-n", "2", "-o", "{}"), ".png", ("--seed", "5")),
    "sample jpeg": (("sample", "gan", "-n", "2", "-o", "{}"), ".jpg", ("--seed", "5")),
    "sample webp": (("sample", "gan", "-n", "2", "-o", "{}"), ".webp", ("--seed", "5")),
    "sample arrays": (("sample", "gan", "-n", "2", "-o", "{}"), ".npz", ("--seed", "5")),
    "sample latents": (
        ("sample", "gan", "-n", "2", "-o", "out", "--save-latents", "{}"),
        ".safetensors", ("--seed", "5"),
    ),
    "sample of latents": (
        ("sample", "gan", "--latents", "z.safetensors", "-o", "{}"), ".png", ("-n", "1"),
    ),
    "interpolate strip": (
        ("interpolate", "gan", "--steps", "2", "-o", "{}"), ".png", ("--seeds", "4,5"),
    ),
    "interpolate film": (
        ("interpolate", "gan", "--steps", "2", "-o", "{}"), ".gif", ("--seeds", "4,5"),
    ),
    "interpolate film webp": (
        ("interpolate", "gan", "--steps", "2", "-o", "{}"), ".webp", ("--seeds", "4,5"),
    ),
    "traverse": (
        ("traverse", "vae", "--by", "units", "--directions", "1", "--steps", "2", "-o", "{}"),
        ".png", ("--seed", "5"),
    ),
    "reconstruct sheet": (("reconstruct", "vae", PHOTO, "-o", "{}"), ".png", ("--only",)),
    "reconstruct arrays": (("reconstruct", "vae", PHOTO, "-o", "{}"), ".npz", ("--only",)),
    "reconstruct latents": (
        ("reconstruct", "vae", PHOTO, "-o", "out", "--save-latents", "{}"), ".safetensors",
        ("--draw",),
    ),
    "fitted weights": (
        ("reconstruct", "vae", PHOTO, "-o", "out", "--fit-weights", "{}"), ".safetensors",
        ("--steps", "1"),
    ),
    "fitted weights of a search": (
        ("reconstruct", "gan", PHOTO, "--steps", "2", "-o", "out", "--fit-weights", "{}"),
        ".safetensors", ("--seed", "1"),
    ),
    "fitted weights at a draw": (
        ("reconstruct", "vae", PHOTO, "-o", "out", "--fit-weights", "{}"), ".safetensors",
        ("--draw",),
    ),
    "reconstruction of a search": (
        ("reconstruct", "gan", PHOTO, "--steps", "2", "-o", "{}"), ".png", ("--seed", "1"),
    ),
    "average": (
        ("average", "gan", "--length", "0.05", "-o", "{}"), ".safetensors", ("--length", "0.1"),
    ),
    "contact sheet": (("data", "check", "photos", "-o", "{}"), ".png", ("--size", "32")),
    "pack": (("data", "pack", "photos", "{}"), ".zip", ("--size", "32")),
    "table of images": (
        ("evaluate", "vae", "--data", "photos", "--metrics", "reconstruction", "--per-image", "{}"),
        ".csv", ("--seed", "5"),
    ),
    "table of units": (
        ("evaluate", "vae", "--data", "photos", "--metrics", "likelihood", "--importance", "1",
         "--likelihood-images", "4", "--per-unit", "{}"), ".csv", ("--seed", "5"),
    ),
    "neighbours": (
        ("evaluate", "gan", "--data", "photos", "--metrics", "kernel", "-n", "20", "--features",
         "random", "--neighbours", "{}"), ".png", ("--seed", "5"),
    ),
}  # fmt: skip


def run(place: Path, writer: str, target: object, *more: object) -> Finished:
    """Run a writer in a place."""
    words = [str(target) if w == "{}" else w for w in WRITERS[writer][0]]
    if "out" in words:  # a folder for the verb's other results, anew at each run
        shutil.rmtree(place / "out", ignore_errors=True)
    return gentool_command(*words, *more, cwd=place)


def refused(place: Path, writer: str, target: object, *more: object) -> str:
    """Run a writer that must be refused and leave every file as it is; what it says."""
    before = contents(place)
    done = run(place, writer, target, *more)
    assert done.code == 2, done.err
    assert done.stdout == b""
    assert contents(place) == {k: v for k, v in before.items() if not k.startswith("out/")}
    return done.err


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_is_replaced_only_by_the_same_command_or_on_request(
    writer: str, place: Path
) -> None:
    suffix, change = WRITERS[writer][1:]
    target = place / f"result{suffix}"
    first = run(place, writer, target)
    assert first.code == 0, first.err
    mark = read_mark(target)
    assert mark is not None
    made = target.read_bytes()

    again = run(place, writer, target)
    assert again.code == 0, again.err
    assert target.read_bytes() == made

    words = refused(place, writer, target, *change)
    assert "gentool wrote" in words
    assert f"result-2{suffix}" in words
    assert "--overwrite" in words

    over = run(place, writer, target, *change, "--overwrite")
    assert over.code == 0, over.err
    assert read_mark(target) != mark


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_of_somebody_else_is_kept_even_with_overwrite(writer: str, place: Path) -> None:
    suffix = WRITERS[writer][1]
    target = place / f"mine{suffix}"
    if suffix in (".png", ".jpg", ".webp", ".gif"):
        Image.fromarray(draw(0)).save(target)
    elif suffix == ".npz":
        np.savez(target, images=np.zeros(3))
    elif suffix == ".zip":
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("a.txt", "words")
    else:
        target.write_text("path,label\na.png,cat\n")
    words = refused(place, writer, target, "--overwrite")
    assert f"mine-2{suffix}" in words


@pytest.mark.parametrize("writer", [w for w in WRITERS if WRITERS[w][1] == ".safetensors"])
@pytest.mark.parametrize(
    "target",
    ["gan/model.safetensors", "vae/state.safetensors", "vae/best.safetensors", "z.safetensors"],
)
def test_a_model_or_state_of_a_run_is_kept_even_with_overwrite(
    writer: str, target: str, place: Path
) -> None:
    if target == "z.safetensors" and "latents" in writer:
        return  # gentool's own of the same kind, which --overwrite replaces
    refused(place, writer, place / target, "--overwrite")


INPUTS = {
    "a photo that is reconstructed": ("reconstruct", "vae", "own.png", "-o", "own.png"),
    "a photo that is a key frame": ("interpolate", "vae", "own.png", PHOTO, "-o", "own.png"),
    "a photo that is the start": ("traverse", "vae", "own.png", "-o", "own.png"),
    "latents": (
        "reconstruct", "gan", "own.png", "-o", "out", "--steps", "0", "--save-latents",
        "gan/model.safetensors",
    ),
    "a sheet over what is drawn from": (
        "sample", "gan", "--latents", "z.safetensors", "-o", "out.png", "--save-latents",
        "z.safetensors",
    ),
    "a folder that is reconstructed": ("reconstruct", "vae", "photos", "-o", "photos"),
    "a link to it": ("reconstruct", "vae", "photos", "-o", "link"),
    "a photo inside a folder that is read": (
        "reconstruct", "vae", "own", "-o", "own/seed000000-000000.png",
    ),
    "the data of a table": (
        "evaluate", "gan", "--data", "packed.zip", "--metrics", "kernel", "-n", "20",
        "--neighbours", "packed.zip",
    ),
    "the data of a pack": ("data", "pack", "packed.zip", "packed.zip"),
    "a folder in a folder that is read": ("reconstruct", "vae", "photos", "-o", "photos/rec"),
    "a new sheet in a folder that is read": (
        "reconstruct", "vae", "photos", "-o", "photos/new.png",
    ),
    "latents over a sample of the same command": (
        "sample", "gan", "-n", "1", "--seed", "77", "-o", "new", "--save-latents",
        "new/seed000077-000000.png",
    ),
    "latents in place of the folder": (
        "sample", "gan", "-n", "1", "-o", "new", "--save-latents", "new",
    ),
    "two outputs in one file": (
        "evaluate", "vae", "--data", "photos", "--metrics", "reconstruction", "--per-image",
        "a.csv", "--per-unit", "a.csv",
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", INPUTS.values(), ids=INPUTS)
def test_an_input_is_kept_even_if_it_is_gentools_own(command: Sequence[str], place: Path) -> None:
    for words in (
        ("sample", "gan", "-n", "1", "-o", "own.png"), ("sample", "gan", "-n", "1", "-o", "own"),
        ("data", "pack", "photos", "packed.zip"),
    ):  # fmt: skip
        assert gentool_command(*words, cwd=place).code == 0
    (place / "link").symlink_to(place / "photos")
    before = contents(place)
    for more in ((), ("--overwrite",)):
        done = gentool_command(*command, *more, cwd=place)
        assert done.code == 2, done.err
        assert contents(place) == before


@pytest.mark.parametrize("option", ["-o", "--save-latents"])
def test_a_pipe_in_the_way_is_refused_and_not_waited_for(option: str, place: Path) -> None:
    os.mkfifo(place / "pipe.png")
    where = ("-o", "out") if option != "-o" else ()
    done = gentool_command("sample", "gan", "-n", 1, *where, option, "pipe.png", cwd=place)
    assert done.code == 2
    assert "pipe.png already exists" in done.err


@pytest.mark.parametrize("name", ["result.zip", "result.csv"])
def test_what_somebody_added_to_gentools_own_is_kept(name: str, place: Path) -> None:
    writer = "pack" if name == "result.zip" else "table of images"
    assert run(place, writer, place / name).code == 0
    if writer == "pack":
        with zipfile.ZipFile(place / name, "a") as archive:
            archive.writestr("mine.txt", "words")
    else:
        with (place / name).open("a") as table:
            table.write("my,own,row\n")
    refused(place, writer, place / name, "--overwrite")


def test_the_photo_of_the_report_is_kept(place: Path) -> None:
    before = contents(place)
    for command in (
        ("sample", "gan", "-n", "2", "-o", PHOTO),
        ("interpolate", "gan", PHOTO, "photos/bar/001.png", "-o", PHOTO),
        ("data", "check", "photos", "-o", PHOTO),
        ("evaluate", "vae", "--data", "photos", "--neighbours", PHOTO),
        ("evaluate", "vae", "--data", "photos", "--per-image", PHOTO),
        ("sample", "gan", "-n", "1", "-o", "out", "--save-latents", "gan/model.safetensors"),
    ):
        done = gentool_command(*command, cwd=place)
        assert done.code == 2, done.err
        assert contents(place) == before


# --- names -----------------------------------------------------------------------------------


def test_seeds_and_models_do_not_write_over_each_other(place: Path) -> None:
    for seed in (1, 2, 3):
        for _ in range(2):  # the same command again replaces its own
            done = gentool_command("sample", "gan", "--seed", seed, "-n", 2, "-o", "o", cwd=place)
            assert done.code == 0, done.err
    assert len(list((place / "o").iterdir())) == 6
    done = gentool_command("sample", "vae", "--seed", 9, "-n", 2, "-o", "o", cwd=place)
    assert done.code == 2
    assert "images of another model" in done.err
    assert "o-2" in done.err
    done = gentool_command("sample", "vae", "--seed", 9, "-n", 2, "-o", "o", "--overwrite",
                           cwd=place)  # fmt: skip
    assert done.code == 0, done.err


def test_how_images_are_drawn_counts(place: Path) -> None:
    assert gentool_command("sample", "gan", "-n", 1, "-o", "o", cwd=place).code == 0
    done = gentool_command("sample", "gan", "-n", 1, "-o", "o", "--truncation", 0.5, cwd=place)
    assert done.code == 2
    assert "truncation" in done.err


def test_reconstructions_of_equally_named_files_differ(place: Path) -> None:
    for folder, number in (("a", 0), ("b", 1), ("b/a", 2)):
        (place / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(number)).save(place / folder / "0.png")
    Image.fromarray(draw(3)).save(place / "a" / "0.bmp")
    sources = ["a/0.png", "b/0.png", "b/a/0.png", "a/0.bmp"]
    for only in ((), ("--only",)):
        out = f"rec{len(only)}"
        for source in sources:
            done = gentool_command("reconstruct", "vae", source, "-o", out, *only, cwd=place)
            assert done.code == 0, done.err
        written = sorted(p for p in (place / out).rglob("*") if p.is_file())
        assert len(written) == 4
        done = gentool_command("reconstruct", "vae", *sources, "-o", f"{out}x", *only, cwd=place)
        together = sorted(p for p in (place / f"{out}x").rglob("*") if p.is_file())
        assert [p.read_bytes() for p in together] == [p.read_bytes() for p in written]


def test_only_writes_the_reconstruction_alone_under_the_path_of_its_source(place: Path) -> None:
    done = gentool_command("reconstruct", "vae", "photos", "--only", "-o", "rec", cwd=place)
    assert done.code == 0, done.err
    names = {str(p.relative_to(place / "photos")) for p in (place / "photos").rglob("*.png")}
    found = {str(p.relative_to(place / "rec" / "photos")) for p in (place / "rec").rglob("*.png")}
    assert found == names
    with Image.open(place / "rec" / PHOTO) as alone:
        assert alone.size == (SIDE, SIDE)
        right = np.asarray(alone)
    assert gentool_command("reconstruct", "vae", PHOTO, "-o", "pair", cwd=place).code == 0
    with Image.open(place / "pair" / "photos-disc-000.png") as pair:
        assert np.array_equal(np.asarray(pair)[:, -SIDE:], right)


def test_frames_and_directions_carry_where_they_start(place: Path) -> None:
    for seed in (1, 2):
        for command in (
            ("traverse", "vae", "--by", "units", "--seed", seed, "--directions", 1, "--steps", 2),
            ("interpolate", "gan", "--seeds", f"{seed},9", "--steps", 2),
        ):
            done = gentool_command(*command, "-o", f"out-{command[0]}", cwd=place)
            assert done.code == 0, done.err
    assert len(list((place / "out-traverse").iterdir())) == 4
    assert len(list((place / "out-interpolate").iterdir())) == 6


def test_images_of_another_model_in_a_folder_below_are_seen(place: Path) -> None:
    done = gentool_command("reconstruct", "vae", PHOTO, "--only", "-o", "m", cwd=place)
    assert done.code == 0, done.err
    done = gentool_command("sample", "gan", "-n", 1, "-o", "m", cwd=place)
    assert done.code == 2
    assert "another model" in done.err


def test_results_of_two_verbs_do_not_share_a_folder(place: Path) -> None:
    assert gentool_command("sample", "vae", "-n", 1, "-o", "m", cwd=place).code == 0
    done = gentool_command("reconstruct", "vae", PHOTO, "--only", "-o", "m", cwd=place)
    assert done.code == 2
    assert "results of gentool sample" in done.err


def test_what_stays_beside_results_that_were_written_over_is_told(place: Path) -> None:
    command = ("interpolate", "gan", "--seeds", "1,2", "-o", "frames", "--steps")
    assert gentool_command(*command, 9, cwd=place).code == 0
    before = contents(place / "frames")
    done = gentool_command(*command, 4, "--overwrite", cwd=place)
    assert done.code == 0, done.err
    assert "warning: frames " in done.err
    assert len(contents(place / "frames")) == len(before)
    done = gentool_command(*command, 9, "--overwrite", cwd=place)
    assert done.code == 0, done.err
    assert "warning" not in done.err
    assert contents(place / "frames") == before


def test_a_result_that_would_be_a_file_and_a_folder_is_refused_first(place: Path) -> None:
    for name in ("w/a.jpg", "w/p.jpg", "w/p.jpg.png/x.png"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(1)).save(place / name)
    done = gentool_command("reconstruct", "vae", "w", "--only", "-o", "o", cwd=place)
    assert done.code == 2, done.err
    assert "p.jpg.png would be a file and also a folder" in done.err
    assert not (place / "o").exists()


def test_a_link_stays_a_link(place: Path) -> None:
    (place / "far").mkdir()
    (place / "link.png").symlink_to("far/sheet.png")
    for _ in range(2):
        done = gentool_command("sample", "gan", "-n", 1, "-o", "link.png", cwd=place)
        assert done.code == 0, done.err
    assert (place / "link.png").is_symlink()
    mark = read_mark(place / "far" / "sheet.png")
    assert mark is not None and mark.kind == PICTURE
    (place / "photo.png").symlink_to(PHOTO)
    before = contents(place)
    assert gentool_command("sample", "gan", "-n", 1, "-o", "photo.png", cwd=place).code == 2
    assert contents(place) == before


def test_a_seed_is_named_once(place: Path) -> None:
    done = gentool_command("sample", "gan", "--seeds", "1,0-2", "-o", "o", cwd=place)
    assert done.code == 2
    assert "twice" in done.err


def test_names_that_are_numbered_do_not_meet_real_ones() -> None:
    names = [Path(name) for name in ("x/a.png", "x-a.png", "x-a~2.png", "X-A.png")]
    assert len({name.casefold() for name in result_names(names, "-")}) == 4


def test_a_result_that_cannot_be_written_is_left_out_and_the_rest_goes_on(place: Path) -> None:
    with zipfile.ZipFile(place / "deep.zip", "w") as archive:
        for name in ("/".join(["d" * 150] * 40) + "/a.png", "b.png"):
            archive.write(place / PHOTO, name)
    done = gentool_command("reconstruct", "vae", "deep.zip", "--only", "-o", "rec", cwd=place)
    assert done.code == 7, done.err
    assert [line.split("\t")[0] for line in done.lines] == ["rec/deep.zip/b.png"]
    assert "cannot be written" in done.err


@pytest.mark.parametrize(("suffix", "channels"), [(".png", 3), (".png", 1), (".png", 4),
                                                 (".jpg", 3), (".jpg", 4)])  # fmt: skip
def test_a_sheet_takes_at_most_half_more_memory_than_its_pixels(
    suffix: str, channels: int, tmp_path: Path
) -> None:
    """In a process of its own, by the most that it ever had of the machine's memory."""
    peak = f"""
import resource, numpy
from pathlib import Path
from gentool.core.images import ImageShape
from gentool.outputs.plan import NamedImage, Plan, Planned
from gentool.outputs.writers import SheetSink
from gentool.outputs.ownership import Guard
SIDE, COUNT = 128, 1600
results = [Planned(str(k), {{"gentool": "0", "index": k}}) for k in range(COUNT)]
noise = numpy.random.default_rng(0).integers(0, 256, (SIDE, SIDE, {channels}), dtype="u1")
def write(count):
    plan = Plan(lambda: results[:count], count, ImageShape(SIDE, SIDE, {channels}))
    sink = SheetSink(Path({str(tmp_path)!r}) / f"{{count}}{suffix}", plan, Guard())
    for planned in results[:count]:
        sink.add(NamedImage(planned.name, noise, planned.recipe))
    sink.close()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = write(4)
print((write(COUNT) - before) / (COUNT * SIDE * SIDE * {channels}))
"""
    done = run_python("-c", peak)
    assert done.code == 0, done.err
    assert float(done.out) < 1.5


def test_a_long_name_is_shortened_and_the_rest_goes_on(place: Path) -> None:
    long = place / "photos" / "disc" / ("é" * 125 + ".png")
    Image.fromarray(draw(8)).save(long)
    done = gentool_command("reconstruct", "vae", "photos", "-o", "rec", cwd=place)
    assert done.code == 0, done.err
    assert len(done.lines) == 25
    done = gentool_command("sample", "gan", "-n", 1, "-o", "x" * 250 + ".png", cwd=place)
    assert done.code == 0, done.err
    done = gentool_command("sample", "gan", "-n", 1, "-o", "x" * 256 + ".png", cwd=place)
    assert done.code == 2


# --- refusals come first ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("sample", "gan", "-n", "1500000", "-o", "x.webp"), "at most 16,383 pixels"),
        (("sample", "gan", "-n", "30000000", "-o", "x.jpg"), "at most 65,500 pixels"),
        (("interpolate", "gan", "-o", "x.avi"), ".gif, .webp, .mp4 or .webm"),
        (("sample", "gan", "-o", "x.gif"), "one picture as .png, .jpg, .jpeg, .webp"),
        (("sample", "gan", "-o", "photos/disc/000.png/x.png"), "cannot write"),
        (("sample", "gan", "-o", "/proc/x"), "cannot write"),
        (("reconstruct", "vae", PHOTO, "-o", "o", "--fit-weights", "/proc/x"), "cannot write"),
        (("train", "gan", "--data", "photos", "--out", PHOTO), "is a file"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_refused_before_an_image_is_drawn(
    command: Sequence[str], words: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("an image was drawn")

    monkeypatch.setattr("gentool.inference.blocks.decode_blocks", fail)
    done = gentool_command(*command, cwd=place)
    assert done.code == 2, done.err
    assert words in done.err


@pytest.mark.parametrize("suffix", [".png", ".webp", ".npz"])
def test_what_needs_more_memory_than_is_free_is_refused(
    suffix: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gentool.core.free_memory.free_memory_bytes", lambda: 100_000)
    command = ("sample", "gan", "-n", 400, "-o", f"huge{suffix}")
    done = gentool_command(*command, cwd=place)
    assert done.code == 2, done.err
    assert "of memory" in done.err
    monkeypatch.setattr("gentool.core.free_memory.free_memory_bytes", lambda: 100_000_000)
    assert gentool_command(*command, cwd=place).code == 0


def test_free_memory_is_below_all_of_it_and_may_be_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    5 kB\n")
    monkeypatch.setattr("gentool.core.free_memory.MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr("gentool.core.free_memory.CONTROL_GROUP", tmp_path)
    assert free_memory_bytes() == 5120
    for name, words in (("max", "4000"), ("current", "3000"), ("stat", "file 9\ninactive_file 7")):
        (tmp_path / f"memory.{name}").write_text(words)
    assert free_memory_bytes() == 1007
    (tmp_path / "memory.max").write_text("max")
    assert free_memory_bytes() == 5120
    (tmp_path / "meminfo").unlink()
    assert free_memory_bytes() is None


@pytest.mark.parametrize(
    ("milliseconds", "suffix", "words", "held"),
    [(60, ".gif", "", 60), (64, ".gif", "becomes 60 ms", 60), (5, ".gif", "becomes 10 ms", 10),
     (10, ".gif", "less than 20 ms", 10), (64, ".webp", "", 64), (12, ".webp", "less than", 12)],
)  # fmt: skip
def test_times_that_a_film_cannot_hold_are_told(
    milliseconds: int, suffix: str, words: str, held: int, place: Path
) -> None:
    done = gentool_command(
        "interpolate", "gan", "--seeds", "0,1", "--steps", 2, "--milliseconds", milliseconds,
        "-o", f"film{suffix}", cwd=place,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert words in done.err
    assert ("note:" in done.err) == bool(words)
    with Image.open(place / f"film{suffix}") as film:
        film.load()
        assert film.info["duration"] == held


# --- recipes and their reading ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.npz"])
def test_info_reads_the_recipe_back(name: str, place: Path) -> None:
    verb = "interpolate" if name == "a.gif" else "sample"
    more = ("--seeds", "3,4", "--steps", 2) if verb == "interpolate" else ("--seed", 3, "-n", 2)
    assert gentool_command(verb, "gan", *more, "-o", name, cwd=place).code == 0
    done = gentool_command("info", name, "--json", cwd=place)
    assert done.code == 0, done.err
    recipe = json.loads(done.out)["recipe"]
    digest = hashlib.sha256((place / "gan" / "model.safetensors").read_bytes()).hexdigest()
    assert recipe["model_sha256"] == digest
    assert recipe["made_by"] == verb
    assert recipe.get("seed", recipe.get("seeds")) in (3, [3, 4])
    assert "made_by" in gentool_command("info", name, cwd=place).out
    assert str(place) not in done.out.replace(name, "")


def test_info_of_a_foreign_picture_is_an_error(place: Path) -> None:
    assert gentool_command("info", PHOTO, cwd=place).code == 4


def test_a_recipe_too_long_for_a_comment_still_tells_two_apart(tmp_path: Path) -> None:
    from gentool.core.picture_files import encode

    recipes = [{"gentool": "1", "names": [f"{k}-{j}" for j in range(20_000)]} for k in (1, 2)]
    for number, recipe in enumerate(recipes):
        (tmp_path / f"{number}.jpg").write_bytes(encode(draw(0), ".jpg", recipe))
    guard = Guard()
    guard.allow_recipe(tmp_path / "0.jpg", PICTURE, recipes[0])
    with pytest.raises(UsageError, match="names was"):
        guard.allow_recipe(tmp_path / "0.jpg", PICTURE, recipes[1])


def test_odd_files_are_nobodys(tmp_path: Path) -> None:
    odd: dict[str, bytes] = {
        "empty": b"", "png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF89a", "zip": b"PK\5\6" + bytes(18),
        "zip comment": b"PK\5\6" + bytes(18) + b"gentool {", "tensors": b"\x05" + bytes(7) + b"{",
        "csv": b"target,recipe", "jpeg": b"\xff\xd8\xff\xfe\0\x0agentool [",
    }  # fmt: skip
    for name, data in odd.items():
        (tmp_path / name).write_bytes(data)
        assert read_mark(tmp_path / name) is None or name == "csv"
        assert read_recipe(tmp_path / name) is None
    assert read_mark(tmp_path) is None
    assert read_mark(tmp_path / "nothing") is None


# --- other folders ------------------------------------------------------------------------------


def test_shards_are_replaced_by_the_same_command_alone(place: Path) -> None:
    pytest.importorskip("litdata")
    command = ("data", "shards", "photos", "out")
    for _ in range(2):
        done = gentool_command(*command, cwd=place)
        assert done.code == 0, done.err
    assert gentool_command(*command, "--size", 32, cwd=place).code == 2
    assert gentool_command(*command, "--size", 32, "--overwrite", cwd=place).code == 0
    (place / "out" / "mine.txt").write_text("kept")
    assert gentool_command(*command, "--overwrite", cwd=place).code == 2
    assert (place / "out" / "mine.txt").read_text() == "kept"


@pytest.mark.parametrize(
    ("name", "words"),
    [("samples/000000160.png", ""), ("log.jsonl", "my own words\n"),
     ("log.jsonl", '{"images": [1, 2], "annotations": "mine"}'), ("bad_files.txt", "a\tb\nc\n"),
     ("snapshots/000000000160.safetensors", "mine")],
)  # fmt: skip
def test_train_keeps_what_no_run_made(
    name: str, words: str, place: Path, tiny: Callable[..., Finished]
) -> None:
    mine = place / "mine" / name
    mine.parent.mkdir(parents=True)
    if name.endswith(".png"):
        Image.fromarray(draw(0)).save(mine)
    else:
        mine.write_text(words)
    before = contents(place)
    done = tiny("--data", "photos", "--out", "mine", cwd=place)
    assert done.code == 2
    assert f"mine/{name} already exists" in done.err
    assert contents(place) == before


@pytest.fixture
def tiny() -> Callable[..., Finished]:
    """A short training command."""
    from conftest import TINY

    return lambda *more, cwd: gentool_command("train", "gan", *TINY, "--images", 32, *more, cwd=cwd)


def test_going_on_with_a_run_keeps_what_others_put_into_its_folder(
    place: Path, tiny: Callable[..., Finished]
) -> None:
    more = ("--data", "photos", "--out", "k", "--keep", 1, "--save-every", 32)
    assert tiny(*more, cwd=place).code == 0
    mine = [place / "k" / name for name in (
        ".notes.2023.tmp", "samples/.draft.1.tmp", "samples/000000064.png",
        "snapshots/mine.safetensors",
    )]  # fmt: skip
    for path in mine:
        path.write_text("precious")
    done = tiny(*more, "--images", 96, cwd=place)
    assert done.code == 0, done.err
    assert [path.read_text() for path in mine] == ["precious"] * 4
    assert (place / "k" / "samples" / "000000096.png").is_file()


def test_a_snapshot_is_known_from_inside_its_folder_and_through_a_link(
    place: Path, tiny: Callable[..., Finished]
) -> None:
    more = ("--data", "photos", "--out", "z", "--keep", "all", "--save-every", 32)
    assert tiny(*more, cwd=place).code == 0
    (place / "s").symlink_to(place / "z" / "snapshots")
    name = "000000000032.safetensors"
    before = (place / "s" / name).read_bytes()
    for where, target in ((place / "s", name), (place, f"s/{name}")):
        command = ("average", place / "z", "--length", 0.05, "--overwrite", "-o", target)
        done = gentool_command(*command, cwd=where)
        assert done.code == 2, done.err
    assert (place / "s" / name).read_bytes() == before


def test_the_name_that_is_offered_instead_of_a_snapshots_is_free(
    place: Path, tiny: Callable[..., Finished]
) -> None:
    more = ("--data", "photos", "--out", "z", "--keep", "all", "--save-every", 32)
    assert tiny(*more, cwd=place).code == 0
    command = ("average", "z", "--length", 0.05, "-o")
    done = gentool_command(*command, "z/snapshots/000000000032.safetensors", cwd=place)
    assert done.code == 2
    offered = done.err.split("Write to ")[1].strip()
    assert gentool_command(*command, offered, cwd=place).code == 0


def test_a_run_may_lie_in_the_folder_that_it_reads(
    place: Path, tiny: Callable[..., Finished]
) -> None:
    photos = place / "photos"
    for out in ("runs/k", "."):
        for images in (32, 64, 96):  # the previews of a run are none of its images
            done = tiny("--data", ".", "--out", out, "--images", images, cwd=photos)
            assert done.code == 0, done.err
    (photos / "samples").rename(photos / "mine")  # no run has this folder, but marked pictures
    checked = gentool_command("data", "check", ".", "--json", cwd=photos)
    assert json.loads(checked.out)["images"] == 24
    for picture in (photos / "mine").iterdir():  # saved again by somebody: theirs
        Image.open(picture).convert("RGB").save(picture.with_suffix(".bmp"))
    checked = gentool_command("data", "check", ".", "--json", cwd=photos)
    assert json.loads(checked.out)["images"] == 24 + len(list((photos / "mine").glob("*.bmp")))


PIPED = {
    "model": ("sample", "pipe"),
    "info": ("info", "pipe"),
    "target of score": ("score", "photos", "-m", "pipe"),
    "target": ("evaluate", "pipe", "--data", "photos"),
    "data": ("evaluate", "gan", "--data", "pipe"),
    "endpoint": ("interpolate", "vae", "pipe", PHOTO, "-o", "o"),
    "start": ("traverse", "vae", "--start", "pipe", "-o", "o"),
    "photo": ("reconstruct", "vae", "pipe", "-o", "o"),
    "latents": ("sample", "gan", "--latents", "pipe", "-o", "o"),
    "training images": ("train", "gan", "--data", "pipe"),
    "state": ("train", "gan", "--data", "photos", "--out", "piped", "--batch", "16"),
}


@pytest.mark.parametrize("command", PIPED.values(), ids=PIPED)
def test_no_command_waits_for_a_pipe(command: Sequence[str], place: Path) -> None:
    os.mkfifo(place / "pipe")
    (place / "piped").mkdir()
    os.mkfifo(place / "piped" / "state.safetensors")

    def give_up(*_: object) -> None:
        raise AssertionError("it waited")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        done = gentool_command(*command, cwd=place)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert done.code in (2, 3, 4), done.err
    assert "unexpected" not in done.err


@pytest.mark.parametrize("target", [".", "/"])
def test_a_folder_without_a_name_is_refused_in_words(target: str, place: Path) -> None:
    for command in (
        ("data", "shards", "photos", target),
        ("average", "gan", "--length", 0.05, "-o", target),
        ("sample", "gan", "-n", 1, "-o", "o", "--save-latents", target),
    ):
        done = gentool_command(*command, cwd=place)
        assert done.code == 2, done.err
        assert "unexpected" not in done.err
