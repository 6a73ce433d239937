"""Odd image files that are made here, each with the expected picture or reason.

A ``Beast`` has a name, the bytes of its file, and the expected result at 16x16 in RGB: pixels
uint8 (16, 16, 3) with a tolerance, or a part of the reason.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Pixels = NDArray[np.uint8]
SIDE = 16


@dataclass(frozen=True)
class Beast:
    """One odd file."""

    name: str
    data: bytes
    expected: Pixels | str
    tolerance: int = 1


def picture() -> Pixels:
    """Four flat quarters, which no chroma subsampling blurs inside: red, green, blue, grey."""
    image = np.empty((SIDE, SIDE, 3), dtype=np.uint8)
    half = SIDE // 2
    image[:half, :half], image[:half, half:] = (200, 40, 30), (30, 180, 60)
    image[half:, :half], image[half:, half:] = (40, 60, 210), (120, 120, 120)
    return image


PICTURE = picture()
GREY = np.asarray(Image.fromarray(PICTURE).convert("L"))
GREY_RGB = np.repeat(GREY[..., None], 3, axis=2)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _rgb() -> Image.Image:
    return Image.fromarray(PICTURE)


def _with_alpha(alpha: Pixels) -> Image.Image:
    return Image.fromarray(np.dstack([PICTURE, alpha]))


def _on_white(alpha: Pixels, pixels: Pixels = PICTURE) -> Pixels:
    share = alpha[..., None] / 255
    return np.asarray(np.round(pixels * share + 255 * (1 - share)), dtype=np.uint8)


RAMP = np.tile(np.linspace(0, 255, SIDE).astype(np.uint8), (SIDE, 1))
DEEP = np.tile(np.linspace(0, 65535, SIDE).astype(np.uint16), (SIDE, 1))
DEEP_RGB = np.repeat(np.round(DEEP / 65535 * 255).astype(np.uint8)[..., None], 3, axis=2)


def _modes() -> Iterator[Beast]:
    """Every colour mode that a file can have."""
    yield Beast("rgb.png", saved(_rgb()), PICTURE, 0)
    yield Beast("grey.png", saved(_rgb().convert("L")), GREY_RGB, 0)
    bits = GREY > 100
    yield Beast("one-bit.png", saved(Image.fromarray(bits)),
                np.repeat((bits * 255).astype(np.uint8)[..., None], 3, 2), 0)  # fmt: skip
    yield Beast("two-bit.png", saved(Image.fromarray((RAMP // 64) * 85).quantize(4)),
                np.repeat(((RAMP // 64) * 85)[..., None], 3, 2), 0)  # fmt: skip
    yield Beast("palette.png", saved(_rgb().quantize(16)), PICTURE, 2)
    yield Beast("palette.gif", saved(_rgb(), "GIF"), PICTURE, 4)
    yield Beast("palette.bmp", saved(_rgb().quantize(16), "BMP"), PICTURE, 2)
    yield Beast("palette.tif", saved(_rgb().quantize(16), "TIFF"), PICTURE, 2)
    yield Beast("rgba.png", saved(_with_alpha(RAMP)), _on_white(RAMP), 2)
    la = Image.merge("LA", (_rgb().convert("L"), Image.fromarray(RAMP)))
    yield Beast("la.png", saved(la), _on_white(RAMP, GREY_RGB), 2)
    pa = _rgb().quantize(16)
    clear = pa.getpixel((0, 0))
    holes = np.where((np.asarray(pa) == clear)[..., None], 255, PICTURE).astype(np.uint8)
    yield Beast("palette-transparent.png", saved(pa, transparency=clear), holes, 2)
    yield Beast("palette-transparent.gif", saved(pa, "GIF", transparency=clear), holes, 4)
    key = saved(_rgb(), transparency=(200, 40, 30))
    white = np.where((PICTURE == (200, 40, 30)).all(axis=2, keepdims=True), 255, PICTURE)
    yield Beast("rgb-transparent.png", key, white.astype(np.uint8), 0)
    grey_key = saved(_rgb().convert("L"), transparency=int(GREY[0, 0]))
    yield Beast("grey-transparent.png", grey_key,
                np.where(GREY[0, 0] == GREY_RGB, 255, GREY_RGB).astype(np.uint8), 0)  # fmt: skip
    yield Beast("cmyk.jpg", saved(_rgb().convert("CMYK"), "JPEG", quality=95), PICTURE, 6)
    yield Beast("cmyk.tif", saved(_rgb().convert("CMYK"), "TIFF"), PICTURE, 2)
    yield Beast("ycbcr.tif", saved(_rgb().convert("YCbCr"), "TIFF"), PICTURE, 3)
    yield Beast("rgba.webp", saved(_with_alpha(RAMP), "WEBP", lossless=True), _on_white(RAMP), 2)
    yield Beast("rgba.tif", saved(_with_alpha(RAMP), "TIFF"), _on_white(RAMP), 2)
    yield Beast("rgb.webp", saved(_rgb(), "WEBP", lossless=True), PICTURE, 0)
    yield Beast("portable.png", saved(_rgb(), "PPM"), PICTURE, 0)
    yield Beast("portable16.pgm", b"P5 16 16 65535\n" + DEEP.astype(">u2").tobytes(), DEEP_RGB, 1)
    yield Beast("rgb.bmp", saved(_rgb(), "BMP"), PICTURE, 0)
    yield Beast("icon.png", saved(_rgb(), "ICO"), PICTURE, 0)
    yield Beast("icon-of-windows.png", saved(_rgb(), "ICO", bitmap_format="bmp"), PICTURE, 0)
    yield Beast("version1.tga", saved(_rgb(), "TGA")[:-26], PICTURE, 0)
    yield Beast("rgb.jpg", saved(_rgb(), "JPEG", quality=95), PICTURE, 6)
    yield Beast("grey.jpg", saved(_rgb().convert("L"), "JPEG", quality=95), GREY_RGB, 4)
    yield Beast("progressive.jpg", saved(_rgb(), "JPEG", quality=95, progressive=True), PICTURE, 6)
    full = saved(_rgb(), "JPEG", quality=95, subsampling=0)
    yield Beast("full-chroma.jpg", full, PICTURE, 6)
    lab = ImageCms.profileToProfile(
        _rgb(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    yield Beast("lab.tif", saved(lab, "TIFF"), PICTURE, 4)


def _deep() -> Iterator[Beast]:
    """More than 8 bits: scaled by the range of the kind, never clipped."""
    yield Beast("grey16.png", saved(Image.fromarray(DEEP)), DEEP_RGB, 1)
    yield Beast("grey16.tif", saved(Image.fromarray(DEEP), "TIFF"), DEEP_RGB, 1)
    dark = (DEEP // 256).astype(np.uint16)
    yield Beast("dark16.png", saved(Image.fromarray(dark)), np.zeros_like(PICTURE), 1)
    yield Beast("big-endian16.tif", _tiff(DEEP.astype(">u2"), 16, 1, big=True), DEEP_RGB, 1)
    wide = (DEEP.astype(np.uint32) * 65537).astype("<u4")
    yield Beast("grey32.tif", _tiff(wide, 32, 1), DEEP_RGB, 1)
    signed = (DEEP.astype(np.int64) * 32768).astype("<i4")
    yield Beast("signed32.tif", _tiff(signed, 32, 2), DEEP_RGB, 1)
    yield Beast("unit-float.tif", saved(Image.fromarray((DEEP / 65535).astype(np.float32)), "TIFF"),
                DEEP_RGB, 1)  # fmt: skip
    yield Beast("float255.tif", saved(Image.fromarray((DEEP / 257).astype(np.float32)), "TIFF"),
                DEEP_RGB, 1)  # fmt: skip
    broken = (DEEP / 65535).astype(np.float32)
    broken[0, 0] = np.nan
    yield Beast("nan-float.tif", saved(Image.fromarray(broken), "TIFF"), DEEP_RGB, 1)
    yield Beast("rgb16.png", _png16(PICTURE), PICTURE, 1)


def _tiff(values: NDArray[Any], bits: int, kind: int, *, big: bool = False) -> bytes:
    """An uncompressed one-strip TIFF by hand: Pillow cannot write all that it can read."""
    order = ">" if big else "<"
    height, width = values.shape
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1),
            (278, height), (279, values.nbytes), (339, kind)]  # fmt: skip
    entries = b"".join(struct.pack(order + "HHI", tag, 4, 1) + struct.pack(order + "I", value)
                       for tag, value in tags)  # fmt: skip
    header = (b"MM\0*" if big else b"II*\0") + struct.pack(order + "I", 8 + values.nbytes)
    directory = struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", 0)
    return header + values.tobytes() + directory


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png16(pixels: Pixels) -> bytes:
    """RGB with 16 bits a channel, which Pillow does not write."""
    rows = (pixels.astype(np.uint16) * 257).astype(">u2")
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
            + _chunk(b"IDAT", zlib.compress(body)) + _chunk(b"IEND", b""))  # fmt: skip


def _turned() -> Iterator[Beast]:
    """The eight EXIF orientations: stored turned, shown upright."""
    undo: dict[int, Callable[[Image.Image], Image.Image]] = {
        1: lambda i: i,
        2: lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda i: i.transpose(Image.Transpose.ROTATE_180),
        4: lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda i: i.transpose(Image.Transpose.TRANSPOSE),
        6: lambda i: i.transpose(Image.Transpose.ROTATE_90),
        7: lambda i: i.transpose(Image.Transpose.TRANSVERSE),
        8: lambda i: i.transpose(Image.Transpose.ROTATE_270),
    }
    for number, turn in undo.items():
        exif = Image.Exif()
        exif[0x0112] = number
        yield Beast(f"exif{number}.png", saved(turn(_rgb()), exif=exif), PICTURE, 0)


def _shapes() -> Iterator[Beast]:
    """Sizes and proportions."""
    yield Beast("one-pixel.png", saved(Image.new("RGB", (1, 1), (9, 8, 7))),
                np.full_like(PICTURE, 0) + np.array([9, 8, 7], np.uint8), 0)  # fmt: skip
    tall = np.full((600, 4, 3), 77, np.uint8)
    yield Beast("tall.png", saved(Image.fromarray(tall)), np.full_like(PICTURE, 77), 0)
    wide = np.concatenate(
        [np.zeros((16, 40, 3), np.uint8), PICTURE, np.zeros((16, 40, 3), "u1")], 1
    )
    yield Beast("wide.png", saved(Image.fromarray(wide)), PICTURE, 0)
    large = np.kron(PICTURE, np.ones((40, 40, 1), np.uint8))
    yield Beast("large.jpg", saved(Image.fromarray(large), "JPEG", quality=95), PICTURE, 40)


def _frames() -> Iterator[Beast]:
    """Animations give their first frame."""
    others = [Image.new("RGB", (SIDE, SIDE), c) for c in ("red", "blue")]
    for suffix, kind in ((".gif", "GIF"), (".webp", "WEBP"), (".png", "PNG"), (".tif", "TIFF")):
        options: dict[str, Any] = {"save_all": True, "append_images": others}
        if kind == "WEBP":
            options["lossless"] = True
        yield Beast(f"animated{suffix}", saved(_rgb(), kind, **options), PICTURE, 4)


def _profiles() -> Iterator[Beast]:
    """ICC profiles: sRGB changes nothing, another is converted, a broken one is ignored."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield Beast("srgb.png", saved(_rgb(), icc_profile=srgb), PICTURE, 1)
    yield Beast("broken-profile.png", saved(_rgb(), icc_profile=b"no profile"), PICTURE, 0)
    yield Beast("long-profile.png", saved(_rgb(), icc_profile=bytes(2**20)), PICTURE, 0)
    swapped = _swapped_profile(srgb)
    other = PICTURE[..., [1, 0, 2]]  # red and green primaries exchanged in the profile
    yield Beast("swapped.png", saved(Image.fromarray(other), icc_profile=swapped), PICTURE, 3)
    rgba = np.dstack([other, RAMP])
    yield Beast("swapped-rgba.png", saved(Image.fromarray(rgba), icc_profile=swapped),
                _on_white(RAMP), 4)  # fmt: skip


