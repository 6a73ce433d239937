"""Sampling: images from the prior, each a function of (seed, index) alone."""

from collections.abc import Iterator, Sequence

from gentool.blocks import block_size, decode_blocks, prior_blocks
from gentool.checkpoint import LoadedModel
from gentool.images import Pixels
from gentool.outputs import NamedImage, recipe

Draws = Sequence[tuple[int, int]]


def sample_images(loaded: LoadedModel, count: int = 1, seed: int = 0, *, start: int = 0) -> Pixels:
    """``count`` images of one seed, from index ``start`` on.

    Returns:
        uint8, shape (count, H, W, C). Image k is the same whatever ``count`` and ``start``.
    """
    draws = [(seed, k) for k in range(start, start + count)]
    return decode_blocks(loaded.model, prior_blocks(loaded.model, draws))


def sample(loaded: LoadedModel, draws: Draws, batch: int) -> Iterator[NamedImage]:
    """Images of (seed, index) pairs, made ``batch`` at a time.

    Args:
        loaded: The model.
        draws: What to draw; images are named by index, or by seed when seeds differ.
        batch: Images held in memory at once, rounded up to whole blocks; no pixel depends
            on it.
    """
    block = block_size(loaded.model.shape)
    step = -(-batch // block) * block
    several_seeds = len({seed for seed, _ in draws}) > 1
    several_indices = len({index for _, index in draws}) > 1
    for start in range(0, len(draws), step):
        part = draws[start : start + step]
        images = decode_blocks(loaded.model, prior_blocks(loaded.model, part))
        for (seed, index), pixels in zip(part, images, strict=True):
            name = f"{index:06d}"
            if several_seeds:
                name = f"seed{seed:06d}-{name}" if several_indices else f"seed{seed:06d}"
            yield NamedImage(name, pixels, recipe(loaded, seed=seed, index=index))
