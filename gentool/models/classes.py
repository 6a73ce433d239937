"""How often the classes of the data occur, and drawing them as often."""

from collections.abc import Iterable

import torch

from gentool.models.base import Batch


def class_shares(batches: Iterable[Batch], classes: int, device: torch.device) -> torch.Tensor:
    """Frequencies of the classes among labelled images, float32 (classes,)."""
    counts = torch.zeros(classes, device=device)
    for batch in batches:
        assert batch.labels is not None
        counts += torch.bincount(batch.labels, minlength=classes)
    return counts / counts.sum()


def draw_classes(shares: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Classes int64 (B,) of uniform numbers in [0, 1) (B,), by inversion."""
    return torch.bucketize(uniform, shares.cumsum(0)[:-1], right=True)
