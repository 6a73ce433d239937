"""Targets of ``evaluate``: which are accepted, how they are prepared, and notes on metrics."""

import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SIDE, TINY, gentool_command, write_images
from PIL import Image

ON = "--features", "random", "-n", 40, "--device", "cpu"


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images in two class folders."""
    return write_images(tmp_path_factory.mktemp("toys") / "toys", 60)


@pytest.fixture(scope="module")
def made(vae: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same 40 samples in every form that holds several images."""
    top = tmp_path_factory.mktemp("made")
    places = {name: top / name for name in ("folder", "s.npz", "s.zip", "s.tar", "s.tar.gz")}
    sample = "sample", vae, "-n", 40, "--device", "cpu", "-o"
    for name in ("folder", "s.npz"):
        assert gentool_command(*sample, places[name]).code == 0
    files = sorted(places["folder"].glob("*.png"))
    with zipfile.ZipFile(places["s.zip"], "w") as packed:
        for file in files:
            packed.write(file, f"inside/{file.name}")
    places["s.tar"].write_bytes(gentool_command(*sample, "-").stdout)
    with tarfile.open(places["s.tar.gz"], "w:gz") as zipped:
        for file in files:
            zipped.add(file, file.name)
    return places


def _answer(*arguments: object) -> Any:
    done = gentool_command("evaluate", *arguments, *ON, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


# --- own outputs are read back ------------------------------------------------------------------


def test_samples_score_alike_in_every_form(vae: Path, made: dict[str, Path], toys: Path) -> None:
    model, *others = _answer(vae, *made.values(), "--data", toys)["scores"]
    for row in others:
        for name in ("FD-random", "kernel", "precision", "coverage"):
            assert row[name] == pytest.approx(model[name], rel=1e-9), row["target"]


@pytest.mark.parametrize("verb", ["reconstruct", "score"])
def test_an_archive_stands_for_its_images(
    verb: str, vae: Path, made: dict[str, Path], tmp_path: Path
) -> None:
    def rows(place: Path) -> Any:
        more = (
            ("-o", tmp_path / f"{place.name}-sheet.png")
            if verb == "reconstruct"
            else ("--model", vae)
        )
        words = (verb, vae, place) if verb == "reconstruct" else (verb, place)
        done = gentool_command(*words, *more, "--device", "cpu", "--json")
        assert done.code == 0, done.err
        return json.loads(done.out)["images"]

    wanted = rows(made["folder"])
    for name, place in made.items():
        found = rows(place)
        assert len(found) == 40
        assert all(Path(row["image"]).parent == place for row in found), name
        same = "psnr" if verb == "reconstruct" else "nats"
        assert [row[same] for row in found] == pytest.approx([row[same] for row in wanted])


def test_an_array_is_data_too(made: dict[str, Path], toys: Path) -> None:
    answer = _answer(toys, "--data", made["s.npz"])
    assert answer["protocol"]["reference"] == 40
    assert answer["protocol"]["shape"] == "16x16 rgb"


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _claiming(shape: tuple[int, ...]) -> bytes:
    """A header that claims a shape, and a few bytes."""
    words = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(words)) + words + bytes(64)


