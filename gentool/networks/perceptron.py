"""Dense layers each way, as in the first VAEs: they know nothing of space.

One layer of tanhs is the network of Kingma and Welling 2014 (arXiv:1312.6114), appendix C; two of
200 are that of Burda et al. 2016 (arXiv:1509.00519), section 5.
"""

import math
from itertools import pairwise

from torch import nn

from gentool.core.images import ImageShape

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def dense_encoder(
    shape: ImageShape, hidden: int, outputs: int, layers: int = 1, activation: str = "relu"
) -> nn.Module:
    """Images (B, C, H, W) -> vectors (B, outputs), by ``layers`` of ``hidden`` units."""
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
    """Vectors (B, inputs) -> maps (B, outputs, H, W), by ``layers`` of ``hidden`` units."""
    maps = (outputs, shape.height, shape.width)
    inside = _inside(inputs, hidden, layers, activation)
    return nn.Sequential(*inside, nn.Linear(hidden, math.prod(maps)), nn.Unflatten(1, maps))


def _inside(inputs: int, hidden: int, layers: int, activation: str) -> list[nn.Module]:
    """The hidden layers, each with its activation."""
    sizes = [inputs, *[hidden] * layers]
    chosen = ACTIVATIONS[activation]
    return [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), chosen())]
