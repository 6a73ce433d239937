"""The parts of a model as modules from tensors to tensors, and as programs of ``torch.export``.

A part is the prior (noise to latents), the decoder (latents to images) or the encoder (images to
latents). The batch may have any size. All tensors are float32; images are (N, C, H, W) in [-1, 1].
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from gentool.core.errors import GentoolError
from gentool.inference.blocks import has_encoder
from gentool.models.base import Model

MOST_IMAGES = 4096  # largest batch of an exported program
MOST_DIFFERENCE = 1e-4  # between a file and the model, where white is 1 and black is -1
BATCHES = (1, 2, 7)  # sizes at which an exported part is compared with the model


class Function(nn.Module):
    """A function of a model as a module, so that its weights are found.

    Args:
        model: The model.
        function: Function of tensors that uses the model.
    """

    def __init__(self, model: nn.Module, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.model = model
        self._function = function

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Return what the function returns for these tensors, as float32."""
        return self._function(*tensors).float()


@dataclass(frozen=True)
class Part:
    """One part of a model.

    Attributes:
        name: ``prior``, ``decoder`` or ``encoder``.
        module: The part.
        inputs: Names of its inputs.
        output: Name of its output.
        example: Function of a batch size that returns inputs.
    """

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    output: str
    example: Callable[[int], tuple[torch.Tensor, ...]]

    def wanted(self, count: int) -> torch.Tensor:
        """Return what the model itself computes for the example of a batch size."""
        with torch.no_grad():
            found: torch.Tensor = self.module(*self.example(count))
        return found

    def difference(self, run: Callable[..., torch.Tensor]) -> float:
        """Return the largest difference of a written file from the model, at several batch sizes.

        Args:
            run: Computes with the file what ``module`` computes.

        Raises:
            GentoolError: the difference is above ``MOST_DIFFERENCE``, or not a number.
        """
        with torch.no_grad():
            each = [(run(*self.example(n)) - self.wanted(n)).abs().max() for n in BATCHES]
        found = float(torch.stack(each).max())  # unlike max() of Python, it keeps what is no number
        if not found <= MOST_DIFFERENCE:
            raise GentoolError(
                f"the exported {self.name} differs from the model by {found:.2g}, more than "
                f"{MOST_DIFFERENCE:g}; it was not written"
            )
        return found

    def program(self) -> torch.export.ExportedProgram:
        """Return the part as a program whose batch may have any size from 1 to 4096."""
        batch = torch.export.Dim("batch", min=1, max=MOST_IMAGES)
        inputs = self.example(max(BATCHES))
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about its own inside
            return torch.export.export(
                self.module, inputs, dynamic_shapes=(tuple({0: batch} for _ in inputs),)
            )


def parts_of(model: Model[Any, Any]) -> list[Part]:
    """Return the parts that a model, on the CPU, has.

    The encoder is missing if the model has none; the prior is missing if latents are not drawn in
    one pass of a network, as codes of a transformer are not.
    """
    model = model.eval().requires_grad_(False)
    found = [Part("decoder", Function(model, model.decode), ("latents",), "images",
                  lambda count: (example_latents(model, count),))]  # fmt: skip
    if (noise := model.noise_map) is not None:
        size, draw = noise.size, noise.latents
        function = Function(model, lambda normal, uniform: draw(normal, uniform, None))
        found.append(Part("prior", function, ("noise", "uniform"), "latents",
                          lambda count: example_noise(count, size)))  # fmt: skip
    if has_encoder(model):
        found.append(Part("encoder", Function(model, model.encode), ("images",), "latents",
                          lambda count: (_images(model, count),)))  # fmt: skip
    return found


def example_latents(model: Model[Any, Any], count: int) -> torch.Tensor:
    """Return the latents of the first samples of seed 0."""
    with torch.no_grad():
        return model.prior(np.arange(count, dtype=np.int64), 0)


def example_noise(count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noise (count, size) and uniform numbers (count,)."""
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, size, generator=generator), torch.rand(count, generator=generator)


def _images(model: Model[Any, Any], count: int) -> torch.Tensor:
    shape, generator = model.shape, torch.Generator().manual_seed(count)
    smooth = torch.rand(count, shape.channels, 4, 4, generator=generator) * 2 - 1
    size = (shape.height, shape.width)
    return nn.functional.interpolate(smooth, size, mode="bilinear", align_corners=False)
