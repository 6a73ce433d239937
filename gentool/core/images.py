"""Conversion of images between uint8 and [-1, 1], sheets of tiles, and image files with recipes.

Inside gentool an image is uint8 (H, W, C) with C = 1 (grey), 3 (RGB) or 4 (RGBA, straight
alpha). The input of a model is float32 (B, C, H, W) in [-1, 1]; only this module converts
between the two.

Every image file that gentool writes as a result holds a recipe, which describes how the image was
made: a PNG in the text chunk ``gentool``, a JPEG or GIF in its comment, a WebP in the image
description of its EXIF data.

Torch is not imported at module level, so that commands which only prepare images start quickly.
"""

import contextlib
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from gentool.core.errors import UsageError
from gentool.core.memory import require_memory
from gentool.core.strict_json import parse_json

if TYPE_CHECKING:
    import torch

MODES = {"grey": 1, "rgb": 3, "rgba": 4}
_PIL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
MIN_SIDE, MAX_SIDE, SIDE_MULTIPLE = 16, 512, 4
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
FILM_SUFFIXES = (".gif", ".webp")
_LONGEST_SIDES = {".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383, ".gif": 65_535}  # pixels
_GRID_GAP = 2  # pixels between tiles
_WEBP_PIXEL_BYTES = 28  # memory of the WebP encoder beside the sheet, measured with noise
_WIDEST_STRIP = 2048  # pixels, unless a sheet that is nearly square is wider
_GOOD_RATIO, _WORST_RATIO = 2.0, 3.0  # of the longer to the shorter side of a sheet
_EMPTY = {"L": "white", "RGB": "white", "RGBA": "#ffffff00"}
_CHUNK = "gentool"  # the text chunk of a PNG, and the first word of a comment
_COMMENT_BYTES = 60_000  # a comment of a JPEG holds at most 65,533
_DESCRIPTION = 0x010E  # the EXIF tag ImageDescription
_SHORTEST_FRAME = 20  # milliseconds; browsers show shorter frames for about 100

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageShape:
    """Height, width and channels of the images of a data set or model."""

    height: int
    width: int
    channels: int

    @property
    def mode(self) -> str:
        """Colour mode: ``grey``, ``rgb`` or ``rgba``."""
        return next(name for name, count in MODES.items() if count == self.channels)

    @property
    def dims(self) -> int:
        """Number of values in an image, D = C H W."""
        return self.channels * self.height * self.width

    def __str__(self) -> str:
        return f"{self.height}x{self.width} {self.mode}"


def side_problem(side: int) -> str | None:
    """Return why ``side`` (pixels) is not allowed as a height or width; None if it is allowed."""
    if MIN_SIDE <= side <= MAX_SIDE and side % SIDE_MULTIPLE == 0:
        return None
    near = round(min(max(side, MIN_SIDE), MAX_SIDE) / SIDE_MULTIPLE) * SIDE_MULTIPLE
    return (
        f"{side!s:.20} is not a multiple of {SIDE_MULTIPLE} from {MIN_SIDE} to {MAX_SIDE}; "
        f"try {near}"
    )


def to_unit(pixels: "torch.Tensor") -> "torch.Tensor":
    """Convert uint8 (B, H, W, C) to float32 (B, C, H, W) in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


def to_pixels(images: "torch.Tensor") -> Pixels:
    """Convert floats (B, C, H, W), clipped to [-1, 1], to uint8 (B, H, W, C)."""
    scaled = images.detach().float().add(1.0).mul(127.5).round().clamp(0, 255)
    found: Pixels = scaled.byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return found


def to_pil(pixels: Pixels) -> Image.Image:
    """Convert uint8 (H, W, C) to a PIL image of the matching mode."""
    squeezed = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    return Image.fromarray(np.ascontiguousarray(squeezed))


def mean_squared_error(a: Pixels, b: Pixels) -> float:
    """Return the mean squared error of two uint8 images, on the [0, 1] scale."""
    difference = a.astype(np.float64) - b.astype(np.float64)
    return float(np.mean(difference**2) / 255.0**2)


def psnr(mse: float) -> float:
    """Return the peak signal-to-noise ratio in dB for a mean squared error on the [0, 1] scale."""
    return math.inf if mse == 0 else -10.0 * math.log10(mse)


def columns_for(count: int, height: int, width: int) -> int:
    """Return a number of columns that makes a sheet nearly square in pixels.

    The criteria, in order: no side is more than three times the other; the last row is at least
    half full; no side is more than twice the other; the fewest empty places; the most nearly
    square sheet; the most columns.

    Args:
        count: Number of images.
        height: Of each image, in pixels.
        width: Of each image, in pixels.
    """
    high, wide = height + _GRID_GAP, width + _GRID_GAP
    middle = math.sqrt(count * high / wide)
    least = max(1, min(count, int(middle / 2)))
    scores = []
    for columns in range(least, max(least, min(count, math.ceil(2 * middle) + 1)) + 1):
        rows = -(-count // columns)
        ratio = max(rows * high / (columns * wide), columns * wide / (rows * high))
        empty = rows * columns - count
        shape = max(ratio, _WORST_RATIO), 2 * empty > columns, max(ratio, _GOOD_RATIO)
        scores.append((*shape, empty, ratio, -columns))
    return -min(scores)[-1]


def strip_columns(count: int, height: int, width: int, part: int = 1) -> int:
    """Return the columns of a strip: one row, or several rows where one would be too wide.

    Args:
        count: Number of images.
        height: Of each image, in pixels.
        width: Of each image, in pixels.
        part: Size of a group of images. Rows hold whole groups if such rows are all full and at
            least a third of the greatest length; else they have about the same length.
    """
    most = max(
        (_WIDEST_STRIP + _GRID_GAP) // (width + _GRID_GAP), columns_for(count, height, width)
    )
    if count <= most:
        return count
    whole = [n for n in range(part, most + 1, part) if count % n == 0 and 3 * n >= most]
    rows = -(-count // most)
    return max(whole, default=-(-count // rows))


@dataclass(frozen=True)
class Layout:
    """Positions of the tiles of a sheet, row by row.

    Attributes:
        count: Number of tiles.
        height: Of a tile, in pixels.
        width: Of a tile, in pixels.
        columns: Tiles per row.
        top: Height of the margin above the tiles, in pixels.
        left: Width of the margin to the left of the tiles, in pixels.
    """

    count: int
    height: int
    width: int
    columns: int
    top: int = 0
    left: int = 0

    @classmethod
    def of(cls, count: int, height: int, width: int, columns: int | None = None) -> "Layout":
        """Return a layout with ``columns``, by default those of ``columns_for``."""
        columns = columns or columns_for(count, height, width)
        return cls(count, height, width, min(columns, max(count, 1)))

    @property
    def sheet(self) -> tuple[int, int]:
        """Height and width of the sheet, in pixels."""
        rows = -(-self.count // self.columns)
        return (
            self.top + rows * (self.height + _GRID_GAP) - _GRID_GAP,
            self.left + self.columns * (self.width + _GRID_GAP) - _GRID_GAP,
        )

    def corner(self, number: int) -> tuple[int, int]:
        """Return the top and left coordinate of a tile, in pixels."""
        row, column = divmod(number, self.columns)
        down, across = row * (self.height + _GRID_GAP), column * (self.width + _GRID_GAP)
        return self.top + down, self.left + across


def grid(images: Pixels, columns: int | None = None) -> Pixels:
    """Tile uint8 images (N, H, W, C) into one image (height, width, C), row by row.

    By default the result is nearly square. Gaps and empty places are white; in RGBA they are
    transparent.
    """
    count, height, width, channels = images.shape
    layout = Layout.of(count, height, width, columns)
    sheet = np.full((*layout.sheet, channels), 255, "u1")
    if channels == MODES["rgba"]:
        sheet[..., 3] = 0
    for k, image in enumerate(images):
        top, left = layout.corner(k)
        sheet[top : top + height, left : left + width] = image
    return sheet


class Sheet:
    """A sheet that is filled tile by tile, so that no image is held twice.

    It needs four bytes of memory per pixel in RGB and RGBA, and one in grey.

    Args:
        layout: Positions of the tiles.
        channels: Of each image: 1, 3 or 4.
        suffix: Of the file that will be written, because its encoder needs memory, too.

    Raises:
        UsageError: There is too little memory for the sheet.
    """

    def __init__(self, layout: Layout, channels: int, suffix: str = ".png") -> None:
        self.layout = layout
        height, width = layout.sheet
        mode = _PIL_MODES[channels]
        what = f"a sheet of {width:,}x{height:,} pixels"
        own_bytes = width * height * (1 if channels == 1 else 4)
        encoder_bytes = _WEBP_PIXEL_BYTES * width * height if suffix == ".webp" else 0
        require_memory(own_bytes + encoder_bytes, what)
        try:
            self.image = Image.new(mode, (width, height), _EMPTY[mode])
        except (MemoryError, ValueError, OverflowError) as error:
            raise UsageError(
                f"there is no memory for {what}. Write fewer images, or a folder"
            ) from error

    def place(self, number: int, pixels: Pixels) -> None:
        """Put a uint8 image (H, W, C) into a tile; RGBA on a sheet of RGB is laid on white."""
        top, left = self.layout.corner(number)
        tile = to_pil(pixels)
        flat = tile.mode == "RGBA" and self.image.mode == "RGB"
        self.image.paste(lay_on(tile, "white") if flat else tile, (left, top))


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
        told = {} if recipe is None else {"comment": _comment(recipe)}
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
    frames: list[Pixels],
    stream: BinaryIO,
    suffix: str,
    milliseconds: int,
    recipe: Mapping[str, object],
) -> None:
    """Write an animation that repeats for ever, with its recipe.

    Args:
        frames: uint8 (H, W, C) each.
        stream: Binary file to write to.
        suffix: ``.gif`` or ``.webp``.
        milliseconds: Time per frame.
        recipe: How the frames were made, as JSON values.

    Raises:
        UsageError: The WebP encoder cannot encode these frames.
    """
    images = [to_pil(f) for f in frames]
    if suffix == ".gif":
        images = [lay_on(i, "white") if i.mode == "RGBA" else i for i in images]
        more: dict[str, object] = {"comment": _comment(recipe)}
    else:
        more = {"quality": 95, "exif": _description(recipe)}
    with _encoding_webp() if suffix == ".webp" else contextlib.nullcontext():
        images[0].save(
            stream,
            "GIF" if suffix == ".gif" else "WEBP",
            save_all=True,
            append_images=images[1:],
            duration=milliseconds,
            loop=0,
            **more,
        )


def film_time(suffix: str, milliseconds: int) -> tuple[int, str | None]:
    """Return the time per frame in ms that the format can hold, and a note for the user or None.

    The note says that a GIF has rounded the time, or that many viewers show such frames longer.
    """
    time, notes = milliseconds, []
    if suffix == ".gif" and milliseconds % 10:
        time = max(10, (milliseconds + 5) // 10 * 10)
        notes.append(f"a GIF counts in steps of 10 ms: {milliseconds} ms becomes {time} ms")
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
            f"{suffix} holds at most {longest:,} pixels a side; this picture has "
            f"{width:,}x{height:,} (width x height). Write a .png, fewer images or a folder"
        )


def read_recipe(path: Path) -> dict[str, object] | None:
    """Return the recipe in an image file that gentool wrote; None for any other file."""
    plugins = (
        PngImagePlugin.PngImageFile,
        JpegImagePlugin.JpegImageFile,
        GifImagePlugin.GifImageFile,
        WebPImagePlugin.WebPImageFile,
    )
    for plugin in plugins:  # not Image.open, which refuses large sheets
        try:
            with plugin(path) as image:
                words = _words_in(image)
            found = parse_json(words)
        except Exception:  # decoders raise many types of errors on files of other programs
            continue
        return found if isinstance(found, dict) and _CHUNK in found else None
    return None


def _words_in(image: ImageFile.ImageFile) -> bytes:
    """Return the JSON text of the recipe in an opened image.

    Raises:
        ValueError: A file other than a PNG holds no recipe; for a PNG the text is empty then.
    """
    if isinstance(image, WebPImagePlugin.WebPImageFile):
        words = str(image.getexif().get(_DESCRIPTION, "")).encode()
    elif isinstance(image, PngImagePlugin.PngImageFile):
        return str(image.info.get(_CHUNK, "")).encode()
    else:
        words = bytes(image.info.get("comment", b""))
    first, _, rest = words.partition(b" ")
    if first != _CHUNK.encode():
        raise ValueError("no recipe")
    return rest


def _json(recipe: Mapping[str, object]) -> str:
    """Return a recipe as JSON text in ASCII, with sorted keys."""
    return json.dumps(dict(recipe), sort_keys=True)


def _description(recipe: Mapping[str, object]) -> bytes:
    """Return EXIF data with a recipe as the image description."""
    exif = Image.Exif()
    exif[_DESCRIPTION] = f"{_CHUNK} {_json(recipe)}"
    return exif.tobytes()


def _comment(recipe: Mapping[str, object]) -> bytes:
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


def lay_on(image: Image.Image, background: str) -> Image.Image:
    """Composite an RGBA image on a background colour; return it as RGB."""
    sheet = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(sheet, image).convert("RGB")


def pil_mode(channels: int) -> str:
    """Return PIL's name of the colour mode with ``channels`` channels."""
    return _PIL_MODES[channels]
