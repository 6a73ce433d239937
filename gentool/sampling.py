"""Sampling: images from the prior, each a function of (seed, index) alone."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice, product

from gentool.blocks import block_size, decode_blocks, prior_blocks
from gentool.checkpoint import LoadedModel
from gentool.images import Pixels
from gentool.outputs import NamedImage, recipe


def sample_images(
    loaded: LoadedModel,
    count: int = 1,
    seed: int = 0,
    *,
    start: int = 0,
    class_name: str | None = None,
) -> Pixels:
    """``count`` images of one seed, from index ``start`` on, of any class or of one.

    Returns:
        uint8, shape (count, H, W, C). Image k is the same whatever ``count`` and ``start``.
    """
    draws = [(seed, k) for k in range(start, start + count)]
    label = None if class_name is None else loaded.class_number(class_name)
    return decode_blocks(loaded.model, prior_blocks(loaded.model, draws, label))


def sample(
    loaded: LoadedModel,
    seeds: Sequence[int],
    indices: range,
    batch: int,
    class_names: Sequence[str] | None = None,
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
    """
    if class_names is None:
        yield from _sample_class(loaded, seeds, indices, batch, None)
        return
    for label in [loaded.class_number(name) for name in class_names]:
        yield from _sample_class(loaded, seeds, indices, batch, label)


def _sample_class(
    loaded: LoadedModel, seeds: Sequence[int], indices: range, batch: int, label: int | None
) -> Iterator[NamedImage]:
    block = block_size(loaded.model.shape)
    step = -(-batch // block) * block
    draws = product(seeds, indices)
    classes = loaded.header["classes"]
    prefix = "" if label is None else f"{file_names(classes)[label]}-"
    while part := list(islice(draws, step)):
        images = decode_blocks(loaded.model, prior_blocks(loaded.model, part, label))
        for (seed, index), pixels in zip(part, images, strict=True):
            what: dict[str, object] = {"seed": seed, "index": index}
            name = f"{index:06d}"
            if len(seeds) > 1:
                name = f"seed{seed:06d}-{name}" if len(indices) > 1 else f"seed{seed:06d}"
            if label is not None:
                what["class"] = f"{classes[label]:.200}"  # in every PNG, however long it is
            yield NamedImage(prefix + name, pixels, recipe(loaded, **what))


def file_names(classes: Sequence[str]) -> list[str]:
    """Each class as a part of a file name: a stranger's may be called ``../x``.

    Classes that would share a name, also where case does not count, are numbered.
    """
    plain = [re.sub(r"[^\w-]", "_", kind)[:40] or "_" for kind in classes]
    counts = Counter(name.casefold() for name in plain)
    return [n if counts[n.casefold()] == 1 else f"{n}~{k}" for k, n in enumerate(plain)]
