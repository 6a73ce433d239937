"""Classes from folders: one rule for folders and archives, and the reason where there are none.

Leading folders that all images have in common are ignored. Every image must then be in a folder,
and there must be at least two. Folders that are the parts of a data set (``train``, ``val``), or
images and their masks, are no classes. Reads no file.
"""

import re
import unicodedata
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import DataError
from gentool.data.intake import Intake
from gentool.data.sources.labels import FROM_FOLDERS, Labelling, Labels

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
_MOST_BELOW = 50  # names of folders below the classes that are compared
_FEW = 10  # images; a smaller class is suspicious beside a much larger one
_MUCH_LARGER = 20
_SUBJECTS = 10  # classes; so many with at most ...
_OF_SUBJECT = 5  # ... this many images in the mean are probably no classes
_SHOWN = 3  # names in a message


class FolderClasses(NamedTuple):
    """What was found out about classes.

    Attributes:
        labels: Classes and labels; None without classes.
        notes: What is told about them: the fields of ``Intake`` that are about classes.
        mark: What the fingerprint needs beside the names of the images.
    """

    labels: Labels | None
    notes: Intake
    mark: bytes


class Place(NamedTuple):
    """Where the images are, for messages.

    Attributes:
        path: Path of the folder, or what the archive becomes when it is unpacked.
        packed: Whether it is an archive.
    """

    path: str
    packed: bool

    def below(self, *folders: str) -> str:
        """Return what to give as ``--data`` for a folder inside."""
        inside = "/".join([self.path.rstrip("/"), *filter(None, (f.rstrip("/") for f in folders))])
        return f"--data {inside}" + (", once it is unpacked" if self.packed else "")


def find_classes(
    labelling: Labelling, names: Sequence[str], place: Place, *, asked: bool
) -> FolderClasses:
    """Return the classes of images.

    Args:
        labelling: Where labels come from.
        names: Names of the images, sorted.
        place: Where the images are.
        asked: Whether the user wants the folders as classes (``--labels folders``).

    Raises:
        DataError: the labels do not match.
    """
    if labelling.key != FROM_FOLDERS:
        found = labelling.of(names)
        notes = Intake(
            classes_from=labelling.name if found else "",
            no_classes="" if found else _without(labelling),
        )
        return FolderClasses(found, _with_suspicions(notes, found), labelling.mark(found))
    tops = _Tops.of(names)
    if why := tops.why_none(place, asked=asked):
        return FolderClasses(None, Intake(no_classes=why, lost=tops.lost), tops.mark(None))
    found = tops.labels()
    notes = _with_suspicions(Intake(classes_from="the folders"), found, tops.parts_below(place))
    return FolderClasses(found, notes, tops.mark(found))


def require_classes(intake: Intake, spec: str) -> None:
    """Check that there are classes, which ``--labels folders`` asked for.

    Raises:
        DataError: there are none.
    """
    if not intake.classes_from:
        raise DataError(
            f"--labels {FROM_FOLDERS}: {spec:.200} has no classes: {intake.no_classes}. Sort the "
            "images into one folder per class, or leave --labels away"
        )


def _without(labelling: Labelling) -> str:
    return "--labels none" if labelling.read is None else f"{labelling.name} holds no labels"


