"""Open a spec (a folder, an archive, ``builtin:NAME``) as prepared images, in one call."""

from collections.abc import Callable, Sequence
from pathlib import Path

from gentool.core.messages import Progress
from gentool.data.badfiles import MAX_BAD
from gentool.data.cache.prepare import CacheMode, prepare
from gentool.data.dataset import Dataset
from gentool.data.level_choice import resolve_levels
from gentool.data.preprocessing import make_preprocessing
from gentool.data.reading import Sample
from gentool.data.shape import resolve_shape
from gentool.data.sources.frames import FramesSource
from gentool.data.sources.table import (
    FileSource,
    JoinedSource,
    Source,
    open_source,
    open_sources,
)


def open_dataset(
    spec: str | Path,
    size: str | int | None = None,
    mode: str | None = None,
    *,
    levels: str | None = None,
    largest_side: int = 64,
    progress: Progress | None = None,
    cache: CacheMode = "auto",
    max_bad: float = MAX_BAD,
    strict: bool = False,
) -> Dataset:
    """Return the prepared images of ``spec``.

    ``spec`` is as in ``open_source``. A size or mode that is None is chosen by
    ``resolve_shape``, and levels by ``resolve_levels``. The other arguments are as in ``prepare``.

    Raises:
        DataError: there are no usable images.
        UsageError: the size, mode or levels are not allowed.
    """
    sample = Sample(open_source(spec, max_bad=max_bad))
    words = None if size is None else str(size)
    shape, _ = resolve_shape(sample, words, mode, largest_side)
    chosen, _ = resolve_levels(sample, levels)
    preprocessing = make_preprocessing(shape, levels=chosen)
    return prepare(
        sample.source, preprocessing, progress,
        cache=cache, max_bad=max_bad, strict=strict, sample=sample,
    )  # fmt: skip


def open_joined(
    specs: Sequence[str],
    *,
    labels: str | None = None,
    all_frames: bool = False,
    download: bool = False,
    refresh: bool = False,
    max_bad: float = MAX_BAD,
    poll: Callable[[str], None] = lambda message: None,
) -> Source:
    """Open the images that several specs name, as one source.

    Args:
        specs: As for ``open_sources``.
        labels: A file of labels, ``folders`` or ``none``; None for what is found.
        all_frames: Whether every frame of an animation is an image.
        download: Whether what is not here may be fetched.
        refresh: Whether a huge folder is listed again, and the content of all files read again.
        max_bad: Share of the images that may have no label.
        poll: Called now and then with a message for people; may raise to stop.

    Raises:
        DataError: nothing usable there.
    """
    source = open_sources(specs, download=download, labels=labels, refresh=refresh, max_bad=max_bad)
    if all_frames:
        source = _frames_of(source, lambda done, total: poll("stopped while counting frames"))
    source.reread = refresh
    return source


def _frames_of(source: Source, progress: Progress) -> Source:
    """Return a source of every frame of the files of a source; of joined ones, if they are files.

    Raises:
        UsageError: no image of the source is a file.
    """
    if not isinstance(source, JoinedSource) or not any(
        isinstance(one, FileSource) for one in source.sources
    ):
        return FramesSource(source, progress)
    parts = [
        FramesSource(one, progress) if isinstance(one, FileSource) else one
        for one in source.sources
    ]
    return JoinedSource(parts, source.weights)