def _swapped_profile(srgb: bytes) -> bytes:
    """The sRGB profile with the primaries rXYZ and gXYZ exchanged."""
    count = struct.unpack(">I", srgb[128:132])[0]
    table = bytearray(srgb)
    places = {}
    for k in range(count):
        at = 132 + 12 * k
        places[bytes(table[at : at + 4])] = at
    red, green = places[b"rXYZ"], places[b"gXYZ"]
    table[red : red + 4], table[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(table)


def _bad() -> Iterator[Beast]:
    """What is no image, and why."""
    png, jpg = saved(_rgb()), saved(_rgb(), "JPEG")
    yield Beast("empty.png", b"", "the file is empty")
    yield Beast("page.jpg", b"<!DOCTYPE html><html><body>404</body></html>", "an HTML page")
    yield Beast("text.png", b"hello", "not a PNG")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"
    yield Beast("lfs.png", pointer, "git lfs pull")
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
    yield Beast("phone.jpg", heic, "an HEIC image, not a PNG")
    yield Beast("pickle.png", b"\x80\x04\x95\x00", "not a PNG")
    yield Beast("zip.png", b"PK\x03\x04" + bytes(40), "not a PNG")
    yield Beast("zeros.png", bytes(2000), "a file of zeros")
    yield Beast("svg.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not a PNG")
    yield Beast("pdf.png", b"%PDF-1.7\n", "not a PNG")
    yield Beast("cursor.png", b"\0\0\2\0\1\0" + saved(_rgb(), "ICO")[6:], "a cursor, not a PNG")
    yield Beast("postscript.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a PNG")
    yield Beast("signature-only.png", png[:8], "")
    yield Beast("header-only.png", png[:40], "")
    yield Beast("half.png", png[: len(png) // 2], "cut short")
    yield Beast("half.jpg", jpg[: len(jpg) // 2], "cut short")
    yield Beast("half.gif", saved(_rgb(), "GIF")[:60], "cut short")
    yield Beast("half.webp", saved(_rgb(), "WEBP")[:60], "cut short")
    yield Beast("half.bmp", saved(_rgb(), "BMP")[:200], "cut short")
    yield Beast("half.tif", saved(_rgb(), "TIFF")[:300], "cut short")
    body = bytearray(png)
    body[len(body) // 2] ^= 255
    yield Beast("flipped.png", bytes(body), "")
    for side in (10_000, 30_000, 2**31 - 1):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        claim = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"\x78\x9c")
        yield Beast(f"bomb{side}.png", claim, "more than 67,108,864")
    zero = struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)
    yield Beast("nothing.png", b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", zero), "")
    text = png[:-12] + _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27))) + png[-12:]
    yield Beast("text-bomb.png", text, PICTURE, 0)
    early = png[:33] + _chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(2**27))) + png[33:]
    yield Beast("early-text-bomb.png", early, PICTURE, 0)


def beasts() -> list[Beast]:
    """All of them."""
    return [
        beast
        for family in (_modes, _deep, _turned, _shapes, _frames, _profiles, _bad)
        for beast in family()
    ]
