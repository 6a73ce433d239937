"""Preprocessing: every kind of image file becomes the pixels that a person would expect."""

import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import draw, gentool_command
from numpy.typing import NDArray
from PIL import Image

from gentool.core.errors import DataError, UsageError
from gentool.core.images import MODES, ImageShape
from gentool.data import (
    BadImage,
    Preprocessing,
    Sample,
    about_given_size,
    decode,
    open_dataset,
    open_source,
    resolve_shape,
)
from gentool.data.encoded import FORMATS
from gentool.data.preprocessing import open_image, probe

SIDE = 16
RGB = Preprocessing(ImageShape(SIDE, SIDE, 3))
GREY = Preprocessing(ImageShape(SIDE, SIDE, 1))
RGBA = Preprocessing(ImageShape(SIDE, SIDE, 4))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ramp(top: int, dtype: str) -> NDArray[Any]:
    """Values from 0 to ``top`` over a square."""
    return np.linspace(0, top, SIDE * SIDE).reshape(SIDE, SIDE).astype(dtype)


def near(found: NDArray[np.uint8], wanted: NDArray[Any], grey_levels: int) -> None:
    """No pixel is further from what is wanted than so many grey levels."""
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= grey_levels


# --- formats and modes --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_every_pixel(kind: str) -> None:
    assert np.array_equal(decode(encoded(Image.fromarray(draw(0)), kind), RGB), draw(0))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 100, "subsampling": 0}), ("WEBP", {"lossless": True}), ("GIF", {})],
)
def test_other_formats_come_near(kind: str, options: dict[str, Any]) -> None:
    found = decode(encoded(Image.fromarray(draw(0)), kind, **options), RGB)
    assert np.abs(found.astype(int) - draw(0)).mean() < 4


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    found = decode(encoded(Image.fromarray(ramp(65535, "u2"))), GREY)
    assert np.array_equal(found[..., 0], np.round(ramp(65535, "u2") / 257))
    assert (found.min(), found.max()) == (0, 255)


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bit_tiff_of_either_byte_order(order: str) -> None:
    values = ramp(65535, "u2")
    mode = "I;16B" if order == ">u2" else "I;16"
    image = Image.frombytes(mode, (SIDE, SIDE), values.astype(order).tobytes())
    found = decode(encoded(image, "TIFF"), GREY)
    assert np.array_equal(found[..., 0], np.round(values / 257))


def test_sixteen_bit_grey_becomes_rgb_too() -> None:
    found = decode(encoded(Image.fromarray(ramp(65535, "u2"))), RGB)
    assert (found == found[..., :1]).all()
    assert found.max() == 255


