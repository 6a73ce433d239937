"""A look at every image of a source: what is there, what is broken, what is there twice.

Nothing is cached and nothing changed. ``gentool data check`` prints it.
"""

import io
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gentool.core.images import ImageShape, Pixels, to_pil
from gentool.data.preprocessing import FORMATS, BadImage, Policy, convert, open_image
from gentool.data.sources.table import FileSource, Source, content_hash

T = TypeVar("T")
Progress = Callable[[int, int], None]
_CHUNK = 256  # images looked at between two looks at the stop flag
_NEAR_BITS = 4  # perceptual hashes that differ in so few of 64 bits count as near
_BANDS = 5  # one more than that: two near hashes agree in at least one band (pigeonhole)
_NEAR_COLOURS = 6.0  # grey levels that near images differ by in the mean
_THUMBNAIL = Policy(ImageShape(32, 32, 3))
_WINDOW = 32  # compared within a band's bucket, so that a million white pages stay cheap


@dataclass(frozen=True)
class Look:
    """One image.

    Attributes:
        mode: PIL's colour mode of the file.
        format: Of the file, or ``drawn``.
        size: (width, height).
        content: Hash of the file's bytes.
        perceptual: 64-bit pHash, which knows no colours; None if nobody looked.
        colours: The image at 8x8, uint8 (192,), which knows little else.
    """

    mode: str
    format: str
    size: tuple[int, int]
    content: int
    perceptual: int | None
    colours: NDArray[np.uint8]


@dataclass(frozen=True)
class Survey:
    """What is in a source.

    Attributes:
        total: Images named by the source.
        modes: PIL's colour modes, most frequent first.
        formats: File formats, most frequent first.
        sizes: (width, height), most frequent first.
        classes: Readable images per class; empty without classes.
        duplicates: Names of images of equal content, in groups.
        near: Names of images that look alike, in groups; None if nobody looked.
        bad: (name, reason) of those that cannot be read.
    """

    total: int
    modes: dict[str, int]
    formats: dict[str, int]
    sizes: dict[tuple[int, int], int]
    classes: dict[str, int]
    duplicates: list[list[str]]
    near: list[list[str]] | None
    bad: list[tuple[str, str]]


def survey(source: Source, progress: Progress) -> Survey:
    """Look at every image of ``source``.

    Args:
        source: Where the images come from.
        progress: Called with (done, total); may raise to stop.
    """
    perceptual = _perceptual_hash()
    looks: dict[int, Look] = {}
    bad: list[tuple[str, str]] = []
    for index, found in _looks(source, perceptual, progress):
        if isinstance(found, Look):
            looks[index] = found
        else:
            bad.append((source.describe(index), str(found)))
    classes: Counter[str] = Counter()
    if source.labels is not None:
        classes.update(dict.fromkeys(source.classes, 0))
        classes.update(source.classes[source.labels[index]] for index in looks)
    exact = _groups_of_equals({k: look.content for k, look in looks.items()})
    near = None
    if perceptual is not None:
        near = _named(source, _near_groups(looks, exact))
    return Survey(
        total=len(source),
        modes=_counted(look.mode for look in looks.values()),
        formats=_counted(look.format for look in looks.values()),
        sizes=_counted(look.size for look in looks.values()),
        classes=dict(classes),
        duplicates=_named(source, exact),
        near=near,
        bad=bad,
    )


def sheet_of(source: Source, policy: Policy, count: int = 64) -> Pixels:
    """Up to ``count`` prepared images, spread over the source, uint8 (N, H, W, C).

    Raises:
        BadImage: none of those looked at can be read.
    """
    shown = []
    reason = BadImage("there are none")
    for index in np.unique(np.linspace(0, len(source) - 1, count).astype(int)):
        try:
            shown.append(source.load(int(index), policy).pixels)
        except Exception as error:  # whatever a broken file makes a decoder raise
            reason = BadImage(str(error))
    if not shown:
        raise reason
    return np.stack(shown)


