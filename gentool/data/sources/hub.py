"""Data sets of the Hugging Face hub: ``hub:user/name[:column]``, or a local folder in that form.

They are read with ``datasets`` (extra ``hub``) as a stream, from front to end. Code inside a data
set is never run and no pickle is opened: from version 4 on ``datasets`` runs no scripts, and of
its readers only those in ``READERS`` are used. The number of images and their labels are found in
one pass over the label column, and then kept in the cache folder.
"""

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import DataError, UsageError
from gentool.data.encoded import BadImage
from gentool.data.labels.words import LABEL_WORDS, fold_word
from gentool.data.sources.base import MAX_FILE, FileSource
from gentool.data.sources.changes import stamp_of, stamp_of_file
from gentool.data.sources.index import index_place

READERS = ("parquet", "arrow", "imagefolder", "webdataset")
_WINDOW = 64  # rows that may be read out of order
_SPLIT = "train"  # used if it exists, else the first split

Row = dict[str, Any]


class HubSource(FileSource):
    """A data set of the hub, or a local folder in the same form, as a stream.

    Reading images in order, or up to 64 rows out of order, continues the stream; any other order
    restarts it.

    Args:
        words: ``user/name[:column]`` or ``./folder[:column]``.

    Raises:
        DataError: it cannot be reached, is empty, or has no such column of images.
        UsageError: the libraries are not installed.
    """

    access = "sequential"

    def __init__(self, words: str) -> None:
        place, _, column = words.partition(":")
        self.place = place
        self.name = place.rstrip("/").rpartition("/")[2] or "hub"
        local = Path(place).expanduser()
        self._folder = local.resolve() if local.is_dir() else None
        where = place if self._folder is None else str(self._folder)
        try:
            self._builder = _find(where)
            self._split = _choose_split(self._builder)
            features = self._stream().features or {}
            self._column = _image_column(features, column, words)
            label = _label_column(features)
            key = f"{where}|{_state(self._builder, self._split)}|{label}"
            self.stamp = _stamp(self._builder, self._split)
            told = _kept_labels(f"{key}|{self.stamp}", lambda: self.label_pass(where, label))
        except (DataError, UsageError):
            raise
        except Exception as error:  # the hub, the disk and every reader have errors of their own
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise DataError(f"cannot read hub:{words:.100}: {reason:.300}") from error
        self._count = len(told)
        if label is not None and told.min() >= 0:
            self.classes, self.labels = tuple(features[label].names), told
        self.notes = _why_no_classes(features, label, told)
        self.fingerprint = hashlib.sha256(f"{key}|{self._column}".encode()).hexdigest()
        self._rows: Iterator[Row] = iter(())
        self._next = -1 - _WINDOW
        self._ahead: dict[int, Row] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._count

    def describe(self, index: int) -> str:
        """Return the name of image ``index`` for messages."""
        return f"hub:{self.place} image {index}"

    def read(self, index: int) -> bytes:
        """Return the bytes of image ``index``.

        Raises:
            BadImage: there is no usable image in this row.
            DataError: the stream breaks off.
        """
        if not 0 <= index < self._count:
            raise IndexError(f"there is no image {index}; the data set has {self._count}")
        with self._lock:
            row = self._row(index)
        return self._bytes(row[self._column])

    def _row(self, index: int) -> Row:
        """Return row ``index``; rows that are read before it are kept for other threads."""
        if index in self._ahead:
            return self._ahead.pop(index)
        if not self._next <= index <= self._next + _WINDOW:
            self._rows, self._next = iter(self.image_stream(index)), index
            self._ahead.clear()
        while True:
            number, row = self._next, self._following()
            if number == index:
                return row
            self._ahead[number] = row
            if len(self._ahead) > _WINDOW:  # rows this old were skipped; no thread waits for them
                del self._ahead[next(iter(self._ahead))]

    def _following(self) -> Row:
        """Return the next row of the stream."""
        number, self._next = self._next, -1 - _WINDOW  # if reading fails, the stream is restarted
        try:
            row: Row | None = next(self._rows, None)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise DataError(
                f"reading hub:{self.place} failed at image {number}: {reason:.200}. "
                "Run the command again to continue"
            ) from error
        if row is None:
            raise BadImage("the data set ended before this image")
        self._next = number + 1
        if self._next == self._count:
            self._rows = iter(())  # otherwise the reader prints an error when Python exits
        return row

    def _stream(self) -> Any:
        return self._builder.as_streaming_dataset(split=self._split)

    def image_stream(self, start: int) -> Any:
        """Return a stream of rows from ``start`` on, with the image as it is stored."""
        return self._stream().decode(False).select_columns([self._column]).skip(start)

    def label_pass(self, where: str, label: str | None) -> Iterator[int]:
        """Yield the label of every image, -1 for images without a label."""
        features = self._stream().features
        column = label or min(features, key=lambda name: name == self._column)
        stream = self._stream()
        if _reader(self._builder) == "parquet":  # can read one column without the others
            stream = _find(where, columns=[column]).as_streaming_dataset(split=self._split)
        for row in stream.decode(False).select_columns([column]):
            yield -1 if label is None or row[label] is None else row[label]

    def _bytes(self, value: Any) -> bytes:
        """Return the bytes of an image from its value: bytes, a path, or a mapping with both."""
        if isinstance(value, dict):
            value = value.get("path") if value.get("bytes") is None else value["bytes"]
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        if not isinstance(value, str):
            raise BadImage("there is no image in this row")
        return self._fetch(value)

    def _fetch(self, path: str) -> bytes:
        """Return the bytes of a file that a row names; only files of the data set are allowed."""
        import fsspec

        outside = BadImage(f"its path {path!r:.100} points outside the data set")
        *inside, last = path.split("::")  # zip://member::archive
        if self._folder is not None:
            found = (self._folder / last).resolve()
            if not found.is_relative_to(self._folder):
                raise outside
            last = str(found)
        else:
            root = f"hf://datasets/{self.place}"
            if "://" not in last and not last.startswith("/"):
                last = f"{root}@{self._builder.hash}/{last}"
            if not last.startswith((f"{root}@", f"{root}/")) or ".." in last.split("/"):
                raise outside
        if any(not part.startswith("zip://") for part in inside):
            raise outside
        path = "::".join([*inside, last])
        with fsspec.open(path, "rb") as file:
            content: bytes = file.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise BadImage(f"the file is larger than {MAX_FILE >> 20} MB")
        return content


