"""Labels of a sheet: short texts beside the rows and above the columns, in white margins.

The size of the letters stays readable for every size of image. The font is the one that comes
with Pillow and is used for ASCII only: accents are removed, and other letters are escaped.
"""

import unicodedata
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw, ImageFont

from gentool.core.images import Pixels
from gentool.core.sheets import Layout, Sheet

_SMALLEST, _SMALL, _LARGE = 8, 10, 16  # sizes of letters, in pixels
_PADDING = 4  # pixels around a label
_LONGEST = 12  # largest width of a label, in multiples of the size of its letters
_INK = 32  # grey level of the letters

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class SheetLabels:
    """Texts beside the rows and above the columns; no margin is drawn for an empty tuple."""

    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Style:
    """How the labels of one margin are drawn.

    Attributes:
        texts: Labels, cut to the allowed width.
        font: Font of the labels.
        by_length: Whether the depth of the margin depends on the width of the texts. It does
            beside rows, and above columns that are too narrow, where the texts are rotated.
    """

    texts: tuple[str, ...]
    font: Font
    by_length: bool = True

    @property
    def room(self) -> int:
        """Depth of the margin, in pixels."""
        if not self.texts:
            return 0
        widest = max(_width(self.font, text) for text in self.texts)
        return 2 * _PADDING + (widest if self.by_length else _line(self.font)[1])


def make_room(layout: Layout, labels: SheetLabels) -> Layout:
    """Return the layout with margins for labels."""
    rows, columns = _row_style(layout, labels), _column_style(layout, labels)
    return replace(layout, left=rows.room, top=columns.room)


def write_labels(image: Image.Image, layout: Layout, labels: SheetLabels) -> None:
    """Draw labels into the margins of a layout from ``make_room``; RGBA margins are white, too."""
    for box in ((0, 0, image.width, layout.top), (0, 0, layout.left, image.height)):
        image.paste("white", box)
    style = _row_style(layout, labels)
    for number, text in enumerate(style.texts):
        top, _ = layout.corner(number * layout.columns)
        mask = _mask(text, style.font)
        left = layout.left - _PADDING - mask.width
        _draw(image, mask, left, top + (layout.height - mask.height) // 2)
    style = _column_style(layout, labels)
    for number, text in enumerate(style.texts):
        _, left = layout.corner(number)
        mask = _mask(text, style.font)
        if style.by_length:
            mask = mask.transpose(Image.Transpose.ROTATE_90)
        middle = left + (layout.width - mask.width) // 2
        _draw(image, mask, middle, layout.top - _PADDING - mask.height)


def labelled(images: Pixels, columns: int, labels: SheetLabels) -> Pixels:
    """Return uint8 images (N, H, W, C) as one labelled sheet, uint8 (height, width, C)."""
    count, height, width, channels = images.shape
    layout = make_room(Layout.of(count, height, width, columns), labels)
    sheet = Sheet.within_memory(layout, channels)
    sheet.place_all(images)
    write_labels(sheet.image, layout, labels)
    return sheet.pixels


def _row_style(layout: Layout, labels: SheetLabels) -> _Style:
    rows = -(-layout.count // layout.columns)
    size = min(max(layout.height // 5, _SMALL), _LARGE)
    font = _font(size)
    return _Style(tuple(_fit(font, text, _LONGEST * size) for text in labels.rows[:rows]), font)


def _column_style(layout: Layout, labels: SheetLabels) -> _Style:
    """Choose the largest letters that fit above an image; rotate the texts if none fit."""
    texts = [printable(text) for text in labels.columns[: layout.columns]]
    largest = min(max(layout.width // 5, _SMALL), _LARGE)
    for size in range(largest, _SMALLEST - 1, -1):
        font = _font(size)
        if all(_width(font, text) <= layout.width for text in texts):
            return _Style(tuple(texts), font, by_length=False)
    font = _font(_SMALL)
    return _Style(tuple(_fit(font, text, _LONGEST * _SMALL) for text in texts), font)


def printable(text: str) -> str:
    """Return a text in ASCII: accents are removed (``é`` to ``e``), other letters are escaped."""
    letters: list[str] = []
    for letter in text:
        parts = unicodedata.normalize("NFKD", letter)
        plain = "".join(part for part in parts if not unicodedata.combining(part))
        known = plain.isascii() and plain.isprintable() and plain
        letters.append(plain if known else ascii(letter)[1:-1])
    return "".join(letters)


def _fit(font: Font, text: str, width: int) -> str:
    """Return a text in ASCII, cut and ended with ``...`` if it is wider than ``width`` pixels."""
    text = printable(text[:width])[:width]  # a letter is at least one pixel wide
    if _width(font, text) <= width:
        return text
    while text and _width(font, f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _font(size: int) -> Font:
    """Return Pillow's own font; without FreeType, Pillow has it in one size only."""
    try:
        return ImageFont.load_default(size)
    except (ImportError, OSError):
        return ImageFont.load_default_imagefont()


def _width(font: Font, text: str) -> int:
    left, _, right, _ = font.getbbox(text)
    return round(right - left)


def _line(font: Font) -> tuple[int, int]:
    """Return the top and the height of a line in pixels, which are the same for every text."""
    _, top, _, bottom = font.getbbox("Ag|")
    return round(top), round(bottom - top)


def _mask(text: str, font: Font) -> Image.Image:
    """Draw a text as a grey image: 0 is the background, 255 the letters."""
    top, height = _line(font)
    left = round(font.getbbox(text)[0])
    mask = Image.new("L", (max(1, _width(font, text)), height))
    ImageDraw.Draw(mask).text((-left, -top), text, fill=255, font=font)
    return mask


def _draw(image: Image.Image, mask: Image.Image, left: int, top: int) -> None:
    """Paint the colour of the letters through the mask."""
    ink = Image.new("L", mask.size, _INK).convert(image.mode)
    image.paste(ink, (left, top), mask)
