"""Pictures in a terminal as half blocks, and ``train --preview``."""

import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, environment, gentool_command
from PIL import Image

from gentool.core.half_blocks import corner_of, half_blocks
from gentool.core.images import ImageShape


def test_each_character_shows_two_pixels() -> None:
    pixels = np.arange(4 * 3 * 3, dtype=np.uint8).reshape(4, 3, 3) * 5
    text = half_blocks(Image.fromarray(pixels), 80)
    assert text.plain == "\u2580\u2580\u2580\n" * 2
    styles = [span.style for span in text.spans]
    found = [(s.color.triplet, s.bgcolor.triplet) for s in styles]  # type: ignore[union-attr]
    wanted = [
        (tuple(pixels[2 * y, x].tolist()), tuple(pixels[2 * y + 1, x].tolist()))
        for y in range(2)
        for x in range(3)
    ]
    assert found == wanted


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("columns", [1, 20, 80, 300])
def test_a_picture_is_never_wider_than_the_terminal(mode: str, columns: int) -> None:
    lines = half_blocks(Image.new(mode, (142, 142)), columns).plain.splitlines()
    assert {len(line) for line in lines} == {min(columns, 142)}
    assert len(lines) == max(1, min(columns, 142) // 2)


@pytest.mark.parametrize(("columns", "tiles"), [(10, 1), (36, 2), (80, 4), (400, 8)])
def test_few_tiles_are_shown_so_that_each_is_recognised(columns: int, tiles: int) -> None:
    corner = corner_of(Image.new("RGB", (526, 526)), ImageShape(64, 64, 3), columns)
    assert corner.size == (tiles * 66 - 2, 2 * 66 - 2)


def test_train_shows_the_newest_samples(image_folder: Path, tmp_path: Path) -> None:
    reader, writer = pty.openpty()
    words = ["train", "gan", "--data", image_folder, "--images", 32, *TINY, "--preview", "--out",
             tmp_path / "run"]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "gentool", *map(str, words)], stderr=writer,
        stdout=subprocess.DEVNULL,
        env={**environment(), "TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "80"},
    ) as process:  # fmt: skip
        os.close(writer)
        seen = _read(reader)
        assert process.wait(60) == 0
    os.close(reader)
    blocks = re.findall("\u2580+", re.sub(r"\x1b\[[\d;]*m", "", seen))
    assert len(blocks) >= 17 and max(map(len, blocks)) == 70
    assert "38;2;" in seen


def _read(terminal: int) -> str:
    """Read what a process writes to a terminal, to its end."""
    parts = []
    while select.select([terminal], [], [], 120)[0]:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux: the process has closed it
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")


def test_preview_without_a_terminal_says_so(image_folder: Path, tmp_path: Path) -> None:
    words = ("train", "gan", "--data", image_folder, "--images", 32, *TINY, "--preview", "--out",
             tmp_path / "run")  # fmt: skip
    done = gentool_command(*words)
    assert done.code == 0
    assert "--preview shows nothing here" in done.err and "\u2580" not in done.err
    assert gentool_command(*words, "--quiet").code == 2
