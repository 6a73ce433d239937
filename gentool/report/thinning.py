"""Reading a log of any length into a bounded number of buckets, for charts.

A bucket holds the lowest and the highest value of some lines in sequence, and their mean, so that a
chart of a million lines still shows every peak.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gentool.core.atomic_files import open_regular

MOST_BUCKETS = 400  # after thinning; twice as many before it
MOST_SERIES = 80
_MOST_NOTES = 200
_MOST_LINE_BYTES = 2**20
SPEED = "images_per_second"  # in every line of losses
_NOT_SERIES = {"images", "seconds", "share"}


@dataclass
class Bucket:
    """Some lines in sequence.

    Attributes:
        images: Images seen at the last of them.
        series: Name -> lowest value, highest value, sum and number of the values.
        lines: Number of lines.
    """

    images: int = 0
    series: dict[str, list[float]] = field(default_factory=dict)
    lines: int = 0

    def add(self, images: int, values: Mapping[str, float]) -> None:
        """Add one line."""
        self.images, self.lines = images, self.lines + 1
        for name, value in values.items():
            known = self.series.get(name)
            if known is None:
                self.series[name] = [value, value, value, 1]
                continue
            if value < known[0]:
                known[0] = value
            elif value > known[1]:
                known[1] = value
            known[2] += value
            known[3] += 1

    def merge(self, other: "Bucket") -> None:
        """Add the lines of the next bucket."""
        self.images, self.lines = other.images, self.lines + other.lines
        for name, (low, high, total, count) in other.series.items():
            known = self.series.setdefault(name, [low, high, 0.0, 0])
            low, high = min(known[0], low), max(known[1], high)
            self.series[name] = [low, high, known[2] + total, known[3] + count]

    def low(self, name: str) -> float:
        """Return the lowest value of a series."""
        return self.series[name][0]

    def high(self, name: str) -> float:
        """Return the highest value of a series."""
        return self.series[name][1]

    def mean(self, name: str) -> float:
        """Return the mean of a series."""
        return self.series[name][2] / self.series[name][3]

    def is_thin(self, name: str) -> bool:
        """Return whether it holds several values of a series."""
        return self.series[name][3] > 1


@dataclass
class Thinner:
    """Takes lines one by one and keeps at most ``2 * MOST_BUCKETS`` buckets of equal size."""

    buckets: list[Bucket] = field(default_factory=list)
    size: int = 1

    def add(self, images: int, values: Mapping[str, float]) -> None:
        """Add one line."""
        if not self.buckets or self.buckets[-1].lines >= self.size:
            if len(self.buckets) >= 2 * MOST_BUCKETS:
                for first, second in zip(self.buckets[::2], self.buckets[1::2], strict=True):
                    first.merge(second)
                self.buckets, self.size = self.buckets[::2], 2 * self.size
            self.buckets.append(Bucket())
        self.buckets[-1].add(images, values)


@dataclass
class ThinLog:
    """The log of a run.

    Attributes:
        lines: Lines of losses.
        scores: Lines of scores.
        notes: Other lines, such as a setback; at most 200.
        last: The last line of losses.
        broken: Number of lines that cannot be read.
        names: Names of all series in the order in which they appear, at most ``MOST_SERIES``.
        left_out: Names of series beyond these.
    """

    lines: Thinner = field(default_factory=Thinner)
    scores: Thinner = field(default_factory=Thinner)
    notes: list[dict[str, Any]] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)
    broken: int = 0
    names: dict[str, bool] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)

    def add(self, record: object) -> None:
        """Add the value of one line of the file."""
        if not isinstance(record, dict) or not _is_count(record.get("images")):
            self.broken += 1
            return
        is_score = SPEED not in record
        values = {
            name: float(value)
            for name, value in record.items()
            if name not in _NOT_SERIES
            and _is_number(value)
            and (name in self.names or self._is_taken(name, is_score))
        }
        if not is_score:
            self.last = record
            self.lines.add(record["images"], values)
        elif values and len(values) == len(record.keys() - _NOT_SERIES):
            self.scores.add(record["images"], values)
        elif len(self.notes) < _MOST_NOTES:
            self.notes.append(record)

    def _is_taken(self, name: str, is_score: bool) -> bool:
        """Return whether a new series is kept; remember its name."""
        if len(self.names) >= MOST_SERIES:
            self.left_out.add(name[:80])
            return False
        self.names[name] = is_score
        return True


def read_log(path: Path) -> ThinLog:
    """Return the log in a file; a line that is damaged or incomplete is counted.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    found = ThinLog()
    for line in _lines(path):
        try:
            found.add(json.loads(line))
        except (ValueError, RecursionError):
            found.broken += 1
    return found


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file that are not empty, each cut to a megabyte."""
    with open_regular(path) as file:
        while line := file.readline(_MOST_LINE_BYTES):
            if line.strip():
                yield line


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
