"""One hidden layer each way, as in the first VAE: dense layers that know nothing of space.

The shape of Kingma and Welling 2014 (arXiv:1312.6114), appendix C, with ReLU for their tanh.
"""

import math

from torch import nn

from gentool.images import ImageShape


def dense_encoder(shape: ImageShape, hidden: int, outputs: int) -> nn.Module:
    """Images (B, C, H, W) -> vectors (B, outputs), by one layer of ``hidden`` ReLUs."""
    inputs = shape.dims
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def dense_decoder(shape: ImageShape, hidden: int, inputs: int, outputs: int) -> nn.Module:
    """Vectors (B, inputs) -> maps (B, outputs, H, W), by one layer of ``hidden`` ReLUs."""
    maps = (outputs, shape.height, shape.width)
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, math.prod(maps)),
        nn.Unflatten(1, maps),
    )  # fmt: skip