@dataclass
class _Tops:
    """The folders below those that all images have in common.

    Attributes:
        common: The leading folders that all images have in common, with a final slash, or "".
        names: Names of the folders, in Unicode's composed form (NFC).
        numbers: Number of its folder for each image.
        loose: Number of images in no folder.
        first_loose: Name of the first of them.
        below: Names of folders directly inside, at most ``_MOST_BELOW``.
        changed: Whether a name was not in composed form.
    """

    common: str
    names: dict[str, int] = field(default_factory=dict)
    numbers: "array[int]" = field(default_factory=lambda: array("i"))
    loose: int = 0
    first_loose: str = ""
    below: set[str] = field(default_factory=set)
    changed: bool = False

    @classmethod
    def of(cls, names: Sequence[str]) -> "_Tops":
        """Return the folders of sorted names."""
        found = cls(_common(names[0], names[-1]))
        skipped = len(found.common)
        raw: dict[str, int] = {}
        for name in names:
            top, slash, rest = name[skipped:].partition("/")
            if not slash:
                found.loose += 1
                found.first_loose = found.first_loose or name
                continue
            if top not in raw:
                raw[top] = found._number(top)
            found.numbers.append(raw[top])
            if len(found.below) < _MOST_BELOW and "/" in rest:
                found.below.add(rest.partition("/")[0])
        return found

    def _number(self, top: str) -> int:
        composed = unicodedata.normalize("NFC", top)
        self.changed |= composed != top
        return self.names.setdefault(composed, len(self.names))

    @property
    def lost(self) -> bool:
        """Whether someone may have expected classes."""
        return len(self.names) > 1

    def why_none(self, place: Place, *, asked: bool) -> str:
        """Return why the folders are no classes; empty if they are."""
        if len(self.names) < 2:
            mixed = self.loose and self.names
            return "there is only one folder" if mixed else "all images are in one folder"
        if self.loose:
            count = "1 image lies" if self.loose == 1 else f"{self.loose:,} images lie"
            return (
                f"{count} beside the {len(self.names):,} folders, the first {self.first_loose:.80}."
                " Move such images into a folder or away to get classes"
            )
        return "" if asked else self._layout(place)

    def _layout(self, place: Place) -> str:
        """Return a sentence if the folders are a layout of data sets instead of classes."""
        plain = {name: _plain(name) for name in self.names}
        shown = _listed(sorted(self.names))
        if all(word in _PARTS for word in plain.values()):
            first = next((n for n, word in plain.items() if word in _TRAINING), min(self.names))
            others = sorted(name for name in self.names if name != first)
            return (
                f"{shown} look like the parts of a data set. Use {place.below(self.common, first)} "
                f"(and {others[0]} for evaluate), or --labels folders to take them as classes"
            )
        if all(word in _PICTURES | _ANNOTATIONS for word in plain.values()):
            pictures = sorted(name for name, word in plain.items() if word in _PICTURES)
            if pictures and len(pictures) < len(plain):
                return (
                    f"{shown} look like images and what belongs to them. Use "
                    f"{place.below(self.common, pictures[0])}, or --labels folders to take them as "
                    "classes"
                )
        return ""

    def parts_below(self, place: Place) -> tuple[str, ...]:
        """Return a warning if classes have folders for training and testing inside, or masks."""
        words = {_plain(name): name for name in self.below}
        training, parts = words.keys() & _TRAINING, words.keys() & _PARTS
        mixed = training and len(parts) > 1
        masks = words.keys() & _ANNOTATIONS and words.keys() & _PICTURES
        if not (mixed or masks):
            return ()
        shown = _listed(sorted(self.below))
        return (f"the class folders hold {shown}, and images of all these are taken",)

    def labels(self) -> Labels:
        """Return the folders as classes, sorted by name."""
        classes = sorted(self.names)
        rank = np.empty(len(classes), dtype=np.int32)
        for place, name in enumerate(classes):
            rank[self.names[name]] = place
        return Labels(tuple(classes), rank[np.frombuffer(self.numbers, np.int32)])

    def mark(self, found: Labels | None) -> bytes:
        """Return b"" if the top folders are the classes exactly as they are named."""
        if found is None:
            return b"" if len(self.names) < 2 or self.loose or self.common else b"no classes"
        return f"below {self.common}, {self.changed}".encode("utf-8", "surrogateescape") * bool(
            self.common or self.changed
        )


def _common(first: str, last: str) -> str:
    """Return the leading folders that all names between two sorted names have in common."""
    found = []
    for a, b in zip(first.split("/")[:-1], last.split("/")[:-1], strict=False):
        if a != b:
            break
        found.append(f"{a}/")
    return "".join(found)


def _plain(name: str) -> str:
    """Return a name in lower case without digits and separators: ``Train_2017`` -> ``train``."""
    return re.sub(r"[\W_\d]", "", name.lower())


def _listed(names: Sequence[str]) -> str:
    shown = [f"{name:.60}" for name in names[:_SHOWN]]
    if len(names) > _SHOWN:
        return f"{', '.join(shown)} and {len(names) - _SHOWN:,} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _with_suspicions(notes: Intake, found: Labels | None, more: tuple[str, ...] = ()) -> Intake:
    """Return the notes with warnings about classes that look like a mistake."""
    if found is None:
        return notes
    warnings = [*more, *suspicions(found.classes, found.labels)]
    return replace(notes, class_warnings=tuple(warnings))


def suspicions(classes: Sequence[str], labels: NDArray[np.int32]) -> list[str]:
    """Return a sentence for everything that is suspicious about classes."""
    counts = np.bincount(labels, minlength=len(classes))
    found = []
    advice = "train with --unconditional if they are not meant as classes"
    if len(classes) >= _SUBJECTS and len(labels) <= _OF_SUBJECT * len(classes):
        found.append(
            f"{len(classes):,} classes for only {len(labels):,} images, as of a folder per "
            f"subject: {advice}"
        )
    elif len(classes) > 1:
        largest, few = int(counts.max()), np.flatnonzero(counts < _FEW)
        few = few[counts[few] * _MUCH_LARGER <= largest]
        if len(few):
            named = [f"{classes[k]} ({counts[k]:,})" for k in few[:_SHOWN]]
            more = f" and {len(few) - _SHOWN:,} more" if len(few) > _SHOWN else ""
            found.append(
                f"very few images of {', '.join(named)}{more}, against {largest:,} of the largest "
                f"class: {advice}"
            )
    return [*found, *_alike(classes)]


def _alike(classes: Sequence[str]) -> list[str]:
    """Return a sentence if the names of classes differ only in case, spaces or forms of letters."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        key = re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()
        groups.setdefault(key, []).append(name)
    doubled = [group for group in groups.values() if len(group) > 1]
    if not doubled:
        return []
    more = f" (and {len(doubled) - 1:,} more such names)" if len(doubled) > 1 else ""
    return [
        f"the classes {_listed(doubled[0])} differ only in case or spaces{more}: join their "
        "folders if they are one class"
    ]
