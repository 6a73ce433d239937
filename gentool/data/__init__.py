"""Data: from a spec (folder, archive, ``.npz`` file, ``builtin:NAME``) to prepared uint8 images.

``open_dataset`` does everything in one call. ``open_source``, ``resolve_shape`` and ``prepare``
are its three steps, for callers that want to report what was found between two steps.
"""

from gentool.data.badfiles import MAX_BAD, write_bad_files
from gentool.data.cache.prepare import CACHE_MODES, CacheMode, prepare
from gentool.data.cache.pruning import Entry, list_entries, prune, verify
from gentool.data.dataset import Dataset, ImageArray, Rows, Split, Subset
from gentool.data.encoded import BadImage
from gentool.data.level_choice import resolve_levels
from gentool.data.opening import open_dataset, open_joined
from gentool.data.paths import cache_folder
from gentool.data.preprocessing import Preprocessing, decode, make_preprocessing
from gentool.data.reading import Sample
from gentool.data.shape import about_given_size, parse_size, resolve_shape
from gentool.data.sources.builtin import BUILTIN
from gentool.data.sources.frames import FramesSource
from gentool.data.sources.stacked_digits import coverage
from gentool.data.sources.table import (
    IMAGE_SUFFIXES,
    FolderSource,
    Source,
    is_folder,
    open_images,
    open_source,
    open_sources,
)

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
    "ImageArray",
    "Preprocessing",
    "Rows",
    "Sample",
    "Source",
    "Split",
    "Subset",
    "about_given_size",
    "cache_folder",
    "coverage",
    "decode",
    "is_folder",
    "list_entries",
    "make_preprocessing",
    "open_dataset",
    "open_images",
    "open_joined",
    "open_source",
    "open_sources",
    "parse_size",
    "prepare",
    "prune",
    "resolve_levels",
    "resolve_shape",
    "verify",
    "write_bad_files",
]
