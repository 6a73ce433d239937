"""Open a spec (a folder, an archive, ``builtin:NAME``) as prepared images, in one call."""

from pathlib import Path

from gentool.data.badfiles import MAX_BAD
from gentool.data.cache.build import Progress
from gentool.data.cache.prepare import CacheMode, prepare
from gentool.data.dataset import Dataset
from gentool.data.preprocessing import Policy
from gentool.data.shape import resolve_shape
from gentool.data.sources.table import open_source


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
    """Return the prepared images of ``spec``.

    ``spec`` is as in ``open_source``. A size or mode that is None is chosen by
    ``resolve_shape``. The other arguments are as in ``prepare``.

    Raises:
        DataError: there are no usable images.
        UsageError: the size or mode is not allowed.
    """
    source = open_source(spec)
    words = None if size is None else str(size)
    shape, _ = resolve_shape(source, words, mode, largest_side)
    return prepare(source, Policy(shape), progress, cache=cache, max_bad=max_bad, strict=strict)
