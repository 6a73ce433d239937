"""Pictures that a report asks the model to draw.

They take seconds: within a run they are drawn only at its end, in a bounded time, and
``gentool report`` draws them at any time. What was left out is told.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from gentool.checkpoint import LoadedModel
from gentool.core.errors import GentoolError, NoEncoder
from gentool.core.images import Pixels, mean_squared_error, psnr
from gentool.core.pil_images import to_pil
from gentool.core.sheets import grid
from gentool.data import Dataset, Subset
from gentool.evaluation.reference import read_features, write_features
from gentool.inference.blocks import (
    block_size,
    decode_blocks,
    encode_blocks,
    prior_blocks,
    style_blocks,
)
from gentool.inference.held_out import tell_sides
from gentool.inference.latents import Latents
from gentool.inference.traversal import find_directions, pictures_needed, traverse
from gentool.metrics.extractors import BLOCK, RandomExtractor
from gentool.metrics.neighbours import several_nearest
from gentool.report.film import Frame, encode_small
from gentool.report.keeping import Part, Picture, place_of, read_parts, write_parts

_COLUMNS = 8
_NEIGHBOURS, _DIRECTIONS, _STEPS, _AMOUNT = 3, 4, 7, 2.0
_MOST_CLASSES = 12
_SHEET_BYTES, _ROW_BYTES = 50_000, 15_000
_MOST_KEPT = 2**16  # images whose features are kept in the cache: 92 MB
_LATE = "it would take too long here; gentool report RUN draws it"


@dataclass
class Drawn:
    """The pictures that a model drew, by section, and what was left out.

    Attributes:
        pictures: Section -> its pictures.
        notes: Section -> what is told about them, or why there are none.
        summary: What samples of the model are, in words.
        cut: Sections that the time allowed only in part.
    """

    pictures: dict[str, list[Picture]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    cut: set[str] = field(default_factory=set)


class Deadline:
    """A moment after which no further picture is begun.

    Args:
        seconds: From now; infinity for none.
        stopped: Returns whether the user asked to stop.
    """

    def __init__(self, seconds: float, stopped: Callable[[], bool] = lambda: False) -> None:
        self._end, self._stopped = time.monotonic() + seconds, stopped

    def allows(self, seconds: float = 0.0) -> bool:
        """Return whether work of so many seconds may begin."""
        return time.monotonic() + seconds < self._end and not self._stopped()


@dataclass(frozen=True)
class _Images:
    """Images to show beside those of the model.

    Attributes:
        some: Training images; or, if it is not known which those are, all images.
        held_out: Images that were certainly kept out of training.
        word: What ``some`` are, in words.
    """

    some: Subset
    held_out: Subset
    word: str


def _images_of(loaded: LoadedModel, dataset: Dataset) -> _Images:
    sides = tell_sides(loaded, dataset)
    if sides.why is None and len(sides.trained):
        return _Images(sides.trained, sides.held_out, "training images")
    return _Images(dataset.whole, sides.held_out, "images (not known to be those of the training)")


def draw(loaded: LoadedModel, dataset: Dataset | None, deadline: Deadline) -> Drawn:
    """Draw all pictures that the model and the time allow; those that were drawn before are kept.

    Args:
        loaded: The model.
        dataset: Images, prepared as for its training; None if there are none.
        deadline: When to leave the rest out.
    """
    drawn = Drawn(summary=loaded.model.summary())
    place = place_of(loaded, dataset)
    kept = read_parts(place)
    for section, part in kept.items():
        drawn.pictures[section] = part.pictures
        if part.note:
            drawn.notes[section] = part.note
    sections = ["classes", "traversal"]
    sections += [] if dataset is None else ["reconstructions", "neighbours"]
    if missing := [section for section in sections if section not in kept]:
        _draw(loaded, dataset, deadline, drawn, missing)
    if dataset is None:
        unknown = "the images are not known; gentool report RUN --data SPEC draws it"
        drawn.notes |= {"neighbours": unknown}
    done = [s for s in sections if drawn.notes.get(s) != _LATE and s not in drawn.cut]
    if set(done) - kept.keys():
        parts = {s: Part(drawn.pictures.get(s, []), drawn.notes.get(s, "")) for s in done}
        write_parts(place, parts)
    return drawn


def _draw(
    loaded: LoadedModel,
    dataset: Dataset | None,
    deadline: Deadline,
    drawn: Drawn,
    wanted: Sequence[str],
) -> None:
    """Add these sections to ``drawn``, as far as the time allows."""
    began = time.monotonic()
    samples = decode_blocks(loaded.model, prior_blocks(loaded.model, _draws(_COLUMNS)))
    per_block = time.monotonic() - began
    work: dict[str, tuple[float, Callable[[], list[Picture]]]] = {
        "classes": (per_block * loaded.model.classes, lambda: _classes(loaded, drawn)),
    }
    if dataset is not None:
        images = _images_of(loaded, dataset)
        work["reconstructions"] = (per_block, lambda: _reconstructions(loaded, images, drawn))
        work["neighbours"] = (0.5, lambda: _neighbours(samples, images, drawn, deadline))
    blocks = pictures_needed(loaded.model) / block_size(loaded.model.shape) + 1
    work["traversal"] = (per_block * blocks, lambda: _traversal(loaded, drawn))
    for section, (seconds, make) in work.items():
        if section not in wanted:
            continue
        if not deadline.allows(seconds):
            drawn.notes[section] = _LATE
            continue
        try:
            drawn.pictures[section] = make()
        except GentoolError as error:
            drawn.notes[section] = str(error)


def _draws(count: int) -> list[tuple[int, int]]:
    return [(0, k) for k in range(count)]


def _frame(pixels: Pixels, most_bytes: int = _SHEET_BYTES) -> Frame:
    return encode_small(to_pil(pixels), most_bytes)


def _reconstructions(loaded: LoadedModel, images: _Images, drawn: Drawn) -> list[Picture]:
    """Draw images above their reconstructions: held-out images if there are some."""
    held_out = len(images.held_out) > 0
    chosen = (images.held_out if held_out else images.some).some(_COLUMNS)
    originals = chosen.images[:]
    try:
        rebuilt = decode_blocks(loaded.model, encode_blocks(loaded.model, originals))
    except NoEncoder:
        drawn.notes["reconstructions"] = (
            "the model has no encoder; gentool reconstruct finds latents by a search"
        )
        return []
    error = [psnr(mean_squared_error(a, b)) for a, b in zip(originals, rebuilt, strict=True)]
    which = "images that training never used" if held_out else images.word
    mean = sum(error) / len(error)
    drawn.notes["reconstructions"] = (
        f"above: {len(originals)} {which}; below: their reconstructions by the encoder, with a "
        f"mean PSNR of {mean:.1f} dB (higher is better)"
    )
    sheet = grid(np.concatenate([originals, rebuilt]), columns=len(originals))
    return [Picture(_frame(sheet), f"{len(originals)} {which} above their reconstructions")]


def _neighbours(
    samples: Pixels, images: _Images, drawn: Drawn, deadline: Deadline
) -> list[Picture]:
    """Draw each sample above its nearest training images, as far as the time allows."""
    extractor, several = RandomExtractor(), images.some
    rows, features = _features(extractor, several, deadline)
    if len(rows) < len(several):
        drawn.cut.add("neighbours")
    count = min(_NEIGHBOURS, len(rows))
    found = several_nearest(extractor.features(samples), features, count).numpy()
    lines = [samples, *(several.dataset.images[rows[found[:, k]]] for k in range(count))]
    some = f"{len(rows):,}" + (f" of {len(several):,}" if len(rows) < len(several) else "")
    drawn.notes["neighbours"] = (
        f"the first row shows samples; below each are its {count} nearest of {some} "
        f"{images.word}, in the features of a random network. A sample that equals an image below "
        "it is a copy"
    )
    sheet = grid(np.concatenate(lines), columns=len(samples))
    alt = f"{len(samples)} samples, each above its {count} nearest {images.word}"
    return [Picture(_frame(sheet), alt)]


def _features(
    extractor: RandomExtractor, images: Subset, deadline: Deadline
) -> tuple[NDArray[np.int64], torch.Tensor]:
    """Return rows (N,) of the data set and the features (N, D) of these images.

    They are all of the images, or a random choice of them if the time is short. The features of
    all are kept in the cache, for other runs on the same images.
    """
    kept = read_features(extractor, images)
    if kept is not None:
        return images.rows, kept
    order = np.random.default_rng(0).permutation(len(images))
    taken, found = [], []
    for start in range(0, len(order), BLOCK):
        if start and not deadline.allows():
            break
        taken.append(np.sort(order[start : start + BLOCK]))  # the order of the file
        block = Subset(images.dataset, images.rows[taken[-1]])
        found.append(extractor.features(block.images[:]))
    numbers, features = np.concatenate(taken), torch.cat(found)
    if len(numbers) < len(order):
        return images.rows[numbers], features
    features = features[np.argsort(numbers)]
    if len(features) <= _MOST_KEPT:
        with suppress(OSError):
            write_features(extractor, images, features)
    return images.rows, features


def _traversal(loaded: LoadedModel, drawn: Drawn) -> list[Picture]:
    """Draw a row of pictures for each of the strongest directions."""
    model = loaded.model
    directions = find_directions(model, "principal", _DIRECTIONS)
    values = prior_blocks(model, _draws(1))
    if directions.space == "w":
        values = style_blocks(model, values)
    start = Latents(values, directions.space)
    images = np.stack(list(traverse(loaded, start, directions, _STEPS, _AMOUNT)))
    drawn.notes["traversal"] = (
        f"the middle picture is sample 0 of seed 0; each row moves it {_AMOUNT:g} standard "
        "deviations to each side along one of the strongest directions"
    )
    alt = f"{len(directions)} rows, each a direction in the latents that changes one picture"
    return [Picture(_frame(grid(images, columns=_STEPS)), alt)]


def _classes(loaded: LoadedModel, drawn: Drawn) -> list[Picture]:
    """Draw a row of samples for every class, at most twelve."""
    model = loaded.model
    names = [str(name) for name in loaded.header["classes"]][: model.classes]
    shown = names[:_MOST_CLASSES]
    if len(names) > len(shown):
        drawn.notes["classes"] = f"samples of the first {len(shown)} of {len(names):,} classes"
    return list(_class_rows(loaded, shown))


def _class_rows(loaded: LoadedModel, names: list[str]) -> Iterator[Picture]:
    for label, name in enumerate(names):
        latents = prior_blocks(loaded.model, _draws(_COLUMNS), label)
        row = grid(decode_blocks(loaded.model, latents), columns=_COLUMNS)
        yield Picture(_frame(row, _ROW_BYTES), f"{_COLUMNS} samples of the class {name[:80]}", name)
