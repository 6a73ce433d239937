"""Images on their way in and out: uint8 <-> [-1, 1] (the only place), grids, files with recipes.

Every picture that gentool writes says in its file how it came about: a PNG in the text chunk
``gentool``, a JPEG and a GIF in their comment, a WebP in the image description of its EXIF data.

Inside gentool an image is uint8 (H, W, C) with C = 1 (grey), 3 (RGB) or 4 (RGBA, straight
alpha); a model sees float32 (B, C, H, W) in [-1, 1]. Torch is not imported here, so that what
only prepares images starts quickly.
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
_WEBP_PIXEL_BYTES = 28  # that its encoder takes beside the sheet, measured with noise
_WIDEST_STRIP = 2048  # pixels, unless a sheet that is nearly square is wider
_GOOD_RATIO, _WORST_RATIO = 2.0, 3.0  # of the sides of a sheet
_EMPTY = {"L": "white", "RGB": "white", "RGBA": "#ffffff00"}
_CHUNK = "gentool"  # the text chunk of a PNG, and the first word of a comment
_COMMENT_BYTES = 60_000  # a comment of a JPEG holds 65,533
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
        """``grey``, ``rgb`` or ``rgba``."""
        return next(name for name, count in MODES.items() if count == self.channels)

    @property
    def dims(self) -> int:
        """Number of sub-pixels, D = C H W."""
        return self.channels * self.height * self.width

    def __str__(self) -> str:
        return f"{self.height}x{self.width} {self.mode}"


def side_problem(side: int) -> str | None:
    """Why ``side`` is not allowed as a height or width, or None if it is."""
    if MIN_SIDE <= side <= MAX_SIDE and side % SIDE_MULTIPLE == 0:
        return None
    near = round(min(max(side, MIN_SIDE), MAX_SIDE) / SIDE_MULTIPLE) * SIDE_MULTIPLE
    return (
        f"{side!s:.20} is not a multiple of {SIDE_MULTIPLE} from {MIN_SIDE} to {MAX_SIDE}; "
        f"try {near}"
    )


def to_unit(pixels: "torch.Tensor") -> "torch.Tensor":
    """uint8 (B, H, W, C) -> float32 (B, C, H, W) in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


def to_pixels(images: "torch.Tensor") -> Pixels:
    """Float (B, C, H, W) in [-1, 1] (clipped) -> uint8 (B, H, W, C)."""
    scaled = images.detach().float().add(1.0).mul(127.5).round().clamp(0, 255)
    found: Pixels = scaled.byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return found


def to_pil(pixels: Pixels) -> Image.Image:
    """uint8 (H, W, C) -> a PIL image of the matching mode."""
    squeezed = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    return Image.fromarray(np.ascontiguousarray(squeezed))


def mean_squared_error(a: Pixels, b: Pixels) -> float:
    """MSE of two uint8 images on the [0, 1] scale."""
    difference = a.astype(np.float64) - b.astype(np.float64)
    return float(np.mean(difference**2) / 255.0**2)


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB for an MSE on the [0, 1] scale."""
    return math.inf if mse == 0 else -10.0 * math.log10(mse)


def columns_for(count: int, height: int, width: int) -> int:
    """Columns of a sheet of ``count`` images (height, width) that is nearly square in pixels.

    A last row that is half full at least counts most, as long as no side is more than three times
    the other; then that none is more than twice the other; then the fewest empty places; then the
    most nearly square sheet, and of two such the wider.
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
    """Columns of a strip: one row, or several of about the same length where that gets too wide.

    Args:
        count: Number of images.
        height: Of each, in pixels.
        width: Of each, in pixels.
        part: Images that belong together; rows hold whole parts where these fill all rows.
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
    """Where the tiles of a sheet lie, row by row.

    Attributes:
        count: Number of tiles.
        height: Of a tile, in pixels.
        width: Of a tile, in pixels.
        columns: Tiles a row.
        top: Height of a margin above them, in pixels.
        left: Width of a margin beside them, in pixels.
    """

    count: int
    height: int
    width: int
    columns: int
    top: int = 0
    left: int = 0

    @classmethod
    def of(cls, count: int, height: int, width: int, columns: int | None = None) -> "Layout":
        """The layout with so many columns, by default one that makes the sheet nearly square."""
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
        """Top and left of a tile, in pixels."""
        row, column = divmod(number, self.columns)
        down, across = row * (self.height + _GRID_GAP), column * (self.width + _GRID_GAP)
        return self.top + down, self.left + across


def grid(images: Pixels, columns: int | None = None) -> Pixels:
    """Tile images (N, H, W, C) into one, row by row, nearly square unless ``columns`` is given.

    Gaps and empty places are white, transparent in RGBA.
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

    It takes four bytes a pixel in RGB and RGBA, one in grey, and is written from there.

    Args:
        layout: Where the tiles go.
        channels: Of each image: 1, 3 or 4.
        suffix: Of the file that it will be written to, whose encoder needs memory too.

    Raises:
        UsageError: there is no memory for so large a sheet.
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
        """Put an image (H, W, C) into a tile; RGBA is laid on white on a sheet of RGB."""
        top, left = self.layout.corner(number)
        tile = to_pil(pixels)
        flat = tile.mode == "RGBA" and self.image.mode == "RGB"
        self.image.paste(lay_on(tile, "white") if flat else tile, (left, top))


