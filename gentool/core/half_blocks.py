"""Pictures in a terminal: each character shows two pixels, one above the other, by its colours."""

from PIL import Image
from rich.color import Color
from rich.style import Style
from rich.text import Text

from gentool.core.images import ImageShape
from gentool.core.pil_images import lay_on

_GAP = 2  # pixels between the tiles of a sheet
_TILE = 18  # characters that a tile needs at least to be recognised
_ROWS = 2
_UPPER_HALF = "\N{UPPER HALF BLOCK}"


def corner_of(sheet: Image.Image, tile: ImageShape, columns: int) -> Image.Image:
    """Return the first tiles of a sheet: two rows, and so many that each is recognised.

    Args:
        sheet: A sheet of tiles.
        tile: The shape of a tile.
        columns: Characters per line.
    """
    count = max(1, columns // _TILE)
    width = min(sheet.width, count * (tile.width + _GAP) - _GAP)
    height = min(sheet.height, _ROWS * (tile.height + _GAP) - _GAP)
    return sheet.crop((0, 0, width, height))


def half_blocks(picture: Image.Image, columns: int) -> Text:
    """Return a picture as lines of half blocks.

    Args:
        picture: Any picture; transparent pixels are shown on white.
        columns: Largest number of characters per line.
    """
    flat = lay_on(picture, "white") if picture.mode == "RGBA" else picture.convert("RGB")
    width = min(columns, flat.width)
    height = max(2, round(flat.height * width / flat.width / 2) * 2)
    small = flat.resize((width, height), Image.Resampling.BOX)
    text = Text(no_wrap=True, end="")
    for y in range(0, height, 2):
        for x in range(width):
            upper, lower = (_colour(small, x, y + k) for k in range(2))
            text.append(_UPPER_HALF, Style(color=upper, bgcolor=lower))
        text.append("\n")
    return text


def _colour(picture: Image.Image, x: int, y: int) -> Color:
    found = picture.getpixel((x, y))
    assert isinstance(found, tuple)
    red, green, blue = (int(value) for value in found[:3])
    return Color.from_rgb(red, green, blue)
