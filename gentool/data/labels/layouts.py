"""Folders that are no classes, as the parts of a data set, and classes that may be a mistake.

Works on names and counts alone.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gentool.data.labels.words import MEASURE_WORDS, fold_word

_TRAINING = frozenset({
    "train", "training", "trainset", "trainingset", "traindata", "trainimages", "trainimgs",
    "trainval", "trn", "traina", "trainb",
})  # fmt: skip
_PARTS = _TRAINING | {
    "val", "valid", "validation", "valset", "validationset", "valdata", "valimages", "vala",
    "valb", "dev", "devset", "minival", "test", "testing", "testset", "testdata", "testimages",
    "testa", "testb", "eval", "evaluation", "evalset", "holdout", "unlabeled", "unlabelled",
    "extra",
}  # fmt: skip
_PICTURES = frozenset({
    "image", "images", "img", "imgs", "jpegimages", "rgb", "imagesoriginal", "input", "inputs",
})  # fmt: skip
_ANNOTATIONS = frozenset({
    "mask", "masks", "label", "labels", "annotation", "annotations", "segmentation",
    "segmentations", "segmentationclass", "segmentationobject", "segmentationmask",
    "segmentationmasks", "groundtruth", "gt", "gts", "depth", "depths", "trimaps", "bboxes",
    "normals", "target", "targets",
})  # fmt: skip
_FEW = 10  # images; a smaller class is suspicious beside a much larger one
_MUCH_LARGER = 20
_SUBJECTS = 10  # classes; so many with at most ...
_OF_SUBJECT = 5  # ... this many images in the mean are probably no classes
_OF_NUMBER = 10  # images; so few for each of many numbers mean that the numbers are no classes
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_OF_PERSONS = ("ident", "subject", "person", "patient")
_SHOWN = 3  # names in a message
_VOLUME = re.compile(r"[0-9]{5,}")  # FFHQ: 00000, 01000, ...; digits as classes are shorter
_SAMPLE = 2000  # images whose folders inside the classes are looked at


class Place(NamedTuple):
    """Where the images are, for messages.

    Attributes:
        path: Path of the folder, or of the folder that the archive becomes when it is unpacked.
        packed: Whether it is an archive.
    """

    path: str
    packed: bool

    def below(self, *folders: str) -> str:
        """Return what to give as ``--data`` for a folder inside."""
        names = [name for name in (folder.rstrip("/") for folder in folders) if name]
        inside = "/".join([self.path.rstrip("/"), *names])
        return f"--data {inside}" + (", once it is unpacked" if self.packed else "")


def layout_of(folders: Sequence[str], common: str, place: Place) -> str:
    """Return a sentence if folders are a layout of data sets instead of classes, else "".

    Args:
        folders: Names of the folders.
        common: The folders that they are in.
        place: Where ``common`` is.
    """
    plain = {name: _plain(name) for name in folders}
    parts = sorted(name for name, word in plain.items() if word in _PARTS)
    training = [name for name in parts if plain[name] in _TRAINING]
    if len(parts) == len(plain) or (training and len(parts) > 1):
        first = training[0] if training else parts[0]
        others = [name for name in parts if name != first]
        return (
            f"{listed(parts)} look like the parts of a data set. Use {place.below(common, first)} "
            f"(and {others[0]} for evaluate), or --labels folders to take them as classes"
        )
    pictures = sorted(name for name, word in plain.items() if word in _PICTURES)
    related = all(word in _PICTURES | _ANNOTATIONS for word in plain.values())
    if related and pictures and len(pictures) < len(plain):
        return (
            f"{listed(sorted(folders))} look like images and what belongs to them. Use "
            f"{place.below(common, pictures[0])}, or --labels folders to take them as classes"
        )
    return ""


def inside_classes(names: Sequence[str], common: str) -> list[str]:
    """Return a warning if class folders contain folders for training and testing, or masks."""
    below = set()
    for index in np.unique(np.linspace(0, len(names) - 1, _SAMPLE).astype(int)).tolist():
        parts = names[index][len(common) :].split("/")
        if len(parts) > 2:
            below.add(parts[1])
    words = {_plain(name) for name in below}
    mixed = words & _TRAINING and len(words & _PARTS) > 1
    if not (mixed or (words & _ANNOTATIONS and words & _PICTURES)):
        return []
    return [f"the class folders hold {listed(sorted(below))}, and images of all these are taken"]


def suspicions(classes: Sequence[str], labels: NDArray[np.int32]) -> list[str]:
    """Return a sentence if classes have so few images that they are probably not meant."""
    counts = np.bincount(labels, minlength=len(classes))
    advice = "train with --unconditional if they are not meant as classes"
    if len(classes) >= _SUBJECTS and len(labels) <= _OF_SUBJECT * len(classes):
        return [
            f"{len(classes):,} classes for only {len(labels):,} images, as of a folder per "
            f"subject: {advice}"
        ]
    if len(classes) < 2:
        return []
    if all(_VOLUME.fullmatch(name) for name in classes):
        return [
            f"the folders {listed(classes)} are numbered like parts of one large set, as those of "
            f"FFHQ are, and not named like classes: {advice}"
        ]
    largest, few = int(counts.max()), np.flatnonzero(counts < _FEW)
    few = few[counts[few] * _MUCH_LARGER <= largest]
    if not len(few):
        return []
    named = [f"{classes[k]} ({counts[k]:,})" for k in few.tolist()]
    return [
        f"very few images of {listed(named)}, against {largest:,} of the largest class: {advice}"
    ]


def doubts(classes: Sequence[str], labels: NDArray[np.int32], column: str = "") -> list[str]:
    """Return sentences on suspicious classes that a file or an array gives.

    Args:
        classes: The classes.
        labels: The class of each image.
        column: Name of the column that they are from.
    """
    told = _about_numbers(classes, labels, column)
    return [*([told] if told else suspicions(classes, labels)), *_about_several(classes)]


def _about_numbers(classes: Sequence[str], labels: NDArray[np.int32], column: str) -> str:
    """Return a sentence if classes are rather measurements, such as ages, else "".

    Args:
        classes: The classes.
        labels: The class of each image.
        column: Name of the column that they are from.
    """
    word = fold_word(column)
    if len(classes) < _SUBJECTS or not all(map(_NUMBER.fullmatch, classes)):
        return ""
    if word.endswith("id") or any(part in word for part in _OF_PERSONS):
        return ""
    fractions = any("." in name and float(name) % 1 for name in classes)
    rare = len(labels) <= _OF_NUMBER * len(classes) and len(classes) >= 2 * _SUBJECTS
    if not (fractions or rare or word in MEASURE_WORDS):
        return ""
    low, high = (f(classes, key=float) for f in (min, max))
    return (
        f"{len(classes):,} different numbers ({low} to {high}) for {len(labels):,} images become "
        "as many classes, which have no order. If they are measurements, such as ages, write a "
        "column of a few groups (20-29), or train with --unconditional"
    )


def _about_several(classes: Sequence[str]) -> list[str]:
    """Return a warning if names of classes are several other classes in one, such as cat|dog."""
    known = set(classes)
    found = [
        name
        for name in classes
        for sign in "|;,+"
        if sign in name and all(part.strip() in known for part in name.split(sign))
    ]
    if not found:
        return []
    what = "is a class of its own" if len(found) == 1 else "are classes of their own"
    return [f"{listed(found)} {what}, beside the classes in the name; an image has one class"]


def common_folders(names: Iterable[str]) -> str:
    """Return the folders that all names begin with, with a final slash, or ""."""
    found: list[str] | None = None
    for name in names:
        parts = name.split("/")[:-1]
        if found is None:
            found = parts
        elif found != parts[: len(found)]:
            same = (a == b for a, b in zip(found, parts, strict=False))
            found = found[: next((k for k, equal in enumerate(same) if not equal), len(parts))]
        if not found:
            return ""
    return "".join(f"{part}/" for part in found or ())


def _plain(name: str) -> str:
    """Return a name in lower case without digits and separators: ``Train_2017`` -> ``train``."""
    return re.sub(r"[\W_\d]", "", name.lower())


def listed(names: Sequence[str]) -> str:
    """Return the first names in words: ``a, b and c``, or ``a, b, c and 4 more``."""
    shown = [f"{name:.60}" for name in names[:_SHOWN]]
    if len(names) > _SHOWN:
        return f"{', '.join(shown)} and {len(names) - _SHOWN:,} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
