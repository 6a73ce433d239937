"""Levels: deep images of a set have one scale, which is found, told, stored and kept."""

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, gentool_command
from numpy.typing import NDArray
from PIL import Image

from gentool.checkpoint import load_model
from gentool.core.errors import UsageError
from gentool.core.images import ImageShape
from gentool.data import Preprocessing, Sample, open_dataset, open_source, resolve_levels
from gentool.data.levels import Levels, parse_levels
from gentool.data.preprocessing import decode

SIDE = 16
GREY = ImageShape(SIDE, SIDE, 1)
Draw = Callable[[NDArray[np.float64]], Image.Image]


def unit(number: int) -> NDArray[np.float64]:
    """Values from 0 to 1, both included, different in each image."""
    values = np.random.default_rng(number).random((SIDE, SIDE))
    values.flat[:2] = 0, 1
    return values


def write(folder: Path, make: Draw, count: int = 5, suffix: str = "tif") -> Path:
    """A folder of images that ``make`` makes of the values of ``unit``."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        make(unit(number)).save(folder / f"{number}.{suffix}")
    return folder


def kept(top: float, low: float, dtype: str) -> Draw:
    """Images with values from ``low`` to ``top``."""
    return lambda values: Image.fromarray((low + values * (top - low)).astype(dtype))


def big_endian(values: NDArray[np.float64]) -> Image.Image:
    data = (values * 4095).astype(">u2").tobytes()
    return Image.frombytes("I;16B", (SIDE, SIDE), data)


def unmeasured(values: NDArray[np.float64]) -> Image.Image:
    """Values up to 3000, with pixels that were not measured, in three spellings."""
    found = (values * 3000).astype(np.float32)
    found[4], found[5], found[6] = np.nan, np.inf, -9999
    return Image.fromarray(found)


@pytest.mark.parametrize(
    ("make", "suffix", "levels"),
    [
        (kept(4095, 0, "u2"), "png", "0:4095"),
        (kept(4000, 0, "u2"), "tif", "0:4095"),
        (kept(900, 0, "u2"), "png", "0:1023"),
        (kept(16000, 0, "u2"), "png", "0:16383"),
        (kept(200, 0, "u2"), "png", "0:255"),
        (kept(40000, 0, "u2"), "png", "0:65535"),
        (kept(20000, 0, "u2"), "png", "0:65535"),
        (big_endian, "tif", "0:4095"),
        (kept(4095, 0, "i4"), "tif", "0:4095"),
        (kept(100_000, 0, "i4"), "tif", "0:131071"),
        (kept(2**31 - 1, 0, "i4"), "tif", "0:2147483647"),
        (kept(3000, -1000, "i4"), "tif", "-1000:3000"),
        (kept(3000, 0, "f4"), "tif", "0:3000"),
        (kept(8848, -430, "f4"), "tif", "-430:8850"),
        (kept(310, 250, "f4"), "tif", "250:310"),
        (kept(1, 0, "f4"), "tif", "0:1"),
        (kept(0.8, 0, "f4"), "tif", "0:1"),
        (kept(240, 0, "f4"), "tif", "0:255"),
        (unmeasured, "tif", "0:3000"),
    ],
)  # fmt: skip
def test_the_scale_follows_the_values_of_the_set(
    make: Draw, suffix: str, levels: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "deep", make, suffix=suffix)
    found, notes = resolve_levels(Sample(open_source(folder)), None)
    assert found == levels
    assert notes[0].startswith(f"levels {levels}: all 5 inspected have values of ")
    images = open_dataset(folder).images[:]
    assert images.max() >= 0.6 * 255 or levels == "0:65535"
    scale = parse_levels(levels)
    assert scale is not None
    values = np.asarray(make(unit(2)).convert("F"), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        wanted = np.nan_to_num((values - scale.low) / (scale.high - scale.low) * 255)
    assert np.abs(images[2, ..., 0] - wanted.clip(0, 255)).max() <= 0.51


def test_a_hot_pixel_does_not_make_integers_black(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        values = rng.integers(0, 1000, (32, 32), dtype=np.uint16)
        values[3, 3] = 65535 if number == 5 else 999
        Image.fromarray(values).save(tmp_path / f"{number}.png")
    levels, notes = resolve_levels(Sample(open_source(tmp_path)), None)
    assert levels == "0:1023"
    assert "of which all but a few outliers need 10 bits" in notes[0]


@pytest.mark.parametrize(
    ("make", "suffix"),
    [(kept(60000, 0, "u2"), "png"), (kept(1, 0, "f4"), "tif"), (kept(250, 0, "f4"), "tif")],
)
def test_images_that_use_their_range_get_the_pixels_of_the_whole_range(
    make: Draw, suffix: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "deep", make, suffix=suffix)
    found, full = (open_dataset(folder, levels=levels) for levels in ("auto", "full"))
    assert np.array_equal(found.images[:], full.images[:])


def test_a_dark_image_of_a_set_stays_dark(tmp_path: Path) -> None:
    """Each float image had its own scale: one whose values were at most 1 became bright."""
    folder = write(tmp_path / "deep", kept(250, 0, "f4"))
    kept(1, 0, "f4")(unit(9)).save(folder / "dark.tif")
    assert open_dataset(folder).images[-1].max() == 1


def test_images_with_8_bits_among_deep_ones_stay_as_they_are(tmp_path: Path) -> None:
    folder = write(tmp_path / "mixed", kept(4095, 0, "u2"), suffix="png")
    plain = np.round(unit(7) * 255).astype(np.uint8)
    Image.fromarray(plain).save(folder / "plain.png")
    found, notes = resolve_levels(Sample(open_source(folder)), None)
    assert found == "0:4095"
    assert "5 of 6 inspected have values of 0 to 4,095, which need 12 bits" in notes[0]
    assert np.array_equal(open_dataset(folder).images[-1][..., 0], plain)


def test_ordinary_images_have_no_levels_in_words_or_key(tmp_path: Path) -> None:
    folder = write(tmp_path / "plain", lambda v: Image.fromarray((v * 255).astype("u1")))
    assert resolve_levels(Sample(open_source(folder)), None) == ("full", [])
    assert "levels" not in str(open_dataset(folder).preprocessing)
    assert "levels 0:9" in str(Preprocessing(GREY, levels=Levels(0, 9)))


def png_of_16_bits(values: NDArray[Any]) -> bytes:
    """A PNG with 16 bits per channel, which Pillow does not write."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_with_12_bits_in_16_is_not_black(channels: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (SIDE, SIDE, channels))
    values[..., 3:] = 65535
    (tmp_path / "a.png").write_bytes(png_of_16_bits(values))
    dataset = open_dataset(tmp_path, mode="rgb")
    assert dataset.preprocessing.levels == Levels(0, 4095)
    assert np.array_equal(dataset.images[0], np.round(values[..., :3] / 4095 * 255))


