"""Sampling: images from the prior, each a function of (seed, index) alone; or of given latents."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product

import numpy as np

from gentool.checkpoint import LoadedModel
from gentool.core.errors import UsageError
from gentool.core.images import Pixels
from gentool.core.rng import MAX_SEED
from gentool.inference.blocks import block_size
from gentool.inference.latents import Latents, LatentsFile, decode, draw
from gentool.outputs.writers import NamedImage, Plan, Planned, recipe


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


@dataclass(frozen=True)
class Draws:
    """What is drawn: images of seeds, in each of some classes.

    Attributes:
        loaded: The model.
        seeds: One or more.
        indices: Which images of each seed.
        labels: Classes of a conditional model, each of which gets the same latents; None draws a
            class for every image.
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
        """The draws of classes by name, or of any class where there are no names.

        Raises:
            UsageError: the model is not conditional, or has no such class.
        """
        if class_names is None:
            return cls(loaded, seeds, indices)
        return cls(loaded, seeds, indices, tuple(map(loaded.class_number, class_names)))

    @property
    def plan(self) -> Plan:
        """Names and recipes of the images, in the order in which they are made."""
        count = len(self.labels) * len(self.seeds) * len(self.indices)
        return Plan(self._planned, count, self.loaded.model.shape)

    def _planned(self) -> Iterator[Planned]:
        names = file_names(self.loaded.header["classes"])
        for label, seed, index in product(self.labels, self.seeds, self.indices):
            prefix = "" if label is None else f"{names[label]}-"
            yield Planned(f"{prefix}seed{seed:06d}-{index:06d}", self._recipe(label, seed, index))

    def _recipe(self, label: int | None, seed: int, index: int) -> dict[str, object]:
        what: dict[str, object] = {"made_by": "sample", "seed": seed, "index": index}
        if label is not None:  # cut, since it is in every file, however long it is
            what["class"] = f"{self.loaded.header['classes'][label]:.200}"
        return recipe(self.loaded, **what)


def sample(
    draws: Draws, batch: int, keep: Callable[[Latents], object] | None = None
) -> Iterator[NamedImage]:
    """The images of a plan of draws, made ``batch`` at a time.

    Args:
        draws: What to draw.
        batch: Images held in memory at once, rounded up to whole blocks; no pixel depends on it.
        keep: Is given the latents, part by part.
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
            ):  # pixels first
                yield NamedImage(result.name, pixels, result.recipe)


def plan_latents(loaded: LoadedModel, file: LatentsFile, indices: range) -> Plan:
    """The plan of the images of latents ``indices`` of a file."""

    def planned() -> Iterator[Planned]:
        for index in indices:
            what = recipe(loaded, made_by="sample", latents_sha256=file.sha256, index=index)
            yield Planned(f"latents-{file.sha256[:8]}-{index:06d}", what)

    return Plan(planned, len(indices), loaded.model.shape)


def sample_latents(
    loaded: LoadedModel, file: LatentsFile, indices: range, batch: int
) -> Iterator[NamedImage]:
    """Images of latents ``indices`` of a file, made ``batch`` at a time."""
    step = _whole_blocks(loaded, batch)
    for start in range(0, len(indices), step):
        part = indices[start : start + step]
        images = decode(loaded.model, file.latents.rows(part))
        results = plan_latents(loaded, file, part).results()
        for result, pixels in zip(results, images, strict=True):
            yield NamedImage(result.name, pixels, result.recipe)


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
