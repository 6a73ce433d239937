"""Sampling: decode images from the prior or from a file of latents.

An image from the prior is a function of the model, (seed, index) and the class alone.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import numpy as np

from gentool.checkpoint import LoadedModel
from gentool.core.errors import UsageError
from gentool.core.images import Pixels
from gentool.core.rng import MAX_SEED
from gentool.inference.blocks import block_size
from gentool.inference.latents import Latents, LatentsFile, decode, draw
from gentool.outputs.plan import NamedImage, Plan, Planned, recipe

EVERY_CLASS = "all"  # given in place of the name of a class


def sample_images(
    loaded: LoadedModel,
    count: int = 1,
    seed: int = 0,
    *,
    start: int = 0,
    class_name: str | None = None,
) -> Pixels:
    """Draw ``count`` images of one seed, with indices from ``start`` on.

    Args:
        loaded: The model.
        count: Number of images; 0 gives an empty array.
        seed: From 0 to 2^63 - 1.
        start: Index of the first image.
        class_name: A class of a conditional model; None draws a class for each image.

    Returns:
        uint8 (count, H, W, C). The image of an index is the same for every ``count`` and ``start``.

    Raises:
        UsageError: a number is out of its range, the images do not fit into memory, or the model
            has no such class.
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


@dataclass(frozen=True)
class Draws:
    """A request for images: for every class, every seed and every index, one image.

    Attributes:
        loaded: The model.
        seeds: One or more seeds.
        indices: Indices of the images of each seed.
        labels: Classes of a conditional model; all classes use the same random numbers. None
            draws a class for every image.
    """

    loaded: LoadedModel
    seeds: Sequence[int]
    indices: range
    labels: tuple[int | None, ...] = (None,)

    @classmethod
    def of_classes(
        cls,
        loaded: LoadedModel,
        seeds: Sequence[int],
        indices: range,
        class_names: Sequence[str] | None,
    ) -> "Draws":
        """Make a request with the names of classes; None draws a class for every image.

        Raises:
            UsageError: the model is not conditional, or has no such class.
        """
        if class_names is None:
            return cls(loaded, seeds, indices)
        return cls(loaded, seeds, indices, tuple(map(loaded.class_number, class_names)))

    @property
    def plan(self) -> Plan:
        """The names and recipes of the images, in the order in which they are made."""
        count = len(self.labels) * len(self.seeds) * len(self.indices)
        return Plan(self._planned, count, self.loaded.model.shape)

    def _planned(self) -> Iterator[Planned]:
        names = file_names(self.loaded.header["classes"])
        for label, seed, index in product(self.labels, self.seeds, self.indices):
            prefix = "" if label is None else f"{names[label]}-"
            yield Planned(f"{prefix}seed{seed:06d}-{index:06d}", self._recipe(label, seed, index))

    def _recipe(self, label: int | None, seed: int, index: int) -> dict[str, object]:
        what: dict[str, object] = {"made_by": "sample", "seed": seed, "index": index}
        if label is not None:  # cut, since every file holds it
            what["class"] = f"{self.loaded.header['classes'][label]:.200}"
        return recipe(self.loaded, **what)


def sample(
    draws: Draws, batch: int, keep: Callable[[Latents], object] | None = None
) -> Iterator[NamedImage]:
    """Make the images of a request, ``batch`` at a time, in the order of ``Draws.plan``.

    Args:
        draws: The request.
        batch: Images held in memory at once, rounded up to whole blocks; no pixel depends on it.
        keep: Called with the latents of each batch.
    """
    model, planned = draws.loaded.model, iter(draws.plan.results())
    step = _whole_blocks(draws.loaded, batch)
    for label in draws.labels:
        pairs = product(draws.seeds, draws.indices)
        while part := list(islice(pairs, step)):
            latents = draw(model, part, label)
            if keep is not None:
                keep(latents)
            for pixels, result in zip(
                decode(model, latents), planned, strict=False
            ):  # pixels first: zip would else consume one planned result too many
                yield NamedImage(result.name, pixels, result.recipe)


def classes_of(loaded: LoadedModel, wanted: str | None) -> list[str] | None:
    """Return the class names that a word means: one class, or ``all``; None for no word.

    For ``all`` these are all classes of a conditional model. For another model it is ``all``
    itself, and an error is raised later, as for any class name.
    """
    if wanted != EVERY_CLASS:
        return None if wanted is None else [wanted]
    names: list[str] = loaded.header["classes"]
    return names if loaded.model.classes else [EVERY_CLASS]


def rows_of(file: LatentsFile, path: Path, start: int, count: int | None) -> range:
    """Return the indices of latents in a file: from ``start`` on, ``count`` or all.

    Args:
        file: The latents.
        path: Path of the file, for the error.
        start: First index.
        count: Number of latents; None for all that follow.

    Raises:
        UsageError: the file has no latents at these indices.
    """
    total = len(file.latents)
    end = total if count is None else start + count
    if not start < end <= total:
        raise UsageError(
            f"{path} holds latents 0 to {total - 1}; {start} to {end - 1} were asked for"
        )
    return range(start, end)


def plan_latents(loaded: LoadedModel, file: LatentsFile, indices: range) -> Plan:
    """Plan the images of the latents in rows ``indices`` of a file."""

    def planned() -> Iterator[Planned]:
        for index in indices:
            what = recipe(loaded, made_by="sample", latents_sha256=file.sha256, index=index)
            yield Planned(f"latents-{file.sha256[:8]}-{index:06d}", what)

    return Plan(planned, len(indices), loaded.model.shape)


def sample_latents(
    loaded: LoadedModel, file: LatentsFile, indices: range, batch: int
) -> Iterator[NamedImage]:
    """Make the images of the latents in rows ``indices`` of a file, ``batch`` at a time."""
    step = _whole_blocks(loaded, batch)
    for start in range(0, len(indices), step):
        part = indices[start : start + step]
        images = decode(loaded.model, file.latents.rows(part))
        results = plan_latents(loaded, file, part).results()
        for result, pixels in zip(results, images, strict=True):
            yield NamedImage(result.name, pixels, result.recipe)


def _whole_blocks(loaded: LoadedModel, batch: int) -> int:
    """Return ``batch`` rounded up to a multiple of the block size."""
    block = block_size(loaded.model.shape)
    return -(-batch // block) * block


def file_names(classes: Sequence[str]) -> list[str]:
    """Return a safe file name part for each class, since a model file may name a class ``../x``.

    Names that would be equal, also when upper and lower case are the same, get a number.
    """
    plain = [re.sub(r"[^\w-]", "_", kind)[:40] or "_" for kind in classes]
    counts = Counter(name.casefold() for name in plain)
    return [n if counts[n.casefold()] == 1 else f"{n}~{k}" for k, n in enumerate(plain)]
