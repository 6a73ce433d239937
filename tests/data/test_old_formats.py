"""Icons and TGA images of version 1."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import draw
from PIL import Image

from gentool.data import open_source
from gentool.data.encoded import BadImage, description
from gentool.data.preprocessing import open_image
from gentool.data.targa import is_targa

_FOOTER = 26  # bytes at the end of version 2


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(side: int = 48) -> Image.Image:
    return Image.fromarray(draw(1, side=side))


@pytest.mark.parametrize("how", ["png", "bmp"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_the_largest_picture_of_an_icon_is_taken(mode: str, how: str) -> None:
    image = picture().convert(mode)
    data = saved(image, "ICO", bitmap_format=how, sizes=[(16, 16), (48, 48), (32, 32)])
    found = open_image(data)
    assert description(found).format == "ICO"
    assert np.array_equal(np.asarray(found.convert("RGB")), np.asarray(image.convert("RGB")))
    for share in (0.01, 0.4, 0.97):
        with pytest.raises(BadImage, match=r"cut short|it is not"):
            open_image(data[: int(share * len(data))])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P"])
def test_a_tga_of_version_1_is_read(mode: str, packed: bool) -> None:
    image = picture().convert(mode)
    data = saved(image, "TGA", compression="tga_rle" if packed else None)[:-_FOOTER]
    found = open_image(data)
    assert (description(found).format, found.mode) == ("TGA", mode)
    assert np.array_equal(np.asarray(found.convert("RGB")), np.asarray(image.convert("RGB")))
    with pytest.raises(BadImage, match="cut short"):
        open_image(data[:-40])


def test_a_fourth_channel_without_a_meaning_is_no_alpha() -> None:
    """Else all pixels would be transparent."""
    image = picture()
    image.putalpha(0)
    data = bytearray(saved(image, "TGA"))
    data[17] &= 0xF0
    for whole in (bytes(data), bytes(data[:-_FOOTER])):
        found = open_image(whole)
        assert found.mode == "RGB"
        assert np.array_equal(np.asarray(found), np.asarray(picture()))


def test_other_files_are_no_tga() -> None:
    rng = np.random.default_rng(0)
    others = [rng.integers(0, 256, 64, np.uint8).tobytes() for _ in range(1000)]
    others += [bytes(64), b"text " * 20, saved(picture(), "PNG"), saved(picture(), "ICO"), b""]
    assert not any(map(is_targa, others))


def psd(image: Image.Image) -> bytes:
    """A Photoshop document with nothing but its merged picture, without compression."""
    pixels = np.asarray(image)
    height, width, channels = pixels.shape
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, channels, height, width, 8, 3)
    return head + bytes(12) + struct.pack(">H", 0) + pixels.transpose(2, 0, 1).tobytes()


def test_the_merged_picture_of_a_photoshop_document_is_taken(tmp_path: Path) -> None:
    data = psd(picture())
    (tmp_path / "x.psd").write_bytes(data)
    assert np.array_equal(np.asarray(open_image(data)), np.asarray(picture()))
    assert len(open_source(str(tmp_path))) == 1
    for share in (0.002, 0.5):
        with pytest.raises(BadImage, match="cut short"):
            open_image(data[: int(share * len(data))])


def test_a_photo_with_further_views_is_its_first(tmp_path: Path) -> None:
    picture().save(tmp_path / "x.mpo", "MPO", save_all=True, append_images=[picture(24)])
    assert open_source(str(tmp_path)).open(0).image.size == (48, 48)