def encode(pixels: Pixels, suffix: str, recipe: Mapping[str, object] | None = None) -> bytes:
    """The bytes of an image file; see ``save``.

    Args:
        pixels: uint8 (H, W, C).
        suffix: ``.png``, ``.jpg``, ``.jpeg`` or ``.webp``.
        recipe: How the image came about; None for images that are data, not results.
    """
    buffer = io.BytesIO()
    save(to_pil(pixels), buffer, suffix, recipe)
    return buffer.getvalue()


def save(
    image: Image.Image, stream: BinaryIO, suffix: str, recipe: Mapping[str, object] | None
) -> None:
    """Write an image file with its recipe.

    Args:
        image: Grey, RGB or RGBA; JPEG has no alpha, so that RGBA is laid on white there.
        stream: Where to.
        suffix: ``.png``, ``.jpg``, ``.jpeg`` or ``.webp``.
        recipe: How the image came about, as values that JSON knows; or None.
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
    """Errors of the encoder, whose tables large and noisy pictures overflow, as gentool's own."""
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
    """Write an endless animation, ``.gif`` or ``.webp``, of frames (H, W, C) with its recipe."""
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
    """The time per frame that a film's format can hold, and in words what viewers make of it."""
    time, notes = milliseconds, []
    if suffix == ".gif" and milliseconds % 10:
        time = max(10, (milliseconds + 5) // 10 * 10)
        notes.append(f"a GIF counts in steps of 10 ms: {milliseconds} ms becomes {time} ms")
    if time < _SHORTEST_FRAME:
        notes.append(f"many viewers show frames of less than {_SHORTEST_FRAME} ms for about 100 ms")
    return time, "; ".join(notes) or None


def check_sides(suffix: str, width: int, height: int) -> None:
    """See that a picture of this size can be written.

    Raises:
        UsageError: the format allows no such side.
    """
    longest = _LONGEST_SIDES.get(suffix)
    if longest is not None and max(width, height) > longest:
        raise UsageError(
            f"{suffix} holds at most {longest:,} pixels a side; this picture has "
            f"{width:,}x{height:,} (width x height). Write a .png, fewer images or a folder"
        )


def read_recipe(path: Path) -> dict[str, object] | None:
    """The recipe in a picture that gentool wrote; None for any other file."""
    plugins = (
        PngImagePlugin.PngImageFile,
        JpegImagePlugin.JpegImageFile,
        GifImagePlugin.GifImageFile,
        WebPImagePlugin.WebPImageFile,
    )
    for plugin in plugins:  # Image.open would refuse a large sheet
        try:
            with plugin(path) as image:
                words = _words_in(image)
            found = parse_json(words)
        except Exception:  # whatever a foreign file makes a decoder raise
            continue
        return found if isinstance(found, dict) and _CHUNK in found else None
    return None


def _words_in(image: ImageFile.ImageFile) -> bytes:
    """The JSON text in an opened picture.

    Raises:
        ValueError: there is none.
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
    """A recipe as text, in ASCII."""
    return json.dumps(dict(recipe), sort_keys=True)


def _description(recipe: Mapping[str, object]) -> bytes:
    """EXIF data whose image description is a recipe."""
    exif = Image.Exif()
    exif[_DESCRIPTION] = f"{_CHUNK} {_json(recipe)}"
    return exif.tobytes()


def _comment(recipe: Mapping[str, object]) -> bytes:
    """A recipe as a comment; where it is too long, its longest values become their hashes."""
    short = dict(recipe)
    while True:
        words = f"{_CHUNK} {_json(short)}".encode()
        if len(words) <= _COMMENT_BYTES:
            return words
        longest = max(short, key=lambda key: len(json.dumps(short[key])))
        short[longest] = hash_of_value(short[longest])


def hash_of_value(value: object) -> str:
    """What stands in a recipe for a value that is too long for it."""
    return f"sha256:{hashlib.sha256(json.dumps(value).encode()).hexdigest()}"


def lay_on(image: Image.Image, background: str) -> Image.Image:
    """An RGBA image composited on a background colour, as RGB."""
    sheet = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(sheet, image).convert("RGB")


def pil_mode(channels: int) -> str:
    """PIL's name of the colour mode with ``channels`` channels."""
    return _PIL_MODES[channels]
