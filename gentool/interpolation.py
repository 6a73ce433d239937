"""Interpolation: a path through latent space, past any number of key frames.

Slerp (Shoemake 1985) for draws from a spherical prior: in high dimensions N(0, I) lives near a
sphere of radius sqrt(L), and the middle of a straight line falls inside it, where the decoder
has never been (White 2016, arXiv:1609.04468). Lerp for codes that have no such sphere.
"""

from collections.abc import Iterator, Sequence

import torch
from torch.linalg import vector_norm

from gentool.blocks import decode_blocks, prior_blocks
from gentool.checkpoint import LoadedModel
from gentool.outputs import NamedImage, recipe

METHODS = ("slerp", "lerp")
_PARALLEL = 1e-6  # radians; below, the arc is a line


def lerp(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """(1 - t) a + t b."""
    return (1 - t) * a + t * b


def slerp(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """Along the great circle from ``a`` to ``b``, norms changing linearly.

    With directions u, v at angle w (Shoemake 1985):
    (sin((1 - t) w) u + sin(t w) v) / sin w, times (1 - t) |a| + t |b|.

    Args:
        a: Vector (L,).
        b: Vector (L,).
        t: Share of the way, from 0 to 1. Opposite vectors turn through a fixed plane.
    """
    norm_a, norm_b = vector_norm(a), vector_norm(b)
    if norm_a == 0 or norm_b == 0 or len(a) == 1:  # on a line there is no arc
        return lerp(a, b, t)
    u, v = a / norm_a, b / norm_b
    # atan2 keeps full precision where acos of the dot product loses half the digits.
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
    """A unit vector at a right angle to the unit vector ``u`` (L,), L > 1."""
    axis = torch.zeros_like(u)
    axis[u.abs().argmin()] = 1
    across: torch.Tensor = axis - (axis @ u) * u
    return across.div(vector_norm(across))


def path(keys: torch.Tensor, steps: int, method: str, *, loop: bool) -> torch.Tensor:
    """Latents along a path through ``keys``.

    Args:
        keys: Key frames (K, ...), K >= 2.
        steps: Frames from one key to the next, the first included and the last not.
        method: ``slerp`` or ``lerp``.
        loop: Go back to the first key. The frames then close without a repeated one; else
            the last key is the last frame.

    Returns:
        Shape ((K - 1) * steps + 1, ...), or (K * steps, ...) for a loop.
    """
    between = slerp if method == "slerp" else lerp
    flat = keys.flatten(1)
    ends = [*range(1, len(flat)), 0] if loop else [*range(1, len(flat))]
    frames = [
        between(flat[k], flat[end], step / steps)
        for k, end in enumerate(ends)
        for step in range(steps)
    ]
    if not loop:
        frames.append(flat[-1])
    return torch.stack(frames).view(-1, *keys.shape[1:])


def interpolate_seeds(
    loaded: LoadedModel,
    seeds: Sequence[int],
    steps: int,
    method: str | None,
    *,
    loop: bool,
    class_name: str | None = None,
) -> Iterator[NamedImage]:
    """Frames of a path whose key frames are image 0 of each seed; see ``path``.

    Args:
        loaded: The model.
        seeds: Key frames, at least two.
        steps: Frames from one key to the next.
        method: ``slerp``, ``lerp``, or None for what suits the model's latents.
        loop: Go back to the first key.
        class_name: One class for all key frames of a conditional model.
    """
    method = method or loaded.model.interpolation
    label = None if class_name is None else loaded.class_number(class_name)
    keys = prior_blocks(loaded.model, [(seed, 0) for seed in seeds], label)
    latents = path(keys, steps, method, loop=loop)
    if classes := loaded.model.classes:  # shares of classes are no directions on a sphere
        z = path(keys[:, :-classes], steps, method, loop=loop)
        latents = torch.cat([z, path(keys[:, -classes:], steps, "lerp", loop=loop)], dim=1)
    frames = decode_blocks(loaded.model, latents)
    what = recipe(loaded, seeds=list(seeds), steps=steps, method=method, loop=loop)
    for number, pixels in enumerate(frames):
        yield NamedImage(f"{number:06d}", pixels, {**what, "frame": number})
