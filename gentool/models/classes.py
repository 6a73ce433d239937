"""Frequencies of the classes in the data, and random classes with these frequencies."""

from collections.abc import Iterable

import torch

from gentool.models.base import Batch


def class_shares(batches: Iterable[Batch], classes: int, device: torch.device) -> torch.Tensor:
    """Return the frequencies of the classes in labelled batches, float32 (classes,), of sum 1.

    Args:
        batches: Labelled images.
        classes: Number of classes.
        device: Where the labels and the result are.
    """
    counts = torch.zeros(classes, device=device)
    for batch in batches:
        assert batch.labels is not None
        counts += torch.bincount(batch.labels, minlength=classes)
    return counts / counts.sum()


def draw_classes(shares: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Draw classes, int64 (B,), by inversion of their distribution function.

    Args:
        shares: Frequencies of the classes, (classes,), of sum 1.
        uniform: Uniform numbers in [0, 1), (B,).
    """
    return torch.bucketize(uniform, shares.cumsum(0)[:-1], right=True)
