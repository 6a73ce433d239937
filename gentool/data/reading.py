"""Reading images of a source: an image, or why it is bad; and a sample that is opened only once.

The shape of the training images and some options are chosen by a sample of the images, before all
images are prepared. ``Sample`` keeps what was opened for that, so that ``prepare`` need not open
it again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from gentool.core.errors import DataError, GentoolError
from gentool.core.images import Pixels
from gentool.data.encoded import BadImage
from gentool.data.preprocessing import Preprocessing
from gentool.data.sources.base import Decoded, Loaded, Source

T = TypeVar("T")


class Bad(NamedTuple):
    """An image that could not be prepared.

    Attributes:
        number: Its number in the source.
        reason: Why it could not be prepared.
        passing: Whether the fault may be temporary, so that trying again may succeed.
    """

    number: int
    reason: str
    passing: bool


Found = Loaded | Bad
Known = Mapping[int, Found]


def attempt(read: Callable[[int], T], index: int) -> T | Bad:
    """Return ``read(index)``, where ``read`` reads an image, or why the image is bad.

    Raises:
        GentoolError: the source as a whole cannot be read.
    """
    try:
        return read(index)
    except GentoolError:
        raise
    except BadImage as error:
        return Bad(index, str(error), False)
    except OSError as error:  # missing permission, or a disk or server that fails
        return Bad(index, f"it cannot be read: {error.strerror or error}", True)
    except Exception as error:  # decoders raise almost anything on broken data
        words = f"{type(error).__name__}: {error}".strip().splitlines()
        return Bad(index, words[0], False)


class Sample:
    """Some images of a source: spread evenly, or the first of a stream.

    Each is opened at most once, as long as the decoded images do not take too much memory. Only
    one thread at a time may use it.

    Args:
        source: Where the images come from.
        count: How many images; all if there are fewer.
        most_bytes: Bytes of decoded images that are kept; the others are opened again.
    """

    def __init__(self, source: Source, count: int = 64, most_bytes: int = 2**30) -> None:
        self.source = source
        self._numbers = _spread(source, count)
        self._decoded: dict[int, Decoded | Bad] = {}
        self._room = self._most_bytes = most_bytes
        self._prepared: dict[int, Found] = {}
        self._preprocessing: Preprocessing | None = None

    def images(self) -> Iterator[Image.Image]:
        """Yield the images that can be read, not prepared.

        Raises:
            DataError: none of them can be read.
        """
        return (decoded.image for decoded in self._good(map(self._open, self._numbers)))

    def prepared(self, preprocessing: Preprocessing) -> Pixels:
        """Return the images that can be read, prepared, uint8 (N, H, W, C).

        Raises:
            DataError: none of them can be read.
        """
        found = (self._prepare(number, preprocessing) for number in self._numbers)
        return np.stack([loaded.pixels for loaded in self._good(found)])

    def known(self, preprocessing: Preprocessing, start: int, stop: int) -> Known:
        """Return what is known of images ``start`` to ``stop`` (exclusive) without opening one.

        An image with a fault that may be temporary is not known.
        """
        opened = self._decoded.keys() | self._prepared.keys()
        numbers = [number for number in sorted(opened) if start <= number < stop]
        found = {number: self._prepare(number, preprocessing) for number in numbers}
        return {k: f for k, f in found.items() if isinstance(f, Loaded) or not f.passing}

    def forget(self) -> None:
        """Drop all images, since they take memory."""
        self._decoded, self._prepared, self._preprocessing = {}, {}, None
        self._room = self._most_bytes

    def _open(self, number: int) -> Decoded | Bad:
        if number in self._decoded:
            return self._decoded[number]
        found = attempt(self.source.open, number)
        size = 0 if isinstance(found, Bad) else _bytes_of(found.image)
        if size <= self._room:
            self._room -= size
            self._decoded[number] = found
        return found

    def _prepare(self, number: int, preprocessing: Preprocessing) -> Found:
        if preprocessing != self._preprocessing:
            self._preprocessing, self._prepared = preprocessing, {}
        if number not in self._prepared:
            self._prepared[number] = self._prepared_now(number, preprocessing)
        return self._prepared[number]

    def _prepared_now(self, number: int, preprocessing: Preprocessing) -> Found:
        decoded = self._decoded.get(number)
        if decoded is None:
            return attempt(lambda index: self.source.load(index, preprocessing), number)
        if isinstance(decoded, Bad):
            return decoded
        return attempt(lambda index: self.source.prepare(index, decoded, preprocessing), number)

    def _good(self, found: Iterable[T | Bad]) -> Iterator[T]:
        """Yield the images that are not bad.

        Raises:
            DataError: all are bad.
        """
        bad: list[Bad] = []
        for image in found:
            if isinstance(image, Bad):
                bad.append(image)
            else:
                yield image
        if len(bad) == len(self._numbers):
            raise DataError(
                f"none of the {len(bad)} inspected images can be read; the first: "
                f"{self.source.describe(bad[0].number)}: {bad[0].reason}"
            )


def _spread(source: Source, count: int) -> list[int]:
    """Return the numbers of the images in a sample."""
    if source.access == "sequential":  # a spread sample would read the whole stream
        return list(range(min(count, len(source))))
    spread = np.linspace(0, len(source) - 1, count).astype(int)
    return [int(number) for number in np.unique(spread)]


def _bytes_of(image: Image.Image) -> int:
    """Return the bytes of memory of a decoded image; Pillow takes four for a pixel of RGB."""
    return image.width * image.height * (1 if image.mode in ("1", "L", "P") else 4)
