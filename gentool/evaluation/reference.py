"""The reference that targets are scored against: an extractor and the features of images.

Features and the weights of a trained classifier are kept in the cache folder.
"""

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
    """Features of the images that targets are scored against.

    Attributes:
        extractor: Computes the features.
        features: Features of the reference images, float32 (N, D).
        moments: Mean and covariance of ``features``.
        rows: Indices in the data set of the reference images, int64 (N,).
        training: Features of training images (M, D), M <= N, for memorisation; None if no training
            images are known beside the reference images.
        training_rows: Indices in the data set of these training images, int64 (M,).
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
    """Return the extractor called ``name``; ``labels`` is trained unless the cache holds it.

    Args:
        name: ``random``, ``labels`` or a pretrained extractor.
        dataset: Prepared images.
        rows: Indices of the images that ``labels`` is trained on.
        weights: File of a pretrained extractor, if the user gave one.
    """
    if name == "random":
        return RandomExtractor()
    if name == "labels":
        return LabelsExtractor(_classifier(dataset, rows))
    return load_pretrained(name, weights)


def _classifier(dataset: Dataset, rows: NDArray[np.int64]) -> Classifier:
    """Return a classifier that was trained on images ``rows``; the cache keeps its weights."""
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
    """Make the reference; features come from the cache or are computed now.

    Args:
        dataset: Prepared images.
        extractor: Computes the features.
        rows: Indices of the reference images.
        trained: Indices of the images that the models were trained on, if ``rows`` were kept out
            of training; else empty. At most as many as ``rows`` are used.
    """
    features = _cached_features(dataset, extractor, rows)
    training, training_rows = None, some_rows(trained, len(rows))
    if len(trained):
        training = _cached_features(dataset, extractor, training_rows)
    return Reference(extractor, features, moments(features.numpy()), rows, training, training_rows)


def some_rows(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return ``count`` of the rows, or all if they are fewer: a fixed random choice, sorted."""
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
