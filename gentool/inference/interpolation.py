"""Interpolation: a path through latent space, by way of any number of key frames.

Slerp, spherical interpolation (Shoemake 1985), is for draws from a spherical prior. In high
dimensions nearly all draws of N(0, I) are close to a sphere of radius sqrt(L); the middle of a
straight line is far inside this sphere, where the decoder was not trained (White 2016,
arXiv:1609.04468). Lerp, linear interpolation, is for codes without such a prior, for styles, and
for legs that begin or end at the mean of a posterior, which is inside the sphere. Styles can also
be mixed: the coarse layers of one image with the fine layers of another.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.linalg import vector_norm

from gentool.checkpoint import LoadedModel
from gentool.core.errors import UsageError
from gentool.core.images import MODES, Pixels
from gentool.inference.blocks import synthesise_blocks
from gentool.inference.latents import Latents, decode
from gentool.models.base import Model
from gentool.outputs.plan import Plan, Planned, recipe

METHODS = ("slerp", "lerp")
_PARALLEL = 1e-6  # radians; at smaller angles the arc counts as a straight line
_AT_ONCE = 256  # frames that are decoded and held in memory at once


def lerp(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """Return (1 - t) a + t b."""
    return (1 - t) * a + t * b


def slerp(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """Interpolate along the great circle from ``a`` to ``b``; the norm changes linearly.

    With unit vectors u, v of ``a``, ``b`` and the angle w between them (Shoemake 1985):
    (sin((1 - t) w) u + sin(t w) v) / sin w, times (1 - t) |a| + t |b|.

    Opposite vectors define no great circle; then the plane is chosen from ``a`` alone.

    Args:
        a: Vector (L,).
        b: Vector (L,).
        t: Position on the way, from 0 at ``a`` to 1 at ``b``.
    """
    norm_a, norm_b = vector_norm(a), vector_norm(b)
    if norm_a == 0 or norm_b == 0 or len(a) == 1:  # one dimension has no arc
        return lerp(a, b, t)
    u, v = a / norm_a, b / norm_b
    # At small angles acos of the dot product loses half the digits; atan2 loses none.
    angle = 2 * torch.atan2(vector_norm(u - v), vector_norm(u + v))
    if angle < _PARALLEL:
        return lerp(a, b, t)
    if torch.pi - angle < _PARALLEL:
        v = _perpendicular(u)
        direction: torch.Tensor = torch.cos(t * angle) * u + torch.sin(t * angle) * v
    else:
        direction = (torch.sin((1 - t) * angle) * u + torch.sin(t * angle) * v) / torch.sin(angle)
    length: torch.Tensor = (1 - t) * norm_a + t * norm_b
    return length * direction


def _perpendicular(u: torch.Tensor) -> torch.Tensor:
    """Return a unit vector at a right angle to the unit vector ``u`` (L,), L > 1."""
    axis = torch.zeros_like(u)
    axis[u.abs().argmin()] = 1
    across: torch.Tensor = axis - (axis @ u) * u
    return across.div(vector_norm(across))


def path(
    keys: torch.Tensor, steps: int, method: str | Sequence[str], *, loop: bool
) -> torch.Tensor:
    """Return latents along a path through ``keys``.

    Args:
        keys: Key frames (K, ...), K >= 2.
        steps: Frames per leg, from one key (included) to the next (not included).
        method: ``slerp`` or ``lerp`` for all legs, or a sequence with one of them for each leg.
        loop: Go back to the first key; the first frame is not repeated at the end. Otherwise the
            last key is the last frame.

    Returns:
        Shape ((K - 1) * steps + 1, ...), or (K * steps, ...) for a loop.
    """
    flat = keys.flatten(1)
    ends = [*range(1, len(flat)), 0] if loop else [*range(1, len(flat))]
    methods = [method] * len(ends) if isinstance(method, str) else method
    frames = [
        (slerp if how == "slerp" else lerp)(flat[k], flat[end], step / steps)
        for k, (end, how) in enumerate(zip(ends, methods, strict=True))
        for step in range(steps)
    ]
    if not loop:
        frames.append(flat[-1])
    return torch.stack(frames).view(-1, *keys.shape[1:])


def suited(model: Model, keys: Latents, *, loop: bool) -> str | list[str]:
    """Choose the method of each leg: slerp between two draws from a spherical prior, else lerp.

    Returns:
        One method if all legs have the same, else a list with one for each leg.
    """
    line = keys.space == "w" or model.interpolation == "lerp"
    straight = [line or keys.is_mean(k) for k in range(len(keys))]
    legs = zip(straight, straight[1:] + straight[:1], strict=True)  # the last closes a loop
    methods = ["lerp" if a or b else "slerp" for a, b in legs][: None if loop else -1]
    return methods[0] if len(set(methods)) == 1 else methods


def between(model: Model, keys: Latents, at: float) -> Latents:
    """Return one point of the path through key frames, by the methods of ``suited``.

    Args:
        model: The model.
        keys: Key frames, at least two.
        at: Position, from 0 at the first key to K - 1 at the last.
    """
    leg = min(int(at), len(keys) - 2)
    pair = keys.rows(range(leg, leg + 2))
    how = suited(model, pair, loop=False)
    assert isinstance(how, str)
    a, b = pair.values.flatten(1)
    classes = model.latent_classes if keys.space == "z" else 0  # their sum must stay 1
    end = len(a) - classes
    move = slerp if how == "slerp" else lerp
    found = torch.cat([move(a[:end], b[:end], at - leg), lerp(a[end:], b[end:], at - leg)])
    return Latents(found.view(1, *keys.values.shape[1:]), keys.space)


def plan_path(
    loaded: LoadedModel,
    keys: Latents,
    steps: int,
    method: str | None,
    keys_name: str,
    *,
    loop: bool,
    **what: object,
) -> Plan:
    """Plan the frames of ``interpolate``: the name and the recipe of each.

    Args:
        loaded: The model.
        keys: Key frames.
        steps: Frames from one key to the next.
        method: As for ``interpolate``.
        keys_name: First part of the file names.
        loop: Go back to the first key frame.
        what: Where the key frames come from, for the recipe.
    """

    def planned() -> Iterator[Planned]:
        how = method or suited(loaded.model, keys, loop=loop)
        told = recipe(
            loaded, made_by="interpolate", **what, steps=steps, method=how, space=keys.space,
            loop=loop,
        )  # fmt: skip
        for number in range(count):
            yield Planned(f"{keys_name}-{number:06d}", {**told, "frame": number})

    count = len(keys) * steps if loop else (len(keys) - 1) * steps + 1
    return Plan(planned, count, loaded.model.shape)


def interpolate(
    loaded: LoadedModel,
    keys: Latents,
    steps: int,
    method: str | None = None,
    *,
    loop: bool = False,
) -> Iterator[Pixels]:
    """Decode the frames of a path through key frames; see ``path``.

    Args:
        loaded: The model.
        keys: Key frames, at least two, as latents or as styles.
        steps: Frames from one key to the next.
        method: ``slerp``, ``lerp``, or None for the method of ``suited`` on each leg.
        loop: Go back to the first key.

    Yields:
        uint8 (H, W, C).
    """
    how = method or suited(loaded.model, keys, loop=loop)
    latents = path(keys.values, steps, how, loop=loop)
    classes = loaded.model.latent_classes
    if classes and keys.space == "z":  # class weights must keep the sum 1, so never slerp
        z = path(keys.values[:, :-classes], steps, how, loop=loop)
        shares = path(keys.values[:, -classes:], steps, "lerp", loop=loop)
        latents = torch.cat([z, shares], dim=1)
    for part in torch.split(latents, _AT_ONCE):
        yield from decode(loaded.model, Latents(part, keys.space))


def mix(coarse: torch.Tensor, fine: torch.Tensor, crossover: int) -> torch.Tensor:
    """Mix each of ``coarse`` with each of ``fine`` (Karras et al. 2019, arXiv:1812.04948, Fig. 3).

    Args:
        coarse: Styles (A, layers, S) for the layers before ``crossover``.
        fine: Styles (B, layers, S) for the other layers.
        crossover: The first layer that takes its style from ``fine``.

    Returns:
        Shape (A, B, layers, S).
    """
    rows, columns = len(coarse), len(fine)
    before = coarse[:, None, :crossover].expand(-1, columns, -1, -1)
    after = fine[None, :, crossover:].expand(rows, -1, -1, -1)
    return torch.cat([before, after], dim=2)


def plan_mixing(
    loaded: LoadedModel,
    rows: int,
    columns: int,
    crossover: int,
    keys_name: str,
    *,
    corner: bool,
    **what: object,
) -> Plan:
    """Plan the images of ``mixing_sheet``: the name and the recipe of each.

    Args:
        loaded: A model with styles.
        rows: Number of coarse styles.
        columns: Number of fine styles.
        crossover: First layer that takes its style from the fine styles.
        keys_name: First part of the file names.
        corner: As for ``mixing_sheet``.
        what: Where the styles come from, for the recipe.
    """
    names = ["corner"] if corner else []
    names += [f"fine{b:03d}" for b in range(columns)]
    for a in range(rows):
        names += [f"coarse{a:03d}", *(f"coarse{a:03d}-fine{b:03d}" for b in range(columns))]
    told = recipe(loaded, made_by="interpolate", **what, crossover=crossover)
    results = [Planned(f"{keys_name}-{name}", told) for name in names]
    return Plan(lambda: results, len(results), loaded.model.shape)


def mixing_layer(crossover: int | None, layers: int) -> int:
    """Return the first layer that takes its style from the fine styles.

    Args:
        crossover: The layer that the user chose; None for the middle layer.
        layers: Number of layers of the model.

    Raises:
        UsageError: ``crossover`` is outside 1 to ``layers`` - 1.
    """
    crossover = layers // 2 if crossover is None else crossover
    if not 0 < crossover < layers:
        raise UsageError(
            f"--crossover is {crossover}; this model has {layers} layers; allowed: 1 to "
            f"{layers - 1}"
        )
    return crossover


def mixing_sheet(
    loaded: LoadedModel, coarse: Latents, fine: Latents, crossover: int, *, corner: bool
) -> Iterator[Pixels]:
    """Make a sheet of mixed styles, row by row.

    The first row holds the images of ``fine``; each other row holds an image of ``coarse`` and its
    mixes with every one of ``fine``.

    Args:
        loaded: A model with styles.
        coarse: Styles of the rows, in space ``w``.
        fine: Styles of the columns, in space ``w``.
        crossover: First layer that takes its style from ``fine``; see ``mixing_layer``.
        corner: Begin with an empty image, so that all rows have the same length.

    Yields:
        uint8 (H, W, C).
    """
    mixed = mix(coarse.values, fine.values, crossover)
    styles = torch.cat([fine.values, torch.cat([coarse.values[:, None], mixed], 1).flatten(0, 1)])
    images = synthesise_blocks(loaded.model, styles)
    if corner:
        yield _empty(images[0])
    yield from images


def _empty(like: Pixels) -> Pixels:
    """Return a white image of the same shape; in RGBA it is fully transparent."""
    white = np.full_like(like, 255)
    if like.shape[2] == MODES["rgba"]:
        white[..., 3] = 0
    return white