@pytest.mark.parametrize(("top", "levels"), [(1.0, 255), (255.0, 1)])
def test_float_grey_in_units_or_in_grey_levels(top: float, levels: int) -> None:
    values = np.linspace(0, top, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    found = decode(encoded(Image.fromarray(values), "TIFF"), GREY)
    assert np.array_equal(found[..., 0], np.round(values.astype(float) * levels))


def test_one_bit_is_black_and_white() -> None:
    bits = ramp(1, "f8") > 0.5
    found = decode(encoded(Image.fromarray(bits)), GREY)
    assert np.array_equal(found[..., 0], bits * 255)


def test_grey_with_alpha_is_laid_on_white() -> None:
    values = np.stack([np.full((SIDE, SIDE), 40), ramp(255, "u1")], axis=-1).astype(np.uint8)
    data = encoded(Image.fromarray(values, "LA"))
    alpha = values[..., 1] / 255
    near(decode(data, GREY)[..., 0], 40 * alpha + 255 * (1 - alpha), 1)
    assert np.array_equal(decode(data, RGBA)[..., 3], values[..., 1])


def test_alpha_is_laid_on_white_unless_kept() -> None:
    values = np.concatenate([draw(0), ramp(255, "u1")[..., None]], axis=-1)
    data = encoded(Image.fromarray(values))
    alpha = values[..., 3:] / 255
    near(decode(data, RGB), values[..., :3] * alpha + 255 * (1 - alpha), 1)
    assert np.array_equal(decode(data, RGBA), values * (alpha > 0))


def test_rgb_becomes_opaque_rgba() -> None:
    found = decode(encoded(Image.fromarray(draw(0))), RGBA)
    assert np.array_equal(found[..., :3], draw(0))
    assert (found[..., 3] == 255).all()


def palette_image() -> Image.Image:
    """Left half the first colour (red), right half the second (blue)."""
    image = Image.new("P", (SIDE, SIDE))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.paste(1, (SIDE // 2, 0, SIDE, SIDE))
    return image


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
def test_palette_becomes_its_colours(kind: str) -> None:
    found = decode(encoded(palette_image(), kind), RGB)
    assert found[0, 0].tolist() == [200, 0, 0]
    assert found[0, -1].tolist() == [0, 0, 200]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_a_transparent_colour(kind: str) -> None:
    data = encoded(palette_image(), kind, transparency=1)
    assert decode(data, RGB)[0, -1].tolist() == [255, 255, 255]
    kept = decode(data, RGBA)
    assert kept[0, 0].tolist() == [200, 0, 0, 255]
    assert kept[0, -1, 3] == 0


@pytest.mark.parametrize(("mode", "colour"), [("RGB", (200, 0, 0)), ("L", 77)])
def test_one_colour_marked_transparent(mode: str, colour: Any) -> None:
    image = Image.new(mode, (SIDE, SIDE), colour)
    image.paste((0, 0, 200) if mode == "RGB" else 9, (SIDE // 2, 0, SIDE, SIDE))
    data = encoded(image, transparency=colour)
    assert decode(data, RGB)[0, 0].tolist() == [255, 255, 255]
    assert decode(data, RGBA)[0, :, 3].tolist() == [0] * (SIDE // 2) + [255] * (SIDE // 2)


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0))  # magenta and yellow make red
    found = decode(encoded(image, "JPEG", quality=100), RGB)
    near(found, np.broadcast_to([255, 0, 0], found.shape), 3)


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_other_colour_spaces_of_tiff(mode: str) -> None:
    image = Image.new(mode, (SIDE, SIDE), (120, 128, 128))
    found = decode(encoded(image, "TIFF"), RGB)
    assert np.ptp(found) <= 40  # about neutral, whatever the exact transform


def test_only_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.fromarray(draw(k)).quantize(64) for k in range(3)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(data, RGB), np.asarray(frames[0].convert("RGB")))


def test_grey_of_a_colour_image_is_its_luma() -> None:
    found = decode(encoded(Image.new("RGB", (SIDE, SIDE), (255, 0, 0))), GREY)
    assert (found == 76).all()  # 0.299 * 255, ITU-R BT.601


# --- orientation --------------------------------------------------------------------------------

# EXIF value -> what turns the upright image into the stored one
STORED = {
    1: [],
    2: [Image.Transpose.FLIP_LEFT_RIGHT],
    3: [Image.Transpose.ROTATE_180],
    4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.TRANSPOSE],
    6: [Image.Transpose.ROTATE_90],
    7: [Image.Transpose.TRANSVERSE],
    8: [Image.Transpose.ROTATE_270],
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("value", STORED)
def test_images_are_turned_upright(value: int, kind: str) -> None:
    upright = np.zeros((SIDE, SIDE, 3), np.uint8)
    upright[: SIDE // 2, : SIDE // 4] = 255  # a mark at the top left that no turn repeats
    image = Image.fromarray(upright)
    for turn in STORED[value]:
        image = image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = value
    found = decode(encoded(image, kind, exif=exif), RGB)
    assert np.abs(found.astype(int) - upright).mean() < 12


# --- size ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(64, 16), (16, 64), (100, 50), (17, 300)])
def test_the_centre_is_kept(height: int, width: int) -> None:
    """Stripes of one colour outside the central square must not show."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    pixels[top : top + side, left : left + side] = 50
    found = decode(encoded(Image.fromarray(pixels)), RGB)
    near(found[2:-2, 2:-2], np.full((SIDE - 4, SIDE - 4, 3), 50), 9)  # the filter rings a little


def test_scaling_down_averages() -> None:
    """A fine chequerboard becomes grey, not black or white."""
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    found = decode(encoded(Image.fromarray(board)), GREY)
    near(found, np.full_like(found, 127), 2)


def test_small_images_are_enlarged_without_new_colours() -> None:
    found = decode(
        encoded(Image.new("RGB", (1, 1), (9, 8, 7))), Preprocessing(ImageShape(64, 48, 3))
    )
    assert found.shape == (64, 48, 3)
    assert (found == [9, 8, 7]).all()


def test_other_shapes_than_squares() -> None:
    found = decode(encoded(Image.fromarray(draw(0, side=64))), Preprocessing(ImageShape(20, 40, 3)))
    assert found.shape == (20, 40, 3)


# --- what cannot be read ------------------------------------------------------------------------

WHOLE = encoded(Image.fromarray(draw(0)))
BAD: dict[str, bytes] = {
    "empty": b"",
    "text": b"no image at all",
    "cut short": WHOLE[: len(WHOLE) // 2],
    "header only": WHOLE[:40],
    "a web page": b"<!DOCTYPE html><html></html>",
    "a format that is not on the list": encoded(Image.fromarray(draw(0)).convert("P"), "BLP"),
    "a cut icon": encoded(Image.fromarray(draw(0)), "ICO")[:-90],
    "a JPEG cut short": encoded(Image.fromarray(draw(0, side=64)), "JPEG")[:700],
    "a damaged checksum": WHOLE[:20] + bytes([WHOLE[20] ^ 255]) + WHOLE[21:],
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_cannot_be_read_says_why_in_one_line(data: bytes) -> None:
    with pytest.raises(BadImage) as caught:
        decode(data, RGB)
    assert str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("side", [10_000, 40_000])
def test_a_file_that_claims_to_be_huge_is_refused_before_it_is_decoded(side: int) -> None:
    """A PNG header may claim any size; its few bytes must not become gigabytes."""
    data = bytearray(encoded(Image.new("1", (8, 8))))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(BadImage, match="more than 67,108,864"):
        open_image(bytes(data))


def test_random_damage_gives_an_image_or_a_reason() -> None:
    rng = np.random.default_rng(0)
    written = [kind for kind in FORMATS if kind != "PSD"]  # Pillow does not write it
    files = [encoded(Image.fromarray(draw(k)), kind) for k, kind in enumerate(written)]
    for number in range(300):
        data = bytearray(files[number % len(files)])
        for place in rng.integers(0, len(data), 5).tolist():
            data[place] = int(rng.integers(256))
        try:
            assert decode(bytes(data), RGB).shape == (SIDE, SIDE, 3)
        except BadImage as error:
            assert str(error)


def test_metadata_that_is_odd_does_not_warn() -> None:
    """Warnings are errors in these tests; a half-written EXIF block is no reason for one."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(draw(0)), "TIFF", exif=exif)
    decode(data, RGB)
    decode(encoded(Image.fromarray(draw(0)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09"), RGB)


def test_broken_files_among_good_ones_are_named_and_counted(tmp_path: Path) -> None:
    for k in range(8):
        Image.fromarray(draw(k)).save(tmp_path / f"{k}.png")
    (tmp_path / "3.png").write_bytes(b"")
    (tmp_path / "5.png").write_bytes(WHOLE[:60])
    dataset = open_dataset(str(tmp_path), "16", "rgb", max_bad=0.9)
    assert len(dataset) == 6
    assert [path for path, _ in dataset.bad] == ["3.png", "5.png"]
    assert dataset.bad[0][1] == "the file is empty"
    for image, number in zip(dataset.images[:], (0, 1, 2, 4, 6, 7), strict=True):
        assert np.array_equal(image, draw(number))


@pytest.mark.parametrize("given", [(None, None), ("16", "rgb")], ids=["inspected", "given"])
def test_nothing_but_broken_files_is_unusable_data(
    given: tuple[str | None, str | None], tmp_path: Path
) -> None:
    for k in range(3):
        (tmp_path / f"{k}.png").write_bytes(WHOLE[:60])
    with pytest.raises(DataError, match=r"can be read; the first: 0\.png: "):
        open_dataset(str(tmp_path), *given)


# --- size and mode unasked ----------------------------------------------------------------------


def folder_of(folder: Path, images: Sequence[Image.Image]) -> str:
    """The images as PNG files."""
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(images):
        image.save(folder / f"{number:03d}.png")
    return str(folder)


def found(
    spec: str, largest: int = 64, size: str | None = None, mode: str | None = None
) -> tuple[str, list[str]]:
    """The shape that is chosen, in words, and the reasons."""
    shape, notes = resolve_shape(Sample(open_source(spec)), size, mode, largest)
    return str(shape), notes


def test_grey_is_found_in_rgb_files(tmp_path: Path) -> None:
    images = [Image.fromarray(draw(k)).convert("L").convert("RGB") for k in range(4)]
    assert found(folder_of(tmp_path, images)) == (
        "16x16 grey", ["size 16x16: the size of the images", "mode grey: all 4 inspected are grey"],
    )  # fmt: skip


def test_one_coloured_image_makes_the_set_rgb(tmp_path: Path) -> None:
    images = [Image.fromarray(draw(k)).convert("L") for k in range(3)]
    shape, notes = found(folder_of(tmp_path, [*images, Image.fromarray(draw(0))]))
    assert shape == "16x16 rgb"
    assert notes[1] == "mode rgb: 1 of 4 inspected have colour"


def test_unused_alpha_does_not_count(tmp_path: Path) -> None:
    images = [Image.fromarray(draw(k)).convert("RGBA") for k in range(4)]
    assert found(folder_of(tmp_path, images))[0] == "16x16 rgb"


def test_used_alpha_counts(tmp_path: Path) -> None:
    images = [Image.fromarray(draw(k)).convert("RGBA") for k in range(4)]
    images[2].putpixel((0, 0), (0, 0, 0, 254))
    shape, notes = found(folder_of(tmp_path, images))
    assert shape == "16x16 rgba"
    assert notes[1] == "mode rgba: 1 of 4 inspected use alpha"


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16"])
def test_grey_modes_are_grey(mode: str) -> None:
    image = Image.new("L", (16, 16), 9)
    image = Image.fromarray(ramp(65535, "u2")) if mode == "I;16" else image.convert(mode)
    assert probe([image]).mode == "grey"


@pytest.mark.parametrize(("sizes", "largest", "wanted", "reason"), [
    ([(40, 40)], 64, "40x40", "the size of the images"),
    ([(45, 45)], 64, "40x40", "the images are 45x45 (choose another with --size)"),
    ([(30, 30)], 64, "28x28", "the images are 30x30 (choose another with --size)"),
    ([(500, 500)], 64, "64x64", "the images are 500x500 (choose another with --size)"),
    ([(500, 500)], 128, "128x128", "the images are 500x500 (choose another with --size)"),
    ([(7, 7)], 64, "16x16", "the images are 7x7 (choose another with --size)"),
    ([(60, 50)], 64, "48x48", "the images are 50x60, of which 17% is cut: --size 40x48 cuts 0%"),
    ([(66, 60)], 64, "56x56", "the images are 60x66, of which 9% is cut "
                              "(choose another with --size)"),
    ([(200, 100)], 64, "44x88", "the images are 100x200 (choose another with --size)"),
    ([(100, 200)], 64, "88x44", "the images are 200x100 (choose another with --size)"),
    ([(64, 48)], 64, "48x64", "the size of the images"),
    ([(64, 56)], 64, "56x64", "the size of the images"),
    ([(1920, 1080)], 64, "36x64", "the images are 1080x1920 (choose another with --size)"),
    ([(1080, 1920)], 64, "64x36", "the images are 1920x1080 (choose another with --size)"),
    ([(300, 200)], 64, "48x72", "the images are 200x300 (choose another with --size)"),
    ([(128, 64)], 64, "44x88", "the images are 64x128 (choose another with --size)"),
    ([(128, 64)], 128, "64x128", "the size of the images"),
    ([(20, 12)], 64, "16x24", "the images are 12x20, of which 10% is cut "
                              "(choose another with --size)"),
    ([(60, 40), (60, 40), (40, 60)], 64, "40x60", "the images are 60x40 to 40x60, of which 19% is "
                                                  "cut in the mean: --fit pad keeps them whole"),
    ([(40, 40), (50, 50), (90, 90)], 64, "48x48", "the images are 40x40 to 90x90 "
                                                   "(choose another with --size)"),
])  # fmt: skip
def test_the_size_follows_the_images(
    sizes: list[tuple[int, int]], largest: int, wanted: str, reason: str, tmp_path: Path
) -> None:
    images = [Image.fromarray(draw(0)).resize(size) for size in sizes]
    shape, notes = found(folder_of(tmp_path, images), largest)
    assert shape == f"{wanted} rgb"
    assert notes[0] == f"size {wanted}: {reason}"


def test_an_extreme_aspect_is_cropped_to_two_to_one(tmp_path: Path) -> None:
    shape, _ = found(folder_of(tmp_path, [Image.fromarray(draw(0)).resize((400, 40))]))
    height, width = map(int, shape.split()[0].split("x"))
    assert height <= 40
    assert 1.7 < width / height < 2.3


def test_no_side_is_larger_than_the_images(tmp_path: Path) -> None:
    for size in ((33, 47), (100, 61), (24, 70), (300, 20)):
        shape, _ = found(folder_of(tmp_path / str(size), [Image.new("RGB", size, "red")]), 512)
        height, width = map(int, shape.split()[0].split("x"))
        assert height <= max(size[1], 16)
        assert width <= max(size[0], 16)


@pytest.mark.parametrize(("fit", "words"), [
    ("crop", ", of which 17% is cut: --size 40x48 cuts 0%"),
    ("pad", ", and 17% of each result is padding: --size 40x48 pads 0%"),
    ("stretch", ", and one side is stretched by 20%: --size 40x48 stretches 0%"),
])  # fmt: skip
def test_the_reason_says_what_the_fit_does(fit: str, words: str, tmp_path: Path) -> None:
    spec = folder_of(tmp_path, [Image.fromarray(draw(0)).resize((60, 50))])
    _, notes = resolve_shape(Sample(open_source(spec)), None, None, 64, fit)
    assert notes[0] == f"size 48x48: the images are 50x60{words}"


@pytest.mark.parametrize(("size", "fit", "told"), [
    ("48x64", "crop", []),
    ("24x32", "crop", []),
    ("44x64", "crop", []),
    ("64x48", "crop", ["warning: --size 64x48: the images are 48 high and 64 wide, of which 44% is "
                       "cut: --size 48x64 cuts 0%; SIZE is HEIGHTxWIDTH"]),
    ("64", "pad", ["warning: --size 64x64: the images are 48 high and 64 wide, and 25% of each "
                   "result is padding: --size 48x64 pads 0%"]),
    ("144x192", "crop", ["warning: --size 144x192 enlarges the images 3.0 times, which adds no "
                         "detail and takes more time"]),
])  # fmt: skip
def test_a_given_size_that_cuts_or_enlarges_much_is_told(
    size: str, fit: str, told: list[str], tmp_path: Path
) -> None:
    spec = folder_of(tmp_path, [Image.fromarray(draw(0)).resize((64, 48))])
    assert about_given_size(Sample(open_source(spec)), size, fit, 64) == told


def test_train_and_check_say_that_the_sides_are_swapped(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, [Image.fromarray(draw(k)).resize((64, 48)) for k in range(3)])
    wanted = "of which 44% is cut: --size 48x64 cuts 0%"
    checked = gentool_command("data", "check", spec, "--size", "64x48")
    assert wanted in checked.out
    planned = gentool_command("train", "vae", "--data", spec, "--size", "64x48", "--dry-run")
    assert wanted in planned.err
    assert "size 48x64: the size of the images" in gentool_command("data", "check", spec).out


def test_what_is_given_is_not_looked_for(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, [Image.fromarray(draw(0))])
    assert found(spec, size="32", mode="grey") == ("32x32 grey", [])
    assert found(spec, size="20x24") == ("20x24 rgb", ["mode rgb: 1 of 1 inspected have colour"])
    assert found(spec, mode="rgba") == ("16x16 rgba", ["size 16x16: the size of the images"])


def test_an_unknown_mode_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, [Image.fromarray(draw(0))])
    with pytest.raises(UsageError, match=r"no colour mode 'RGB'.* grey, rgb, rgba"):
        found(spec, mode="RGB")


@pytest.mark.parametrize("mode", MODES)
def test_mixed_files_become_one_array(mode: str, tmp_path: Path) -> None:
    images = [
        Image.fromarray(draw(0, side=30)),
        Image.fromarray(draw(1)).convert("L"),
        palette_image().resize((50, 20)),
        Image.fromarray(draw(2)).convert("RGBA"),
        Image.fromarray(ramp(65535, "u2")),
    ]
    dataset = open_dataset(folder_of(tmp_path, images), "16", mode)
    assert dataset.images.shape == (5, 16, 16, MODES[mode])
    assert dataset.bad == ()
