"""Image files with recipes: writing of still images and films, and reading of recipes.

Every image file that gentool writes as a result holds a recipe, which describes how the image was
made: a PNG in the text chunk ``gentool``, a JPEG or GIF in its comment, a WebP in the image
description of its EXIF data, a video in its comment.
"""

import contextlib
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from gentool.core.errors import UsageError
from gentool.core.image_parts import (
    COMMENT,
    JPEG_MAGIC,
    PNG_MAGIC,
    Data,
    jpeg_segments,
    mapped,
    png_chunks,
)
from gentool.core.images import Pixels
from gentool.core.pil_images import lay_on, to_pil
from gentool.core.strict_json import parse_json
from gentool.core.video_files import VIDEO_SUFFIXES, comment_of_video, suffix_of_video

SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
FILM_SUFFIXES = (".gif", ".webp", *VIDEO_SUFFIXES)
_LONGEST_SIDES = {
    ".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383, ".gif": 65_535, ".mp4": 8192, ".webm": 8192,
}  # fmt: skip
_CHUNK = "gentool"  # the text chunk of a PNG, and the first word of a comment
_MARK = re.compile(rb"tEXtgentool\0\{|(\xff\xfe..|!\xfe.)gentool \{", re.DOTALL)
_WEBP_HAS_EXIF = 0x08  # flag of the chunk VP8X
_COMMENT_BYTES = 60_000  # a comment of a JPEG holds at most 65,533
_DESCRIPTION = 0x010E  # the EXIF tag ImageDescription
_SHORTEST_FRAME = 20  # milliseconds; browsers show shorter frames for about 100


def encode(pixels: Pixels, suffix: str, recipe: Mapping[str, object] | None = None) -> bytes:
    """Return the bytes of an image file; see ``save``.

    Args:
        pixels: uint8 (H, W, C).
        suffix: ``.png``, ``.jpg``, ``.jpeg`` or ``.webp``.
        recipe: How the image was made; None for images that are data, not results.
    """
    buffer = io.BytesIO()
    save(to_pil(pixels), buffer, suffix, recipe)
    return buffer.getvalue()


def save(
    image: Image.Image, stream: BinaryIO, suffix: str, recipe: Mapping[str, object] | None
) -> None:
    """Write an image file with its recipe.

    Args:
        image: Grey, RGB or RGBA. A JPEG has no alpha, so RGBA is laid on white for it.
        stream: Binary file to write to.
        suffix: ``.png``, ``.jpg``, ``.jpeg`` or ``.webp``.
        recipe: How the image was made, as JSON values; or None.

    Raises:
        UsageError: The WebP encoder cannot encode this image.
    """
    kind = SUFFIXES[suffix]
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        if recipe is not None:
            info.add_text(_CHUNK, _json(recipe))
        image.save(stream, kind, pnginfo=info)
    elif kind == "JPEG":
        flat = lay_on(image, "white") if image.mode == "RGBA" else image
        told = {} if recipe is None else {"comment": comment_of_recipe(recipe)}
        flat.save(stream, kind, quality=95, subsampling=0, **told)
    else:
        told = {} if recipe is None else {"exif": _description(recipe)}
        with _encoding_webp():
            image.save(stream, kind, quality=95, **told)


@contextlib.contextmanager
def _encoding_webp() -> Iterator[None]:
    """Convert errors of the WebP encoder, which fails on large and noisy images.

    Raises:
        UsageError: The encoder failed.
    """
    try:
        yield
    except ValueError as error:
        raise UsageError(
            f"this picture cannot be written as .webp ({error!s:.80}). Write a .png"
        ) from error


def save_film(
    frames: list[NDArray[np.uint8]],
    stream: BinaryIO,
    suffix: str,
    milliseconds: float,
    recipe: Mapping[str, object],
    enlarge: int = 1,
) -> None:
    """Write an animation that repeats for ever, with its recipe.

    Args:
        frames: uint8 (H, W, C) each.
        stream: Binary file to write to.
        suffix: ``.gif`` or ``.webp``.
        milliseconds: Time per frame.
        recipe: How the frames were made, as JSON values.
        enlarge: Every pixel becomes a square of this many pixels per side.

    Raises:
        UsageError: The WebP encoder cannot encode these frames.
    """
    images = [to_pil(f.repeat(enlarge, axis=0).repeat(enlarge, axis=1)) for f in frames]
    if suffix == ".gif":
        images = [lay_on(i, "white") if i.mode == "RGBA" else i for i in images]
        more: dict[str, object] = {"comment": comment_of_recipe(recipe)}
    else:
        more = {"quality": 95, "exif": _description(recipe)}
    with _encoding_webp() if suffix == ".webp" else contextlib.nullcontext():
        images[0].save(
            stream,
            "GIF" if suffix == ".gif" else "WEBP",
            save_all=True,
            append_images=images[1:],
            duration=round(milliseconds),
            loop=0,
            **more,
        )


