"""Outliers: sort images by their likelihood under a model, the least likely first.

The measure is the importance-weighted bound on log p(x) (Burda et al. 2016, arXiv:1509.00519,
Eq. 8). Images without detail have a high likelihood even if they are unlike the training images
(Nalisnick et al. 2019, arXiv:1810.09136), so compare only images of one kind.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gentool.checkpoint import LoadedModel
from gentool.core.errors import NoLikelihood, OutsideSupport, UsageError
from gentool.core.images import Pixels, pad_rows, to_unit
from gentool.core.rng import Draw
from gentool.inference.blocks import block_size
from gentool.metrics.extractors import check_evaluating
from gentool.models.capabilities import required_likelihood

_DIGITS = 12  # hexadecimal digits of an image's hash that choose its random numbers


@dataclass(frozen=True)
class Bound:
    """A lower bound on log p(x) of one image.

    Attributes:
        path: The image's file.
        nats: The bound, in nats.
        bits_per_dim: The negative bound in bits per dimension of 8-bit grey levels; a smaller
            value means a more likely image.
    """

    path: Path
    nats: float
    bits_per_dim: float


@torch.inference_mode()
def bounds(
    loaded: LoadedModel, images: dict[Path, Pixels], samples: int, poll: Callable[[], None]
) -> tuple[list[Bound], dict[Path, str]]:
    """Compute the bound of every image.

    The bound of an image depends on its pixels alone, not on the other images.

    Args:
        loaded: A model with a likelihood.
        images: uint8 (H, W, C) each, in the model's shape.
        samples: Importance samples per image; more make the bound tighter.
        poll: Called between blocks; may raise to stop.

    Returns:
        The bounds, the lowest first; and for each image without a bound, the reason by path.

    Raises:
        UsageError: the model has no likelihood.
    """
    check_evaluating(loaded.model)
    size = block_size(loaded.model.shape)
    paths = list(images)
    found: list[Bound] = []
    refused: dict[Path, str] = {}
    for start in range(0, len(paths), size):
        part = paths[start : start + size]
        try:
            found += _block(loaded, part, images, samples, poll)
        except OutsideSupport:
            reasons = {path: _refusal(loaded, path, images, poll) for path in part}
            refused |= {path: reason for path, reason in reasons.items() if reason}
            if good := [path for path in part if path not in refused]:
                found += _block(loaded, good, images, samples, poll)
    return sorted(found, key=lambda bound: bound.nats), refused


def _refusal(
    loaded: LoadedModel, path: Path, images: dict[Path, Pixels], poll: Callable[[], None]
) -> str | None:
    """Return why an image has no bound; None if it has one."""
    try:
        _block(loaded, [path], images, 1, poll)
    except OutsideSupport as error:
        return f"the likelihood of this model allows only {error.support}"
    return None


def _block(
    loaded: LoadedModel, paths: list[Path], images: dict[Path, Pixels], samples: int,
    poll: Callable[[], None],
) -> list[Bound]:  # fmt: skip
    """Compute the bounds of at most one block of images, padded to a whole block.

    Raises:
        UsageError: the model has no likelihood.
        OutsideSupport: an image has pixel values that the likelihood does not allow.
    """
    poll()
    model = loaded.model
    pixels = [images[path] for path in paths]
    block = pad_rows(np.stack(pixels), block_size(model.shape))
    draw = Draw(0, "score", _numbers(block), 0, model.device)
    rows = to_unit(torch.from_numpy(block).to(model.device))
    try:
        variational = required_likelihood(model.variational)
    except NoLikelihood as error:
        raise UsageError(
            f"{loaded.path} gives no likelihood of images: {error}. Train a vae"
        ) from error
    nats = variational.log_prob_bound(rows, draw, samples)[: len(pixels)].tolist()
    return [
        Bound(path, each, variational.bits_per_dim(each))
        for path, each in zip(paths, nats, strict=True)
    ]


def _numbers(images: Iterable[Pixels]) -> NDArray[np.int64]:
    """Return one number per image from the hash of its pixels, int64 (N,), 0 to 2^48 - 1."""
    hashes = [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in images]
    return np.array([int(digest[:_DIGITS], 16) for digest in hashes], dtype=np.int64)
