"""Several sources joined to one, with weights such as in ``b@2``. Opens no file itself."""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import overload

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import UsageError
from gentool.data.intake import Intake, joined
from gentool.data.labels.folders import one_spelling
from gentool.data.labels.layouts import doubts, suspicions
from gentool.data.preprocessing import Preprocessing
from gentool.data.sources.base import Access, Decoded, Loaded, Source
from gentool.data.sources.changes import stamp_of

MAX_WEIGHT = 1e6
_STRICTNESS: tuple[Access, ...] = ("processes", "threads", "sequential")


class JoinedSource(Source):
    """The images of several sources, one source after the other.

    Classes with the same name, in any Unicode form, are merged. If one of the sources has no
    labels, the joined source has none. ``access`` is that of the most restricted source.

    Args:
        sources: At least one source.
        weights: Weight of the images of each source; ``repeats`` is None if all are 1.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float]) -> None:
        self.sources = tuple(sources)
        self.weights = tuple(weights)
        self._ends = list(accumulate(len(source) for source in sources))
        self.name = "+".join(source.name for source in sources)
        self.paths = _JoinedPaths(self)
        self.access = max((source.access for source in sources), key=_STRICTNESS.index)
        self.classes, self.labels = _unite(self.sources)
        self.notes = _notes(self.sources)
        if any(weight != 1 for weight in weights):
            counts = [len(source) for source in sources]
            self.repeats = np.repeat(np.array(weights, dtype=np.float32), counts)
        words = [f"{source.fingerprint} {len(source)}" for source in sources]
        self.fingerprint = hashlib.sha256("\0".join(words).encode()).hexdigest()
        stamps = [source.stamp for source in sources]
        if any(stamp is not None for stamp in stamps):
            self.stamp = stamp_of(map(str, stamps))

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def intake(self) -> Intake:
        """What was taken and passed over, of all sources together."""
        several = [source.intake for source in self.sources]
        found = replace(joined(several), notes=self.notes)
        if self.labels is None:
            return found
        origins = dict.fromkeys(intake.classes_from for intake in several)
        of_folders = any(origin == "the folders" for origin in origins)
        warnings = tuple((suspicions if of_folders else doubts)(self.classes, self.labels))
        return replace(found, classes_from=" and ".join(origins), class_warnings=warnings)

    def place(self, index: int) -> tuple[Source, int]:
        """Return the source that contains image ``index``, and the number of the image there."""
        if not 0 <= index < len(self):
            raise IndexError(f"there is no image {index}; the source has {len(self)}")
        which = bisect_right(self._ends, index)
        return self.sources[which], index - (self._ends[which - 1] if which else 0)

    def describe(self, index: int) -> str:
        """Return the name of image ``index`` for messages, with the name of its source."""
        source, inside = self.place(index)
        return f"{source.name}: {source.describe(inside)}"

    def names(self) -> Iterator[str]:
        """Return what ``describe`` returns for each image, in order."""
        return (f"{source.name}: {name}" for source in self.sources for name in source.names())

    def load(self, index: int, preprocessing: Preprocessing) -> Loaded:
        """Return image ``index``, prepared."""
        source, inside = self.place(index)
        return source.load(inside, preprocessing)

    def prepare(self, index: int, decoded: Decoded, preprocessing: Preprocessing) -> Loaded:
        """Return image ``index``, which was opened before, prepared."""
        source, inside = self.place(index)
        return source.prepare(inside, decoded, preprocessing)

    def open(self, index: int) -> Decoded:
        """Return image ``index``, not prepared."""
        source, inside = self.place(index)
        return source.open(inside)

    def proof(self, index: int) -> int | None:
        """Return the content hash of image ``index``, as its source does."""
        source, inside = self.place(index)
        return source.proof(inside)

    def time(self, index: int) -> float | None:
        """Return when image ``index`` was last written, if it is known."""
        source, inside = self.place(index)
        return source.time(inside)

    def spot_check(self) -> str:
        """Return the spot checks of all sources."""
        return " ".join(source.spot_check() for source in self.sources).strip()

    def __reduce__(self) -> tuple[object, ...]:
        return JoinedSource, (self.sources, self.weights)


class _JoinedPaths(Sequence[str]):
    """The paths of all sources, one source after the other; "" for images without a path."""

    def __init__(self, joined: JoinedSource) -> None:
        self._joined = joined

    def __len__(self) -> int:
        return len(self._joined)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self[k] for k in range(*index.indices(len(self))))
        source, inside = self._joined.place(index + len(self) if index < 0 else index)
        return source.paths[inside] if source.paths else ""

    def __iter__(self) -> Iterator[str]:
        for source in self._joined.sources:
            yield from source.paths if source.paths else ("" for _ in range(len(source)))


def _unite(sources: Sequence[Source]) -> tuple[tuple[str, ...], NDArray[np.int32] | None]:
    """Return the classes of all sources in order of first occurrence, and labels into them.

    Without labels in one of the sources, the result is ((), None).
    """
    labelled = [(source.classes, source.labels) for source in sources]
    known = list(dict.fromkeys(name for names, _ in labelled for name in names))
    spelled = one_spelling(known)
    classes = tuple(dict.fromkeys(spelled))
    place = {name: k for k, name in enumerate(classes)}
    rank = {name: place[word] for name, word in zip(known, spelled, strict=True)}
    parts = []
    for names, labels in labelled:
        if labels is None:
            return (), None
        parts.append(np.array([rank[name] for name in names], dtype=np.int32)[labels])
    return classes, np.concatenate(parts)


def _notes(sources: Sequence[Source]) -> tuple[str, ...]:
    """Return the notes of all sources, and why there are no classes if only some have them."""
    notes = [f"{source.name}: {note}" for source in sources for note in source.notes]
    without = [source.name for source in sources if source.labels is None]
    if without and len(without) < len(sources):
        notes.append(f"no classes: {without[0]:.100} has none, and the others are joined with it")
    return tuple(notes)


def split_weight(spec: str) -> tuple[str, float]:
    """Split ``SPEC@WEIGHT`` into (SPEC, WEIGHT); without a weight it is 1.

    Raises:
        UsageError: the weight is not a number above 0, or is too large.
    """
    head, at, tail = spec.rpartition("@")
    try:
        weight = float(tail)
    except ValueError:
        return spec, 1.0
    if not at or not head:
        return spec, 1.0
    if not (math.isfinite(weight) and 0 < weight <= MAX_WEIGHT):
        raise UsageError(
            f"weight {tail:.20} of {head:.100} is not allowed: a weight is a number above 0, at "
            f"most {MAX_WEIGHT:.0f}, for example {head:.100}@2.5"
        )
    return head, weight
