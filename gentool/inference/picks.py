"""Chosen images: each is a sample of a seed, or the image of given latents.

A list of them can be drawn as a folder or as one sheet, and written to a file (``recipe_files``).
A sample has the same pixels and the same recipe as from ``gentool sample``.
"""

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from gentool.checkpoint import LoadedModel
from gentool.core.images import Pixels
from gentool.core.options import Scalar
from gentool.inference.latents import Latents, decode, draw, join
from gentool.inference.sampling import Draws
from gentool.outputs.plan import NamedImage, Plan, Planned, recipe

_AT_ONCE = 256  # images that are decoded and held in memory at once


@dataclass(frozen=True)
class SampleOf:
    """A sample.

    Attributes:
        seed: Its seed.
        index: Its index.
        class_name: Its class, for a conditional model; None draws one.
        drawing: Options for ``Model.draw_with``.
    """

    seed: int
    index: int
    class_name: str | None = None
    drawing: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """The image of given latents.

    Attributes:
        latents: One point of the model.
        made_from: Where the point comes from, in words.
    """

    latents: Latents
    made_from: str = ""


Pick = SampleOf | Point


def plan_picks(loaded: LoadedModel, picks: Sequence[Pick]) -> Plan:
    """Plan the images of picks: the name and the recipe of each, in their order.

    Raises:
        UsageError: the model has no such class, or no such option for drawing.
    """
    planned = [
        Planned(f"{number:03d}-{one.name}", one.recipe)
        for number, one in enumerate(_planned(loaded, pick) for pick in picks)
    ]
    return Plan(lambda: planned, len(planned), loaded.model.shape)


def _planned(loaded: LoadedModel, pick: Pick) -> Planned:
    if isinstance(pick, SampleOf):
        names = None if pick.class_name is None else [pick.class_name]
        indices = range(pick.index, pick.index + 1)
        draws = Draws.of_classes(drawing(loaded, pick.drawing), [pick.seed], indices, names)
        (only,) = draws.plan.results()
        return only
    digest = hash_of_point(pick.latents)
    return Planned(f"latents-{digest[:8]}", recipe(loaded, made_by="sample", point_sha256=digest))


def hash_of_point(latents: Latents) -> str:
    """Return the SHA-256 of the numbers of a point, in hexadecimal."""
    return hashlib.sha256(bytes_of_point(latents)).hexdigest()


def bytes_of_point(latents: Latents) -> bytes:
    """Return the numbers of points as bytes, little-endian."""
    values = latents.values.detach().cpu().numpy()
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def drawing(loaded: LoadedModel, options: Mapping[str, Scalar]) -> LoadedModel:
    """Return the model with options for drawing; the model that is given keeps its own.

    Raises:
        UsageError: the model does not have these options.
    """
    own = replace(loaded, model=copy.copy(loaded.model))
    own.model.drawing = own.model.Drawing()
    own.model.draw_with(**options)
    return own


def points_of(loaded: LoadedModel, picks: Sequence[Pick]) -> list[Latents]:
    """Return the point of every pick.

    Raises:
        UsageError: the model has no such class, or no such option for drawing.
    """
    found: dict[int, Latents] = {}
    groups: dict[object, list[int]] = {}
    for number, pick in enumerate(picks):
        if isinstance(pick, SampleOf):
            key = pick.class_name, tuple(sorted(pick.drawing.items()))
            groups.setdefault(key, []).append(number)
        else:
            found[number] = pick.latents
    for numbers in groups.values():
        several = [pick for n in numbers if isinstance(pick := picks[n], SampleOf)]
        name = several[0].class_name
        label = None if name is None else loaded.class_number(name)
        model = drawing(loaded, several[0].drawing).model
        drawn = draw(model, [(pick.seed, pick.index) for pick in several], label)
        found |= {n: drawn.rows(range(k, k + 1)) for k, n in enumerate(numbers)}
    return [found[number] for number in range(len(picks))]


@torch.inference_mode()
def decode_points(loaded: LoadedModel, points: Sequence[Latents]) -> Pixels:
    """Decode points, some of which may be styles, to uint8 (N, H, W, C)."""
    shape = loaded.model.shape
    images = np.empty((len(points), shape.height, shape.width, shape.channels), np.uint8)
    for space in sorted({point.space for point in points}):
        numbers = [n for n, point in enumerate(points) if point.space == space]
        images[numbers] = decode(loaded.model, join([points[n] for n in numbers]))
    return images


def draw_picks(loaded: LoadedModel, picks: Sequence[Pick]) -> Iterator[NamedImage]:
    """Draw the images of picks, in the order of ``plan_picks``.

    Raises:
        UsageError: the model has no such class, or no such option for drawing.
    """
    planned = iter(plan_picks(loaded, picks).results())
    for start in range(0, len(picks), _AT_ONCE):
        images = decode_points(loaded, points_of(loaded, picks[start : start + _AT_ONCE]))
        for pixels, result in zip(images, planned, strict=False):
            yield NamedImage(result.name, pixels, result.recipe)
