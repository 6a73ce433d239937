"""The table of all kinds of sources, and how a spec is read.

A source finds and names images and returns their bytes; ``preprocessing`` turns the bytes into
pixels. Each kind of source is in its own file.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from gentool.core.errors import DataError, UsageError
from gentool.data.badfiles import MAX_BAD
from gentool.data.sources.advice import nothing_there, unusable_file
from gentool.data.sources.archive import ArchiveSource, begins_as_archive, is_archive
from gentool.data.sources.array import ArraySource, is_array_file
from gentool.data.sources.base import (
    Access,
    FileSource,
    Loaded,
    Source,
    content_hash,
)
from gentool.data.sources.builtin import BUILTIN, BUILTIN_PREFIX, BuiltinSource, open_builtin
from gentool.data.sources.concat import JoinedSource, split_weight
from gentool.data.sources.folder import FolderSource
from gentool.data.sources.hub import open_hub
from gentool.data.sources.labels import FROM_FOLDERS, NO_LABELS, refuse_labels
from gentool.data.sources.selection import IMAGE_SUFFIXES
from gentool.data.sources.shards import open_shards
from gentool.data.sources.torchvision_sets import SETS, open_imageset

__all__ = [
    "IMAGE_SUFFIXES",
    "PREFIXES",
    "Access",
    "ArchiveSource",
    "BuiltinSource",
    "FileSource",
    "FolderSource",
    "JoinedSource",
    "Loaded",
    "Source",
    "content_hash",
    "is_folder",
    "open_images",
    "open_source",
    "open_sources",
]

# Each function takes the spec without its prefix, and whether downloading is allowed.
PREFIXES: dict[str, Callable[[str, bool], Source]] = {
    BUILTIN_PREFIX: lambda words, download: open_builtin(words),
    "torchvision:": open_imageset,
    "shards:": open_shards,
    "hub:": open_hub,
}


def is_folder(path: Path) -> bool:
    """Return whether ``path`` is a folder; False if no file can have such a name."""
    try:
        return path.is_dir()
    except OSError:
        return False


def open_images(path: Path) -> Source | None:
    """Open images of a folder, an archive, a ``.npy`` or ``.npz``; return None for anything else.

    Pictures that gentool made are images like others here.

    Their labels are not read, so that no image is left out.

    Raises:
        DataError: it contains no images, or is damaged.
    """
    try:
        arrays = path.is_file() and is_array_file(path)
        if not (is_folder(path) or arrays or (path.is_file() and begins_as_archive(path))):
            return None
    except OSError:  # the error is reported when it is read as another kind of file
        return None
    try:
        if path.is_dir():
            return FolderSource(path, NO_LABELS, take_own=True)
        return ArraySource(path) if arrays else ArchiveSource(path, NO_LABELS, take_own=True)
    except OSError as error:
        raise DataError(f"cannot read {path!s:.200}: {error.strerror}") from error


def open_source(
    spec: str | Path,
    *,
    download: bool = False,
    labels: str | None = None,
    refresh: bool = False,
    max_bad: float = MAX_BAD,
) -> Source:
    """Open the source that ``spec`` names: a path, or a name with one of ``PREFIXES``.

    Args:
        spec: A folder, an archive, a ``.npy`` or ``.npz``; or ``builtin:NAME[:COUNT]``,
            ``torchvision:NAME[:test]``, ``hub:USER/NAME[:COLUMN]`` or ``shards:PATH-or-URL``.
        download: Whether missing files may be downloaded.
        labels: For a folder or an archive: the path of a file of labels, as CSV, JSON or JSON
            lines, to which ``:COLUMN`` may be added; ``folders``; ``none``. If None, one of
            ``LABEL_FILES`` at the root is used if it exists, else top folders are classes.
        refresh: Whether to ignore an existing index of a folder or an archive.
        max_bad: Share of the images that may have no label in a file of labels.

    Raises:
        DataError: there is nothing, or no images, or it cannot be read.
        UsageError: a name or count is not allowed, or labels are given for another kind of source.
    """
    spec = str(spec)
    for prefix, opener in PREFIXES.items():
        if spec.startswith(prefix):
            refuse_labels(spec, labels)
            return opener(spec.removeprefix(prefix), download)
    path = Path(spec).expanduser()
    try:
        if path.is_dir():
            return FolderSource(path, labels, refresh=refresh, max_bad=max_bad)
        if path.is_file():
            if is_array_file(path):
                refuse_labels(spec, labels)
                return ArraySource(path)
            if is_archive(path):
                return ArchiveSource(path, labels, refresh=refresh, max_bad=max_bad)
            raise unusable_file(spec, path, _builtins())
    except OSError as error:  # a name that no file can have, or a folder that may not be read
        raise DataError(f"cannot read {spec:.200}: {error.strerror}") from error
    known = [*PREFIXES, *(f"{BUILTIN_PREFIX}{name}" for name in BUILTIN), *map(_of_torch, SETS)]
    raise nothing_there(spec, known, _builtins())


def open_sources(
    specs: Sequence[str | Path],
    *,
    download: bool = False,
    labels: str | None = None,
    refresh: bool = False,
    max_bad: float = MAX_BAD,
) -> Source:
    """Open several sources as one, each ``SPEC`` or ``SPEC@WEIGHT``; see ``JoinedSource``.

    Args:
        specs: At least one; a path that exists is never split at an ``@``.
        download: As in ``open_source``.
        labels: As in ``open_source``; a label file is allowed only for a single source.
        refresh: As in ``open_source``.
        max_bad: As in ``open_source``.

    Raises:
        DataError: as in ``open_source``.
        UsageError: there is no source, a weight is not allowed, or there is one label file for
            several sources; also as in ``open_source``.
    """
    if not specs:
        raise UsageError(
            "--data is empty. Give a folder of images, an archive of images, or " + _builtins()
        )
    if len(specs) > 1 and labels not in (None, FROM_FOLDERS, NO_LABELS):
        raise UsageError(
            "a file of labels works with only one source. Put the images into one folder"
        )
    words = [str(spec) for spec in specs]
    parted = [(spec, 1.0) if _is_there(spec) else split_weight(spec) for spec in words]
    sources = []
    for spec, _ in parted:
        try:
            source = open_source(
                spec, download=download, labels=labels, refresh=refresh, max_bad=max_bad
            )
        except DataError as error:
            if len(parted) == 1 or spec in str(error):
                raise
            raise DataError(f"{spec:.200}: {error}") from error
        sources.append(source)
    if len(sources) == 1:
        return sources[0]
    return JoinedSource(sources, [weight for _, weight in parted])


def _is_there(spec: str) -> bool:
    try:
        return Path(spec).expanduser().exists()
    except (OSError, RuntimeError):
        return False


def _of_torch(name: str) -> str:
    return f"torchvision:{name}"


def _builtins() -> str:
    return " or ".join(f"{BUILTIN_PREFIX}{name}" for name in BUILTIN)
