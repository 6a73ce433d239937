"""Sampling: images from the prior, each a function of (seed, index) alone; or of given latents."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product

import numpy as np

from gentool.blocks import block_size
from gentool.checkpoint import LoadedModel
from gentool.errors import UsageError
from gentool.images import Pixels
from gentool.latents import Latents, LatentsFile, decode, draw
from gentool.outputs import NamedImage, recipe
from gentool.rng import MAX_SEED


def sample_images(
    loaded: LoadedModel,
    count: int = 1,
    seed: int = 0,
    *,
    start: int = 0,
    class_name: str | None = None,
) -> Pixels:
    """``count`` images of one seed, from index ``start`` on, of any class or of one.

    Args:
        loaded: The model.
        count: How many; 0 gives an empty array.
        seed: From 0 to 2^63 - 1.
        start: Index of the first.
        class_name: Of a conditional model, one of its classes; None draws a class for each image.

    Returns:
        uint8, shape (count, H, W, C). Image k is the same whatever ``count`` and ``start``.

    Raises:
        UsageError: a number out of its bounds, more images than fit into memory, or no such class.
    """
    for word, number, most in (("count", count, 10**12), ("seed", seed, MAX_SEED),
                               ("start", start, 2**53)):  # fmt: skip
        if not 0 <= number <= most:
            raise UsageError(f"{word} is {number!s:.20}; allowed: 0 to {most:,}")
    label = None if class_name is None else loaded.class_number(class_name)
    shape = loaded.model.shape
    try:
        images = np.empty((count, shape.height, shape.width, shape.channels), np.uint8)
    except MemoryError:
        raise UsageError(
            f"{count:,} images of {shape} do not fit into memory. Draw them in parts, with start"
        ) from None
    step = block_size(shape)
    for first in range(0, count, step):
        last = min(first + step, count)
        draws = [(seed, start + k) for k in range(first, last)]
        images[first:last] = decode(loaded.model, draw(loaded.model, draws, label))
    return images


def sample(
    loaded: LoadedModel,
    seeds: Sequence[int],
    indices: range,
    batch: int,
    class_names: Sequence[str] | None = None,
    keep: Callable[[Latents], object] | None = None,
) -> Iterator[NamedImage]:
    """Images ``indices`` of every seed, made ``batch`` at a time.

    Args:
        loaded: The model.
        seeds: One or more.
        indices: Which images of each seed; files are named by index, by seed, or by both,
            whichever tells them apart.
        batch: Images held in memory at once, rounded up to whole blocks; no pixel depends
            on it.
        class_names: Classes of a conditional model, each of which gets the same latents;
            None draws a class for every image.
        keep: Is given the latents, part by part.
    """
    labels: list[int | None] = [None]
    if class_names is not None:
        labels = [loaded.class_number(name) for name in class_names]
    for label in labels:
        yield from _sample_class(loaded, seeds, indices, batch, label, keep)


def _sample_class(
    loaded: LoadedModel,
    seeds: Sequence[int],
    indices: range,
    batch: int,
    label: int | None,
    keep: Callable[[Latents], object] | None,
) -> Iterator[NamedImage]:
    step = _whole_blocks(loaded, batch)
    draws = product(seeds, indices)
    classes = loaded.header["classes"]
    prefix = "" if label is None else f"{file_names(classes)[label]}-"
    while part := list(islice(draws, step)):
        latents = draw(loaded.model, part, label)
        if keep is not None:
            keep(latents)
        for (seed, index), pixels in zip(part, decode(loaded.model, latents), strict=True):
            what: dict[str, object] = {"seed": seed, "index": index}
            name = f"{index:06d}"
            if len(seeds) > 1:
                name = f"seed{seed:06d}-{name}" if len(indices) > 1 else f"seed{seed:06d}"
            if label is not None:
                what["class"] = f"{classes[label]:.200}"  # in every PNG, however long it is
            yield NamedImage(prefix + name, pixels, recipe(loaded, **what))


def sample_latents(
    loaded: LoadedModel, file: LatentsFile, indices: range, batch: int
) -> Iterator[NamedImage]:
    """Images of latents ``indices`` of a file, made ``batch`` at a time."""
    step = _whole_blocks(loaded, batch)
    for start in range(0, len(indices), step):
        part = indices[start : start + step]
        images = decode(loaded.model, file.latents.rows(part))
        for index, pixels in zip(part, images, strict=True):
            what = recipe(loaded, latents_sha256=file.sha256, index=index)
            yield NamedImage(f"{index:06d}", pixels, what)


def _whole_blocks(loaded: LoadedModel, batch: int) -> int:
    """``batch`` rounded up."""
    block = block_size(loaded.model.shape)
    return -(-batch // block) * block


def file_names(classes: Sequence[str]) -> list[str]:
    """Each class as a part of a file name: a stranger's may be called ``../x``.

    Classes that would share a name, also where case does not count, are numbered.
    """
    plain = [re.sub(r"[^\w-]", "_", kind)[:40] or "_" for kind in classes]
    counts = Counter(name.casefold() for name in plain)
    return [n if counts[n.casefold()] == 1 else f"{n}~{k}" for k, n in enumerate(plain)]
