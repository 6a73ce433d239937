"""Which images of the reference targets are compared with: those that no model was trained on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

import numpy as np

from gentool.checkpoint import LoadedModel
from gentool.core.errors import DataError, UsageError
from gentool.data import Dataset, Policy
from gentool.inference.held_out import Rows, Sides, tell_sides

SPLITS = ("auto", "held-out", "training", "all")
AUTO, HELD_OUT, TRAINING, ALL = SPLITS
Prepare = Callable[[Policy], Dataset]
Poll = Callable[[], None]
# Why samples cannot be compared with training images and others.
_OF_TRAINING = "the reference is the training images themselves; --split held-out compares both"
_NOT_KNOWN = "which of these images the models were trained on cannot be known"
_OF_ALL = "the reference is all images; --split held-out compares with those kept out"
KEPT_NONE = "no model here kept images out of training (train --holdout 0.1)"


@dataclass(frozen=True)
class Split:
    """The images to compare with.

    Attributes:
        name: ``held-out``, ``training`` or ``all``; the first two only where they are known.
        rows: Their numbers.
        trained: Numbers of the images that the models were trained on, where these are known and
            ``rows`` were kept out; else empty.
        rest: Numbers of images that may serve to learn features from: all but those kept out.
        why: Why nothing can be compared with training images; None where it can.
        notes: What to know of it, by target.
    """

    name: str
    rows: Rows
    trained: Rows
    rest: Rows
    why: str | None = None
    notes: Mapping[Path, list[str]] = field(default_factory=dict)


def check_split(wanted: str, models: Mapping[Path, LoadedModel], holdout: float) -> None:
    """Refuse, before any image is read, a split that no target can have.

    Raises:
        UsageError: it is so.
    """
    if wanted == HELD_OUT and not holdout:
        raise UsageError("no model here kept images out. Train with --holdout 0.1, or --split all")
    if wanted == TRAINING and not models:
        raise UsageError("--split training needs a model: no target here is one. Use --split all")


def choose_split(
    wanted: str, models: Mapping[Path, LoadedModel], dataset: Dataset, prepare: Prepare, poll: Poll
) -> Split:
    """The images to compare with.

    Args:
        wanted: One of ``SPLITS``, which ``check_split`` let pass.
        models: The targets that are models.
        dataset: The images, prepared.
        prepare: Prepares the same images by another policy.
        poll: Called now and then; may raise to stop.

    Raises:
        DataError: which images these are cannot be known, or there are none.
        ModelFileError: a header is damaged.
    """
    everything = np.arange(len(dataset))
    sides = {path: _sides(loaded, dataset, prepare, poll) for path, loaded in models.items()}
    held_out = _common([s.held_out for s in sides.values()], everything[:0])
    trained = _common([s.trained for s in sides.values()], everything[:0])
    unsure = {path: s.why for path, s in sides.items() if s.why is not None}
    with_holdout = any(loaded.holdout for loaded in models.values())
    rest = trained if len(trained) and with_holdout else np.setdiff1d(everything, held_out)
    if wanted == TRAINING:
        _refuse_unsure(unsure, dataset, wanted)
        return _checked(Split(TRAINING, trained, trained[:0], rest, _OF_TRAINING), models, dataset)
    told = wanted == AUTO and with_holdout
    if wanted == HELD_OUT and not len(held_out):
        _refuse_unsure(unsure, dataset, wanted)
    if wanted == HELD_OUT or (told and len(held_out)):
        why, known = (_NOT_KNOWN, trained[:0]) if unsure else (None, trained)
        notes = {path: _notes(side, dataset) for path, side in sides.items()}
        return _checked(Split(HELD_OUT, held_out, known, rest, why, notes), models, dataset)
    why = _OF_ALL if with_holdout else KEPT_NONE
    notes = {
        path: _notes_of_all(side, dataset, told=told, kept_some=models[path].holdout > 0)
        for path, side in sides.items()
    }
    return Split(
        ALL, everything, everything[:0], rest, _NOT_KNOWN if told and unsure else why, notes
    )


def _notes_of_all(side: Sides, dataset: Dataset, *, told: bool, kept_some: bool) -> list[str]:
    """On a model that is compared with all images, if it saw some of them or may have."""
    if len(side.trained):
        hint = "" if kept_some else "; train --holdout keeps some out"
        return [f"it was trained on images of the reference{hint}"]
    return [f"split=all: {_unknown(dataset)}: {side.why}"] if told and side.why else []


def _unknown(dataset: Dataset) -> str:
    return (
        f"it cannot be known which of the {len(dataset):,} images of {dataset.name} it was trained "
        "on"
    )


def _notes(side: Sides, dataset: Dataset) -> list[str]:
    notes = []
    if side.why is not None:
        notes.append(
            f"of the {len(dataset):,} images of {dataset.name} the {len(side.held_out):,} are used "
            f"that were certainly kept out: {side.why}"
        )
    if side.alike:
        verb = "looks" if side.alike == 1 else "look"
        notes.append(
            f"{side.alike:,} of the images that were kept out {verb} exactly like one that it "
            "learned from; left out"
        )
    return notes


def _sides(loaded: LoadedModel, dataset: Dataset, prepare: Prepare, poll: Poll) -> Sides:
    """What is known of a model, by images prepared as its training prepared them."""
    policy = loaded.training_policy
    if not policy.margin:
        return tell_sides(loaded, dataset, poll)
    wider = prepare(policy)
    if len(wider) != len(dataset):
        none = np.empty(0, dtype=np.int64)
        return Sides(none, none, "some of them could not be read in one of two passes")
    return tell_sides(loaded, wider, poll)


def _common(parts: list[Rows], none: Rows) -> Rows:
    return reduce(np.intersect1d, parts) if parts else none


def _refuse_unsure(unsure: Mapping[Path, str], dataset: Dataset, wanted: str) -> None:
    for path, why in unsure.items():
        raise DataError(
            f"--split {wanted}: {path!s:.200}: {_unknown(dataset)}: {why}. Give --data the "
            "images of its training, or --split all"
        )


def _checked(split: Split, models: Mapping[Path, LoadedModel], dataset: Dataset) -> Split:
    """The split, if there is an image in it."""
    if not len(split.rows):
        share = next((m.holdout for m in models.values()), 0.0)
        raise DataError(
            f"none of the {len(dataset):,} images of {dataset.name} is of the split {split.name}, "
            f"by --holdout {share:g} of the model. Give more images, or --split all"
        )
    return split
