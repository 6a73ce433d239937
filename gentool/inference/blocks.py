"""Run a model in blocks of one fixed size, so that the batch size never changes a pixel.

Convolution libraries choose their algorithm by the batch size, and algorithms round differently.
Every command therefore computes in blocks whose size depends on the image shape alone, and the
last block is padded. Image k of a seed is the same to the byte for every ``-n`` and ``--batch``.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch

from gentool.core.errors import NoEncoder
from gentool.core.images import ImageShape, Pixels, pad_rows, to_pixels, to_unit
from gentool.core.rng import Draw
from gentool.models.base import Model
from gentool.models.capabilities import required_posterior, required_styles

_PIXELS_PER_BLOCK = 2**16  # bounds memory: 64 images of 32x32, 1 of 256x256


def block_size(shape: ImageShape) -> int:
    """Return the number of images per block, from 1 to 64, for images of this shape."""
    return max(1, min(64, _PIXELS_PER_BLOCK // (shape.height * shape.width)))


def _padded(rows: torch.Tensor, size: int) -> torch.Tensor:
    return torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])])


def _map(
    function: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor, size: int
) -> Iterator[torch.Tensor]:
    if not len(rows):  # one row of zeros is computed only to find the shape of the result
        yield function(_padded(rows.new_zeros(1, *rows.shape[1:]), size))[:0]
        return
    for block in torch.split(rows, size):
        yield function(_padded(block, size))[: len(block)]


@torch.inference_mode()
def decode_blocks(model: Model, latents: torch.Tensor) -> Pixels:
    """Decode latents (N, ...) to images, uint8 (N, H, W, C)."""
    size = block_size(model.shape)
    return np.concatenate([to_pixels(b) for b in _map(model.decode, latents, size)])


@torch.inference_mode()
def synthesise_blocks(model: Model, styles: torch.Tensor) -> Pixels:
    """Synthesise images, uint8 (N, H, W, C), from styles (N, layers, S).

    Raises:
        NoStyles: the model has no styles.
    """
    size, of = block_size(model.shape), required_styles(model.styles)
    return np.concatenate([to_pixels(b) for b in _map(of.synthesise, styles, size)])


@torch.inference_mode()
def style_blocks(model: Model, latents: torch.Tensor, *, drawn: bool = False) -> torch.Tensor:
    """Return styles (N, layers, S) of latents (N, ...); ``drawn`` is as in ``Styles.of``.

    Raises:
        NoStyles: the model has no styles.
    """
    size, styles = block_size(model.shape), required_styles(model.styles)
    return torch.cat(list(_map(lambda z: styles.of(z, drawn=drawn), latents, size)))


@torch.inference_mode()
def encode_blocks(model: Model, pixels: Pixels) -> torch.Tensor:
    """Encode uint8 images (N, H, W, C) to latents (N, ...).

    Raises:
        NoEncoder: the model has no encoder.
    """
    size = block_size(model.shape)
    rows = torch.from_numpy(np.array(pixels)).to(model.device)  # a cache may be read-only
    return torch.cat(list(_map(lambda block: model.encode(to_unit(block)), rows, size)))


@torch.no_grad()
def has_encoder(model: Model) -> bool:
    """Return whether the model finds latents of images by itself."""
    shape = model.shape
    try:
        model.encode(torch.zeros(1, shape.channels, shape.height, shape.width, device=model.device))
    except NoEncoder:
        return False
    return True


@torch.inference_mode()
def code_blocks(model: Model, pixels: Pixels) -> torch.Tensor | None:
    """Return the relative frequency of each code in uint8 images (N, H, W, C).

    Returns:
        float64 (codes,), sum 1; None if the model has no codes.
    """
    if (codes := model.codes) is None:
        return None
    size = block_size(model.shape)
    rows = torch.from_numpy(np.array(pixels)).to(model.device)
    shares: list[torch.Tensor] = []
    for block in torch.split(rows, size):
        found = codes.frequencies(to_unit(block))
        shares.append(found.cpu().double() * (len(block) / len(rows)))
    return torch.stack(shares).sum(dim=0)


@torch.inference_mode()
def posterior_blocks(model: Model, pixels: Pixels, seed: int) -> torch.Tensor:
    """Draw latents (N, ...) from the posteriors of uint8 images (N, H, W, C).

    The random numbers of image i depend on (seed, i) alone.

    Raises:
        UsageError: the model has no posterior.
    """
    size, variational = block_size(model.shape), required_posterior(model.variational)
    found = []
    for start in range(0, len(pixels), size):
        rows = pixels[start : start + size]
        padded = torch.from_numpy(pad_rows(rows, size)).to(model.device)
        draw = Draw(seed, "reconstruct", np.arange(start, start + size), 0, model.device)
        found.append(variational.draw_latents(to_unit(padded), draw)[: len(rows)])
    return torch.cat(found)


@torch.inference_mode()
def prior_blocks(
    model: Model, draws: Iterable[tuple[int, int]], label: int | None = None
) -> torch.Tensor:
    """Draw latents (N, ...) from the prior, one row per (seed, index) pair.

    Each row is the same as if it were drawn alone.

    Args:
        model: Any model.
        draws: (seed, index) of each row.
        label: Class of all rows, for a conditional model; None draws a class for each row.
    """
    size = block_size(model.shape)
    wanted = list(draws)
    if not wanted:
        return prior_blocks(model, [(0, 0)], label)[:0]
    rows: dict[tuple[int, int], torch.Tensor] = {}
    for seed in dict.fromkeys(seed for seed, _ in wanted):
        indices = np.array([i for s, i in wanted if s == seed], dtype=np.int64)
        for start in range(0, len(indices), size):
            block = indices[start : start + size]
            full = pad_rows(block, size)
            labels = None if label is None else torch.full((size,), label, device=model.device)
            latents = model.prior(full, seed, labels)
            rows |= {(seed, int(i)): latents[k] for k, i in enumerate(block)}
    return torch.stack([rows[pair] for pair in wanted])
