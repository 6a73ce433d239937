"""Choose the reference images: if possible, those that no model was trained on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

import numpy as np

from gentool.checkpoint import LoadedModel
from gentool.core.errors import DataError, UsageError
from gentool.data import Dataset, Preprocessing, Rows, Subset
from gentool.inference.held_out import Sides, tell_sides

SPLITS = ("auto", "held-out", "training", "all")
AUTO, HELD_OUT, TRAINING, ALL = SPLITS
Prepare = Callable[[Preprocessing], Dataset]
Poll = Callable[[], None]
# Reasons why samples cannot be compared both with training images and with held-out images.
_OF_TRAINING = "the reference is the training images; use --split held-out to compare both"
_NOT_KNOWN = "it is not known which of these images the models were trained on"
_OF_ALL = "the reference is all images; use --split held-out to compare with held-out images"
KEPT_NONE = "no model here has held-out images (train with --holdout 0.1)"


@dataclass(frozen=True)
class ReferenceSplit:
    """The images that targets are compared with.

    Attributes:
        name: ``held-out``, ``training`` or ``all``; the first two only if they are known.
        images: These images.
        trained: The images that the models were trained on, if they are known and ``images`` were
            kept out of training; else empty.
        rest: The images that a feature extractor may be trained on, none of them held out.
        why: Why samples cannot be compared with training images; None if they can.
        notes: Notes on the split, by target.
    """

    name: str
    images: Subset
    trained: Subset
    rest: Subset
    why: str | None = None
    notes: Mapping[Path, list[str]] = field(default_factory=dict)


def check_split(wanted: str, models: Mapping[Path, LoadedModel], holdout: float) -> None:
    """Check, before any image is read, that the targets allow a split.

    Args:
        wanted: One of ``SPLITS``.
        models: The targets that are models.
        holdout: Fraction that the models kept out of training.

    Raises:
        UsageError: no target allows it.
    """
    if wanted == HELD_OUT and not holdout:
        raise UsageError(
            "no model here has held-out images. Train with --holdout 0.1, or use --split all"
        )
    if wanted == TRAINING and not models:
        raise UsageError("--split training needs a model, but no target is one. Use --split all")


def choose_split(
    wanted: str, models: Mapping[Path, LoadedModel], dataset: Dataset, prepare: Prepare, poll: Poll
) -> ReferenceSplit:
    """Choose the images that targets are compared with.

    Args:
        wanted: One of ``SPLITS``, checked by ``check_split``.
        models: The targets that are models.
        dataset: The images, prepared.
        prepare: Prepares the same images with other preprocessing.
        poll: Called repeatedly; may raise to stop.

    Raises:
        DataError: the images of the split cannot be determined, or there are none.
        ModelFileError: the header of a model file is damaged.
    """
    everything, none = dataset.whole, Subset(dataset, np.empty(0, dtype=np.int64))
    sides = {path: _sides(loaded, dataset, prepare, poll) for path, loaded in models.items()}
    held_out = _common([s.held_out for s in sides.values()], none)
    trained = _common([s.trained for s in sides.values()], none)
    unsure = {path: s.why for path, s in sides.items() if s.why is not None}
    with_holdout = any(loaded.holdout for loaded in models.values())
    rest = trained
    if not len(trained) or not with_holdout:
        rest = Subset(dataset, np.setdiff1d(everything.rows, held_out.rows))
    if wanted == TRAINING:
        _refuse_unsure(unsure, dataset, wanted)
        return _checked(ReferenceSplit(TRAINING, trained, none, rest, _OF_TRAINING), models)
    told = wanted == AUTO and with_holdout
    if wanted == HELD_OUT and not len(held_out):
        _refuse_unsure(unsure, dataset, wanted)
    if wanted == HELD_OUT or (told and len(held_out)):
        why, known = (_NOT_KNOWN, none) if unsure else (None, trained)
        notes = {path: _notes(side, dataset) for path, side in sides.items()}
        return _checked(ReferenceSplit(HELD_OUT, held_out, known, rest, why, notes), models)
    why = _OF_ALL if with_holdout else KEPT_NONE
    notes = {
        path: _notes_of_all(side, dataset, told=told, kept_some=models[path].holdout > 0)
        for path, side in sides.items()
    }
    return ReferenceSplit(
        ALL, everything, none, rest, _NOT_KNOWN if told and unsure else why, notes
    )


def _notes_of_all(side: Sides, dataset: Dataset, *, told: bool, kept_some: bool) -> list[str]:
    """Return notes on a model that is compared with all images, if it was trained on some of them.

    Args:
        side: Training images and held-out images of the model.
        dataset: All images.
        told: Whether to add a note if the training images are not known.
        kept_some: Whether the model kept images out of training.
    """
    if len(side.trained):
        hint = "" if kept_some else "; use train --holdout to keep some out"
        return [f"it was trained on images of the reference{hint}"]
    return [f"split=all: {_unknown(dataset)}: {side.why}"] if told and side.why else []


def _unknown(dataset: Dataset) -> str:
    return (
        f"it is not known which of the {len(dataset):,} images of {dataset.name} it was trained on"
    )


def _notes(side: Sides, dataset: Dataset) -> list[str]:
    notes = []
    if side.why is not None:
        notes.append(
            f"of the {len(dataset):,} images of {dataset.name}, only the {len(side.held_out):,} "
            f"that were certainly kept out are used: {side.why}"
        )
    if side.alike:
        verb = "is" if side.alike == 1 else "are"
        notes.append(
            f"{side.alike:,} of the held-out images {verb} identical to a training image and not "
            "used"
        )
    return notes


def _sides(loaded: LoadedModel, dataset: Dataset, prepare: Prepare, poll: Poll) -> Sides:
    """Find the training and held-out images of a model, prepared as they were for its training."""
    preprocessing = loaded.training_preprocessing
    if not preprocessing.margin:
        return tell_sides(loaded, dataset, poll)
    wider = prepare(preprocessing)
    if len(wider) != len(dataset):
        none = Subset(dataset, np.empty(0, dtype=np.int64))
        return Sides(none, none, "some images could be read in only one of two passes")
    sides = tell_sides(loaded, wider, poll)
    trained, held_out = (Subset(dataset, s.rows) for s in (sides.trained, sides.held_out))
    return sides._replace(trained=trained, held_out=held_out)


def _common(parts: list[Subset], none: Subset) -> Subset:
    """Return the images that all parts of a data set have in common; ``none`` without parts."""
    if not parts:
        return none
    rows: Rows = reduce(np.intersect1d, [part.rows for part in parts])
    return Subset(none.dataset, rows)


def _refuse_unsure(unsure: Mapping[Path, str], dataset: Dataset, wanted: str) -> None:
    for path, why in unsure.items():
        raise DataError(
            f"--split {wanted}: {path!s:.200}: {_unknown(dataset)}: {why}. Give the training "
            "images to --data, or use --split all"
        )


def _checked(split: ReferenceSplit, models: Mapping[Path, LoadedModel]) -> ReferenceSplit:
    """Return the split.

    Raises:
        DataError: it has no images.
    """
    dataset = split.images.dataset
    if not len(split.images):
        share = next((m.holdout for m in models.values()), 0.0)
        raise DataError(
            f"none of the {len(dataset):,} images of {dataset.name} is in the split {split.name}, "
            f"with --holdout {share:g} of the model. Give more images, or use --split all"
        )
    return split
