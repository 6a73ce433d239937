"""Built-in image sets that are drawn. They need no file and no network; their factors are known.

``shapes`` has one coloured shape on a plain background; kind, colours, position, size and angle
are drawn independently. ``digits`` has the digits 0 to 9 from pen strokes with varied slant,
weight and form, similar to handwriting. Image i depends only on the set, its version and i.
"""

import colorsys
import math
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from gentool.core.images import Pixels
from gentool.core.rng import uniform
from gentool.data.sources.font import GLYPHS, Stroke

Factors = dict[str, float | str]
Plane = NDArray[np.float64]
_SEED = 0  # the sets are fixed: the seed of a run changes the order of images, not the images
_SUPERSAMPLE = 4  # digits are drawn this many times larger and then averaged
_CURVE_POINTS = 8  # line segments per piece of a stroke's curve


class ProceduralSet(ABC):
    """A set of images that can be drawn by number.

    Attributes:
        name: Name after ``builtin:``.
        version: Raised when the drawing changes; part of the cache key.
        channels: 1 for grey, 3 for RGB.
        default_side: Side in pixels unless ``--size`` is given.
        default_count: Number of images unless ``builtin:NAME:COUNT`` is given.
        multiple_of: COUNT must be a multiple of this, so that all modes are equally frequent.
        classes: Class names, which ``label`` indexes; empty if there are no classes.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    channels: ClassVar[int]
    default_side: ClassVar[int]
    default_count: ClassVar[int]
    multiple_of: ClassVar[int] = 1
    classes: ClassVar[tuple[str, ...]]

    def label(self, index: int) -> int:
        """Return the class of image ``index``; classes alternate, so all are equally frequent."""
        return index % len(self.classes)

    @abstractmethod
    def factors(self, index: int) -> Factors:
        """Return the factors of image ``index``, by name."""

    def read(self, images: Pixels) -> NDArray[np.int64] | None:
        """Return the mode that each image shows, int64 (N,), or None if there is no rule for it.

        Args:
            images: uint8 (N, H, W, C).
        """
        return None

    @abstractmethod
    def render(self, index: int, height: int, width: int) -> Pixels:
        """Return image ``index``, uint8 (height, width, channels)."""

    def _numbers(self, index: int, count: int) -> list[float]:
        """Return ``count`` uniform numbers in [0, 1) that depend only on the set and ``index``."""
        purpose = f"builtin/{self.name}/v{self.version}"
        row: list[float] = uniform(_SEED, purpose, np.array([index]), count)[0].tolist()
        return row


class Shapes(ProceduralSet):
    """One coloured shape on a darker plain background, always completely inside the image."""

    name = "shapes"
    version = 2
    channels = 3
    default_side = 32
    default_count = 20_000
    classes = ("circle", "square", "triangle", "star", "cross", "ring")

    def factors(self, index: int) -> Factors:
        """Return kind, hue, brightness, background, position, size and angle of image ``index``.

        Position is a fraction of the free space, 0 to 1. Size is the radius of the circle around
        the shape, as a fraction of the shorter side, 0.2 to 0.42. The angle is in radians.
        """
        hue, bright, back_hue, back_light, x, y, size, angle = self._numbers(index, 8)
        return {
            "kind": self.classes[self.label(index)],
            "hue": hue,
            "brightness": 0.75 + 0.25 * bright,
            "background_hue": back_hue,
            "background_lightness": 0.05 + 0.3 * back_light,
            "x": x,
            "y": y,
            "size": 0.2 + 0.22 * size,
            "angle": 2 * math.pi * angle,
        }

    def render(self, index: int, height: int, width: int) -> Pixels:
        """Return image ``index``: its two colours, blended by how much of each pixel is covered."""
        f = {k: v for k, v in self.factors(index).items() if isinstance(v, float)}
        radius = f["size"] * min(height, width)
        centre_x = radius + 1 + f["x"] * (width - 2 * radius - 2)
        centre_y = radius + 1 + f["y"] * (height - 2 * radius - 2)
        x = (np.arange(width) + 0.5 - centre_x)[None, :] / radius
        y = (np.arange(height) + 0.5 - centre_y)[:, None] / radius
        cos, sin = math.cos(f["angle"]), math.sin(f["angle"])
        outside = _distance(self.classes[self.label(index)], cos * x + sin * y, cos * y - sin * x)
        cover = np.clip(0.5 - outside * radius, 0, 1)[..., None]  # one pixel of antialiasing
        front = np.array(colorsys.hsv_to_rgb(f["hue"], 0.85, f["brightness"]))
        back = np.array(colorsys.hls_to_rgb(f["background_hue"], f["background_lightness"], 0.4))
        pixels: Pixels = np.round(255 * (cover * front + (1 - cover) * back)).astype(np.uint8)
        return pixels


def _distance(kind: str, x: Plane, y: Plane) -> Plane:
    """Return the signed distance (negative inside) to a shape in the unit circle, on a grid."""
    r = np.hypot(x, y)
    if kind == "circle":
        return r - 0.8
    if kind == "ring":
        return np.abs(r - 0.75) - 0.22
    if kind == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.66
    if kind == "cross":
        a, b = np.abs(x), np.abs(y)
        return np.minimum(np.maximum(a - 0.9, b - 0.28), np.maximum(a - 0.28, b - 0.9))
    points = 3 if kind == "triangle" else 5
    # By symmetry one wedge of the regular figure suffices, in which its edge is one line.
    wedge = np.abs(
        (np.arctan2(x, y) + math.pi / points) % (2 * math.pi / points) - math.pi / points
    )
    along, across = r * np.cos(wedge), r * np.sin(wedge)
    tip = (0.97, 0.0)
    inner = 0.97 * math.cos(math.pi / 3) if kind == "triangle" else 0.42
    dent = (inner * math.cos(math.pi / points), inner * math.sin(math.pi / points))
    edge = (dent[0] - tip[0], dent[1] - tip[1])
    normal = (edge[1], -edge[0])
    side = ((along - tip[0]) * normal[0] + (across - tip[1]) * normal[1]) / math.hypot(*normal)
    # The edge line extends beyond the sharp tip. The circle cuts it off, as its antialiasing
    # would otherwise reach the border of the image.
    return np.maximum(side, r - tip[0])


class Digits(ProceduralSet):
    """White pen strokes on black, one digit per image."""

    name = "digits"
    version = 1
    channels = 1
    default_side = 28
    default_count = 30_000
    classes = tuple("0123456789")

    def factors(self, index: int) -> Factors:
        """Return digit, style, slant, angle, scales, pen width and shift of image ``index``.

        The angle is in radians. Scales, pen width and shift are fractions of the shorter side.
        """
        style, slant, angle, wide, tall, pen, x, y = self._numbers(index, 8)
        return {
            "digit": self.classes[self.label(index)],
            "style": float(int(style * len(GLYPHS[self.label(index)]))),
            "slant": 0.5 * (slant - 0.4),
            "angle": 0.3 * (angle - 0.5),
            "wide": 0.5 + 0.25 * wide,
            "tall": 0.54 + 0.15 * tall,
            "pen": 0.06 + 0.07 * pen,
            "x": 0.1 * (x - 0.5),
            "y": 0.08 * (y - 0.5),
        }

    def render(self, index: int, height: int, width: int) -> Pixels:
        """Return image ``index``: the digit's strokes, with each point moved a little at random."""
        f = {k: v for k, v in self.factors(index).items() if isinstance(v, float)}
        strokes = GLYPHS[self.label(index)][int(f["style"])]
        count = 2 * sum(len(s.points) for s in strokes)
        jitter = 0.09 * (np.array(self._numbers(index, 8 + count)[8:]).reshape(-1, 2) - 0.5)
        side = _SUPERSAMPLE * min(height, width)
        sheet = Image.new("L", (_SUPERSAMPLE * width, _SUPERSAMPLE * height))
        pen = ImageDraw.Draw(sheet)
        middle = np.array([sheet.width / 2, sheet.height / 2])
        start = 0
        moved: dict[tuple[float, float], NDArray[np.float64]] = {}
        for stroke in strokes:
            own = jitter[start : start + len(stroke.points)]
            start += len(stroke.points)
            # An end point that several strokes share is moved once, so that they stay joined.
            points = [
                moved.setdefault(p, np.array(p) + d)
                for p, d in zip(stroke.points, own, strict=True)
            ]
            path = _place(_curve(np.array(points), stroke), f) * side + middle
            _draw(pen, path, f["pen"] * side)
        small = sheet.reduce(_SUPERSAMPLE)
        return np.asarray(small, dtype=np.uint8)[..., None]


