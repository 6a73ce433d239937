"""The pictures of the film: previews of a run, chosen evenly in log time, and made small."""

import base64
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from gentool.core.atomic_files import PREVIEWS_NAME, open_regular

MOST_FRAMES = 24
_NAME = re.compile(r"(\d{9,15})(-reconstructions)?\.png")
_LONGEST_SIDE = 1056  # pixels: 8 tiles of 128 with their gaps
# Scale and quality of a picture: the first that is small enough is taken, else the last.
_TRIES = ((1.0, 82), (1.0, 55), (0.7, 55), (0.5, 50), (0.35, 40))
_MOST_PIXELS = 2**26  # of a file; larger ones are not read


@dataclass(frozen=True)
class Preview:
    """A preview file: the sheet of samples or of reconstructions after ``images`` images."""

    images: int
    path: Path


@dataclass(frozen=True)
class Frame:
    """A picture that is ready for the page.

    Attributes:
        uri: The picture as a ``data:`` address.
        width: In pixels.
        height: In pixels.
    """

    uri: str
    width: int
    height: int


def find_previews(folder: Path) -> tuple[list[Preview], list[Preview]]:
    """Return the sheets of samples and those of reconstructions in a run folder, oldest first."""
    samples: list[Preview] = []
    reconstructions: list[Preview] = []
    try:
        names = sorted(path.name for path in (folder / PREVIEWS_NAME).iterdir())
    except OSError:
        names = []
    for name in names:
        if match := _NAME.fullmatch(name):
            found = Preview(int(match[1]), folder / PREVIEWS_NAME / name)
            (reconstructions if match[2] else samples).append(found)
    return samples, reconstructions


def choose(previews: Sequence[Preview], most: int = MOST_FRAMES) -> list[Preview]:
    """Return at most ``most`` previews, evenly in the logarithm of the images, with the newest.

    Args:
        previews: Sorted by their number of images.
        most: At least 2.
    """
    if len(previews) <= most:
        return list(previews)
    logs = [math.log1p(preview.images) for preview in previews]
    chosen: list[int] = []
    for k in range(most):
        wanted = logs[0] + (logs[-1] - logs[0]) * k / (most - 1)
        least = chosen[-1] + 1 if chosen else 0
        free = range(least, len(previews) - (most - 1 - k))
        chosen.append(min(free, key=lambda number: abs(logs[number] - wanted)))
    chosen[-1] = len(previews) - 1
    return [previews[number] for number in chosen]


def encode_small(image: Image.Image, most_bytes: int) -> Frame:
    """Return a picture as WebP of at most ``most_bytes``, by its quality and then by its size.

    The frame has the size of the picture in which it is shown, at most 1,056 pixels.
    """
    if image.mode not in ("RGB", "RGBA"):
        image = image.convert("RGB")
    image = _scaled(image, min(1.0, _LONGEST_SIDE / max(image.size)))
    data = b""
    for scale, quality in _TRIES:
        buffer = io.BytesIO()
        _scaled(image, scale).save(buffer, "WEBP", quality=quality, method=2)
        data = buffer.getvalue()
        if len(data) <= most_bytes:
            break
    uri = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
    return Frame(uri, *image.size)


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    """Return a picture at another size."""
    if scale == 1.0:
        return image
    size = (max(1, round(side * scale)) for side in image.size)
    return image.resize((next(size), next(size)), Image.Resampling.LANCZOS)


class Frames:
    """Makes frames of preview files, and keeps those that the next report needs again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int, int, int], Frame | None] = {}

    def of(self, previews: Sequence[Preview], most_bytes: int) -> list[tuple[Preview, Frame]]:
        """Return the frame of each preview; those that cannot be read are left out.

        Args:
            previews: The files.
            most_bytes: Of each picture.
        """
        fresh = {}
        for preview in previews:
            key = _key(preview.path, most_bytes)
            fresh[key] = self._kept[key] if key in self._kept else _read(preview.path, most_bytes)
        self._kept = fresh
        pairs = zip(previews, fresh.values(), strict=True)
        return [(preview, frame) for preview, frame in pairs if frame is not None]


def _key(path: Path, most_bytes: int) -> tuple[str, int, int, int]:
    try:
        info = path.stat()
    except OSError:
        return str(path), 0, 0, most_bytes
    return str(path), info.st_mtime_ns, info.st_size, most_bytes


def _read(path: Path, most_bytes: int) -> Frame | None:
    """Return the frame of a preview file; None if it cannot be read."""
    try:
        with open_regular(path) as file, Image.open(file, formats=["PNG"]) as image:
            if image.width * image.height > _MOST_PIXELS:
                return None
            return encode_small(image, most_bytes)
    except Exception:  # decoders raise many types of errors on damaged files
        return None