ARRAYS: dict[str, bytes] = {
    "complex numbers": _npy(np.zeros((3, 16, 16, 3), np.complex64)),
    "objects": _npy(np.array([[None]], dtype=object)),
    "flat": _npy(np.zeros((3, 16), np.uint8)),
    "two channels": _npy(np.zeros((3, 16, 16, 2), np.uint8)),
    "none": _npy(np.zeros((0, 16, 16, 3), np.uint8)),
    "huge": _claiming((10**9, 512, 512, 3)),
    "negative": _claiming((-1, 16, 16, 3)),
    "code": b"\x93NUMPY\x01\x00" + struct.pack("<H", 20) + b"__import__('os')####" + bytes(64),
    "cut short": _npy(np.zeros((3, 16, 16, 3), np.uint8))[:-9],
    "no array": b"hello",
    "empty": b"",
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_odd_array_is_refused_in_words(kind: str, vae: Path, toys: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", ARRAYS[kind])
    for words in (("evaluate", path, "--data", toys), ("score", path, "--model", vae)):
        done = gentool_command(*words, "--device", "cpu")
        assert (done.code, done.out) == (3, ""), done.err
        assert "odd.npz contains no readable images" in done.err


def test_a_bomb_and_a_damaged_array_are_refused(
    toys: Path, made: dict[str, Path], tmp_path: Path
) -> None:
    bomb, whole = tmp_path / "bomb.npz", bytearray(made["s.npz"].read_bytes())
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", bytes(2**26 + 1))
    done = gentool_command("evaluate", bomb, "--data", toys)
    assert (done.code, "claim to unpack" in done.err) == (3, True)
    damaged = tmp_path / "damaged.npz"
    for place in (40, len(whole) // 2, len(whole) - 30):
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        assert gentool_command("evaluate", damaged, "--data", toys, *ON).code in (0, 3, 4)
        damaged.write_bytes(whole[:place])
        assert gentool_command("evaluate", damaged, "--data", toys, *ON).code in (3, 4)


def test_a_target_that_is_none_is_called_what_it_is(
    vae: Path, made: dict[str, Path], toys: Path, tmp_path: Path
) -> None:
    empty, pickled, words = tmp_path / "empty", tmp_path / "p.pt", tmp_path / "words.zip"
    empty.mkdir()
    torch.save({"weights": torch.zeros(3)}, pickled)
    with zipfile.ZipFile(words, "w") as archive:
        archive.writestr("words.txt", "words")
    cases: list[tuple[Path, int, str]] = [
        (tmp_path / "none", 4, "nothing at"),
        (empty, 3, "there is no model.safetensors"),
        (vae / "state.safetensors", 4, "is a training state, not a model"),
        (pickled, 4, "is a pickle"),
        (words, 3, "no images in"),
        (next(made["folder"].glob("*.png")), 4, "not a gentool model file"),
    ]
    for path, code, said in cases:
        done = gentool_command("evaluate", path, "--data", toys, *ON)
        assert (done.code, said in done.err) == (code, True), (path, done.err)


@pytest.mark.parametrize("verb", ["sample", "info"])
def test_a_zip_of_images_is_never_called_a_pickle(verb: str, made: dict[str, Path]) -> None:
    for name, said in (("s.zip", "is a zip archive, not a model"), ("s.npz", "a .npz file")):
        done = gentool_command(verb, made[name])
        if verb == "info" and name == "s.npz":  # gentool's own, which tells how it came about
            assert (done.code, "archive of arrays" in done.out) == (0, True), done.err
            continue
        assert (done.code, said in done.err, "pickle" in done.err) == (4, True, False), done.err


def test_a_picture_that_ends_as_a_zip_is_a_picture(
    vae: Path, made: dict[str, Path], tmp_path: Path
) -> None:
    picture = next(made["folder"].glob("*.png")).read_bytes()
    both = tmp_path / "both.png"
    both.write_bytes(picture + made["s.zip"].read_bytes())
    done = gentool_command("score", both, "--model", vae, "--device", "cpu")
    assert (done.code, len(done.lines)) == (0, 1), done.err


# --- both sides are prepared alike --------------------------------------------------------------


@pytest.fixture(scope="module")
def oblong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images that fit, background and mode all change: oblong, partly transparent."""
    folder = tmp_path_factory.mktemp("oblong") / "oblong"
    folder.mkdir()
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 20, 4), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def padded(oblong: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of them that are padded, on blue."""
    out = tmp_path_factory.mktemp("padded") / "run"
    done = gentool_command(
        "train", "vae", "--data", oblong, "--out", out, "--images", 16, "--fit", "pad",
        "--background", "blue", "--mode", "rgb", *TINY,
    )  # fmt: skip
    assert done.code == 0, done.err
    return out


def test_the_images_themselves_are_perfect_beside_a_model_of_another_fit(
    padded: Path, oblong: Path
) -> None:
    answer = _answer(padded, oblong, "--data", oblong, "--metrics", "frechet")
    assert answer["scores"][1]["FD-random"] < 1e-6
    protocol = answer["protocol"]
    assert (protocol["fit"], protocol["background"]) == ("pad", "blue")


@pytest.mark.parametrize(
    "how",
    [
        {"fit": "pad"}, {"fit": "stretch"}, {"background": "red"}, {"mode": "grey"},
        {"fit": "pad", "background": "#00ff00", "mode": "rgb", "size": "20x32"},
    ],
)  # fmt: skip
def test_without_a_model_the_intake_is_as_asked_for(how: dict[str, str], oblong: Path) -> None:
    words = [word for name, value in how.items() for word in (f"--{name}", value)]
    answer = _answer(oblong, "--data", oblong, "--metrics", "frechet", *words)
    assert answer["scores"][0]["FD-random"] < 1e-6
    protocol = answer["protocol"]
    assert protocol["fit"] == how.get("fit", "crop")
    assert protocol["background"] == how.get("background", "white")
    size, mode = protocol["shape"].split()
    assert mode == how.get("mode", "rgba")
    assert "size" not in how or size == how["size"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--fit", "crop"), 2), (("--background", "white"), 2), (("--mode", "grey"), 2),
        (("--size", "32"), 2), (("--fit", "pad"), 0), (("--background", "#0000ff"), 0),
        (("--size", "16", "--mode", "rgb"), 0), (("--fit", "pat"), 2), (("--background", "blu"), 2),
    ],
)  # fmt: skip
def test_another_intake_than_the_model_s_is_refused(
    words: tuple[str, ...], code: int, padded: Path, oblong: Path
) -> None:
    done = gentool_command(
        "evaluate", padded, "--data", oblong, "--metrics", "reconstruction", *ON, *words
    )
    assert done.code == code, done.err
    if code and words[1] not in ("pat", "blu"):
        assert f"{' '.join(words)} asks for images of" in done.err
        assert f"{SIDE}x{SIDE} rgb, pad, on blue" in done.err


# --- a metric that was asked for never vanishes -------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ("memorisation", "memorisation: no model here has held-out images"),
        ("likelihood", "likelihood: this model has no likelihood"),
        ("modes", "modes: they can be read only from images of builtin:modes"),
        ("modes,likelihood", "likelihood: this model has no likelihood"),
        (" , ", "--metrics is empty"),
        ("", "--metrics is empty"),
        ("frechet,likelyhood", "Did you mean 'likelihood'?"),
    ],
)
def test_nothing_is_left_is_an_error_before_the_work(
    metrics: str, said: str, gan: Path, toys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object, **more: object) -> None:
        raise AssertionError("this costs time")

    for name in ("sampled", "make_extractor", "score_reconstruction"):
        monkeypatch.setattr(f"gentool.evaluation.measuring.{name}", never)
    done = gentool_command("evaluate", gan, "--data", toys, "--metrics", metrics, *ON)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_images_have_no_reconstruction(toys: Path) -> None:
    for metric in ("reconstruction", "likelihood"):
        done = gentool_command("evaluate", toys, "--data", toys, "--metrics", metric, *ON)
        assert (done.code, done.out) == (2, "")
        assert f"{metric}: only models" in done.err


