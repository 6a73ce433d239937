"""One entry of the cache on disk: its layout, and how it is written, opened and verified.

An entry is a folder with ``images.u8`` (the pixels, uint8 (N, H, W, C), without a header),
``hashes.npy``, ``labels.npy`` if there are labels, ``bad.json`` and ``meta.json``. The last is
written last: an entry without it is not finished. All arrays are memory-mapped, so that opening
is fast and processes share the memory pages.
"""

import contextlib
import hashlib
import json
import mmap
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gentool.core.atomic_files import replacing
from gentool.core.images import MODES, ImageShape, Pixels
from gentool.data.cache.build import Built, dims_of, update_with_labels
from gentool.data.cache.locks import hold
from gentool.data.cache.store import IMAGES, DiskStore
from gentool.data.cache.workers import cores
from gentool.data.reading import Bad
from gentool.data.remarks import Remarks
from gentool.data.sources.table import Source

META, BAD = "meta.json", "bad.json"
HASHES, LABELS = "hashes.npy", "labels.npy"
_FORMAT = 2
MOST_CHECKED = 10**9  # bytes: the pixels of larger entries get no checksums, as reading takes long
_BLOCK = 2**24  # bytes per checksum


@dataclass(frozen=True)
class Opened:
    """The contents of an entry; arrays are memory-mapped and read-only.

    Attributes:
        stored: Pixels with their margin, uint8 (N, H, W, C).
        labels: Class index per image, int64 (N,), or None.
        classes: Class names.
        hashes: Content hash per image, uint64 (N,).
        fingerprint: SHA-256 of shape, pixels and labels.
        bad: Images of the source that were left out.
        bad_names: Their names.
        remarks: What preparing the images showed.
    """

    stored: Pixels
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    hashes: NDArray[np.uint64]
    fingerprint: str
    bad: tuple[Bad, ...]
    bad_names: tuple[str, ...]
    remarks: Remarks


def finish(store: DiskStore, source: Source, shape: ImageShape, built: Built) -> None:
    """Turn the result of a build in ``store`` into a finished entry.

    Raises:
        OSError: the disk is full.
    """
    folder, bad = store.folder, built.bad_rows
    hashes = store.keep(bad)
    store.sync()
    np.save(folder / HASHES, hashes)
    labels = kept_labels(source, bad)
    if labels is not None:
        np.save(folder / LABELS, labels)
    listed = [[*b, source.describe(b.number)] for b in built.bad]
    (folder / BAD).write_text(json.dumps(listed), encoding="utf-8")
    meta = {
        "format": _FORMAT,
        "source": source.name,
        "count": len(hashes),
        "height": shape.height,
        "width": shape.width,
        "mode": shape.mode,
        "classes": list(source.classes),
        "labelled": labels is not None,
        "fingerprint": built.fingerprint(source.classes, labels),
        "remarks": vars(built.remarks(source, hashes)),
        "checks": {p.name: _checks(p) for p in _checked(folder)},
    }
    with replacing(folder / META, sync=True) as out:
        out.write(json.dumps(meta).encode())
    store.clear()


