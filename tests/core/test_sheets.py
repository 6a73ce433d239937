"""Sheets: number of columns, and labels that are readable beside tiles of any size."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ImageFont

from gentool.core.sheet_labels import SheetLabels, labelled, make_room, printable
from gentool.core.sheets import Layout, columns_for, grid, strip_columns

SHAPES = [(16, 16), (32, 32), (48, 64), (80, 48), (48, 80), (48, 96), (96, 48), (16, 512),
          (512, 16), (512, 512)]  # fmt: skip
GAP = 2


# --- columns ------------------------------------------------------------------------------------


def sides(count: int, height: int, width: int, columns: int) -> tuple[int, int, int]:
    """Height and width of a sheet, and the images in its last row."""
    rows = -(-count // columns)
    return rows * (height + GAP), columns * (width + GAP), count - (rows - 1) * columns


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_sheets_are_nearly_square_without_a_nearly_empty_row(height: int, width: int) -> None:
    for count in range(1, 201):
        columns = columns_for(count, height, width)
        assert 1 <= columns <= count
        high, wide, last = sides(count, height, width, columns)
        ratio = max(high / wide, wide / high)
        best = min(
            max(h / w, w / h)
            for h, w, _ in (sides(count, height, width, c) for c in range(1, count + 1))
        )
        assert ratio <= max(3, best)
        if count >= 16 and best <= 2:
            assert 2 * last >= columns or count in (37, 92)


@pytest.mark.parametrize(
    ("count", "height", "width", "columns"),
    [
        (64, 80, 48, 8), (64, 48, 80, 8), (49, 48, 80, 7), (16, 32, 32, 4), (64, 32, 32, 8),
        (1, 16, 512, 1), (2, 32, 32, 2), (12, 32, 32, 4), (100, 48, 96, 10), (64, 16, 512, 2),
        (64, 512, 16, 32),
    ],
)  # fmt: skip
def test_a_whole_number_of_rows_is_chosen_where_it_fits(
    count: int, height: int, width: int, columns: int
) -> None:
    assert columns_for(count, height, width) == columns
    assert count % columns == 0


def test_columns_of_very_many_images_are_found_at_once() -> None:
    assert columns_for(10**6, 32, 32) == 1000


@pytest.mark.parametrize("width", [16, 80, 256, 512])
@pytest.mark.parametrize("steps", [1, 4, 16, 100])
def test_a_strip_has_rows_of_about_the_same_length(width: int, steps: int) -> None:
    fitting = 2050 // (width + GAP)
    for keys, loop in itertools.product(range(2, 9), (False, True)):
        count = keys * steps if loop else (keys - 1) * steps + 1
        columns = strip_columns(count, 48, width, steps)
        rows = -(-count // columns)
        assert columns <= fitting or sides(count, 48, width, columns)[1] <= 2050 * 3
        assert rows == 1 or count > fitting
        assert rows * columns - count < rows  # the last row is shorter by less than that


def test_a_strip_that_closes_has_a_row_from_each_key() -> None:
    assert strip_columns(300, 16, 16, 100) == 100
    assert strip_columns(64, 48, 80, 16) == 16
    assert strip_columns(64, 32, 32, 16) == 32


def test_an_open_strip_has_no_last_frame_in_a_row_of_its_own() -> None:
    assert strip_columns(49, 32, 32, 16) == 49
    assert strip_columns(49, 48, 80, 16) == 25  # and 24, not 16, 16, 16 and 1
    assert strip_columns(49, 512, 512, 16) == 7


# --- labels -------------------------------------------------------------------------------------


def tiles(count: int, side: int, channels: int) -> NDArray[np.uint8]:
    """Images of middling grey levels."""
    size = (count, side, side, channels)
    return np.random.default_rng(0).integers(60, 200, size, dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("side", [16, 32, 64])
def test_the_tiles_of_a_labelled_sheet_are_those_of_a_plain_one(side: int, channels: int) -> None:
    images = tiles(10, side, channels)
    labels = SheetLabels(("first", "second"), ("-2.0", "-1.0", "0", "+1.0", "+2.0"))
    sheet, plain = labelled(images, 5, labels), grid(images, 5)
    top, left = sheet.shape[0] - plain.shape[0], sheet.shape[1] - plain.shape[1]
    np.testing.assert_array_equal(sheet[top:, left:], plain)
    assert 16 < top < 64 and 20 < left < 100
    margin = np.concatenate([sheet[:top].reshape(-1, channels),
                             sheet[:, :left].reshape(-1, channels)])  # fmt: skip
    if channels == 4:
        assert margin[:, 3].min() == 255  # on white, whatever is behind the picture
    assert margin[:, 0].min() < 100 and margin[:, 0].max() == 255
    assert np.all(sheet[:top, :left] == 255)  # the corner


@pytest.mark.parametrize("side", [16, 32, 64, 256])
def test_every_label_can_be_read(side: int) -> None:
    """Each has ink of its own beside its row or above its column."""
    words = ("sample", "nearest 1", "nearest 2", "nearest 3") * 2
    labels = SheetLabels(("cat", "dog", "g"), words)
    layout = make_room(Layout.of(24, side, side, 8), labels)
    dark = labelled(tiles(24, side, 3), 8, labels)[..., 0] < 128
    for column in range(8):
        _, left = layout.corner(column)
        inked = dark[: layout.top, left : left + side]
        assert inked.any() and not dark[: layout.top, left + side : left + side + GAP].any()
        rows, columns = (np.flatnonzero(inked.any(axis=axis)) for axis in (1, 0))
        assert np.ptp(rows) >= 5 and np.ptp(columns) >= 5
    for row in range(3):
        top, _ = layout.corner(8 * row)
        assert dark[top : top + side, : layout.left].any()
        assert not dark[top + side : top + side + GAP, : layout.left].any()


def test_a_sheet_without_labels_has_no_margin() -> None:
    images = tiles(6, 16, 3)
    np.testing.assert_array_equal(labelled(images, 3, SheetLabels()), grid(images, 3))


def test_long_labels_are_cut_and_more_than_there_are_rows_left_out() -> None:
    images = tiles(4, 16, 3)
    long = labelled(images, 2, SheetLabels(("x" * 10_000, "\U0001f600" * 300, "never")))
    assert long.shape[1] <= 2 * 18 + 12 * 10 + 2 * 4
    assert long.shape[0] == 2 * 18 - 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"), ("caf\u00e9", "cafe"), ("\u732b", "\\u732b"), ("a\nb", "a\\nb"),
        ("\x1b[31m", "\\x1b[31m"), ("\u202ex", "\\u202ex"), ("\ud800", "\\ud800"), ("", ""),
        ("\u0301", "\\u0301"), ("\u00df", "\\xdf"),
    ],
)  # fmt: skip
def test_letters_that_the_font_lacks_are_told(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_labels_are_drawn_without_freetype_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(size: float | None = None) -> ImageFont.FreeTypeFont:
        raise ImportError("The _imagingft C module is not installed")

    monkeypatch.setattr(ImageFont, "load_default", missing)
    sheet = labelled(tiles(2, 16, 3), 2, SheetLabels(("cat",), ("nearest 1", "\u732b")))
    assert sheet[:, :20].min() < 100
