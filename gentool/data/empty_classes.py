"""Classes without images: they are left out, since a model that learns none of them shows noise.

A class loses its images where none of them can be read, or where a list of classes names more than
there are. Opens no file.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gentool.core.messages import WARNING
from gentool.data.dataset import Dataset

_NAMED = 3


def without_empty_classes(dataset: Dataset, listed: NDArray[np.int32] | None) -> Dataset:
    """Return a data set without the classes that have no image, and with a note on them.

    Args:
        dataset: The images that can be read.
        listed: Class index of every image of the source, also of those that cannot be read.
    """
    if dataset.labels is None or listed is None:
        return dataset
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    kept = np.flatnonzero(counts)
    if len(kept) == len(dataset.classes):
        return dataset
    place = np.zeros(len(dataset.classes), dtype=np.int64)
    place[kept] = np.arange(len(kept))
    classes = tuple(dataset.classes[k] for k in kept)
    prints = (dataset.fingerprint, dataset.older_fingerprint)
    fingerprint, older = (_with_classes(known, classes) for known in prints)
    kept_words = f"{len(kept):,} {'class remains' if len(kept) == 1 else 'classes remain'}"
    gone = [dataset.classes[k] for k in np.flatnonzero(counts == 0)]
    told = told_of(gone, np.bincount(listed, minlength=len(dataset.classes))[counts == 0])
    return replace(
        dataset,
        labels=place[dataset.labels],
        classes=classes,
        fingerprint=fingerprint,
        older_fingerprint=older,
        notes=(*dataset.notes, *(f"{sentence}; {kept_words}" for sentence in told)),
        with_empty=dataset,
    )


def _with_classes(fingerprint: str, classes: Sequence[str]) -> str:
    """Return the fingerprint of images with only these classes; "" for ""."""
    words = f"{fingerprint}|{json.dumps(classes)}"
    return hashlib.sha256(words.encode()).hexdigest() if fingerprint else ""


def told_of(classes: Sequence[str], before: Sequence[int] | NDArray[np.int64]) -> list[str]:
    """Return sentences on classes that are left out.

    Args:
        classes: Their names.
        before: How many images of each the source has, none of which can be read.
    """
    broken = [name for name, count in zip(classes, before, strict=True) if count]
    absent = [name for name, count in zip(classes, before, strict=True) if not count]
    found = []
    if broken:
        found.append(f"{WARNING}{_named(broken)} left out: none of the images can be read")
    if absent:
        found.append(f"{_named(absent)} left out: there are no images")
    return found


def _named(classes: Sequence[str]) -> str:
    shown = ", ".join(f"{name:.80}" for name in classes[:_NAMED])
    if len(classes) == 1:
        return f"the class {shown} is"
    more = len(classes) - _NAMED
    return f"the classes {shown}{f' and {more:,} more' if more > 0 else ''} are"
