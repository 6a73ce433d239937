"""Metadata never cost pixels: whatever stands beside the pixels, the image is read."""

import io
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import draw, gentool_command
from numpy.typing import NDArray
from PIL import Image, ImageCms

from gentool.core.picture_files import encode, read_recipe
from gentool.data import open_source
from gentool.data.metadata import MOST_PROFILE, without_metadata
from gentool.data.preprocessing import open_image
from gentool.data.sources.own_pictures import is_own

SIDE = 24
PICTURE = Image.fromarray(draw(1, side=SIDE))
JUNK = random.Random(0).randbytes(400)
LONG = b"workflow " * 400_000  # 3.6 MB, as image generators write it
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def encoded(kind: str, picture: Image.Image = PICTURE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    lossless = {"lossless": True} if kind == "WEBP" else {}
    picture.save(buffer, kind, **lossless, **options)
    return buffer.getvalue()


def read(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(open_image(data).convert("RGB"))


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    found = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", found)


def packed(key: bytes, text: bytes) -> bytes:
    return key + b"\0\0" + zlib.compress(text)


CHUNKS = {
    "compressed text that unpacks to megabytes": chunk(b"zTXt", packed(b"workflow", LONG)),
    "international text that unpacks to megabytes": chunk(
        b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(LONG)
    ),
    "plain text of more than Pillow takes": chunk(b"tEXt", b"prompt\0" + LONG * 20),
    "a profile that unpacks to 50 MB": chunk(b"iCCP", packed(b"p", bytes(50_000_000))),
    "a profile that is no zlib stream": chunk(b"iCCP", b"p\0\0junk"),
    "a profile that is junk": chunk(b"iCCP", packed(b"p", JUNK)),
    "an unknown compression of a profile": chunk(b"iCCP", b"p\0\7junk"),
    "an empty profile": chunk(b"iCCP", b""),
    "an unknown compression of text": chunk(b"zTXt", b"p\0\7junk"),
    "EXIF junk": chunk(b"eXIf", JUNK),
    "no EXIF": chunk(b"eXIf", b""),
    "EXIF as text that is none": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 9\nzz"),
    "a wrong checksum": chunk(b"tEXt", b"a\0b", crc=1),
    "broken XMP": chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<\xff tiff:Orientation="'),
    "a cut gamma": chunk(b"gAMA", b"1"),
    "cut colours": chunk(b"cHRM", b"1"),
    "cut dimensions": chunk(b"pHYs", b"1"),
    "text named as transparency": chunk(b"tEXt", b"transparency\0hello"),
    "text named as a profile": chunk(b"tEXt", b"icc_profile\0hello"),
    "an unknown chunk of junk": chunk(b"juNk", JUNK),
    "a count of frames of a wrong length": chunk(b"acTL", b"1"),
    "frames without their count": chunk(b"fcTL", b"1") + chunk(b"fdAT", JUNK),
}


def png_with(extra: bytes, *, after: bool = False) -> bytes:
    """A PNG with a chunk before or after its pixels."""
    data = encoded("PNG")
    return data[:-12] + extra + data[-12:] if after else data[:33] + extra + data[33:]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("extra", CHUNKS.values(), ids=CHUNKS)
def test_a_chunk_of_metadata_never_costs_a_png(extra: bytes, after: bool) -> None:
    assert np.array_equal(read(png_with(extra, after=after)), draw(1, side=SIDE))


def test_a_png_that_is_cut_inside_of_its_last_text_has_all_its_pixels() -> None:
    data = png_with(chunk(b"tEXt", b"prompt\0" + LONG), after=True)
    assert np.array_equal(read(data[: len(data) // 2]), draw(1, side=SIDE))


def damaged(exif: bytes, count: int) -> Iterator[bytes]:
    """EXIF data with random damage, cut short, and junk in their place."""
    rng = random.Random(7)
    for number in range(count):
        data = bytearray(exif)
        if number % 3 == 0:
            yield exif[: rng.randrange(7, len(exif))]
        elif number % 3 == 1:
            yield exif[:6] + rng.randbytes(rng.randrange(1, 90))
        else:
            for _ in range(8):
                data[rng.randrange(6, len(data))] = rng.randrange(256)
            yield bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "AVIF"])
def test_damaged_exif_data_never_cost_an_image(kind: str) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x011A], exif[0x0128] = "a maker of cameras", 72.0, 2
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    plain = read(encoded(kind))
    for data in damaged(exif.tobytes(), 60):
        whole = data.ljust(len(exif.tobytes()), b"\0")
        image = encoded(kind, exif=exif.tobytes()).replace(exif.tobytes()[6:], whole[6:])
        image = encoded(kind, exif=whole) if kind in ("PNG", "WEBP") else image
        found = read(image)
        assert sorted(found.shape) == sorted(plain.shape)  # an orientation may come out of it
        if found.shape == plain.shape and kind != "AVIF":
            assert found.sum() == plain.sum()


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
def test_damaged_tags_of_metadata_never_cost_a_tiff(compression: str | None) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x011A] = "a maker of cameras", 72.0
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    data = encoded(
        "TIFF", exif=exif, icc_profile=JUNK, software="a long name of software", dpi=(72, 72),
        description="a long description", compression=compression,
    )  # fmt: skip
    plain, rng = read(data), random.Random(1)
    (start,) = struct.unpack_from("<L", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    places = [start + 2 + 12 * k for k in range(count)]
    metadata = {270, 271, 282, 283, 296, 305, 34665, 34675, 34853}
    places = [at for at in places if struct.unpack_from("<H", data, at)[0] in metadata]
    assert len(places) > 5
    for _ in range(150):
        image = bytearray(data)
        at = rng.choice(places)
        struct.pack_into("<H", image, at + 2, rng.choice([1, 2, 3, 4, 5, 7, 12, 99]))
        struct.pack_into("<L", image, at + 4, rng.choice([0, 1, 3, 70_000, 2**32 - 1]))
        struct.pack_into("<L", image, at + 8, rng.choice([0, 8, len(data) - 1, 2**32 - 1, start]))
        assert np.array_equal(read(bytes(image)), plain)


@pytest.mark.parametrize("head", [
    b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"FPXR\0", b"MPF\0",
    b"Photoshop 3.0\0", b"Photoshop 3.0\x008BIM", b"JFIF\0", b"JFXX\0", b"Adobe", b"",
])  # fmt: skip
def test_segments_of_metadata_never_cost_a_jpeg(head: bytes) -> None:
    data, rng = encoded("JPEG"), random.Random(3)
    plain = read(data)
    for marker in (0xE0, 0xE1, 0xE2, 0xEA, 0xED, 0xEE, 0xFE):
        for size in (0, 1, 2, 5, 9, 30):
            body = head + rng.randbytes(size)
            if (marker, head) == (0xE0, b"JFIF\0") or (marker == 0xEE and len(body) >= 12):
                continue  # these say how colours are stored
            extra = bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
            assert np.array_equal(read(data[:2] + extra + data[2:]), plain)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("profile", [JUNK, JUNK[:5], JUNK * 12_000], ids=["junk", "short", "huge"])
def test_a_broken_or_huge_profile_is_ignored(kind: str, profile: bytes) -> None:
    plain = read(encoded(kind))
    assert np.array_equal(read(encoded(kind, icc_profile=profile)), plain)
    assert len(JUNK * 12_000) > MOST_PROFILE


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_valid_profile_counts_as_before(kind: str) -> None:
    """Red and green are swapped by this profile; a profile of sRGB changes nothing."""
    swapped = SRGB.replace(b"rXYZ", b"tmp!").replace(b"gXYZ", b"rXYZ").replace(b"tmp!", b"gXYZ")
    red = Image.new("RGB", (16, 16), (200, 30, 30))
    kept = read(encoded(kind, red, icc_profile=SRGB))[8, 8].astype(int)
    changed = read(encoded(kind, red, icc_profile=swapped))[8, 8].astype(int)
    assert np.abs(kept - [200, 30, 30]).max() < 6
    assert changed[1] > 150 > changed[0]


def test_a_profile_of_megabytes_in_a_png_counts() -> None:
    """Pillow alone refuses the image, as the profile unpacks to more than one megabyte."""
    large = SRGB + bytes(2**21)
    large = len(large).to_bytes(4, "big") + large[4:]
    data = png_with(chunk(b"iCCP", packed(b"p", large)))
    assert np.abs(read(data).astype(int) - draw(1, side=SIDE)).max() <= 2
    assert without_metadata(data).info["icc_profile"] == large


TURNS = ("eXIf", "XMP", "compressed XMP", "EXIF as text", "EXIF as compressed text")


@pytest.mark.parametrize("place", TURNS)
@pytest.mark.parametrize("after", [False, True])
def test_the_orientation_of_a_png_counts_wherever_it_is_written(place: str, after: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = exif.tobytes()
    text = f"\nexif\n{len(raw):8}\n{raw.hex()}\n".encode()
    xmp = b'<x tiff:Orientation="6"/>'
    extra = {
        "eXIf": chunk(b"eXIf", raw[6:]),
        "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        "compressed XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)),
        "EXIF as text": chunk(b"tEXt", b"Raw profile type exif\0" + text),
        "EXIF as compressed text": chunk(b"zTXt", packed(b"Raw profile type exif", text)),
    }[place]
    upright = np.rot90(draw(1, side=SIDE), -1)
    assert np.array_equal(read(png_with(extra, after=after)), upright)
    both = png_with(CHUNKS["compressed text that unpacks to megabytes"] + extra, after=after)
    assert np.array_equal(read(both), upright)


@pytest.mark.parametrize(
    "exif", [JUNK, b"", b"MM\0*\0\0\0\x08\xff\xff"], ids=["junk", "none", "cut"]
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_xmp_has_the_orientation_where_exif_data_are_damaged(kind: str, exif: bytes) -> None:
    xmp = b'<x tiff:Orientation="6"/>'
    if kind == "PNG":
        extra = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
        data = png_with(chunk(b"eXIf", exif) + extra)
    else:
        bodies = (b"Exif\0\0" + exif, b"http://ns.adobe.com/xap/1.0/\0" + xmp)
        extra = b"".join(b"\xff\xe1" + struct.pack(">H", len(b) + 2) + b for b in bodies)
        plain = encoded("JPEG")
        data = plain[:2] + extra + plain[2:]
    assert np.array_equal(read(data), np.rot90(read(encoded(kind)), -1))


def test_own_pictures_are_recognised_beside_broken_metadata() -> None:
    recipe = {"gentool": "1", "made_by": "sample"}
    png = encode(draw(0), ".png", recipe)
    text = CHUNKS["compressed text that unpacks to megabytes"]
    at = png.index(b"tEXtgentool") - 4
    end = at + 12 + int.from_bytes(png[at : at + 4], "big")
    assert is_own(png[:end] + text + png[end:])
    jpeg = encode(draw(0), ".jpg", recipe)
    assert is_own(jpeg[:2] + b"\xff\xed\0\x13Photoshop 3.0\x008BI" + jpeg[2:])
    assert read_recipe(png[:end] + text + png[end:]) == recipe


def test_check_and_training_take_what_image_generators_write(tmp_path: Path) -> None:
    folder = tmp_path / "generated"
    folder.mkdir()
    for k, name in enumerate(("compressed text that unpacks to megabytes", "EXIF junk")):
        data = png_with(CHUNKS[name])
        (folder / f"{k}.png").write_bytes(data)
        assert open_source(str(folder)).open(k).image.size == (SIDE, SIDE)
    done = gentool_command("data", "check", folder, "--json")
    assert done.code == 0
    assert '"bad": []' in done.out
