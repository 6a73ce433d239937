"""The cache: every image prepared once, as one memory-mapped uint8 array on disk.

A cache entry is a folder named by what it depends on (source, shape, policy): ``images.u8``
holds the pixels (N, H, W, C) back to back, ``meta.json`` the rest. It is built beside its
place and renamed, so an entry is whole or absent, and two runs may build it at once.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from gentool.data.intake import BadImage, Policy
from gentool.data.places import cache_folder
from gentool.data.sources import Loaded, Source
from gentool.errors import DataError
from gentool.images import ImageShape, Pixels

Progress = Callable[[int, int], None]
_CHUNK = 512  # images prepared between two looks at the stop flag


@dataclass(frozen=True)
class Dataset:
    """Prepared images.

    Attributes:
        name: Short name of the source.
        images: uint8 (N, H, W, C), memory-mapped.
        labels: Class index per image, int64 (N,), or None.
        classes: Class names.
        shape: Shape of one image.
        hashes: 64 bits of the SHA-256 of each image's source (its file's bytes), uint64 (N,):
            what a split goes by, so that it outlives renaming and copying.
        fingerprint: SHA-256 of the pixels and labels: the same on every machine.
        bad: (path, reason) of the files that were left out.
    """

    name: str
    images: Pixels
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    shape: ImageShape
    hashes: NDArray[np.uint64]
    fingerprint: str
    bad: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.images)

    def split(self, holdout: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of the images to train on and of those kept out.

        Args:
            holdout: Share that is kept out, by content: copies fall on one side together.
        """
        kept_out = self.hashes < np.uint64(holdout * 2**63) * np.uint64(2)
        return np.flatnonzero(~kept_out), np.flatnonzero(kept_out)


def prepare(source: Source, policy: Policy, progress: Progress | None = None) -> Dataset:
    """The images of ``source``, prepared, from the cache or made now.

    Args:
        source: Where the images come from.
        policy: What they become.
        progress: Called with (done, total) now and then; may raise to stop, which leaves
            nothing behind.

    Raises:
        DataError: not one image could be read, or the cache cannot be written.
    """
    words = f"{source.fingerprint}|{policy}"
    entry = cache_folder() / f"{source.name[:40]}-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
    found = _read(entry, source.name, policy.shape)
    if found is not None:
        return found
    try:
        _build(entry, source, policy, progress or (lambda done, total: None))
    except OSError as error:
        raise DataError(
            f"cannot write the image cache {entry.parent}: {error.strerror or error}. "
            "Set GENTOOL_CACHE to a folder with room"
        ) from error
    made = _read(entry, source.name, policy.shape)
    if made is None:
        raise DataError(f"the image cache {entry} was changed while in use. Run the command again")
    return made


def _read(entry: Path, name: str, shape: ImageShape) -> Dataset | None:
    """The entry if it is there and whole, else None (it is then built anew)."""
    try:
        meta = json.loads((entry / "meta.json").read_text(encoding="utf-8"))
        dims = (int(meta["count"]), shape.height, shape.width, shape.channels)
        if (entry / "images.u8").stat().st_size != np.prod(dims):
            return None
        labels = None if meta["labels"] is None else np.array(meta["labels"], dtype=np.int64)
        if labels is not None and not _labels_fit(labels, dims[0], len(meta["classes"])):
            return None
        return Dataset(
            name=name,
            images=np.memmap(entry / "images.u8", dtype=np.uint8, mode="r", shape=dims),
            labels=labels,
            classes=tuple(meta["classes"]),
            shape=shape,
            hashes=np.array(meta["hashes"], dtype=np.uint64),
            fingerprint=meta["fingerprint"],
            bad=tuple((path, reason) for path, reason in meta["bad"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _labels_fit(labels: NDArray[np.int64], count: int, classes: int) -> bool:
    """One label per image, each naming a class."""
    return labels.shape == (count,) and int(labels.min()) >= 0 and int(labels.max()) < classes


def _build(entry: Path, source: Source, policy: Policy, progress: Progress) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=entry.parent) as scratch:
        folder = Path(scratch) / "entry"
        folder.mkdir()
        with (folder / "images.u8").open("wb") as out:
            meta = _write_images(out, source, policy, progress)
        (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        if entry.exists() and _read(entry, source.name, policy.shape) is None:
            shutil.rmtree(entry)  # damaged: made again
        try:
            folder.rename(entry)
        except OSError:
            if not entry.exists():  # else another run finished it first, with the same content
                raise


def _write_images(
    out: BinaryIO, source: Source, policy: Policy, progress: Progress
) -> dict[str, object]:
    """Write every readable image and return the entry's meta data."""
    digest = hashlib.sha256(str(policy.shape).encode())
    kept: list[int] = []
    hashes: list[int] = []
    bad: list[tuple[str, str]] = []
    for index, result in enumerate(_images(source, policy, progress)):
        if isinstance(result, BadImage):
            bad.append((source.describe(index), str(result)))
        else:
            kept.append(index)
            hashes.append(result.content_hash)
            pixels = result.pixels.tobytes()
            out.write(pixels)
            digest.update(pixels)
    if not kept:
        path, reason = bad[0]
        raise DataError(
            f"none of the {len(source)} images can be read; the first, {path}: {reason}"
        )
    labels = None if source.labels is None else source.labels[kept].tolist()
    digest.update(json.dumps([source.classes, labels]).encode())
    return {
        "count": len(kept),
        "labels": labels,
        "classes": source.classes,
        "hashes": hashes,
        "fingerprint": digest.hexdigest(),
        "bad": bad,
    }


def _images(source: Source, policy: Policy, progress: Progress) -> Iterator[Loaded | BadImage]:
    """Every image in order, decoded in threads (Pillow works outside the interpreter lock)."""

    def load(index: int) -> Loaded | BadImage:
        try:
            return source.load(index, policy)
        except BadImage as error:
            return error
        except Exception as error:  # unreadable file, broken zip member
            return BadImage(f"{type(error).__name__}: {error}".splitlines()[0])

    total = len(source)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for start in range(0, total, _CHUNK):
            progress(start, total)
            yield from pool.map(load, range(start, min(start + _CHUNK, total)))
    progress(total, total)
