"""Built-in sets as a source: ``builtin:NAME[:COUNT]``. Images are drawn; no file is read."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import UsageError
from gentool.core.images import Pixels
from gentool.core.pil_images import pil_mode, to_pil
from gentool.core.registry import Entry, Registry
from gentool.data.preprocessing import Preprocessing
from gentool.data.sources.base import Decoded, Loaded, Source, content_hash
from gentool.data.sources.procedural import Digits, ProceduralSet, Shapes
from gentool.data.sources.stacked_digits import Modes

BUILTIN_PREFIX = "builtin:"
_MAX_BUILTIN = 2**32

BUILTIN: Registry[ProceduralSet] = Registry(
    "built-in data set",
    "gentool list data",
    {
        "shapes": Entry("coloured shapes with known factors, 32x32 RGB, 6 classes", Shapes),
        "digits": Entry("digits like handwriting, 28x28 grey, 10 classes", Digits),
        "modes": Entry("images of 1,000 numbers, to count modes, 32x32 RGB, no classes", Modes),
    },
)


class BuiltinSource(Source):
    """A procedural set: images are drawn, not read from files."""

    def __init__(self, procedural: ProceduralSet, count: int) -> None:
        self.name = procedural.name
        self.procedural = procedural
        self.classes = procedural.classes
        self._count = count
        self.fingerprint = f"{procedural.name}-v{procedural.version}-{count}"

    def __len__(self) -> int:
        return self._count

    @cached_property
    def labels(self) -> NDArray[np.int32] | None:  # type: ignore[override]
        """Label of every image, int32 (N,), computed at first use; None without classes."""
        if not self.classes:
            return None
        labels = map(self.procedural.label, range(self._count))
        return np.fromiter(labels, dtype=np.int32, count=self._count)

    def read_modes(self, images: Pixels) -> NDArray[np.int64] | None:
        """Return the mode that each image shows, by the rule of the set; None if it has no rule."""
        return self.procedural.read(images)

    def describe(self, index: int) -> str:
        """Return the name of image ``index`` for messages."""
        return f"{BUILTIN_PREFIX}{self.name} image {index}"

    def load(self, index: int, preprocessing: Preprocessing) -> Loaded:
        """Return image ``index``, drawn at the wanted size."""
        shape = preprocessing.stored_shape
        drawn = self.procedural.render(index, shape.height, shape.width)
        return Loaded(_match_channels(drawn, shape.channels), content_hash(self._id(index)))

    def prepare(self, index: int, decoded: Decoded, preprocessing: Preprocessing) -> Loaded:
        """Return image ``index``, drawn at the wanted size."""
        return self.load(index, preprocessing)

    def open(self, index: int) -> Decoded:
        """Return image ``index`` at the default size of the set."""
        side = self.procedural.default_side
        drawn = self.procedural.render(index, side, side)
        return Decoded(to_pil(drawn), content_hash(self._id(index)))

    def __reduce__(self) -> tuple[Any, ...]:
        return BuiltinSource, (self.procedural, self._count)

    def _id(self, index: int) -> bytes:
        return self.describe(index).encode()


def _match_channels(drawn: Pixels, channels: int) -> Pixels:
    """Convert a drawn image to the colour mode with ``channels`` channels."""
    if drawn.shape[2] == channels:
        return drawn
    converted = to_pil(drawn).convert(pil_mode(channels))
    return np.asarray(converted, dtype=np.uint8).reshape(*drawn.shape[:2], channels)


def open_builtin(words: str) -> BuiltinSource:
    """Open the set called ``NAME`` or ``NAME:COUNT``.

    Raises:
        UsageError: there is no such set, or the count is not allowed.
    """
    name, _, count_word = words.partition(":")
    procedural = BUILTIN.get(name)
    if not count_word:
        return BuiltinSource(procedural, procedural.default_count)
    digits = len(count_word) <= 20 and count_word.isdecimal()
    if not digits or not 1 <= int(count_word) <= _MAX_BUILTIN:
        raise UsageError(
            f"builtin:{name}:{count_word:.20} needs a number of images after the name, "
            f"1 to {_MAX_BUILTIN}, for example builtin:{name}:10000"
        )
    count, multiple = int(count_word), procedural.multiple_of
    if count % multiple:
        more = count + -count % multiple
        raise UsageError(
            f"builtin:{name}:{count}: the number of images must be a multiple of its {multiple:,} "
            f"kinds. Use builtin:{name}:{more}"
        )
    return BuiltinSource(procedural, count)
