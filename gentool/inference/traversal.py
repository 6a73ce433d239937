"""Traversals: show how each direction of a model's latent space changes one picture.

``principal`` directions exist for every model with continuous latents. They are the principal
components of its styles, or those of its pictures, transferred to its latents by regression
(``models.directions``). A model may offer others (``Model.directions``). A step is measured in
standard deviations of the prior along the direction, so that a row shows pictures that the model
can make.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import adaptive_avg_pool2d

from gentool.checkpoint import LoadedModel
from gentool.core.errors import UsageError
from gentool.core.images import Pixels
from gentool.core.registry import name_error
from gentool.core.sheet_labels import SheetLabels
from gentool.inference.blocks import decode_blocks, prior_blocks, style_blocks
from gentool.inference.latents import Latents, decode, natural_space
from gentool.models.base import Model
from gentool.models.directions import principal, transfer
from gentool.outputs.plan import Plan, Planned, recipe

_STYLES = 4096  # draws from which directions are computed if no pictures are needed
_PIXELS = 2**21  # in all pictures that are decoded to find directions: 2,048 pictures at 32x32
_FEWEST, _MOST = 512, 2048  # bounds on the number of these pictures
_SIDE = 32  # pictures are averaged to this side at most: fine detail does not matter here


@dataclass(frozen=True)
class Directions:
    """Directions in a latent space, the strongest first.

    Attributes:
        vectors: Unit vectors (K, L), float32.
        deviations: Standard deviations of draws from the prior along them, (K,), float32.
        space: ``z`` for latents (without the class weights), ``w`` for styles.
        method: ``principal``, or the name of a method of the model.
    """

    vectors: torch.Tensor
    deviations: torch.Tensor
    space: str
    method: str

    def __len__(self) -> int:
        return len(self.vectors)


def find_directions(model: Model, method: str, count: int) -> Directions:
    """Find the strongest directions of a model, at most ``count``; every call finds the same ones.

    Raises:
        UnknownName: the model has no such method.
        UsageError: its latents are not vectors of real numbers, or all its pictures are the same.
    """
    own = model.directions()
    if method != "principal" and method not in own:
        names = ["principal", *own]
        raise name_error("kind of directions", method, names, f"this model has {', '.join(names)}")
    space = natural_space(model)
    draws = _STYLES if space == "w" else pictures_needed(model)
    latents = prior_blocks(model, [(0, k) for k in range(draws)])
    if not _are_vectors(latents):
        raise UsageError(
            "the latents of this model are not vectors of real numbers, so it has no directions"
        )
    points, shares = latents.tensor_split([latents.shape[1] - model.latent_classes], dim=1)
    if space == "w":  # every layer has the same w
        points = _within_classes(style_blocks(model, latents)[:, 0], shares)
    if method != "principal":
        vectors = own[method](count)
    elif space == "w":
        vectors = principal(points, count)
    else:
        pictures = _within_classes(_pictures(model, latents), shares)
        found = principal(pictures, min(count, points.shape[1]))
        vectors = transfer(points, pictures.cpu().double() @ found.T)
    if not len(vectors):
        raise UsageError("all pictures of this model are the same, so no direction changes them")
    deviations = (points.cpu().double() @ vectors.T).std(dim=0)
    device = model.device
    return Directions(vectors.float().to(device), deviations.float().to(device), space, method)


def has_directions(model: Model) -> bool:
    """Return whether the latents of a model are vectors of real numbers."""
    return _are_vectors(prior_blocks(model, [(0, 0)]))


def _are_vectors(latents: torch.Tensor) -> bool:
    return latents.ndim == 2 and latents.is_floating_point()


def pictures_needed(model: Model) -> int:
    """Return how many pictures ``find_directions`` decodes for principal directions."""
    if natural_space(model) == "w":
        return 0
    return min(_MOST, max(_FEWEST, _PIXELS // (model.shape.height * model.shape.width)))


def _pictures(model: Model, latents: torch.Tensor) -> torch.Tensor:
    """Decode latents to pictures, average these to a coarse grid, and return vectors (N, D)."""
    pixels = torch.from_numpy(decode_blocks(model, latents)).to(model.device)
    maps = pixels.permute(0, 3, 1, 2)
    size = (min(_SIDE, model.shape.height), min(_SIDE, model.shape.width))
    parts = torch.split(maps, 256)  # bounds memory: floats are four times the bytes
    return torch.cat([adaptive_avg_pool2d(part.float(), size).flatten(1) for part in parts])


def _within_classes(rows: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Subtract from each row the mean of its class.

    Differences between classes are no directions: the user chooses a class by name.

    Args:
        rows: (N, D).
        shares: One-hot classes (N, C); C may be 0.
    """
    means = shares.T @ rows / shares.sum(dim=0).clamp(min=1)[:, None]
    return rows - shares @ means


