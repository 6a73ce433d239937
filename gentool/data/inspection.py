"""Inspect every image of a source: what there is, what is broken and what occurs twice.

Nothing is cached and nothing is changed. ``gentool data check`` prints the result.
"""

import io
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gentool.core.images import ImageShape, Pixels
from gentool.core.messages import Progress
from gentool.core.pil_images import to_pil
from gentool.data.badfiles import with_own, without_own
from gentool.data.empty_classes import told_of
from gentool.data.encoded import FORMATS, BadImage
from gentool.data.intake import Intake
from gentool.data.levels import Levels
from gentool.data.preprocessing import Preprocessing, convert, open_image
from gentool.data.sources.table import FileSource, Source, content_hash

T = TypeVar("T")
_CHUNK = 256  # images inspected between two calls of `progress`, which may raise to stop
_NEAR_BITS = 4  # near images: the perceptual hashes differ in at most this many of 64 bits
_BANDS = 5  # _NEAR_BITS + 1: two near hashes agree in at least one band (pigeonhole principle)
_NEAR_COLOURS = 6.0  # near images: the largest mean difference of their colours, of 255
_THUMBNAIL = Preprocessing(ImageShape(32, 32, 3))
_WINDOW = 32  # comparisons per hash in a band's bucket, so that a million white pages stay cheap


@dataclass(frozen=True)
class Look:
    """What was found out about one image.

    Attributes:
        mode: PIL's colour mode of the file.
        format: PIL's name of the file format, or ``drawn`` for an image without a file.
        size: (width, height) in pixels.
        content: 64-bit hash of the file's bytes, or of the pixels if there is no file.
        perceptual: 64-bit pHash, which ignores colours; None if ImageHash is not installed.
        colours: The image resized to 8x8 RGB, uint8 (192,).
    """

    mode: str
    format: str
    size: tuple[int, int]
    content: int
    perceptual: int | None
    colours: NDArray[np.uint8]


@dataclass(frozen=True)
class Survey:
    """Summary of the images of a source.

    Attributes:
        total: Number of images in the source.
        modes: Number of images per PIL colour mode, most frequent first.
        formats: Number of images per file format, most frequent first.
        sizes: Number of images per (width, height), most frequent first.
        classes: Number of readable images per class; empty if the source has no classes.
        duplicates: Groups of images with equal content, by name.
        near: Groups of similar images, by name; None if ImageHash is not installed.
        bad: (name, reason) of the images that cannot be read.
        intake: What the source took and passed over.
    """

    total: int
    modes: dict[str, int]
    formats: dict[str, int]
    sizes: dict[tuple[int, int], int]
    classes: dict[str, int]
    duplicates: list[list[str]]
    near: list[list[str]] | None
    bad: list[tuple[str, str]]
    intake: Intake


def survey(source: Source, progress: Progress, levels: Levels | None = None) -> Survey:
    """Inspect every image of ``source`` and return the summary.

    Args:
        source: Where the images come from.
        progress: Called with (done, total); may raise to stop.
        levels: The scale of deep images, as in ``Preprocessing``.
    """
    perceptual = _perceptual_hash()
    looks: dict[int, Look] = {}
    bad: list[tuple[str, str]] = []
    for index, found in _looks(source, perceptual, progress, replace(_THUMBNAIL, levels=levels)):
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
        total=len(source) - len(bad) + len(without_own(bad)),
        modes=_counted(look.mode for look in looks.values()),
        formats=_counted(look.format for look in looks.values()),
        sizes=_counted(look.size for look in looks.values()),
        classes=dict(classes),
        duplicates=_named(source, exact),
        near=near,
        bad=without_own(bad),
        intake=_noting(with_own(source.intake, bad), source, classes),
    )


def _noting(intake: Intake, source: Source, readable: Mapping[str, int]) -> Intake:
    """Return the notes with those on classes of which no image can be read."""
    if source.labels is None:
        return intake
    listed = np.bincount(source.labels, minlength=len(source.classes))
    gone = [k for k, name in enumerate(source.classes) if not readable[name]]
    told = told_of([source.classes[k] for k in gone], listed[gone])
    return replace(intake, notes=(*intake.notes, *told))


def sheet_of(source: Source, preprocessing: Preprocessing, count: int = 64) -> Pixels:
    """Return up to ``count`` prepared images, spread evenly over the source, uint8 (N, H, W, C).

    Raises:
        BadImage: none of the chosen images can be read.
    """
    shown = []
    reason = BadImage("there are no images")
    for index in np.unique(np.linspace(0, len(source) - 1, count).astype(int)):
        try:
            shown.append(source.load(int(index), preprocessing).pixels)
        except Exception as error:  # whatever a broken file makes a decoder raise
            reason = BadImage(str(error))
    if not shown:
        raise reason
    return np.stack(shown)


def _perceptual_hash() -> Callable[[Image.Image], int] | None:
    """Return the 64-bit pHash of the library ImageHash, or None if it is not installed."""
    try:
        from imagehash import phash
    except ImportError:
        return None

    def number(image: Image.Image) -> int:
        bits = np.packbits(phash(image).hash.ravel())
        return int.from_bytes(bits.tobytes(), "big")

    return number


def _looks(
    source: Source,
    perceptual: Callable[[Image.Image], int] | None,
    progress: Progress,
    thumbnail: Preprocessing,
) -> Iterator[tuple[int, Look | BadImage]]:
    """Inspect every image in threads and yield (index, result) in the order of the source.

    Threads suffice because Pillow releases the interpreter lock while it decodes.
    """

    def look(index: int) -> tuple[int, Look | BadImage]:
        try:
            if isinstance(source, FileSource):
                data = source.read(index)
                image, content = open_image(data), content_hash(data)
                kind = _format(data)
            else:
                image, kind = source.open(index).image, "drawn"
                content = content_hash(image.tobytes())
            small = to_pil(convert(image, thumbnail))
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
    """Return the keys whose values are equal, in groups of at least two."""
    groups = defaultdict(list)
    for key, value in values.items():
        groups[value].append(key)
    return [group for group in groups.values() if len(group) > 1]


def _near_groups(looks: dict[int, Look], exact: list[list[int]]) -> list[list[int]]:
    """Return groups of images with near hashes and near colours; near pairs are linked into groups.

    Of each group of exact duplicates only the first image is compared.
    """
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
    """Yield pairs of positions in ``hashes``, uint64 (N,), whose hashes differ in at most 4 bits.

    The 64 bits are cut into five bands. Near hashes agree in at least one band, so only hashes
    with an equal band are compared, after sorting: O(N log N). Each hash is compared with the
    next 32 hashes of equal band. This may miss pairs where very many hashes share a band, but
    equal hashes are adjacent and are always linked.
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
