"""The reference that targets are scored against: extractor, images, features, all cached."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gentool.checkpoint import read_file, write_file
from gentool.core.errors import ModelFileError
from gentool.core.rng import data_order
from gentool.data import Dataset, cache_folder
from gentool.metrics.extractors import (
    Classifier,
    Extractor,
    LabelsExtractor,
    RandomExtractor,
    train_classifier,
)
from gentool.metrics.frechet import Moments, moments
from gentool.metrics.pretrained import load_pretrained


@dataclass(frozen=True)
class Reference:
    """The images that targets are scored against, by their features.

    Attributes:
        extractor: Gives the features.
        features: (N, D).
        moments: Of the features.
        rows: Which images of the data set these are.
        training: Features of training images, for memorisation; None without a split.
    """

    extractor: Extractor
    features: torch.Tensor
    moments: Moments
    rows: NDArray[np.int64]
    training: torch.Tensor | None
    training_rows: NDArray[np.int64]


def make_extractor(
    name: str, dataset: Dataset, rows: NDArray[np.int64], weights: Path | None
) -> Extractor:
    """The extractor called ``name``; ``labels`` is trained now unless it is in the cache."""
    if name == "random":
        return RandomExtractor()
    if name == "labels":
        return LabelsExtractor(_classifier(dataset, rows))
    return load_pretrained(name, weights)


def _classifier(dataset: Dataset, rows: NDArray[np.int64]) -> Classifier:
    """Trained on images ``rows``, once per data set and split."""
    assert dataset.labels is not None
    words = f"{dataset.fingerprint}|{hashlib.sha256(rows.tobytes()).hexdigest()}|v2"
    path = cache_folder() / f"classifier-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
    network = Classifier(len(dataset.classes))
    try:
        network.load_state_dict(read_file(path)[1])
    except (ModelFileError, RuntimeError):
        images = dataset.images[rows]
        network = train_classifier(images, dataset.labels[rows], len(dataset.classes), seed=0)
        write_file(path, network.state_dict(), {"kind": "classifier"})
    return network


def make_reference(
    dataset: Dataset, extractor: Extractor, rows: NDArray[np.int64], trained: NDArray[np.int64]
) -> Reference:
    """The reference's features, from the cache or worked out now.

    Args:
        dataset: Prepared images.
        extractor: Gives the features.
        rows: The images to compare with.
        trained: Those that the models were trained on, beside which ``rows`` were kept out; empty
            where nothing was.
    """
    features = _cached_features(dataset, extractor, rows)
    training, training_rows = None, some_rows(trained, len(rows))
    if len(trained):
        training = _cached_features(dataset, extractor, training_rows)
    return Reference(extractor, features, moments(features.numpy()), rows, training, training_rows)


def some_rows(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """``count`` of the rows, spread over all of them, in a fixed order."""
    if len(rows) <= count:
        return rows
    return np.sort(rows[data_order(0, 0, count, len(rows))])


def _cached_features(
    dataset: Dataset, extractor: Extractor, rows: NDArray[np.int64]
) -> torch.Tensor:
    words = f"{dataset.fingerprint}|{extractor.name}|{extractor.hash}|".encode() + rows.tobytes()
    path = cache_folder() / f"features-{hashlib.sha256(words).hexdigest()[:16]}"
    try:
        return read_file(path)[1]["features"]
    except (ModelFileError, KeyError):
        features = extractor.features(dataset.images[rows])
        write_file(path, {"features": features}, {"kind": "features"})
        return features
