"""A model that returns given images, so that its faults are known."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gentool.core.images import to_unit
from gentool.data import Subset
from gentool.models.base import BaseConfig, Model, Phase


class Replaying(Model):
    """A model whose sample k is image k of a list, turned around: no learning, known faults."""

    Config = BaseConfig
    exported = ("bank",)

    def __init__(self, images: Subset) -> None:
        super().__init__(BaseConfig(), images.dataset.shape)
        self.bank = nn.ParameterList([to_unit(torch.from_numpy(images.images[:]))])
        self.eval()

    def prior(
        self, indices: NDArray[Any], seed: int, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Numbers of images."""
        return torch.from_numpy(np.asarray(indices) % len(self.bank[0]))

    def decode(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """The images themselves."""
        return self.bank[0][latents]  # type: ignore[no-any-return]

    def phases(self) -> tuple[Phase, ...]:
        """None: it does not learn."""
        return ()