def open_hub(words: str, download: bool) -> HubSource:
    """Open the data set that ``words`` name; it is streamed, so ``download`` is ignored."""
    return HubSource(words)


def _find(where: str, **options: Any) -> Any:
    """Return the reader of a data set.

    Raises:
        DataError: its reader is not one of ``READERS``, which run no code and open no pickle.
        UsageError: ``datasets`` is not installed.
    """
    try:
        from datasets import disable_progress_bars, load_dataset_builder
    except ImportError as error:
        raise UsageError(
            f"hub: needs the library datasets ({error.name} is missing): pip install 'gentool[hub]'"
        ) from error
    disable_progress_bars()
    builder = load_dataset_builder(where, **options)
    if _reader(builder) not in READERS:
        raise DataError(
            f"hub:{where:.100} is stored as {_reader(builder)}. Supported: {', '.join(READERS)}"
        )
    return builder


def _reader(builder: Any) -> str:
    """Return the short name of a reader.

    It is ``parquet`` for ``datasets.packaged_modules.parquet.parquet``.
    """
    module = str(type(builder).__module__)
    package, _, rest = module.partition(".packaged_modules.")
    return str(rest.partition(".")[0]) if package == "datasets" else module


def _choose_split(builder: Any) -> str:
    splits = [str(split) for split in builder.config.data_files or ()]
    if not splits:
        raise DataError(f"hub:{builder.dataset_name} has no files")
    return _SPLIT if _SPLIT in splits else splits[0]


def _state(builder: Any, split: str) -> str:
    """Return a text that changes when the files change: the commit, and data about each file."""
    files = builder.config.data_files[split]
    known = zip(files, files.origin_metadata, strict=True)
    digest = hashlib.sha256(repr([(str(file), mark) for file, mark in known]).encode())
    return f"{builder.hash} {builder.config_id} {split} {digest.hexdigest()}"


def _stamp(builder: Any, split: str) -> str | None:
    """Return the stamp of the files in a local folder; None for a data set of the hub."""
    try:
        infos = [Path(str(file)).stat() for file in builder.config.data_files[split]]
    except OSError:  # an address
        return None
    return stamp_of(map(stamp_of_file, infos))


def _image_column(features: Mapping[str, Any], given: str, words: str) -> str:
    """Return the given column, or the first column of images if none is given."""
    images = [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    if given in features:
        return given
    if given or not images:
        raise DataError(
            f"hub:{words:.100} has no column {f'named {given!r:.40}' if given else 'of images'}. "
            f"Columns: {', '.join(features)}. Name a column as in hub:user/name:column"
        )
    return images[0]


def _label_column(features: Mapping[str, Any]) -> str | None:
    """Return the first column of classes, or None."""
    kinds = ((name, type(kind).__name__) for name, kind in features.items())
    return next((name for name, kind in kinds if kind == "ClassLabel"), None)


def _why_no_classes(
    features: Mapping[str, Any], label: str | None, told: NDArray[np.int32]
) -> tuple[str, ...]:
    """Return a sentence on columns that look like labels and are not used."""
    if label is None:
        like = [name for name in features if fold_word(name) in LABEL_WORDS]
        return tuple(
            f"no classes: the column {name:.60} is no ClassLabel (in datasets, "
            f"class_encode_column('{name:.60}') makes it one)"
            for name in like[:1]
        )
    without = int((told < 0).sum())
    if not without:
        return ()
    return (f"no classes: {without:,} of {len(told):,} images have no {label:.60}",)


def _kept_labels(key: str, labels: Any) -> NDArray[np.int32]:
    """Return the labels from the cache folder, else from ``labels()``, which are then kept."""
    place = index_place("hub", key).with_suffix(".npy")
    try:
        found: NDArray[np.int32] = np.load(place, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        found = np.fromiter(labels(), dtype=np.int32)
        if not len(found):
            raise DataError("the data set is empty") from None
        _keep(found, place)
    return found


def _keep(labels: NDArray[np.int32], place: Path) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=".building-", dir=place.parent)
        with os.fdopen(handle, "wb") as out:
            np.save(out, labels, allow_pickle=False)
        Path(scratch).replace(place)
    except OSError:  # an unwritable cache is reported when images are written to it
        return