def _curve(points: NDArray[np.float64], stroke: Stroke) -> NDArray[np.float64]:
    """Return a Catmull-Rom curve (Catmull and Rom 1974) through ``points`` (K, 2)."""
    if len(points) == 2:
        return points
    if stroke.closed:
        p = np.concatenate([points[-1:], points, points[:2]])
    else:
        first, last = 2 * points[0] - points[1], 2 * points[-1] - points[-2]
        p = np.concatenate([first[None], points, last[None]])
    t = np.linspace(0, 1, _CURVE_POINTS, endpoint=False)[None, :, None]
    a, b, c, d = (p[k : len(p) - 3 + k, None, :] for k in range(4))
    pieces = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.concatenate([pieces.reshape(-1, 2), p[-2:-1]])


def _place(path: NDArray[np.float64], f: dict[str, float]) -> NDArray[np.float64]:
    """Scale, slant, rotate and shift a path (K, 2) in the unit square, about its middle."""
    x, y = (path[:, 0] - 0.5) * f["wide"], (path[:, 1] - 0.5) * f["tall"]
    x = x - f["slant"] * y
    cos, sin = math.cos(f["angle"]), math.sin(f["angle"])
    return np.stack([cos * x - sin * y + f["x"], sin * x + cos * y + f["y"]], axis=1)


def _draw(pen: ImageDraw.ImageDraw, path: NDArray[np.float64], thickness: float) -> None:
    """Draw a line of ``thickness`` pixels with round joints and ends."""
    pen.line([tuple(p) for p in path.tolist()], fill=255, width=round(thickness))
    half = thickness / 2
    for x, y in path.tolist():
        pen.ellipse((x - half, y - half, x + half, y + half), fill=255)