def test_what_one_target_cannot_have_is_said_and_the_others_have_it(
    gan: Path, vae: Path, toys: Path
) -> None:
    rows = _answer(
        gan, vae, toys, "--data", toys, "--metrics", "likelihood, frechet,frechet, modes",
        "--importance", 2,
    )["scores"]  # fmt: skip
    notes = [" ".join(row["notes"]) for row in rows]
    assert ["elbo" in row for row in rows] == [False, True, False]
    assert ["likelihood was not computed" in note for note in notes] == [True, False, True]
    assert all("modes was not computed: " in note for note in notes)
    assert all("FD-random" in row for row in rows)


@pytest.mark.parametrize(("option", "metric"), [("--per-image", "reconstruction"),
                                                ("--per-unit", "likelihood")])  # fmt: skip
def test_a_file_of_figures_that_nobody_has_is_refused(
    option: str, metric: str, toys: Path, tmp_path: Path
) -> None:
    done = gentool_command("evaluate", toys, "--data", toys, option, tmp_path / "x.csv", *ON)
    assert (done.code, done.out) == (2, "")
    assert f"{option}: {metric}: only models" in done.err
    assert not (tmp_path / "x.csv").exists()


# --- PSNR ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "steps"), [("vae", ()), ("gan", ("--steps", 0))])
def test_psnr_is_that_of_reconstruct_or_says_why_not(
    model: str, steps: tuple[object, ...], trained: Callable[[str], Path], toys: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    run = trained(model)
    scored = gentool_command(
        "evaluate", run, "--data", toys, "--metrics", "reconstruction", "--device", "cpu", "--json"
    )
    (row,) = json.loads(scored.out)["scores"]
    done = gentool_command(
        "reconstruct", run, toys, "-o", tmp_path / "x.png", "--device", "cpu", "--json", *steps
    )
    assert done.code == 0, done.err
    assert json.loads(done.out)["mean_psnr"] == pytest.approx(row["psnr"], rel=1e-9)
    searched = any("gentool reconstruct --steps 0" in note for note in row["notes"])
    assert searched == bool(steps)
    some = _answer(run, "--data", toys, "--metrics", "reconstruction")["scores"][0]
    assert any("over 40 of 60 images" in note for note in some["notes"])