def film_time(suffix: str, milliseconds: float) -> tuple[float, str | None]:
    """Return the time per frame in ms that the format can hold, and a note for the user or None.

    The note says that a GIF or WebP has rounded the time, or that many viewers show such frames
    longer. A video holds any time.
    """
    if suffix in VIDEO_SUFFIXES:
        return milliseconds, None
    time, notes = max(1, round(milliseconds)), []
    if suffix == ".gif" and milliseconds % 10:
        time = max(10, int((milliseconds + 5) // 10 * 10))
        notes.append(f"a GIF stores times in steps of 10 ms: {milliseconds:g} ms becomes {time} ms")
    if time < _SHORTEST_FRAME:
        notes.append(f"many viewers show frames of less than {_SHORTEST_FRAME} ms for about 100 ms")
    return time, "; ".join(notes) or None


def check_sides(suffix: str, width: int, height: int) -> None:
    """Check that the format allows an image of this size (pixels).

    Raises:
        UsageError: A side is longer than the format allows.
    """
    longest = _LONGEST_SIDES.get(suffix)
    if longest is not None and max(width, height) > longest:
        raise UsageError(
            f"{suffix} allows at most {longest:,} pixels per side; this picture has "
            f"{width:,}x{height:,} (width x height). Write a .png, fewer images, or a folder"
        )


def suffix_of(head: bytes) -> str | None:
    """Return the suffix of a picture or film by its first 16 bytes; None for other files.

    The name of a file may have another suffix, or none.
    """
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return ".webp"
    stills = {PNG_MAGIC: ".png", JPEG_MAGIC: ".jpg", b"GIF8": ".gif"}
    found = next((suffix for magic, suffix in stills.items() if head.startswith(magic)), None)
    return found or suffix_of_video(head)


def open_picture(data: bytes) -> Image.Image:
    """Open a PNG, JPEG, GIF or WebP of any size; the caller bounds the memory.

    ``Image.open`` would refuse large sheets.

    Raises:
        UsageError: It is none of these.
        Exception: A decoder of Pillow refused a damaged file.
    """
    plugins: dict[str | None, Callable[[io.BytesIO], Image.Image]] = {
        ".png": PngImagePlugin.PngImageFile, ".jpg": JpegImagePlugin.JpegImageFile,
        ".gif": GifImagePlugin.GifImageFile, ".webp": WebPImagePlugin.WebPImageFile,
    }  # fmt: skip
    plugin = plugins.get(suffix_of(data[:16]))
    if plugin is None:
        raise UsageError("it is no PNG, JPEG, GIF or WebP")
    return plugin(io.BytesIO(data))


def may_hold_recipe(head: bytes) -> bool:
    """Return whether the first kilobyte of a file may begin an image with a recipe.

    It is exact but for WebP, where the recipe is at the end.
    """
    if head.startswith(b"RIFF"):
        return head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & _WEBP_HAS_EXIF)
    return _MARK.search(head) is not None


def read_recipe(file: Path | bytes) -> dict[str, object] | None:
    """Return the recipe in an image file that gentool wrote; None for any other file.

    Args:
        file: Path of the file, or its content.
    """
    if isinstance(file, bytes) and file.startswith(b"RIFF") and _CHUNK.encode() not in file:
        return None
    try:
        if isinstance(file, bytes):
            words = _words_in(file)
        else:
            with file.open("rb") as stream, mapped(stream) as data:
                words = _words_in(data)
        found = None if words is None else parse_json(words)
    except Exception:  # decoders raise many types of errors on files of other programs
        return None
    return found if isinstance(found, dict) and _CHUNK in found else None


def _words_in(data: Data) -> bytes | None:
    """Return the JSON text of the recipe in an image file, or None if it holds none.

    Parts of a PNG or JPEG are found without a decoder, so other parts may be damaged or huge.
    """
    first = f"{_CHUNK} ".encode()
    if data[:8] == PNG_MAGIC:
        key = f"{_CHUNK}\0".encode()
        texts = (data[p.body : p.end] for p in png_chunks(data) if p.kind == b"tEXt")
        return next((bytes(t[len(key) :]) for t in texts if t.startswith(key)), None)
    if data[:3] == JPEG_MAGIC:
        comments = (data[p.body : p.end] for p in jpeg_segments(data) if p.kind[0] == COMMENT)
        return next((bytes(c[len(first) :]) for c in comments if c.startswith(first)), None)
    if (comment := comment_of_video(data, first)) is not None:
        return comment.removeprefix(first)
    plugin = GifImagePlugin.GifImageFile if data[:3] == b"GIF" else WebPImagePlugin.WebPImageFile
    with plugin(io.BytesIO(data)) as image:  # not Image.open, which refuses large sheets
        words = bytes(image.info.get("comment", b""))
        if isinstance(image, WebPImagePlugin.WebPImageFile):
            words = str(image.getexif().get(_DESCRIPTION, "")).encode()
    return words.removeprefix(first) if words.startswith(first) else None


def _json(recipe: Mapping[str, object]) -> str:
    """Return a recipe as JSON text in ASCII, with sorted keys."""
    return json.dumps(dict(recipe), sort_keys=True)


def _description(recipe: Mapping[str, object]) -> bytes:
    """Return EXIF data with a recipe as the image description."""
    exif = Image.Exif()
    exif[_DESCRIPTION] = f"{_CHUNK} {_json(recipe)}"
    return exif.tobytes()


def comment_of_recipe(recipe: Mapping[str, object]) -> bytes:
    """Return a recipe as a comment; while it is too long, its longest value becomes a hash."""
    short = dict(recipe)
    while True:
        words = f"{_CHUNK} {_json(short)}".encode()
        if len(words) <= _COMMENT_BYTES:
            return words
        longest = max(short, key=lambda key: len(json.dumps(short[key])))
        short[longest] = hash_of_value(short[longest])


def hash_of_value(value: object) -> str:
    """Return the hash that replaces a value which is too long for a recipe (``sha256:...``)."""
    return f"sha256:{hashlib.sha256(json.dumps(value).encode()).hexdigest()}"
