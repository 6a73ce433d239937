"""Odd ones out: images by how likely a model finds them, the least likely first.

An image is judged by the importance-weighted bound on log p(x) (Burda et al. 2016,
arXiv:1509.00519, Eq. 8). Likelihood also rewards plain images (Nalisnick et al. 2019,
arXiv:1810.09136): compare images of one kind.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gentool.blocks import block_size
from gentool.checkpoint import LoadedModel
from gentool.errors import NoLikelihood, UsageError
from gentool.images import Pixels, to_unit
from gentool.rng import Draw

_DIGITS = 12  # of a hash, in base 16: which numbers are drawn for an image


@dataclass(frozen=True)
class Bound:
    """A lower bound on log p(x) of one image.

    Attributes:
        path: The image's file.
        nats: The bound.
        bits_per_dim: The same per dimension of 8-bit grey levels; less is likelier.
    """

    path: Path
    nats: float
    bits_per_dim: float


@torch.inference_mode()
def bounds(
    loaded: LoadedModel, images: dict[Path, Pixels], samples: int, poll: Callable[[], None]
) -> list[Bound]:
    """The bound of every image, the lowest first.

    An image's figure depends on its pixels alone, not on the images beside it.

    Args:
        loaded: A model with a likelihood.
        images: uint8 (H, W, C) each, in the model's shape.
        samples: Importance samples per image; more make the bound tighter.
        poll: Called between blocks; may raise to stop.

    Raises:
        UsageError: the model has no likelihood.
    """
    model = loaded.model
    size = block_size(model.shape)
    pixels = list(images.values())
    found: list[float] = []
    for start in range(0, len(pixels), size):
        poll()
        part = pixels[start : start + size]
        block = np.stack([*part, *[part[-1]] * (size - len(part))])
        draw = Draw(0, "score", _numbers(block), 0, model.device)
        rows = to_unit(torch.from_numpy(block).to(model.device))
        try:
            nats = model.log_prob_bound(rows, draw, samples)
        except NoLikelihood as error:
            raise UsageError(
                f"{loaded.path} cannot say how likely an image is: {error}. Train a vae"
            ) from error
        found += nats[: len(part)].tolist()
    each = [
        Bound(path, nats, model.bits_per_dim(nats))
        for path, nats in zip(images, found, strict=True)
    ]
    return sorted(each, key=lambda bound: bound.nats)


def _numbers(images: Iterable[Pixels]) -> NDArray[np.int64]:
    """A number per image, made of its pixels."""
    hashes = [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in images]
    return np.array([int(digest[:_DIGITS], 16) for digest in hashes], dtype=np.int64)