def plan_traversal(
    loaded: LoadedModel,
    directions: Directions,
    steps: int,
    amount: float,
    start_name: str,
    **what: object,
) -> Plan:
    """Plan the images of ``traverse``: the name and the recipe of each.

    Args:
        loaded: The model.
        directions: Directions of the model.
        steps: Images per row.
        amount: Distance to either end of a row, in standard deviations.
        start_name: First part of the file names.
        what: Where the start comes from, for the recipe.
    """

    def planned() -> Iterator[Planned]:
        told = recipe(
            loaded, made_by="traverse", **what, directions=directions.method,
            space=directions.space,
        )  # fmt: skip
        for number in range(len(directions)):
            for k, offset in enumerate(offsets_of(steps, amount)):
                row = {**told, "direction": number, "deviations": offset}
                yield Planned(f"{start_name}-direction{number:03d}-{k:03d}", row)

    return Plan(planned, len(directions) * steps, loaded.model.shape)


def offsets_of(steps: int, amount: float) -> list[float]:
    """Return the distance of each image of a row from the start, in standard deviations.

    Args:
        steps: Images per row, at least 2.
        amount: Largest distance: the row goes from -``amount`` to ``amount``.
    """
    return [amount * (2 * k / (steps - 1) - 1) for k in range(steps)]


def label_sheet(directions: Directions, steps: int, amount: float) -> SheetLabels:
    """Return labels for a sheet: the direction at each row, the deviation above each column."""
    offsets = offsets_of(steps, amount)
    apart = offsets[1] - offsets[0]
    digits = max(1, math.ceil(-math.log10(apart))) if apart else 1
    return SheetLabels(
        tuple(f"{directions.method} {number}" for number in range(len(directions))),
        tuple(f"{offset:+.{digits}f}" if round(offset, digits) else "0" for offset in offsets),
    )


def traverse(
    loaded: LoadedModel, start: Latents, directions: Directions, steps: int, amount: float
) -> Iterator[Pixels]:
    """Make rows of images, one per direction: the start, moved both ways along the direction.

    Args:
        loaded: The model.
        start: One point, in the space of ``directions``.
        directions: Directions of the model.
        steps: Images per row, at least 2; if it is odd, the middle image is the start itself.
        amount: Distance to either end of a row, in standard deviations.

    Yields:
        uint8 (H, W, C), row by row.
    """
    moves = torch.tensor(offsets_of(steps, amount), device=start.values.device)
    for number in range(len(directions)):
        step = _step(directions, number, start.values[0])
        points = start.values + moves.view(-1, *[1] * step.ndim) * step
        yield from decode(loaded.model, Latents(points, directions.space))


def moved(start: Latents, directions: Directions, moves: Mapping[int, float]) -> Latents:
    """Return points that are moved along directions.

    Args:
        start: Points in the space of ``directions``.
        directions: Directions of the model.
        moves: Number of a direction -> distance in standard deviations.
    """
    values = start.values
    for number, deviations in sorted(moves.items()):
        values = values + deviations * _step(directions, number, values[0])
    return replace(start, values=values)


def _step(directions: Directions, number: int, like: torch.Tensor) -> torch.Tensor:
    """Return one standard deviation along a direction, in the shape of one point.

    The class weights at the end of latents are not changed.
    """
    step = torch.zeros_like(like)
    vector = directions.vectors[number]
    step[..., : len(vector)] = vector * directions.deviations[number]
    return step
