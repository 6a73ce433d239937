"""Dynamic binarisation: a grey value is the chance of white (Salakhutdinov and Murray 2008)."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from gentool.core.rng import Draw
from gentool.models.base import Batch


def inked(images: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Pixels of -1 and 1 drawn by images (B, C, H, W) in [-1, 1], float32; by index, as all noise.

    The mean over many draws is the image.
    """
    ink = draw.uniform("binarise", *images.shape[1:]) < (images.float() + 1) / 2
    return 2 * ink.float() - 1


def inked_batches(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The same, of a pass over images, each drawn once and by its place in the pass."""
    start = 0
    for batch in batches:
        indices = np.arange(start, start + len(batch.images))
        start += len(indices)
        yield Batch(inked(batch.images, Draw(0, "pass", indices, 0, device)), batch.labels)
