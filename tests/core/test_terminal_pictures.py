"""Previews with real pixels where the terminal can, and half blocks elsewhere."""

import fcntl
import os
import pty
import struct
import sys
import termios
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from gentool.core.terminal_pictures import find_renderer

SHOW = """
from pathlib import Path
from gentool.core.images import ImageShape
from gentool.core.progress_bar import ProgressBar
with ProgressBar(pictures=True) as bar:
    bar.show_picture(Path("sheet.png"), ImageShape(16, 16, 3))
"""


def test_without_the_library_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textual_image", None)
    assert find_renderer() is None


@pytest.mark.parametrize(("best", "found"), [("SixelImage", True), ("HalfcellImage", False)])
def test_only_real_pixels_are_taken(
    best: str, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("SixelImage", "TGPImage", "HalfcellImage")
    kinds = {name: type(name, (), {}) for name in names}
    renderable = SimpleNamespace(Image=kinds[best], **kinds)
    monkeypatch.setitem(sys.modules, "textual_image", SimpleNamespace(renderable=renderable))
    monkeypatch.setitem(sys.modules, "textual_image.renderable", renderable)
    assert (find_renderer() is kinds[best]) == found


def shown_on_a_terminal(folder: Path, answer: bytes, *, tells_size: bool = True) -> bytes:
    """What a program shows on a terminal that answers the question what it is.

    Args:
        folder: Where the program runs.
        answer: The answer.
        tells_size: Whether the terminal says how large it is.
    """
    Image.new("RGB", (34, 34), (200, 30, 30)).save(folder / "sheet.png")
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "80"}
        os.execv(sys.executable, [sys.executable, "-c", SHOW])
    size = struct.pack("HHHH", *((24, 80, 800, 480) if tells_size else (0, 0, 0, 0)))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
    shown = bytearray()

    def answers() -> None:
        """Answer what terminals are asked, such as their attributes."""
        asked = 0
        while True:
            try:
                shown.extend(os.read(terminal, 4096))
            except OSError:
                return
            while (place := shown.find(b"\x1b[c", asked)) >= 0:
                asked = place + 1
                os.write(terminal, answer)

    listener = threading.Thread(target=answers)
    listener.start()
    end = time.monotonic() + 60
    while os.waitpid(child, os.WNOHANG)[0] == 0 and time.monotonic() < end:
        time.sleep(0.05)
    listener.join(5)
    os.close(terminal)
    return bytes(shown)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_terminal_with_sixel_gets_sixel(tmp_path: Path) -> None:
    if find_spec("textual_image") is None:
        pytest.skip("textual-image is not installed: pip install 'gentool[preview]'")
    shown = shown_on_a_terminal(tmp_path, b"\x1b[?62;4c")
    assert b"\x1bP" in shown and b"\xe2\x96\x80" not in shown


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_terminal_that_does_not_say_its_size_gets_half_blocks(tmp_path: Path) -> None:
    shown = shown_on_a_terminal(tmp_path, b"\x1b[?62;4c", tells_size=False)
    assert b"Traceback" not in shown and b"\xe2\x96\x80" in shown


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_terminal_without_it_gets_half_blocks(tmp_path: Path) -> None:
    shown = shown_on_a_terminal(tmp_path, b"\x1b[?62c")
    assert b"\x1bP" not in shown and b"\xe2\x96\x80" in shown
