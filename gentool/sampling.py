"""Sampling: images from the prior, each a function of (seed, index) alone."""

from collections.abc import Iterator, Sequence
from itertools import islice, product

from gentool.blocks import block_size, decode_blocks, prior_blocks
from gentool.checkpoint import LoadedModel
from gentool.images import Pixels
from gentool.outputs import NamedImage, recipe


def sample_images(loaded: LoadedModel, count: int = 1, seed: int = 0, *, start: int = 0) -> Pixels:
    """``count`` images of one seed, from index ``start`` on.

    Returns:
        uint8, shape (count, H, W, C). Image k is the same whatever ``count`` and ``start``.
    """
    draws = [(seed, k) for k in range(start, start + count)]
    return decode_blocks(loaded.model, prior_blocks(loaded.model, draws))


def sample(
    loaded: LoadedModel, seeds: Sequence[int], indices: range, batch: int
) -> Iterator[NamedImage]:
    """Images ``indices`` of every seed, made ``batch`` at a time.

    Args:
        loaded: The model.
        seeds: One or more.
        indices: Which images of each seed; files are named by index, by seed, or by both,
            whichever tells them apart.
        batch: Images held in memory at once, rounded up to whole blocks; no pixel depends
            on it.
    """
    block = block_size(loaded.model.shape)
    step = -(-batch // block) * block
    draws = product(seeds, indices)
    while part := list(islice(draws, step)):
        images = decode_blocks(loaded.model, prior_blocks(loaded.model, part))
        for (seed, index), pixels in zip(part, images, strict=True):
            name = f"{index:06d}"
            if len(seeds) > 1:
                name = f"seed{seed:06d}-{name}" if len(indices) > 1 else f"seed{seed:06d}"
            yield NamedImage(name, pixels, recipe(loaded, seed=seed, index=index))
