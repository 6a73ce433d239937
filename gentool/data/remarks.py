"""What preparing the images of a source showed besides their pixels.

Counted are images far smaller than the training size, files with further frames, copies of files,
and images that are nearly equal. Kept with a cache entry. Opens no file.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gentool.core.images import ImageShape
from gentool.data.levels import Levels
from gentool.data.likeness import MOST_IMAGES, Likeness
from gentool.data.preprocessing import Preprocessing

ENLARGED = 4  # images that are enlarged by more than this are far smaller than the training size
_ABOUT_LEVELS = "images that "
_LEVELS_ADVICE = ". If that is not wanted, give --levels LOW:HIGH"
_MAINLY = 0.5  # share of the files from which further frames are a note of training


class Marks(NamedTuple):
    """Counts of some images, with the number of the first; -1 for none.

    Attributes:
        small: How many are far smaller than the training size.
        first_small: The first of them.
        films: How many files have further frames.
        first_film: The first of them.
        unsuited: How many are deep images that the levels suit badly.
        first_unsuited: The first of them.
    """

    small: int = 0
    first_small: int = -1
    films: int = 0
    first_film: int = -1
    unsuited: int = 0
    first_unsuited: int = -1

    def plus(self, other: "Marks") -> "Marks":
        """Return the sum with the marks of later images."""
        return Marks(
            self.small + other.small,
            self.first_small if self.small else other.first_small,
            self.films + other.films,
            self.first_film if self.films else other.first_film,
            self.unsuited + other.unsuited,
            self.first_unsuited if self.unsuited else other.first_unsuited,
        )


def marks_of(index: int, *, small: bool, film: bool, unsuited: bool) -> Marks:
    """Return the marks of the image with number ``index``."""
    flags = (small, film, unsuited)
    return Marks(*(value for flag in flags for value in (int(flag), index if flag else -1)))


@dataclass(frozen=True)
class Remarks:
    """Counts of images to look at, and examples of them by name.

    Attributes:
        small: Images far smaller than the training size.
        films: Files with further frames, which are not read.
        unsuited: Deep images that the levels suit badly.
        copies: Files that are equal to another one; of equal files all but one count.
        near: Other images that are nearly equal to another one.
        compared: How many images were compared to find the last.
        first_small: The name of the first.
        first_film: The name of the first.
        first_unsuited: The name of the first.
        first_copy: The names of two equal files.
        first_near: The names of two images that are nearly equal.
    """

    small: int = 0
    films: int = 0
    unsuited: int = 0
    copies: int = 0
    near: int = 0
    compared: int = 0
    first_small: str = ""
    first_film: str = ""
    first_unsuited: str = ""
    first_copy: str = ""
    first_near: str = ""

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> "Remarks":
        """Return remarks that were saved as the JSON of ``vars``.

        Raises:
            KeyError, TypeError, ValueError: they are damaged.
        """
        plain = cls()
        return cls(**{name: type(known)(told[name]) for name, known in vars(plain).items()})

    def lines(self, total: int, preprocessing: Preprocessing) -> list[str]:
        """Return the remarks on a set of ``total`` images, one line for each kind of remark."""
        parts, shape = [], preprocessing.shape
        if self.small:
            size = f"{shape.height}x{shape.width}"
            parts.append(f"{self.small:,} images far smaller than {size} ({self.first_small})")
        if self.copies:
            parts.append(f"{self.copies:,} copies of others ({self.first_copy})")
        if self.near:
            among = f" among the first {self.compared:,}" if self.compared == MOST_IMAGES else ""
            parts.append(f"{self.near:,} nearly equal to others{among} ({self.first_near})")
        found = []
        if self.unsuited:
            found.append(about_levels(self.unsuited, preprocessing.levels, self.first_unsuited))
        if parts:
            found.append(f"to look at: {', '.join(parts)}; gentool data check lists them")
        if self.films > _MAINLY * total:
            found.append(about_films(self.films, total, self.first_film))
        return found


def about_films(films: int, total: int, first: str) -> str:
    """Return a sentence on files with further frames."""
    return (
        f"{films:,} of {total:,} files have several frames or pages ({first:.80}), of which the "
        "first is taken: --all-frames takes all"
    )


def about_levels(count: int, levels: Levels | None, first: str) -> str:
    """Return a sentence on deep images that become too dark or too bright."""
    if levels is None:
        what = "use only the lowest part of the range of their type and become nearly black"
    else:
        what = f"have values outside the levels {levels}"
    return f"{_ABOUT_LEVELS}{what}: {count:,}, the first {first:.80}{_LEVELS_ADVICE}"


def unsuited_notes(notes: Iterable[str]) -> list[str]:
    """Return those notes of a data set that are on levels, without advice to choose others.

    They are for images whose levels are those of a model.
    """
    return [note.removesuffix(_LEVELS_ADVICE) for note in notes if note.startswith(_ABOUT_LEVELS)]


def is_far_smaller(size: tuple[int, int], shape: ImageShape) -> bool:
    """Return whether an image of ``size`` (width, height) is enlarged much to fill ``shape``."""
    width, height = size
    return shape.width > ENLARGED * width or shape.height > ENLARGED * height


def make_remarks(
    marks: Marks,
    likeness: Likeness,
    hashes: NDArray[np.uint64],
    bad: NDArray[np.int64],
    name: Callable[[int], str],
) -> Remarks:
    """Return the remarks on a source whose images are all prepared.

    Args:
        marks: Of all images.
        likeness: The images without the bad ones, by their number in the source.
        hashes: Content hashes of the images without the bad ones, uint64 (N,).
        bad: Numbers of the bad images, sorted.
        name: Returns the name of the image with a number.
    """
    order = np.argsort(hashes, kind="stable")
    again = order[1:][hashes[order[1:]] == hashes[order[:-1]]]  # rows of all copies but the first
    numbers = np.delete(np.arange(len(hashes) + len(bad)), bad)
    copies = numbers[again]
    first_copy = ""
    if len(again):
        row = int(again.min())
        twin = int(np.flatnonzero(hashes[:row] == hashes[row])[0])
        first_copy = _pair(name(int(numbers[row])), name(int(numbers[twin])))
    alike = likeness.find(np.sort(copies))
    return Remarks(
        small=marks.small,
        films=marks.films,
        unsuited=marks.unsuited,
        copies=len(copies),
        near=alike.total,
        compared=likeness.count,
        first_small=name(marks.first_small)[:80] if marks.small else "",
        first_film=name(marks.first_film)[:80] if marks.films else "",
        first_unsuited=name(marks.first_unsuited)[:80] if marks.unsuited else "",
        first_copy=first_copy,
        first_near=_pair(name(alike.first), name(alike.twin)) if alike.total else "",
    )


def _pair(one: str, other: str) -> str:
    return f"{one:.80} = {other:.80}"
