"""Data: from a spec (folder, zip, ``builtin:NAME``) to prepared uint8 images.

``open_dataset`` is the whole way; ``open_source``, ``resolve_shape`` and ``prepare`` are its
three steps, for callers that want to say what they found in between.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageColor

from gentool.data.badfiles import MAX_BAD, write_bad_files
from gentool.data.build import Progress
from gentool.data.builtin import BUILTIN
from gentool.data.cache import CACHE_MODES, CacheMode, prepare
from gentool.data.dataset import Dataset
from gentool.data.frames import FramesSource
from gentool.data.intake import FITS, BadImage, Policy, Probe, decode, probe
from gentool.data.modes import coverage
from gentool.data.places import cache_folder
from gentool.data.shelf import Entry, list_entries, prune, verify
from gentool.data.sources import (
    IMAGE_SUFFIXES,
    BuiltinSource,
    FolderSource,
    Source,
    is_folder,
    open_images,
    open_source,
    open_sources,
)
from gentool.errors import DataError, UsageError
from gentool.images import (
    MAX_SIDE,
    MIN_SIDE,
    MODES,
    SIDE_MULTIPLE,
    ImageShape,
    Pixels,
    side_problem,
)
from gentool.registry import name_error

__all__ = [
    "BUILTIN",
    "CACHE_MODES",
    "IMAGE_SUFFIXES",
    "MAX_BAD",
    "BadImage",
    "CacheMode",
    "Dataset",
    "Entry",
    "FolderSource",
    "FramesSource",
    "Policy",
    "Source",
    "cache_folder",
    "coverage",
    "decode",
    "glance",
    "is_folder",
    "list_entries",
    "make_policy",
    "open_dataset",
    "open_images",
    "open_source",
    "open_sources",
    "parse_size",
    "prepare",
    "prune",
    "resolve_shape",
    "verify",
    "write_bad_files",
]

T = TypeVar("T")
_SAMPLE = 64  # images looked at to find size and colours
_SQUARE_BAND = 0.25  # |log(width / height)| below which images count as square


def open_dataset(
    spec: str | Path,
    size: str | int | None = None,
    mode: str | None = None,
    *,
    largest_side: int = 64,
    progress: Progress | None = None,
    cache: CacheMode = "auto",
    max_bad: float = MAX_BAD,
    strict: bool = False,
) -> Dataset:
    """Prepared images of ``spec``; see ``resolve_shape`` for what is found when not given.

    ``spec`` is as for ``open_source``, the rest as for ``prepare``.

    Raises:
        DataError: nothing usable there.
        UsageError: a size or mode that is not allowed.
    """
    source = open_source(spec)
    words = None if size is None else str(size)
    shape, _ = resolve_shape(source, words, mode, largest_side)
    return prepare(source, Policy(shape), progress, cache=cache, max_bad=max_bad, strict=strict)


def make_policy(
    shape: ImageShape, fit: str = "crop", background: str = "white", margin: float = 0.0
) -> Policy:
    """A policy of words that were given.

    Raises:
        UsageError: no such fit or colour, or a margin beyond 0 to 1.
    """
    if fit not in FITS:
        raise name_error("fit", fit, list(FITS), f"choices: {', '.join(FITS)}")
    try:
        ImageColor.getrgb(background)
    except (ValueError, AttributeError):
        raise UsageError(
            f"background '{background:.40}' is no colour. Write a name such as white, or #rrggbb"
        ) from None
    if not 0 <= margin <= 1:
        raise UsageError(f"margin {margin:g}: allowed: 0 to 1")
    return Policy(shape, fit, background, margin)


def parse_size(word: str) -> tuple[int, int]:
    """``64`` -> (64, 64); ``48x64`` -> (48, 64), height first.

    Raises:
        UsageError: not a size, or a side that is not a multiple of 4 from 16 to 512.
    """
    parts = word.lower().split("x")
    if len(parts) > 2 or not all(p.strip().isdecimal() for p in parts):
        raise UsageError(f"size '{word:.40}' is not a size. Write 64, or HEIGHTxWIDTH as in 48x64")
    sides = [int(p) for p in parts]
    for side in sides:
        if problem := side_problem(side):
            raise UsageError(f"size {word:.40}: {problem}")
    return sides[0], sides[-1]


def resolve_shape(
    source: Source, size: str | None, mode: str | None, largest_side: int
) -> tuple[ImageShape, list[str]]:
    """The shape to train at, and in words why, for whatever the caller left open.

    Args:
        source: Where the images come from; a sample of them is looked at.
        size: As for ``parse_size``, or None to find one.
        mode: ``grey``, ``rgb`` or ``rgba``, or None to find one.
        largest_side: Largest side chosen unasked; it depends on the device.

    Returns:
        The shape, and one sentence per choice that was made here.
    """
    if mode is not None and mode not in MODES:
        raise UsageError(f"no colour mode '{mode}'. Modes: {', '.join(MODES)}")
    given = parse_size(size) if size else None
    if isinstance(source, BuiltinSource):
        own = source.procedural
        found = Probe(
            ((own.default_side, own.default_side),),
            next(name for name, channels in MODES.items() if channels == own.channels),
            "as this set is drawn",
        )
    elif given and mode:
        return ImageShape(*given, MODES[mode]), []
    else:
        found = probe(_sample(source))
    notes = []
    height, width = given or _choose_size(found, largest_side)
    if not given:
        notes.append(f"size {height}x{width}: {_size_reason(found, height, width)}")
    if mode is None:
        mode = found.mode
        notes.append(f"mode {mode}: {found.reason}")
    return ImageShape(height, width, MODES[mode]), notes


def _sample(source: Source) -> list[Image.Image]:
    """Up to 64 readable images, evenly spread over the source, or the first of a stream."""
    return _read(source, source.open)


def glance(source: Source, policy: Policy) -> Pixels:
    """The same images prepared, uint8 (N, H, W, C).

    Raises:
        DataError: none of them can be read.
    """
    return np.stack(_read(source, lambda index: source.load(index, policy).pixels))


def _read(source: Source, read: Callable[[int], T]) -> list[T]:
    images, reason = [], ""
    spread = np.unique(np.linspace(0, len(source) - 1, _SAMPLE).astype(int))
    if source.access == "sequential":  # a stream: its first images, or all of it would be read
        spread = np.arange(min(_SAMPLE, len(source)))
    for index in spread:
        try:
            images.append(read(int(index)))
        except (BadImage, OSError, ValueError, RuntimeError) as error:
            reason = reason or f"{source.describe(int(index))}: {error}"
    if not images:
        raise DataError(f"none of {_SAMPLE} images looked at can be read; the first, {reason}")
    return images


def _choose_size(found: Probe, largest_side: int) -> tuple[int, int]:
    """A shape with the images' aspect, no larger than they are or than ``largest_side`` allows."""
    width, height = (float(np.median(side)) for side in zip(*found.sizes, strict=True))
    aspect = float(np.median([w / h for w, h in found.sizes]))
    if abs(math.log(aspect)) < _SQUARE_BAND:
        side = _round_side(min(width, height, largest_side))
        return side, side
    stretch = math.sqrt(min(max(aspect, 0.5), 2.0))  # beyond 1:2 a crop loses less than it saves
    scale = min(largest_side, width / stretch, height * stretch)
    return _round_side(scale / stretch), _round_side(scale * stretch)


def _round_side(side: float) -> int:
    """Down to a multiple of 8 (of 4 below 32), within the allowed sides."""
    step = SIDE_MULTIPLE if side < 32 else 2 * SIDE_MULTIPLE
    return int(min(max(side // step * step, MIN_SIDE), MAX_SIDE))


def _size_reason(found: Probe, height: int, width: int) -> str:
    sizes = sorted(set(found.sizes), key=lambda s: s[0] * s[1])
    if len(sizes) == 1:
        own_width, own_height = sizes[0]
        if (own_height, own_width) == (height, width):
            return "the images' own size"
        return f"from {own_height}x{own_width} images (--size chooses another)"
    (w0, h0), (w1, h1) = sizes[0], sizes[-1]
    return f"from mixed sizes, {h0}x{w0} to {h1}x{w1} (--size chooses another)"
