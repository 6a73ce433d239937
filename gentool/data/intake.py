"""Intake notes: what a source took, what it passed over, and where its classes come from.

A source makes them while it lists its images, and they are kept with the index. ``lines_of``
makes all lines of text from them, for ``train`` and ``data pack`` (brief) and ``data check``.
Opens no file.
"""

import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gentool.core.messages import WARNING
from gentool.data.kinds import UNREAD_SUFFIXES

HIDDEN = "hidden by a dot at the start of the name"
LITTER = "left by an operating system or a NAS"
OWN = "made by gentool"
OWN_RUN = "run folder of gentool"
OWN_PICTURE = "made by gentool, and therefore not taken as data"  # the reason of an image
LINKS = "link inside an archive"
NO_SUFFIX = "without a suffix"
NO_CLASSES = "no classes: "
_MOST_FOLDERS = 100  # folders with images that are not read, which are kept in mind
_SHOWN = 3  # warnings about such folders
_MOST_SUFFIXES = 100  # suffixes that are counted one by one
_OTHER = "with other suffixes"
_BRIEF = 4  # reasons that a brief line names


@dataclass(frozen=True)
class Passed:
    """Files or folders that were passed over for one reason.

    Attributes:
        reason: One of the constants above, or a suffix such as ``.txt``.
        count: How many.
        first: The name of the first in sorted order.
        about: What is known about the first, such as its format; may be empty.
    """

    reason: str
    count: int
    first: str
    about: str = ""


class Tally:
    """Counts what is passed over, by reason."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}
        self._unread: dict[str, tuple[int, str]] = {}  # folders with images that are not read

    def add(self, reason: str, name: str) -> None:
        """Count one file or folder that is passed over."""
        if reason in UNREAD_SUFFIXES:
            folder = name.rpartition("/")[0]
            if folder in self._unread or len(self._unread) < _MOST_FOLDERS:
                self._unread[folder] = (self._unread.get(folder, (0, ""))[0] + 1, reason)
        if reason.startswith(".") and reason not in self._found:
            suffixes = sum(known.startswith(".") for known in self._found)
            reason = reason if suffixes < _MOST_SUFFIXES else _OTHER
        count, first = self._found.get(reason, (0, name))
        self._found[reason] = (count + 1, min(first, name))

    def lost_folders(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return a warning for each folder of images none of which is taken.

        Args:
            names: Names of all images that are taken, sorted by their bytes.
        """
        found = []
        for folder, (count, suffix) in sorted(self._unread.items()):
            start = f"{folder}/" if folder else ""
            key = os.fsencode(start)
            first = bisect_left(names, key, key=os.fsencode)
            if first == len(names) or not names[first].startswith(start):
                found.append(
                    f"the folder {folder:.80} holds {count:,} images of a format that is not read "
                    f"({suffix}), and no other: convert them to PNG or JPEG"
                )
        return tuple(found[:_SHOWN])

    def passed(self) -> tuple[Passed, ...]:
        """Return what was counted, the most frequent reason first."""
        rows = [Passed(reason, *found) for reason, found in self._found.items()]
        return tuple(sorted(rows, key=lambda row: (-row.count, row.reason)))