def test_colour_that_uses_16_bits_keeps_the_upper_8_and_this_is_told(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (SIDE, SIDE, 3))
    (tmp_path / "a.png").write_bytes(png_of_16_bits(values))
    levels, notes = resolve_levels(Sample(open_source(tmp_path)), None)
    told = "1 of 1 inspected images have 16 bits per colour, of which the upper 8 are used"
    assert (levels, notes) == ("full", [told])
    assert np.array_equal(open_dataset(tmp_path).images[0], values >> 8)


def tiff_of_16_bits(values: NDArray[Any]) -> bytes:
    """A TIFF with 16 bits per colour, which Pillow does not write."""
    height, width, _ = values.shape
    tags = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 256), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, values.size * 2),
    ]  # fmt: skip
    table = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IHHHH", 16, 16, 16, 16, 0)
    directory = struct.pack("<H", len(tags)) + table + struct.pack("<I", 0)
    return (head + directory).ljust(256, b"\0") + values.astype("<u2").tobytes()


def test_colour_that_cannot_get_levels_is_told_if_it_becomes_black(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (SIDE, SIDE, 3))
    (tmp_path / "a.tif").write_bytes(tiff_of_16_bits(values))
    _, notes = resolve_levels(Sample(open_source(tmp_path)), None)
    assert notes[1].startswith("warning: 1 of them become nearly black")
    told = [note for note in open_dataset(tmp_path, 16).notes if "become nearly black: 1" in note]
    assert told