def _perceptual_hash() -> Callable[[Image.Image], int] | None:
    """The 64-bit pHash of the library ImageHash, or None where it is not installed."""
    try:
        from imagehash import phash
    except ImportError:
        return None

    def number(image: Image.Image) -> int:
        bits = np.packbits(phash(image).hash.ravel())
        return int.from_bytes(bits.tobytes(), "big")

    return number


def _looks(
    source: Source, perceptual: Callable[[Image.Image], int] | None, progress: Progress
) -> Iterator[tuple[int, Look | BadImage]]:
    """Every image in order, looked at in threads (Pillow works outside the interpreter lock)."""

    def look(index: int) -> tuple[int, Look | BadImage]:
        try:
            if isinstance(source, FileSource):
                data = source.read(index)
                image, content = open_image(data), content_hash(data)
                kind = _format(data)
            else:
                image, kind = source.open(index), "drawn"
                content = content_hash(image.tobytes())
            small = to_pil(convert(image, _THUMBNAIL))
            seen = perceptual(small) if perceptual else None
            colours = np.asarray(small.resize((8, 8), Image.Resampling.BOX)).ravel()
            return index, Look(image.mode, kind, image.size, content, seen, colours)
        except BadImage as error:
            return index, error
        except Exception as error:  # an unreadable file, a broken archive member
            return index, BadImage(f"{type(error).__name__}: {error}".splitlines()[0])

    total = len(source)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for start in range(0, total, _CHUNK):
            progress(start, total)
            yield from pool.map(look, range(start, min(start + _CHUNK, total)))
    progress(total, total)


def _format(data: bytes) -> str:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return str(image.format)


def _counted(values: Iterable[T]) -> dict[T, int]:
    return dict(Counter(values).most_common())


def _named(source: Source, groups: list[list[int]]) -> list[list[str]]:
    return [[source.describe(index) for index in group] for group in groups]


def _groups_of_equals(values: dict[int, int]) -> list[list[int]]:
    """Keys whose values agree, in groups of two and more."""
    groups = defaultdict(list)
    for key, value in values.items():
        groups[value].append(key)
    return [group for group in groups.values() if len(group) > 1]


def _near_groups(looks: dict[int, Look], exact: list[list[int]]) -> list[list[int]]:
    """Images near in hash and colours, in linked groups; exact duplicates stand once."""
    copies = {index for group in exact for index in group[1:]}
    keys = np.array([k for k in looks if k not in copies], dtype=np.int64)
    hashes = np.array([looks[int(k)].perceptual for k in keys], dtype=np.uint64)
    parent = {int(k): int(k) for k in keys}

    def root(key: int) -> int:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for a, b in near_pairs(hashes):
        ours, theirs = (looks[int(keys[k])].colours.astype(np.float32) for k in (a, b))
        if np.abs(ours - theirs).mean() > _NEAR_COLOURS:
            continue
        parent[root(int(keys[b]))] = root(int(keys[a]))
    groups = defaultdict(list)
    for key in parent:
        groups[root(key)].append(key)
    return [group for group in groups.values() if len(group) > 1]


def near_pairs(hashes: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Pairs of 64-bit hashes (N,) that differ in at most 4 bits.

    The bits are cut into five bands; near hashes agree in one of them, so only neighbours in
    the order of a band are compared: O(N log N). In a band's bucket each hash is compared with
    the next 32, which links every group but may leave out pairs of very crowded buckets.
    """
    edges = np.linspace(0, 64, _BANDS + 1).astype(int)
    for low, high in pairwise(edges):
        band = (hashes >> np.uint64(low)) & np.uint64(2 ** int(high - low) - 1)
        order = np.lexsort((hashes, band))
        for step in range(1, min(_WINDOW, len(order) - 1) + 1):
            a, b = order[:-step], order[step:]
            same = band[a] == band[b]
            if not same.any():
                break
            a, b = a[same], b[same]
            close = np.bitwise_count(hashes[a] ^ hashes[b]) <= _NEAR_BITS
            yield from zip(a[close].tolist(), b[close].tolist(), strict=True)
