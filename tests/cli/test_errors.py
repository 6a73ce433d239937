"""Messages of the command line: the exit code, one line on stderr, and no traceback.

The tables are the specification of the wording: arguments -> exit code and parts of the last line
on stderr. Other tests assert facts instead: class, exit code, file, number or option. ``{...}`` in
an argument is a path that a fixture makes. ``test_messages.py`` has the messages in full.
"""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import (
    IMAGES,
    TINY,
    Finished,
    draw,
    gentool_command,
    run_gentool,
    words,
    write_images,
)
from PIL import Image
from safetensors.torch import save_file

from gentool.checkpoint import read_file, write_file
from gentool.core.errors import (
    DataError,
    DeviceError,
    Diverged,
    GentoolError,
    ModelFileError,
    NoEncoder,
    NoStyles,
    OutputClosed,
    OutsideSupport,
    PartialSuccess,
    Stopped,
    UnknownName,
    UsageError,
    exit_code_of,
)
from gentool.models.presets import PRESETS

Row = tuple[str, int, tuple[str, ...]]


def check(done: Finished, code: int, fragments: tuple[str, ...]) -> None:
    """The exit code, the last line of stderr, nothing on stdout and no traceback."""
    assert done.code == code, done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    last = done.err.splitlines()[-1]
    assert last.startswith("error: "), done.err
    assert len(last) < 700
    for fragment in fragments:
        assert fragment in last


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, image_folder: Path, gan: Path,
           vae: Path) -> dict[str, Path]:  # fmt: skip
    """Files and folders that something is wrong with, by name."""
    top = tmp_path_factory.mktemp("places")
    found = {"toys": image_folder, "gan": gan, "vae": vae, "top": top, "out": top / "out"}
    for name in ("empty", "texts"):
        found[name] = top / name
        found[name].mkdir()
    (found["texts"] / "readme.txt").write_text("words")
    found["few"] = write_images(top / "few", 5)
    found["text_zip"] = top / "text.zip"
    found["text_zip"].write_text("no archive")
    found["empty_zip"] = top / "nothing.zip"
    with zipfile.ZipFile(found["empty_zip"], "w") as archive:
        archive.writestr("readme.txt", "words")
    found["cut_zip"] = top / "cut.zip"
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for path in image_folder.rglob("*.png"):
            archive.write(path, path.name)
    found["cut_zip"].write_bytes(whole.getvalue()[:-100])
    found["broken"] = top / "broken"
    found["broken"].mkdir()
    (found["broken"] / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    found["file"] = top / "file.txt"
    found["file"].write_text("in the way")
    found |= model_files(top, gan / "model.safetensors")
    found |= {f"config_{name}": path for name, path in config_files(top).items()}
    return found


def model_files(top: Path, good: Path) -> dict[str, Path]:
    """Files that are no gentool model files, by name."""
    made = {name: top / f"{name}.safetensors" for name in (
        "zip_pickle", "legacy_pickle", "cut_model", "web_page", "pointer", "nothing", "newer",
        "foreign", "foreign_words", "changed", "older_sibling", "junk",
    )}  # fmt: skip
    torch.save({"weights": torch.zeros(3)}, made["zip_pickle"])
    torch.save(
        {"weights": torch.zeros(3)}, made["legacy_pickle"], _use_new_zipfile_serialization=False
    )
    data = good.read_bytes()
    made["cut_model"].write_bytes(data[: len(data) // 2])
    made["web_page"].write_text("<!DOCTYPE html>\n<html><body>404</body></html>\n" * 5)
    made["pointer"].write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 12345\n"
    )
    made["nothing"].write_bytes(b"")
    made["newer"].write_bytes(data.replace(rb"\"format\": 1", rb"\"format\": 9"))
    save_file({"weights": torch.zeros(3)}, made["foreign"])
    save_file({"weights": torch.zeros(3)}, made["foreign_words"], {"format": "pt"})
    made["changed"].write_bytes(data + b"\0")
    made["older_sibling"].write_bytes(data.replace(rb"\"model\": \"gan\"", rb"\"model\": \"gon\""))
    made["junk"].write_bytes(bytes(range(200)))
    assert made["newer"].read_bytes() != data
    assert made["older_sibling"].read_bytes() != data
    return made


def config_files(top: Path) -> dict[str, Path]:
    """Settings files that something is wrong with, by name."""
    texts = {
        "unknown_key": "bach = 3",
        "wrong_type": "batch = 'many'",
        "wrong_bool": "seed = true",
        "not_toml": "batch: 3",
        "bounds": "lr = 100.0",
        "options_no_table": "options = 3",
        "unknown_option": "[options]\nlatent = 8",
        "option_type": "[options]\nlatent_size = 'many'",
        "option_bool": "[options]\nlatent_size = true",
        "two_budgets": "images = 5\nminutes = 5",
        "huge_number": f"batch = 1{'0' * 400}",
    }
    made = {name: top / f"{name}.toml" for name in texts}
    for name, path in made.items():
        path.write_text(texts[name] + "\n")
    return made


def run(line: str, places: dict[str, Path]) -> Finished:
    """Run a row's arguments; words are split at spaces, then ``{...}`` are filled in."""
    return gentool_command(*(word.format(**places) for word in line.split()))


# --- data ---------------------------------------------------------------------------------------

GAN = "train gan --out {out} --device cpu --data"
DATA: dict[str, Row] = {
    "no such path": (f"{GAN} {{top}}/nowhere", 3, ("nothing at ", "nowhere", "builtin:shapes")),
    "empty folder": (f"{GAN} {{empty}}", 3, ("no images in the folder", "empty", ".png")),
    "folder without images": (f"{GAN} {{texts}}", 3, ("no images in the folder", ".webp")),
    "no zip": (f"{GAN} {{text_zip}}", 3, ("is a file, but not a zip", "Give a folder")),
    "zip without images": (f"{GAN} {{empty_zip}}", 3, ("no images in ", "nothing.zip")),
    "zip cut short": (f"{GAN} {{cut_zip}}", 3, ("is not a readable zip", "cut short")),
    "all images broken": (f"{GAN} {{broken}}", 3, ("can be read; the first: a.png: ",)),
    "fewer images than a batch": (
        f"{GAN} {{few}} --batch 8", 3, ("5 images are fewer than a batch of 8", "--batch 5"),
    ),
    "unknown built-in set": (
        f"{GAN} builtin:shape", 2, ("no built-in data set named 'shape'", "'shapes'"),
    ),
    "no count": (f"{GAN} builtin:shapes:many", 2, ("needs a number of images after the name",)),
    "count of none": (f"{GAN} builtin:shapes:0", 2, ("1 to 4294967296",)),
    "reconstruct an empty folder": (
        "reconstruct {vae} {empty} -o {out}", 3, ("no images in the folder",),
    ),
    "reconstruct nothing that is there": (
        "reconstruct {vae} {top}/none.png -o {out}", 3, ("none of 1 images can be read",),
    ),
}  # fmt: skip

# --- names, sizes and numbers -------------------------------------------------------------------

TRAIN = "train gan --data {toys} --out {out} --device cpu"
NAMES: dict[str, Row] = {
    "model": ("train gam --data {toys}", 2, ("no model named 'gam'", "Did you mean 'gan'?",
                                             f"gentool list shows all {len(PRESETS)}")),
    "loss": (f"{TRAIN} -o loss=hinged", 2, ("no GAN loss named 'hinged'", "Did you mean 'hinge'?",
                                            "gentool list losses")),
    "likelihood": ("train vae --data {toys} --out {out} -o likelihood=gausian", 2,
                   ("no likelihood named 'gausian'", "Did you mean 'gaussian'?")),
    "option": (f"{TRAIN} -o latentsize=8", 2, ("no option named 'latentsize'", "'latent_size'",
                                               "gentool list gan")),
    "option of another model": (f"{TRAIN} -o beta=2", 2, ("no option named 'beta'",)),
    "choice": (f"{TRAIN} -o norm=bach", 2, ("no norm named 'bach'", "Did you mean 'batch'?")),
    "option type": (f"{TRAIN} -o latent_size=many", 2, ("takes a whole number, not 'many'",)),
    "option bound": (f"{TRAIN} -o latent_size=0", 2, ("latent_size is 0; allowed: 1 to 4096",)),
    "option not finite": (f"{TRAIN} -o penalty=nan", 2, ("penalty is nan; allowed: 0 to 10000",)),
    "huge option": (f"{TRAIN} -o latent_size=1{'0' * 400}", 2, ("latent_size", "1 to 4096")),
    "option without value": (f"{TRAIN} -o loss", 2, ("write it as -o key=value",)),
    "option without key": (f"{TRAIN} -o =3", 2, ("write it as -o key=value",)),
    "colour mode": (f"{TRAIN} --mode gray", 2, ("no colour mode 'gray'", "grey, rgb, rgba")),
    "precision": (f"{TRAIN} --precision float16", 2,
                  ("there is no precision 'float16'. Choose from ", "bfloat16")),
    "device": ("train gan --data {toys} --out {out} --device gpu", 2,
               ("there is no device 'gpu'. Choose from auto, cpu, cuda, mps",)),
    "device number": ("train gan --data {toys} --out {out} --device cpu:x", 2,
                      ("no device 'cpu:x'",)),
    "odd size": (f"{TRAIN} --size 33", 2, ("33 is not a multiple of 4", "try 32")),
    "small "
    "size": (f"{TRAIN} --size 8", 2, ("8 is not a multiple of 4 between 16 and 512", "try 16")),
    "large size": (f"{TRAIN} --size 1024", 2, ("between 16 and 512; try 512",)),
    "word as size": (f"{TRAIN} --size abc", 2, ("'abc' is not a size", "48x64")),
    "one odd side": (f"{TRAIN} --size 32x33", 2, ("33 is not a multiple of 4",)),
    "three sides": (f"{TRAIN} --size 32x32x3", 2, ("is not a size",)),
    "negative size": (f"{TRAIN} --size -32", 2, ("is not a size",)),
    "empty side": (f"{TRAIN} --size 32x", 2, ("is not a size",)),
    "huge size": (f"{TRAIN} --size 1{'0' * 400}", 2, ("size", "between 16 and 512")),
    "both budgets": (f"{TRAIN} --images 9 --minutes 1", 2, ("two budgets for one run",)),
    "images": (f"{TRAIN} --images 0", 2, ("--images is 0; allowed: 1 to",)),
    "huge images": (f"{TRAIN} --images 1{'0' * 400}", 2, ("--images", "allowed: 1 to")),
    "minutes": (f"{TRAIN} --minutes nan", 2, ("--minutes is nan",)),
    "learning rate": (f"{TRAIN} --lr 0", 2, ("--lr is 0",)),
    "interpolation method": ("interpolate {gan} --method slrp -o {out}", 2,
                             ("no method named 'slrp'", "Did you mean 'slerp'?")),
    "image format": ("sample {gan} --format bmp -o {out}", 2, ("no image format 'bmp'", "webp")),
    "output suffix": (
        "sample {gan} -o {top}/x.tiff", 2,
        ("this command writes one picture as .png, .jpg", ".npz"),
    ),
    "film of a sample": ("sample {gan} -o {top}/x.gif", 2, ("one picture as .png",)),
    "tar and json": ("sample {gan} -o - --json", 2, ("Leave one of them out",)),
    "one key frame": ("interpolate {gan} --seeds 7 -o {out}", 2, ("Give at least two",)),
    "unknown table": ("list modells", 2, ("Did you mean 'models'?",)),
}  # fmt: skip

CONFIG: dict[str, Row] = {
    "unknown key": ("unknown_key", 2, ("no setting named 'bach'", "Did you mean 'batch'?")),
    "wrong type": ("wrong_type", 2, ("--batch many: write a number of images, or auto",)),
    "boolean for a number": ("wrong_bool", 2, ("seed takes a number, not True",)),
    "not TOML": ("not_toml", 2, ("is not TOML", "line 1", "images = 200000")),
    "out of bounds": ("bounds", 2, ("lr is 100; allowed: 1e-09 to 10",)),
    "options no table": ("options_no_table", 2, ("Write [options] above its lines",)),
    "unknown option": ("unknown_option", 2, ("no option named 'latent'", "'latent_size'")),
    "option type": ("option_type", 2, ("latent_size takes a whole number, not 'many'",)),
    "option boolean": ("option_bool", 2, ("latent_size takes a whole number, not True",)),
    "two budgets": ("two_budgets", 2, ("two budgets",)),
    "huge number": ("huge_number", 2, ("batch", "allowed: 1 to 65536")),
}

# --- model files --------------------------------------------------------------------------------

MODEL_FILES: dict[str, Row] = {
    "not there": ("{top}/none.safetensors", 4, ("no model file at", "'gentool train' writes one")),
    "folder without a model": ("{empty}", 4, ("holds no model.safetensors", "run folder")),
    "pickle in a zip": ("{zip_pickle}", 4, ("is a pickle", "can run code when it is opened")),
    "old pickle": ("{legacy_pickle}", 4, ("is a pickle", "can run code when it is opened")),
    "cut short": ("{cut_model}", 4, ("cut short", "Copy or download it again")),
    "web page": ("{web_page}", 4, ("a web page, not a model file", "Download the file itself")),
    "LFS pointer": ("{pointer}", 4, ("a Git LFS pointer", "git lfs pull")),
    "empty": ("{nothing}", 4, ("is empty",)),
    "newer format": ("{newer}", 4, ("has format 9", "reads up to 1", "Upgrade gentool")),
    "somebody else's": ("{foreign}", 4, ("is a safetensors file that gentool did not write",)),
    "with foreign words": ("{foreign_words}", 4, ("that gentool did not write",)),
    "a byte too many": ("{changed}", 4, ("is cut short or was changed",)),
    "unknown model": ("{older_sibling}", 4, ("no model named 'gon'", "Did you mean 'gan'?")),
    "random bytes": ("{junk}", 4, ("not a gentool model file",)),
    "an image": ("{toys}/bar/001.png", 4, ("not a gentool model file",)),
    "training state": ("{vae}/state.safetensors", 4, ("is a training state, not a model",)),
}


@pytest.mark.parametrize(("line", "code", "fragments"), DATA.values(), ids=DATA)
def test_data(line: str, code: int, fragments: tuple[str, ...], places: dict[str, Path]) -> None:
    check(run(line, places), code, fragments)


@pytest.mark.parametrize(("line", "code", "fragments"), NAMES.values(), ids=NAMES)
def test_names_sizes_and_numbers(
    line: str, code: int, fragments: tuple[str, ...], places: dict[str, Path]
) -> None:
    check(run(line, places), code, fragments)
    assert not places["out"].exists()


@pytest.mark.parametrize(("name", "code", "fragments"), CONFIG.values(), ids=CONFIG)
def test_config_file(
    name: str, code: int, fragments: tuple[str, ...], places: dict[str, Path]
) -> None:
    check(run(f"{TRAIN} --config {{config_{name}}}", places), code, fragments)


@pytest.mark.parametrize(("line", "code", "fragments"), MODEL_FILES.values(), ids=MODEL_FILES)
def test_model_file(
    line: str, code: int, fragments: tuple[str, ...], places: dict[str, Path]
) -> None:
    check(run(f"info {line}", places), code, fragments)
    check(run(f"sample {line} -o {{out}}", places), code, fragments)
    assert not places["out"].exists()


@pytest.mark.parametrize("command", ["interpolate {}", "reconstruct {} {}", "info {} --json"])
def test_every_verb_refuses_a_pickle(command: str, places: dict[str, Path]) -> None:
    line = command.replace("{}", "{zip_pickle}")
    check(run(line, places), 4, ("is a pickle",))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("line", [
    "train gan --data {toys} --out {out} --device cuda", "sample {gan} -o {out} --device cuda:1",
])  # fmt: skip
def test_absent_device(line: str, places: dict[str, Path]) -> None:
    check(run(line, places), 5, ("no cuda device on this machine (found: ", "cpu)"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_absent_second_device(places: dict[str, Path]) -> None:
    check(run("sample {gan} -o {out} --device cuda:99", places), 5, ("no cuda:99",))


def test_device_of_the_environment_is_checked_too(places: dict[str, Path]) -> None:
    done = gentool_command("sample", places["gan"], env={"GENTOOL_DEVICE": "gpu"})
    check(done, 2, ("no device 'gpu'",))


@pytest.mark.parametrize(
    "seeds", ["x", "1-", "-1", "3-1", "1,,2", "1.5", "", "0-9999999999", str(2**63), "9" * 5000]
)
def test_nonsense_as_seeds(seeds: str, places: dict[str, Path]) -> None:
    """Typer frames the message of a bad parameter."""
    done = gentool_command("sample", places["gan"], f"--seeds={seeds}", "-o", places["out"])
    assert done.code == 2, done.err[-300:]
    assert "Traceback" not in done.err
    assert "Invalid value" in words(done.err)


def test_a_start_beyond_all_indices_is_a_usage_error(places: dict[str, Path]) -> None:
    done = run(f"sample {{gan}} -n 1 --start {2**63} -o {{out}}", places)
    assert done.code == 2, done.err


def test_other_settings_of_an_existing_run_are_named(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    base = ("train", "gan", "--data", image_folder, "--out", out, "--images", 32, *TINY)
    assert gentool_command(*base).code == 0
    done = gentool_command(*base, "--seed", 5, "-o", "loss=hinge", "--lr", 2e-3)
    check(done, 2, (
        f"{out} holds a run with other settings: ", "--seed was 0 and is 5",
        "-o loss was relativistic and is "
        "hinge", "--lr was 0.001 and is 0.002", "Choose another --out",
    ))  # fmt: skip
    assert "--batch" not in done.err.splitlines()[-1]


def test_another_model_or_other_images_are_other_settings(
    image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    base = ("--out", out, "--images", 32, *TINY)
    assert gentool_command("train", "vae", "--data", image_folder, *base).code == 0
    done = gentool_command("train", "autoencoder", "--data", image_folder, *base)
    check(done, 2, ("model was vae and is autoencoder",))
    others = write_images(tmp_path / "others", 20)
    done = gentool_command("train", "vae", "--data", others, *base)
    check(done, 2, ("began with other images: 0 images came, 76 went (the first ", "--override"))


def test_losses_that_are_not_finite_end_the_run_and_keep_the_last_good_files(
    image_folder: Path, tmp_path: Path
) -> None:
    """One weight of the state is made so large that the next step overflows."""
    out = tmp_path / "run"
    base = ("train", "autoencoder", "--data", image_folder, "--out", out, *TINY)
    assert gentool_command(*base, "--images", 32).code == 0
    header, tensors = read_file(out / "state.safetensors")
    tensors["live/decoder.stem.weight"][0, 0] = 3e38
    write_file(out / "state.safetensors", tensors, header)
    before = {p.name: p.read_bytes() for p in out.glob("*.safetensors")}
    done = gentool_command(*base, "--images", 64)
    check(done, 6, ("is not finite", "hold the last good state", "Try --lr 6.25e-05"))
    assert {p.name: p.read_bytes() for p in out.glob("*.safetensors")} == before
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["lr"] for line in lines if "setback" in line] == [0.0005, 0.00025, 0.000125]


# --- places that cannot be written --------------------------------------------------------------


@pytest.mark.parametrize("output", ["{file}/x", "{file}/x.png", "{file}/x.npz"])
def test_an_output_below_a_file(output: str, places: dict[str, Path]) -> None:
    check(run(f"sample {{gan}} -n 1 -o {output}", places), 2, ("cannot write ", "file.txt"))


def test_a_run_folder_below_a_file(places: dict[str, Path]) -> None:
    done = run("train autoencoder --data {toys} --out {file}/run --images 16 --device cpu "
               "--batch 16 --width 4", places)  # fmt: skip
    check(done, 2, ("cannot write ", "file.txt"))


def test_a_run_folder_that_is_a_file(places: dict[str, Path]) -> None:
    done = run("train autoencoder --data {toys} --out {file} --images 16 --device cpu "
               "--batch 16 --width 4", places)  # fmt: skip
    check(done, 2, ("file.txt",))
    assert places["file"].read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("name", ["x", "x.png", "x.npz"])
def test_a_read_only_folder(name: str, gan: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    done = gentool_command("sample", gan, "-n", 1, "-o", tmp_path / name)
    tmp_path.chmod(0o700)
    check(done, 2, ("cannot write ",))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everywhere")
def test_a_model_file_that_may_not_be_read(gan: Path, tmp_path: Path) -> None:
    locked = tmp_path / "model.safetensors"
    locked.write_bytes((gan / "model.safetensors").read_bytes())
    locked.chmod(0)
    check(gentool_command("info", locked), 4, ("cannot read ", "Permission denied"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everywhere")
def test_an_image_that_may_not_be_read_is_one_bad_image_among_good_ones(
    vae: Path, tmp_path: Path
) -> None:
    for name in ("good.png", "locked.png"):
        Image.fromarray(draw(0)).save(tmp_path / name)
    (tmp_path / "locked.png").chmod(0)
    done = gentool_command(
        "reconstruct", vae, tmp_path / "good.png", tmp_path / "locked.png", "-o", tmp_path / "r"
    )
    assert done.code == 7, done.err
    assert len(done.lines) == 1
    assert f"{tmp_path / 'locked.png'}: Permission denied" in done.err


LONG_NAMES = {
    "data": ("train gan --data {name} --out {out}", 3),
    "config": ("train gan --data {toys} --out {out} --config {name}", 2),
    "run folder": ("train gan --data {toys} --out {top}/{name} --images 16 --device cpu", 2),
    "model": ("sample {name} -o {out}", 4),
    "image": ("reconstruct {vae} {name} -o {out}", 3),
    "output": ("sample {gan} -n 1 -o {top}/{name}", 2),
    "grid": ("sample {gan} -n 1 -o {top}/{name}.png", 2),
}


@pytest.mark.parametrize(("line", "code"), LONG_NAMES.values(), ids=LONG_NAMES)
def test_a_name_that_is_too_long_for_a_file(line: str, code: int, places: dict[str, Path]) -> None:
    arguments = [word.format(**{**places, "name": "x" * 5000}) for word in line.split()]
    done = gentool_command(*arguments)
    assert done.code == code, done.err[:300]
    assert "Traceback" not in done.err
    assert "unexpected" not in done.err


# --- form ---------------------------------------------------------------------------------------


def test_control_characters_of_a_file_name_do_not_reach_the_terminal(tmp_path: Path) -> None:
    done = gentool_command("info", tmp_path / "a\x1b[31mred\x07")
    assert done.code == 4
    assert "\x1b" not in done.err
    assert "\x07" not in done.err
    assert "\\x1b[31mred" in done.err


def test_markup_of_a_file_name_stays_as_it_is(image_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "[red]toys"
    folder.mkdir()
    for k in range(100):
        Image.fromarray(draw(k)).save(folder / f"{k}.png")
    (folder / "[bold]bad.png").write_text("no image")
    done = gentool_command(
        "train", "autoencoder", "--data", folder, "--out", tmp_path / "run", "--images", 16, *TINY
    )
    assert done.code == 0, done.err
    assert f"images from {folder}, cpu" in done.err
    assert "skipped [bold]bad.png: " in done.err


def test_errors_leave_the_process_with_their_code_and_debug_shows_the_traceback(
    places: dict[str, Path],
) -> None:
    plain = run_gentool("info", places["nothing"])
    check(plain, 4, ("is empty",))
    assert len(plain.err.splitlines()) == 1
    debug = run_gentool("--debug", "info", places["nothing"])
    assert debug.code != 0
    assert "Traceback (most recent call last)" in debug.err
    assert "gentool.core.errors.ModelFileError: " in debug.err


def test_debug_can_come_from_the_environment(places: dict[str, Path]) -> None:
    with pytest.raises(ModelFileError, match="is empty"):
        gentool_command("info", places["nothing"], env={"GENTOOL_DEBUG": "1"})


def test_debug_of_one_command_does_not_outlive_it(places: dict[str, Path]) -> None:
    with pytest.raises(ModelFileError):
        gentool_command("--debug", "info", places["nothing"])
    check(gentool_command("info", places["nothing"]), 4, ("is empty",))


def test_what_was_not_foreseen_is_one_line_too(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of our own, which is the one thing that has to be made up."""

    def broken(*arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("gentool.checkpoint.load_model", broken)
    done = gentool_command("info", places["gan"])
    check(done, 1, ("unexpected RuntimeError: a bug", "gentool --debug"))


EXIT_CODES: dict[Callable[[], GentoolError], int] = {
    lambda: GentoolError(""): 1,
    lambda: UsageError(""): 2,
    lambda: UnknownName(""): 2,
    lambda: NoStyles(""): 2,
    lambda: OutsideSupport("", ""): 2,
    lambda: DataError(""): 3,
    lambda: ModelFileError(""): 4,
    lambda: DeviceError(""): 5,
    lambda: Diverged(""): 6,
    lambda: PartialSuccess(""): 7,
    lambda: Stopped("", interrupted=False): 75,
    lambda: Stopped("", interrupted=True): 130,
    lambda: OutputClosed(""): 141,
    lambda: NoEncoder(""): 1,
}


def test_exit_codes_are_those_of_the_documentation() -> None:
    assert [exit_code_of(make()) for make in EXIT_CODES] == list(EXIT_CODES.values())


def test_fixture_folders_are_as_the_rows_assume(places: dict[str, Path]) -> None:
    assert len(list(places["toys"].rglob("*.png"))) == IMAGES
    assert len(list(places["few"].rglob("*.png"))) == 5
