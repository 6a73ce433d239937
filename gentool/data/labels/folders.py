"""Top folders as classes, and the reason where they are none. Works on names alone."""

import re
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gentool.data.labels.assigning import share_for


class Labels(NamedTuple):
    """Class names and labels.

    Attributes:
        classes: Class names.
        labels: Index into ``classes`` per image, int32 (N,); -1 for an image without a label.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int32]


def by_folder(names: Iterable[str], allowed: float = 0, common: str = "") -> Labels | None:
    """Return top folders as classes, or None.

    Args:
        names: Names of the images.
        allowed: Share of the images that may be in no such folder.
        common: The folders that all names begin with, which are no classes.

    It is None if there are fewer than two such folders, or if a larger share of the images than
    ``allowed`` is in none. Folders whose names differ only in Unicode's form are one class.
    """
    found: dict[str, int] = {"": -1}
    numbers, start = array("i"), len(common)
    for name in names:
        top, slash, _ = name[start:].partition("/")
        numbers.append(found.setdefault(top, len(found) - 1) if slash else -1)
    loose = np.frombuffer(numbers, np.int32) < 0 if numbers else np.empty(0, bool)
    words = [word for word in found if word]
    if loose.sum() > allowed * len(numbers):
        return None
    spelled = one_spelling(words)
    if len(set(spelled)) < 2:
        return None
    classes = sorted(set(spelled))
    place = {name: k for k, name in enumerate(classes)}
    rank = np.array([*(place[name] for name in spelled), -1], dtype=np.int32)
    return Labels(tuple(classes), rank[np.frombuffer(numbers, np.int32)])


def one_spelling(words: Sequence[str]) -> list[str]:
    """Return the names, those that differ only in Unicode's form in the composed form."""
    forms: dict[str, set[str]] = {}
    for word in words:
        forms.setdefault(unicodedata.normalize("NFC", word), set()).add(word)
    return [
        word if len(forms[form]) == 1 else form
        for word, form in ((word, unicodedata.normalize("NFC", word)) for word in words)
    ]


@dataclass(frozen=True)
class Tops:
    """The top folders of images.

    Attributes:
        folders: Their names, in order of first occurrence, and their subfolders with images.
        total: Number of images.
        loose: Number of images that are in none.
        first: The first of them.
    """

    folders: dict[str, set[str]]
    total: int
    loose: int
    first: str

    @classmethod
    def of(cls, names: Iterable[str], common: str = "") -> "Tops":
        """Return the top folders of these images below ``common``, which all are in."""
        folders: dict[str, set[str]] = {}
        total, loose, first = 0, 0, ""
        for name in names:
            total += 1
            top, slash, rest = name[len(common) :].partition("/")
            if not slash:
                loose, first = loose + 1, first or name
                continue
            inside = folders.setdefault(top, set())
            if "/" in rest and len(inside) < 3:
                inside.add(rest.partition("/")[0])
        return cls(folders, total, loose, first)

    def why_no_classes(self) -> str:
        """Return why the folders are no classes, and what to do."""
        if not self.folders:
            return "all images are in one folder. Put the images of each class into a folder"
        if len(set(one_spelling(list(self.folders)))) > 1:
            return (
                f"{self.loose:,} of {self.total:,} images are in no class folder; the first is "
                f"{self.first:.200}. Move them into one, or leave them out with --labels folders "
                f"--max-bad {share_for(self.loose, self.total):g}"
            )
        return f"the only folder of images is {next(iter(self.folders)):.100}. Classes need two"


def alike(classes: Sequence[str]) -> list[str]:
    """Return the first class names that differ only in case, spaces or Unicode's form.

    A sign at the start counts: -1 and 1 are different.
    """
    forms: dict[str, list[str]] = {}
    for name in classes:
        folded = unicodedata.normalize("NFKC", name).casefold()
        folded = " ".join(re.sub(r"[\s_]+|(?<=\w)-+", " ", folded).split())
        forms.setdefault(folded, []).append(name)
    return next((names for names in forms.values() if len(names) > 1), [])


def are_numbered(folders: Iterable[str]) -> bool:
    """Return whether folders are called 00000, 00001 ..., as StyleGAN's tool calls them."""
    return all(len(name) == 5 and name.isdecimal() for name in folders)
