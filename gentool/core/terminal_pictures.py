"""Pictures in terminals that can show real pixels, by the library textual-image.

The library (LGPL-3.0, ``pip install 'gentool[preview]'``) is optional. It speaks the protocols
Sixel and TGP (kitty). Where it is missing, or where the terminal speaks neither, ``half_blocks``
shows a picture.
"""

from collections.abc import Callable

from PIL import Image
from rich.console import RenderableType

Renderer = Callable[[Image.Image], RenderableType]


def find_renderer() -> Renderer | None:
    """Return what shows a picture with real pixels; None if this terminal cannot.

    It asks the terminal, and waits up to a fifth of a second for its answer. So it has to be called
    before anything else is shown there.
    """
    try:
        from textual_image import renderable  # asks the terminal
    except Exception:  # it is not installed, or the terminal gives a strange answer
        return None
    if renderable.Image not in (renderable.SixelImage, renderable.TGPImage):
        return None
    shown: Renderer = renderable.Image
    return shown
