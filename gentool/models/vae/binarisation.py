"""Dynamic binarisation of images (Salakhutdinov and Murray 2008).

A grey value is the probability of a white pixel.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from gentool.core.rng import Draw
from gentool.models.base import Batch


def inked(images: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Draw pixels of -1 and 1 with the grey values as probabilities, float32 (B, C, H, W).

    The mean over many draws is the image. Row i depends on its image and its index in ``draw``
    only.

    Args:
        images: (B, C, H, W) in [-1, 1].
        draw: Randomness of the step.
    """
    ink = draw.uniform("binarise", *images.shape[1:]) < (images.float() + 1) / 2
    return 2 * ink.float() - 1


def inked_batches(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Apply ``inked`` to all batches of an iterable, with the position of an image as its index."""
    start = 0
    for batch in batches:
        indices = np.arange(start, start + len(batch.images))
        start += len(indices)
        yield Batch(inked(batch.images, Draw(0, "pass", indices, 0, device)), batch.labels)
