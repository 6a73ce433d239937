"""Sheets: one image with many images of equal size as tiles, row by row.

``Layout`` computes the position of every tile, and ``Sheet`` is the image that is filled. Gaps
between tiles and empty places are white; in RGBA they are transparent.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gentool.core.errors import UsageError
from gentool.core.free_memory import require_memory
from gentool.core.images import Pixels
from gentool.core.pil_images import lay_on, pil_mode, to_pil

_GRID_GAP = 2  # pixels between tiles
_WEBP_PIXEL_BYTES = 28  # memory of the WebP encoder beside the sheet, measured with noise
_WIDEST_STRIP = 2048  # pixels, unless a sheet that is nearly square is wider
_GOOD_RATIO, _WORST_RATIO = 2.0, 3.0  # of the longer to the shorter side of a sheet
_EMPTY = {"L": "white", "RGB": "white", "RGBA": "#ffffff00"}


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


class Sheet:
    """A sheet that is filled tile by tile, so that no image is held twice.

    It needs four bytes of memory per pixel in RGB and RGBA, and one in grey.

    Args:
        layout: Positions of the tiles.
        channels: Of each image: 1, 3 or 4.
    """

    def __init__(self, layout: Layout, channels: int) -> None:
        self.layout = layout
        height, width = layout.sheet
        mode = pil_mode(channels)
        self.image = Image.new(mode, (width, height), _EMPTY[mode])

    @classmethod
    def within_memory(cls, layout: Layout, channels: int, suffix: str = ".png") -> "Sheet":
        """Return an empty sheet, after a check of the free memory.

        Args:
            layout: Positions of the tiles.
            channels: Of each image: 1, 3 or 4.
            suffix: Of the file that will be written, because its encoder needs memory, too.

        Raises:
            UsageError: There is too little memory for the sheet.
        """
        height, width = layout.sheet
        what = f"a sheet of {width:,}x{height:,} pixels"
        own_bytes = width * height * (1 if channels == 1 else 4)
        encoder_bytes = _WEBP_PIXEL_BYTES * width * height if suffix == ".webp" else 0
        require_memory(own_bytes + encoder_bytes, what)
        try:
            return cls(layout, channels)
        except (MemoryError, ValueError, OverflowError) as error:
            raise UsageError(
                f"there is not enough memory for {what}. Write fewer images, or a folder"
            ) from error

    def place(self, number: int, pixels: NDArray[np.uint8]) -> None:
        """Put a uint8 image (H, W, C) into a tile; RGBA on a sheet of RGB is laid on white."""
        top, left = self.layout.corner(number)
        tile = to_pil(pixels)
        flat = tile.mode == "RGBA" and self.image.mode == "RGB"
        self.image.paste(lay_on(tile, "white") if flat else tile, (left, top))

    def place_all(self, images: NDArray[np.uint8]) -> None:
        """Put uint8 images (N, H, W, C) into the first N tiles."""
        for number, pixels in enumerate(images):
            self.place(number, pixels)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """A copy of the sheet as uint8 (height, width, C)."""
        return np.array(self.image).reshape(*self.layout.sheet, -1)


def grid(images: Pixels, columns: int | None = None) -> Pixels:
    """Tile uint8 images (N, H, W, C) into one image (height, width, C), row by row.

    By default the result is nearly square. Gaps and empty places are white; in RGBA they are
    transparent.
    """
    count, height, width, channels = images.shape
    sheet = Sheet(Layout.of(count, height, width, columns), channels)
    sheet.place_all(images)
    return sheet.pixels
