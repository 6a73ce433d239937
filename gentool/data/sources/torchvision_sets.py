"""The image sets of torchvision: ``torchvision:NAME[:test]``, read by torchvision's own code.

Each set has a folder in the cache folder. Files are downloaded only on request. The training part
is used unless ``:test`` follows the name. CIFAR files are pickles; torchvision opens them after
comparing their MD5 with its own list.
"""

import contextlib
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gentool.core.errors import DataError, UsageError
from gentool.data.encoded import BadImage
from gentool.data.paths import cache_folder
from gentool.data.sources.base import Decoded, Source, image_hash
from gentool.data.sources.changes import change_of, stamp_of

# The sets that give (image, class), each with further arguments that its constructor needs.
SETS: dict[str, dict[str, str]] = {
    "CIFAR10": {},
    "CIFAR100": {},
    "CelebA": {},
    "Caltech101": {},
    "Caltech256": {},
    "Country211": {},
    "DTD": {},
    "EMNIST": {"split": "balanced"},
    "EuroSAT": {},
    "FGVCAircraft": {},
    "FashionMNIST": {},
    "Flowers102": {},
    "Food101": {},
    "GTSRB": {},
    "Imagenette": {},
    "KMNIST": {},
    "LFWPeople": {},
    "MNIST": {},
    "OxfordIIITPet": {},
    "PCAM": {},
    "QMNIST": {},
    "RenderedSST2": {},
    "SEMEION": {},
    "STL10": {},
    "SUN397": {},
    "SVHN": {},
    "StanfordCars": {},
    "USPS": {},
}
# Arguments that select the test part, for the sets that have one.
_NOT_TRAIN: dict[str, object] = {"train": False}
_TEST: dict[str, object] = {"split": "test"}
TESTS: dict[str, dict[str, object]] = {
    **dict.fromkeys(
        ("CIFAR10", "CIFAR100", "EMNIST", "FashionMNIST", "KMNIST", "MNIST", "QMNIST", "USPS"),
        _NOT_TRAIN,
    ),
    **dict.fromkeys(
        ("CelebA", "Country211", "DTD", "FGVCAircraft", "Flowers102", "Food101", "GTSRB",
         "LFWPeople", "OxfordIIITPet", "PCAM", "RenderedSST2", "STL10", "SVHN", "StanfordCars"),
        _TEST,
    ),
    "Imagenette": {"split": "val"},
}  # fmt: skip


class ImageSetSource(Source):
    """A set of torchvision.

    Args:
        name: A name in ``SETS``.
        download: Whether to download missing files.
        test: Whether to use the test part instead of the training part.

    Raises:
        UsageError: there is no such set, or it has no test part.
        DataError: its files are missing, damaged or cannot be downloaded.
    """

    access = "threads"  # many of these sets are completely in memory

    def __init__(self, name: str, *, download: bool, test: bool = False) -> None:
        if name not in SETS:
            raise UsageError(
                f"there is no torchvision set '{name:.40}'. Choose from {', '.join(SETS)}"
            )
        if test and name not in TESTS:
            raise UsageError(f"torchvision:{name} has no test set. Choose from {', '.join(TESTS)}")
        self.name = f"{name}-test" if test else name
        self._spec = f"torchvision:{name}:test" if test else f"torchvision:{name}"
        root = cache_folder() / f"torchvision-{name}"
        more = TESTS[name] if test else {}
        self._set = _construct(name, root, {**SETS[name], **more}, download=download)
        found = _labels(self._set)
        self.classes, self.labels = found or ((), None)
        self.fingerprint, self.stamp = _fingerprint(self.name, root, len(self))

    def __len__(self) -> int:
        return len(self._set)

    def describe(self, index: int) -> str:
        """Return the name of image ``index`` for messages."""
        return f"{self._spec} image {index}"

    def open(self, index: int) -> Decoded:
        """Return image ``index`` as torchvision gives it."""
        image = self._set[index][0]
        if not isinstance(image, Image.Image):
            raise BadImage(f"torchvision returned {type(image).__name__}, not an image")
        return Decoded(image, image_hash(image))


def open_imageset(words: str, download: bool) -> ImageSetSource:
    """Open the set called ``NAME``, or the test part of a set for ``NAME:test``.

    Raises:
        UsageError: as in ``ImageSetSource``; or another part is named.
        DataError: as in ``ImageSetSource``.
    """
    name, colon, part = words.partition(":")
    if colon and part != "test":
        raise UsageError(
            f"torchvision:{words:.80}: write only the name, or the name and :test for the test set"
        )
    return ImageSetSource(name, download=download, test=bool(colon))


def _construct(name: str, root: Path, options: dict[str, object], *, download: bool) -> Any:
    """Return the data set object of torchvision, built with ``options``."""
    from torchvision import datasets

    kind = getattr(datasets, name)
    try:
        if download:
            root.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(sys.stderr):  # torchvision prints its progress
            return kind(os.fspath(root), **options, download=download)
    except ImportError as error:
        raise DataError(
            f"torchvision:{name} needs {error.name}: pip install {error.name}"
        ) from error
    except Exception as error:  # every set raises its own errors for missing files
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if download:
            raise DataError(
                f"torchvision:{name} cannot be downloaded to {root}: {reason}"
            ) from error
        raise DataError(
            f"torchvision:{name} is missing or incomplete in {root} ({reason:.200}). Download it "
            "with --download"
        ) from error


def _labels(found: Any) -> tuple[tuple[str, ...], NDArray[np.int32]] | None:
    """Return class names and labels, int32 (N,), or None.

    It is None unless the set has one class per image that can be read without decoding images.
    """
    values = None
    for name in ("targets", "labels", "_labels", "y"):
        values = getattr(found, name, values)
    samples = getattr(found, "_samples", None)
    if values is None and samples:
        values = [sample[1] for sample in samples]
    labels = np.asarray(values if values is not None else [])
    if labels.shape != (len(found),) or labels.dtype.kind not in "iu":
        return None
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high == low:
        return None
    names = [str(name) for name in getattr(found, "classes", ())]
    if len(names) <= high or len(set(names)) != len(names):
        names = [str(number) for number in range(high + 1)]
    return tuple(names), labels.astype(np.int32)


def _fingerprint(name: str, root: Path, count: int) -> tuple[str, str]:
    """Return a SHA-256 of the names, sizes and times of the set's files, and their stamp."""
    changes = []
    digest = hashlib.sha256(f"torchvision {name} {count}".encode())
    for top, folders, files in os.walk(root):
        folders.sort()
        for file in sorted(files):
            info = (Path(top) / file).stat()
            words = f"{os.path.relpath(top, root)}/{file} {info.st_size} {info.st_mtime_ns}\0"
            digest.update(words.encode("utf-8", "surrogateescape"))
            changes.append(change_of(info))
    return digest.hexdigest(), stamp_of(changes)