@pytest.mark.parametrize("word", ["5", "0:0", "9:1", "a:b", "0:nan", "0:inf", "", "auto:", "ful"])
def test_levels_that_are_none_are_refused(word: str) -> None:
    with pytest.raises(UsageError, match="levels"):
        parse_levels(word)


@pytest.mark.parametrize(
    "levels", [Levels(0, 4095), Levels(-1024, 3071), Levels(0.25, 1.5), Levels(-1e30, 1e300)]
)
def test_levels_are_written_as_they_are_read(levels: Levels) -> None:
    assert parse_levels(str(levels)) == levels


def test_given_levels_are_used_and_it_is_told_what_they_cut_off(tmp_path: Path) -> None:
    folder = write(tmp_path / "deep", kept(4095, 0, "u2"), suffix="png")
    levels, notes = resolve_levels(Sample(open_source(folder)), "1000.0:3000")
    assert levels == "1000:3000"
    assert "below 1000 and become black" in notes[1]
    assert "above 3000 and become white" in notes[1]
    found = decode((folder / "0.png").read_bytes(), Preprocessing(GREY, levels=Levels(1000, 3000)))
    assert np.array_equal(found[..., 0] == 0, np.asarray(kept(4095, 0, "u2")(unit(0))) < 1004)


def test_a_deep_image_that_the_sample_missed_is_named(tmp_path: Path) -> None:
    """The sample has 64 of these images, and the only deep one is not among them."""
    folder = write(tmp_path / "many", lambda v: Image.fromarray((v * 255).astype("u1")), 130, "png")
    kept(4095, 0, "u2")(unit(0)).save(folder / "001.png")
    line = "become nearly black: 1, the first 001.png"
    for _ in range(2):  # the second time from the cache
        assert any(line in note for note in open_dataset(folder, 16).notes)
    done = gentool_command("data", "check", folder, "--json")
    assert json.loads(done.out)["too_dark_or_too_bright"] == ["001.png"]
    assert any(line in remark for remark in json.loads(done.out)["remarks"])


# --- the real program ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twelve_bits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with 12 bits."""
    return write(tmp_path_factory.mktemp("deep") / "deep", kept(4095, 0, "u2"), suffix="png")


