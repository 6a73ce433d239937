"""The reference that targets are scored against: an extractor and the features of images.

Features and the weights of a trained classifier are kept in the cache folder.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from gentool.checkpoint import read_file, write_file
from gentool.core.errors import ModelFileError
from gentool.data import Subset, cache_folder
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
        images: The reference images.
        training: Features of training images (M, D), M <= N, for memorisation; None if no training
            images are known beside the reference images.
        training_images: These training images.
    """

    extractor: Extractor
    features: torch.Tensor
    moments: Moments
    images: Subset
    training: torch.Tensor | None
    training_images: Subset


def make_extractor(name: str, images: Subset, weights: Path | None) -> Extractor:
    """Return the extractor called ``name``; ``labels`` is trained unless the cache holds it.

    Args:
        name: ``random``, ``labels`` or a pretrained extractor.
        images: The images that ``labels`` is trained on.
        weights: File of a pretrained extractor, if the user gave one.
    """
    if name == "random":
        return RandomExtractor()
    if name == "labels":
        return LabelsExtractor(_classifier(images))
    return load_pretrained(name, weights)


def _classifier(images: Subset) -> Classifier:
    """Return a classifier that was trained on the images; the cache keeps its weights."""
    assert images.labels is not None
    rows = hashlib.sha256(images.rows.tobytes()).hexdigest()
    words = f"{images.dataset.version}|{rows}|v2"
    path = cache_folder() / f"classifier-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
    network = Classifier(len(images.classes))
    try:
        network.load_state_dict(read_file(path)[1])
    except (ModelFileError, RuntimeError):
        network = train_classifier(images.images[:], images.labels, len(images.classes), seed=0)
        write_file(path, network.state_dict(), {"kind": "classifier"})
    return network


def make_reference(extractor: Extractor, images: Subset, trained: Subset) -> Reference:
    """Make the reference; features come from the cache or are computed now.

    Args:
        extractor: Computes the features.
        images: The reference images.
        trained: The images that the models were trained on, if ``images`` were kept out of
            training; else empty. At most as many as ``images`` are used.
    """
    features = _cached_features(extractor, images)
    training, training_images = None, trained.some(len(images))
    if len(trained):
        training = _cached_features(extractor, training_images)
    statistics = moments(features.numpy())
    return Reference(extractor, features, statistics, images, training, training_images)


def _cached_features(extractor: Extractor, images: Subset) -> torch.Tensor:
    features = read_features(extractor, images)
    if features is None:
        features = extractor.features(images.images[:])
        write_features(extractor, images, features)
    return features


def read_features(extractor: Extractor, images: Subset) -> torch.Tensor | None:
    """Return the features of images (N, D) from the cache; None if they are not there."""
    try:
        return read_file(_place_of_features(extractor, images))[1]["features"]
    except (ModelFileError, KeyError):
        return None


def write_features(extractor: Extractor, images: Subset, features: torch.Tensor) -> None:
    """Keep the features of images (N, D) in the cache.

    Raises:
        OSError: the disk is full or the cache cannot be written.
    """
    place = _place_of_features(extractor, images)
    write_file(place, {"features": features}, {"kind": "features"})


def _place_of_features(extractor: Extractor, images: Subset) -> Path:
    words = f"{images.dataset.version}|{extractor.name}|{extractor.hash}|".encode()
    words += images.rows.tobytes()
    return cache_folder() / f"features-{hashlib.sha256(words).hexdigest()[:16]}"
