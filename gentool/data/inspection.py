"""Inspect every image of a source: what there is, what is broken and what occurs twice.

Nothing is cached and nothing is changed. ``gentool data check`` prints the result.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gentool.core.images import ImageShape, Pixels
from gentool.core.messages import Progress
from gentool.core.pil_images import to_pil
from gentool.data.badfiles import with_own, without_own
from gentool.data.empty_classes import told_of
from gentool.data.encoded import BadImage, description
from gentool.data.intake import Intake
from gentool.data.levels import Levels
from gentool.data.likeness import describe_images, near_pairs
from gentool.data.preprocessing import Preprocessing
from gentool.data.reading import Bad, attempt
from gentool.data.remarks import ENLARGED, about_films, about_levels, is_far_smaller
from gentool.data.sources.base import image_hash
from gentool.data.sources.table import Source

T = TypeVar("T")
_CHUNK = 256  # images inspected between two calls of `progress`, which may raise to stop
_NEAR_COLOURS = 6.0  # near images: the largest mean difference of their colours, of 255
_THUMBNAIL = Preprocessing(ImageShape(32, 32, 3))


@dataclass(frozen=True)
class Look:
    """What was found out about one image.

    Attributes:
        mode: PIL's colour mode of the file.
        format: PIL's name of the file format, or ``drawn`` for an image without a file.
        size: (width, height) in pixels.
        content: 64-bit hash of the file's bytes, or of the pixels if there is no file.
        has_frames: Whether its file has further frames, which are not images of the source.
        unsuited: Whether the levels suit its values badly.
        perceptual: 64-bit perceptual hash, which ignores colours.
        colours: The image resized to 8x8 RGB, uint8 (192,).
    """

    mode: str
    format: str
    size: tuple[int, int]
    content: int
    has_frames: bool
    unsuited: bool
    perceptual: int
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
        near: Groups of similar images, by name.
        films: Names of the files with further frames, which are not read.
        unsuited: Names of the deep images whose values the levels suit badly.
        first_of_size: The name of the first image of each size.
        bad: (name, reason) of the images that cannot be read.
        intake: What the source took and passed over.
    """

    total: int
    modes: dict[str, int]
    formats: dict[str, int]
    sizes: dict[tuple[int, int], int]
    classes: dict[str, int]
    duplicates: list[list[str]]
    near: list[list[str]]
    films: list[str]
    unsuited: list[str]
    first_of_size: dict[tuple[int, int], str]
    bad: list[tuple[str, str]]
    intake: Intake


def survey(source: Source, progress: Progress, levels: Levels | None = None) -> Survey:
    """Inspect every image of ``source`` and return the summary.

    Args:
        source: Where the images come from.
        progress: Called with (done, total); may raise to stop.
        levels: The scale of deep images, as in ``Preprocessing``.
    """
    looks: dict[int, Look] = {}
    bad: list[tuple[str, str]] = []
    for index, found in _looks(source, progress, replace(_THUMBNAIL, levels=levels)):
        if isinstance(found, Look):
            looks[index] = found
        else:
            bad.append((source.describe(index), found.reason))
    classes: Counter[str] = Counter()
    if source.labels is not None:
        classes.update(dict.fromkeys(source.classes, 0))
        classes.update(source.classes[source.labels[index]] for index in looks)
    exact = _groups_of_equals({k: look.content for k, look in looks.items()})
    return Survey(
        total=len(source) - len(bad) + len(without_own(bad)),
        modes=_counted(look.mode for look in looks.values()),
        formats=_counted(look.format for look in looks.values()),
        sizes=_counted(look.size for look in looks.values()),
        classes=dict(classes),
        duplicates=_named(source, exact),
        films=[source.describe(index) for index, look in looks.items() if look.has_frames],
        unsuited=[source.describe(index) for index, look in looks.items() if look.unsuited],
        first_of_size={
            look.size: source.describe(index) for index, look in reversed(looks.items())
        },
        near=_named(source, _near_groups(looks, exact)),
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


def remarks_on(found: Survey, preprocessing: Preprocessing) -> list[str]:
    """Return sentences on images that the preprocessing suits badly, and on further frames."""
    shape, levels = preprocessing.shape, preprocessing.levels
    notes = []
    small = [size for size in found.sizes if is_far_smaller(size, shape)]
    if small:
        count = sum(found.sizes[size] for size in small)
        width, height = small[0]
        notes.append(
            f"{count:,} images are far smaller than {shape.height}x{shape.width} and would be "
            f"enlarged more than {ENLARGED} times, such as {found.first_of_size[small[0]]:.80} "
            f"({height}x{width})"
        )
    if found.unsuited:
        notes.append(about_levels(len(found.unsuited), levels, found.unsuited[0]))
    if found.films:
        total = sum(found.modes.values())
        notes.append(about_films(len(found.films), total, found.films[0]))
    return notes


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


def _looks(
    source: Source, progress: Progress, thumbnail: Preprocessing
) -> Iterator[tuple[int, Look | Bad]]:
    """Inspect every image in threads and yield (index, result) in the order of the source.

    Images are read as training reads them. Threads suffice because Pillow releases the interpreter
    lock while it decodes.
    """

    def look(index: int) -> tuple[int, Look | Bad]:
        return index, attempt(partial(_look, source, thumbnail), index)

    total = len(source)
    workers = 1 if source.access == "sequential" else os.cpu_count()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for start in range(0, total, _CHUNK):
            progress(start, total)
            yield from pool.map(look, range(start, min(start + _CHUNK, total)))
    progress(total, total)


def _look(source: Source, thumbnail: Preprocessing, index: int) -> Look:
    """Inspect one image; errors are those of ``Source.load``."""
    decoded = source.open(index)
    told = description(decoded.image)
    pixels, _, unsuited, _ = source.prepare(index, decoded, thumbnail)
    small = to_pil(pixels).resize((8, 8), Image.Resampling.BOX)
    drawn = told.format == "drawn"
    return Look(
        mode=decoded.image.mode,
        format=told.format,
        size=told.size,
        content=image_hash(decoded.image) if drawn else decoded.content_hash,
        has_frames=told.has_frames,
        unsuited=unsuited,
        perceptual=int(describe_images(pixels[None])[0][0]),
        colours=np.asarray(small).ravel(),
    )


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

    for firsts, seconds in near_pairs(hashes):
        for a, b in zip(firsts.tolist(), seconds.tolist(), strict=True):
            ours, theirs = (looks[int(keys[k])].colours.astype(np.float32) for k in (a, b))
            if np.abs(ours - theirs).mean() <= _NEAR_COLOURS:
                parent[root(int(keys[b]))] = root(int(keys[a]))
    groups = defaultdict(list)
    for key in parent:
        groups[root(key)].append(key)
    return [group for group in groups.values() if len(group) > 1]