@pytest.fixture(scope="module")
def model(twelve_bits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on them."""
    out = tmp_path_factory.mktemp("model") / "run"
    done = gentool_command(
        "train", "vae", "--data", twelve_bits, "--out", out, "--images", 16, *TINY, "--batch", 4
    )
    assert done.code == 0, done.err
    assert "levels 0:4095: all 5 inspected have values of 0 to 4,095" in done.err
    return out


def test_a_model_keeps_the_levels_of_its_training(model: Path, twelve_bits: Path) -> None:
    assert load_model(model).preprocessing.levels == Levels(0, 4095)
    done = gentool_command(
        "evaluate", model, "--data", twelve_bits, "--metrics", "reconstruction", "--json",
        "--device", "cpu",
    )  # fmt: skip
    assert json.loads(done.out)["protocol"]["levels"] == "0:4095"
    refused = gentool_command("evaluate", model, "--data", twelve_bits, "--levels", "full")
    assert refused.code == 2
    assert "--levels full asks for images of" in refused.err


def test_a_run_keeps_its_levels_when_deeper_images_come(
    model: Path, twelve_bits: Path, tmp_path: Path
) -> None:
    more = write(tmp_path / "more", kept(4095, 0, "u2"), suffix="png")
    kept(60000, 0, "u2")(unit(9)).save(more / "9.png")
    command = ("train", "vae", "--data", more, "--out", model, "--images", 24, *TINY)
    done = gentool_command(*command, "--batch", 4, "--override")
    assert done.code == 0, done.err
    assert "--levels 0:4095 (not 0:65535)" in done.err
    assert "are above 4095 and become white" in done.err
    assert load_model(model).preprocessing.levels == Levels(0, 4095)
    other = gentool_command(*command, "--batch", 4, "--levels", "0:100")
    assert other.code == 2
    assert "--levels was 0:4095 and is 0:100" in other.err


def test_check_and_pack_say_the_levels_and_use_them(twelve_bits: Path, tmp_path: Path) -> None:
    done = gentool_command("data", "check", twelve_bits, "--json")
    training = json.loads(done.out)["training"]
    assert training["levels"] == "0:4095"
    assert any(note.startswith("levels 0:4095: ") for note in training["why"])
    packed = tmp_path / "packed.zip"
    done = gentool_command("data", "pack", twelve_bits, packed, "--levels", "0:8190")
    assert done.code == 0, done.err
    assert "levels 0:8190: " in done.err
    assert 126 <= open_dataset(packed).images[:].max() <= 128


def test_black_thumbnails_do_not_make_near_duplicates(twelve_bits: Path) -> None:
    done = gentool_command("data", "check", twelve_bits, "--json")
    assert json.loads(done.out)["near_duplicates"] == []


def test_colour_with_12_bits_is_turned_upright() -> None:
    values = np.zeros((SIDE, 2 * SIDE, 3), dtype=np.int64)
    values[:, :SIDE] = 4095
    exif = Image.Exif()
    exif[0x0112] = 3
    data = png_of_16_bits(values)
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(block)) + b"eXIf" + block
    chunk += struct.pack(">I", zlib.crc32(b"eXIf" + block))
    turned = data[:33] + chunk + data[33:]
    shape = ImageShape(SIDE, 2 * SIDE, 3)
    found = decode(turned, Preprocessing(shape, levels=Levels(0, 4095)))
    assert found[:, :SIDE].max() == 0
    assert found[:, SIDE:].min() == 255


@pytest.mark.parametrize("place", ["folder", "file"])
@pytest.mark.parametrize("command", ["score", "reconstruct"])
def test_images_that_do_not_suit_the_model_are_told(
    command: str, place: str, model: Path, twelve_bits: Path, tmp_path: Path
) -> None:
    """The model has the levels 0:4095, and these images have 16 bits."""
    other = write(tmp_path / "other", kept(60000, 0, "u2"), count=2, suffix="png")
    given = {"folder": other, "file": other / "0.png"}[place]

    def run(images: Path) -> str:
        if command == "score":
            return gentool_command("score", images, "--model", model, "--device", "cpu").err
        sheet = ("-o", tmp_path / "sheet.png", "--overwrite")
        return gentool_command("reconstruct", model, images, *sheet, "--device", "cpu").err

    count = {"folder": 2, "file": 1}[place]
    assert f"values outside the levels 0:4095: {count}, the first " in run(given)
    assert "The model keeps the levels of its training images" in run(given)
    assert "levels" not in run({"folder": twelve_bits, "file": twelve_bits / "0.png"}[place])


def test_evaluate_notes_images_that_do_not_suit_the_model(model: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", kept(60000, 0, "u2"), suffix="png")
    done = gentool_command(
        "evaluate", model, "--data", other, "--metrics", "reconstruction", "--device", "cpu"
    )
    assert done.code == 0, done.err
    assert "outside the levels 0:4095: 5" in done.out + done.err