def kept_labels(source: Source, bad: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return the labels of the images that are not ``bad``, int64, or None without labels."""
    if source.labels is None:
        return None
    return np.delete(source.labels, bad).astype(np.int64)


def open_entry(folder: Path, shape: ImageShape, *, check: bool = True) -> Opened | None:
    """Open an entry; return None if it is missing or damaged.

    Args:
        folder: Folder of the entry.
        shape: Shape that its images must have.
        check: Whether to compare the checksums (pixels have them only up to a gigabyte).
    """
    try:
        meta = _read_meta(folder)
        count, classes = int(meta["count"]), tuple(meta["classes"])
        stored = _map(folder / IMAGES, (count, *dims_of(shape)))
        hashes = np.load(folder / HASHES, mmap_mode="r")
        labels = np.load(folder / LABELS, mmap_mode="r") if meta["labelled"] else None
        bad = json.loads((folder / BAD).read_text(encoding="utf-8"))
        if _shape(meta) != shape or hashes.shape != (count,) or hashes.dtype != np.uint64:
            return None
        if labels is not None and not _labels_fit(labels, count, len(classes)):
            return None
        if check and not _checks_hold(folder, meta["checks"]):
            return None
        return Opened(
            stored=stored,
            labels=None if labels is None else np.asarray(labels),
            classes=classes,
            hashes=np.asarray(hashes),
            fingerprint=str(meta["fingerprint"]),
            bad=tuple(Bad(int(i), str(reason), bool(passing)) for i, reason, passing, _ in bad),
            bad_names=tuple(str(name) for *_, name in bad),
            remarks=Remarks.of_json(meta["remarks"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def verify_entry(folder: Path) -> str | None:
    """Read a finished entry completely; return what is wrong with it, or None.

    Pixels and labels must match the fingerprint, and every file with checksums must match them.
    """
    try:
        meta = _read_meta(folder)
        shape = _shape(meta)
    except (OSError, ValueError, KeyError, TypeError):
        return f"{META} is missing or damaged"
    found = open_entry(folder, shape, check=False)
    if found is None:
        return "its files do not match each other"
    digest = hashlib.sha256(str(shape).encode())
    step = max(1, _BLOCK // shape.dims)
    for start in range(0, len(found.stored), step):
        digest.update(found.stored[start : start + step].data)
    update_with_labels(digest, found.classes, found.labels)
    if digest.hexdigest() != found.fingerprint:
        return "its pixels or labels were changed"
    if not _checks_hold(folder, meta["checks"]):
        return "its list of hashes was changed"
    return None


def _read_meta(folder: Path) -> dict[str, Any]:
    meta = json.loads((folder / META).read_text(encoding="utf-8"))
    if not isinstance(meta, dict) or meta.get("format") != _FORMAT:
        raise ValueError(META)
    return meta


def _shape(meta: dict[str, Any]) -> ImageShape:
    return ImageShape(int(meta["height"]), int(meta["width"]), MODES[meta["mode"]])


def _map(path: Path, dims: tuple[int, ...]) -> Pixels:
    """Memory-map a file as a read-only uint8 array.

    Pruning treats the file as in use while the array exists.
    """
    if path.stat().st_size != np.prod(dims) or dims[0] < 1:
        raise ValueError(f"{path} has a wrong size")
    with path.open("rb") as file:
        hold(file)
        mapped: Pixels = np.memmap(file, dtype=np.uint8, mode="r", shape=dims)
    return mapped


def _labels_fit(labels: NDArray[np.int64], count: int, classes: int) -> bool:
    """Return whether there is one label per image, and each is the index of a class."""
    if labels.shape != (count,) or labels.dtype != np.int64:
        return False
    return int(labels.min()) >= 0 and int(labels.max()) < classes


def _checked(folder: Path) -> list[Path]:
    """Return the files that get checksums: the small arrays, and the pixels of small entries."""
    large = (folder / IMAGES).stat().st_size > MOST_CHECKED
    names = (HASHES, LABELS) if large else (IMAGES, HASHES, LABELS)
    return [folder / name for name in names if (folder / name).exists()]


def _checks_hold(folder: Path, checks: dict[str, list[int]]) -> bool:
    return all(_checks(folder / name) == wanted for name, wanted in checks.items())


def _checks(path: Path) -> list[int]:
    """Return the CRC-32 of every 16 MiB of a file."""
    places = range(0, path.stat().st_size, _BLOCK)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        mapped = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        view = stack.enter_context(memoryview(mapped))
        pool = stack.enter_context(ThreadPoolExecutor(cores()))
        return list(pool.map(lambda k: zlib.crc32(view[k : k + _BLOCK]), places))


def mark_used(folder: Path) -> None:
    """Record that the entry was used now, so that pruning drops other entries first."""
    with contextlib.suppress(OSError):  # the cache may be read-only
        os.utime(folder)