@dataclass(frozen=True)
class Intake:
    """What a source took, and what not.

    Attributes:
        taken: Number of images.
        passed: What was passed over, by reason.
        classes_from: Where the classes come from, such as ``the folders``; empty without classes.
        notes: What is told about labels; one that begins with ``NO_CLASSES`` says why there are
            none, where someone may have expected some.
        warnings: Sentences on what is suspicious.
        class_warnings: Sentences on suspicious classes, of interest where classes are learned.
        own: Whether all images were made by gentool; they are taken, as there are no others.
    """

    taken: int = 0
    passed: tuple[Passed, ...] = ()
    classes_from: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    class_warnings: tuple[str, ...] = ()
    own: bool = False

    @property
    def no_classes(self) -> str:
        """Why there are no classes; empty with classes."""
        told = (n.removeprefix(NO_CLASSES) for n in self.notes if n.startswith(NO_CLASSES))
        return "" if self.classes_from else next(told, "neither folders nor a file give any")

    def as_json(self) -> dict[str, Any]:
        """Return the notes as JSON values."""
        return {
            "taken": self.taken,
            "passed_over": [vars(row) for row in self.passed],
            "classes_from": self.classes_from or None,
            "no_classes": self.no_classes or None,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "class_warnings": list(self.class_warnings),
            "made_by_gentool": self.own,
        }

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> "Intake":
        """Return the notes that ``as_json`` returned.

        Raises:
            KeyError, TypeError: they are damaged.
        """
        return cls(
            taken=int(told["taken"]),
            passed=tuple(Passed(**row) for row in told["passed_over"]),
            classes_from=told["classes_from"] or "",
            notes=tuple(told["notes"]),
            warnings=tuple(told["warnings"]),
            class_warnings=tuple(told["class_warnings"]),
            own=bool(told["made_by_gentool"]),
        )


@dataclass
class _Sum:
    """The rows of several sources, added by reason."""

    rows: dict[str, Passed] = field(default_factory=dict)

    def add(self, row: Passed) -> None:
        known = self.rows.get(row.reason)
        self.rows[row.reason] = (
            row if known is None else replace(known, count=known.count + row.count)
        )


def joined(intakes: Iterable[Intake]) -> Intake:
    """Return the notes of several sources as one, without a statement on classes."""
    several, total = list(intakes), _Sum()
    for intake in several:
        for row in intake.passed:
            total.add(row)
    return Intake(
        taken=sum(intake.taken for intake in several),
        passed=tuple(sorted(total.rows.values(), key=lambda row: (-row.count, row.reason))),
        warnings=tuple(w for intake in several for w in intake.warnings),
        own=all(intake.own for intake in several),
    )


def with_passed(intake: Intake, reason: str, names: Sequence[str]) -> Intake:
    """Return the notes with images that were passed over later, when they were read."""
    if not names:
        return intake
    row = Passed(reason, len(names), min(names))
    whole = joined([intake, Intake(passed=(row,))])
    return replace(intake, taken=intake.taken - len(names), passed=whole.passed)


def lines_of(
    intake: Intake, *, brief: bool = False, classes: bool = True, learned: bool = True
) -> list[str]:
    """Return the notes as lines for people.

    Args:
        intake: The notes.
        brief: Whether to name only what a person reads in ten seconds.
        classes: Whether to say why there are no classes.
        learned: Whether the classes are learned, so that suspicious ones matter.
    """
    found = [f"{WARNING}{w}" for w in intake.warnings]
    if learned:
        found += [f"{WARNING}{w}" for w in intake.class_warnings]
    if intake.own:
        found.append("all images were made by gentool; they are taken, as there are no others")
    if intake.passed:
        found += _brief(intake) if brief else list(map(_full, intake.passed))
    if intake.classes_from and not brief:
        found.append(f"classes come from {intake.classes_from}")
    for note in intake.notes:
        if not note.startswith(NO_CLASSES):
            found.append(note)
        elif classes:
            found.append(f"{WARNING}{note}")
    return found


def passed_over(rows: Iterable[Passed]) -> str:
    """Return what was passed over in a few words; empty for nothing."""
    several = list(rows)
    shown = [f"{row.count:,} {row.reason} ({_first(row)})" for row in several[:_BRIEF]]
    more = sum(row.count for row in several[_BRIEF:])
    return ", ".join(shown) + (f", {more:,} others" if more else "")


def _brief(intake: Intake) -> list[str]:
    more = "; gentool data check lists them" if len(intake.passed) > _BRIEF else ""
    return [f"passed over: {passed_over(intake.passed)}{more}"]


def _full(row: Passed) -> str:
    what = f"files with the suffix {row.reason}" if row.reason.startswith(".") else row.reason
    return f"passed over {row.count:,} {what}, the first {_first(row)}"


def _first(row: Passed) -> str:
    name = row.first if len(row.first) <= 80 else f"...{row.first[-77:]}"
    return f"{name}: {row.about}" if row.about else name
