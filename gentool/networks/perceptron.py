"""Encoder and decoder of dense layers, as in the first VAEs; positions of pixels have no meaning.

One hidden layer with tanh is the network of Kingma and Welling 2014 (arXiv:1312.6114), appendix C;
two of 200 units are that of Burda et al. 2016 (arXiv:1509.00519), section 5.
"""

import math
from itertools import pairwise

from torch import nn

from gentool.core.images import ImageShape

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def dense_encoder(
    shape: ImageShape, hidden: int, outputs: int, layers: int = 1, activation: str = "relu"
) -> nn.Module:
    """Build an encoder from images (B, C, H, W) to vectors (B, outputs).

    Args:
        shape: Shape of the images.
        hidden: Units per hidden layer.
        outputs: Length of the output vector.
        layers: Number of hidden layers.
        activation: A key of ``ACTIVATIONS``.
    """
    inside = _inside(shape.dims, hidden, layers, activation)
    return nn.Sequential(nn.Flatten(), *inside, nn.Linear(hidden, outputs))


def dense_decoder(
    shape: ImageShape,
    hidden: int,
    inputs: int,
    outputs: int,
    layers: int = 1,
    activation: str = "relu",
) -> nn.Module:
    """Build a decoder from vectors (B, inputs) to maps (B, outputs, H, W).

    Args:
        shape: Shape of the images.
        hidden: Units per hidden layer.
        inputs: Length of the input vector.
        outputs: Channels of the output.
        layers: Number of hidden layers.
        activation: A key of ``ACTIVATIONS``.
    """
    maps = (outputs, shape.height, shape.width)
    inside = _inside(inputs, hidden, layers, activation)
    return nn.Sequential(*inside, nn.Linear(hidden, math.prod(maps)), nn.Unflatten(1, maps))


def _inside(inputs: int, hidden: int, layers: int, activation: str) -> list[nn.Module]:
    """Return the hidden layers, each followed by its activation."""
    sizes = [inputs, *[hidden] * layers]
    chosen = ACTIVATIONS[activation]
    return [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), chosen())]
