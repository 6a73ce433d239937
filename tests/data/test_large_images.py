"""Photos above 67 million pixels: a JPEG is decoded smaller, others are refused with advice."""

import io
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HELPERS, run_python
from PIL import Image

from gentool.core.images import ImageShape
from gentool.data import (
    BadImage,
    Preprocessing,
    Sample,
    about_given_size,
    decode,
    open_source,
    resolve_shape,
)
from gentool.data.preprocessing import open_image

HEIGHT, WIDTH = 6000, 12_000  # 72 million pixels
SMALL = Preprocessing(ImageShape(16, 16, 1), "stretch")


def photo(**options: Any) -> bytes:
    """A large JPEG: white, its top left quarter black."""
    image = Image.new("L", (WIDTH, HEIGHT), 255)
    image.paste(0, (0, 0, WIDTH // 2, HEIGHT // 2))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def corners(data: bytes) -> list[bool]:
    """Which corners of the decoded image are black: top left, top right, bottom left and right."""
    found = decode(data, SMALL)[..., 0]
    return [bool(found[y, x] < 128) for y in (2, 13) for x in (2, 13)]


@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_jpeg_is_decoded_smaller(progressive: bool) -> None:
    data = photo(progressive=progressive)
    assert open_image(data).size == (WIDTH // 2, HEIGHT // 2)
    assert corners(data) == [True, False, False, False]


@pytest.mark.parametrize(("orientation", "black"), [(3, 3), (6, 1), (8, 2)])
def test_a_large_jpeg_is_turned_upright(orientation: int, black: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = photo(exif=exif)
    turned = orientation in (6, 8)
    assert open_image(data).size[:: -1 if turned else 1] == (WIDTH // 2, HEIGHT // 2)
    assert [k for k, is_black in enumerate(corners(data)) if is_black] == [black]


def claiming(data: bytes, height: int, width: int) -> bytes:
    """The JPEG with other numbers in its header."""
    at = data.index(b"\xff\xc2" if b"\xff\xc2" in data else b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def test_a_progressive_jpeg_is_refused_where_its_coefficients_fill_the_memory() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG", progressive=True, subsampling=0)
    with pytest.raises(BadImage, match=r"progressive JPEG of 30000x40000 pixels.*7\.2 GB.*smaller"):
        open_image(claiming(buffer.getvalue(), 30_000, 40_000))


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_memory_for_the_largest_jpeg_is_bounded(tmp_path: Path) -> None:
    """65,500 x 65,500 pixels are claimed; an eighth of each side is decoded."""
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, "JPEG")
    (tmp_path / "photo.jpg").write_bytes(claiming(buffer.getvalue(), 65_500, 65_500))
    code = (
        "import sys; from pathlib import Path;"
        "from gentool.data.encoded import open_encoded;"
        "image = open_encoded(Path(sys.argv[1]).read_bytes());"
        "assert image.size == (8188, 8188), image.size;"
        "status = Path('/proc/self/status').read_text();"
        "print(status.partition('VmHWM:')[2].split()[0])"
    )
    done = run_python("-c", code, tmp_path / "photo.jpg", env={"PYTHONPATH": str(HELPERS)})
    assert done.code == 0, done.err
    assert int(done.out) < 400_000  # kilobytes


@pytest.mark.parametrize("side", [9000, 20_000])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF"])
def test_other_large_images_are_refused_with_their_size(kind: str, side: int) -> None:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, kind)
    data = bytearray(buffer.getvalue())
    if kind == "PNG":
        Image.new("1", (side, side)).save(buffer := io.BytesIO(), "PNG", compress_level=1)
        data = bytearray(buffer.getvalue())
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", side, side)
    elif kind == "BMP":
        data[18:26] = struct.pack("<LL", side, side)
    else:
        start = struct.unpack_from("<L", data, 4)[0] + 2
        for at in range(start, start + 24, 12):
            struct.pack_into("<HHLL", data, at, struct.unpack_from("<H", data, at)[0], 4, 1, side)
    with pytest.raises(BadImage, match=f"{side}x{side} pixels, more than 67,108,864: make it sm"):
        open_image(bytes(data))


def test_the_result_does_not_depend_on_the_training_size(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(photo())
    source = open_source(str(tmp_path))
    first, again = source.open(0).image, source.open(0).image
    assert first.size == again.size == (WIDTH // 2, HEIGHT // 2)
    sizes = [source.load(0, Preprocessing(ImageShape(side, side, 1))).pixels for side in (16, 64)]
    assert np.abs(sizes[0].astype(int) - sizes[1][2::4, 2::4]).mean() < 20


def test_notes_name_the_size_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(photo())
    sample = Sample(open_source(str(tmp_path)))
    _, notes = resolve_shape(sample, None, None, 64)
    assert any(f"the images are {HEIGHT}x{WIDTH}" in note for note in notes)
    (told,) = about_given_size(sample, "64", "crop", 64)
    assert f"the images are {HEIGHT} high and {WIDTH} wide" in told
