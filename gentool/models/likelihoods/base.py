"""Base of the likelihoods, and functions on grey levels and scales."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import softplus

from gentool.core.errors import OutsideSupport

LEVELS = 256
STEP = 2 / (LEVELS - 1)  # between two grey levels on the [-1, 1] scale
_OFF_LEVEL = 0.01  # in steps; a larger distance from a level is no rounding error
_LOOK_EVERY = 64  # training steps between two reads of a result from a device
READ_EACH_STEP = ("cpu",)  # kinds of device whose results are read in every step


class Likelihood(nn.Module, ABC):
    """Base of the likelihoods.

    Attributes:
        params_per_channel: Decoder outputs per colour channel, unless ``outputs`` is overridden.
        discrete: True if ``log_prob`` is the log of a mass, False if of a density.
        scaled: Whether the constructor takes a standard deviation.
        support: Which pixels have a likelihood, as text.
        otherwise: What to use for other images, as text.
    """

    params_per_channel: ClassVar[int] = 1
    discrete: ClassVar[bool]
    scaled: ClassVar[bool] = False
    support: ClassVar[str]
    otherwise: ClassVar[str]
    _fine: torch.Tensor | None = None  # whether all images since the last check are in the support

    def outputs(self, channels: int) -> int:
        """Return the number of decoder maps for images of ``channels`` channels."""
        return channels * self.params_per_channel

    @abstractmethod
    def log_prob(self, params: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Return log p(x | z) per image in nats, shape (B,).

        Args:
            params: The decoder's output, (B, outputs(C), H, W).
            images: (B, C, H, W) in [-1, 1], within the support; see ``check`` and ``watch``.
        """

    @abstractmethod
    def mean(self, params: torch.Tensor) -> torch.Tensor:
        """Return E[x | z] in [-1, 1], (B, C, H, W)."""

    @abstractmethod
    def sample(self, params: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Draw from p(x | z), (B, C, H, W), given standard normal ``noise`` (B, C, H, W)."""

    @abstractmethod
    def supports(self, images: torch.Tensor) -> torch.Tensor:
        """Return whether all pixels of images (B, C, H, W) are in the support, a scalar bool."""

    def check(self, images: torch.Tensor) -> None:
        """Check that images that are to be scored are in the support.

        Raises:
            OutsideSupport: they are not.
        """
        if not self.supports(images):
            raise OutsideSupport(self.support, "images like those the model was trained on")

    def watch(self, images: torch.Tensor, step: int, first: str = "") -> None:
        """Check that training images are in the support.

        All images are checked, but a device other than the CPU is asked for the result in every
        64th step only, since this waits for the device.

        Args:
            images: (B, C, H, W) in [-1, 1].
            step: Number of the step in the run.
            first: Advice to print before ``otherwise``, or empty.

        Raises:
            OutsideSupport: an image since the last result, or of this step, is not.
        """
        fine = self.supports(images)
        self._fine = fine if self._fine is None else self._fine & fine
        if images.device.type not in READ_EACH_STEP and step % _LOOK_EVERY:
            return
        fine, self._fine = self._fine, None
        if not fine:
            remedy = f"{first}, or {self.otherwise}" if first else self.otherwise
            raise OutsideSupport(self.support, remedy)


def on_levels(images: torch.Tensor) -> torch.Tensor:
    """Return whether all pixels are one of the 256 grey levels -1 + 2 k / 255, a scalar bool."""
    levels = level(images)
    whole = (levels - levels.round()).abs().max() < _OFF_LEVEL
    return whole & (levels.min() > -0.5) & (levels.max() < LEVELS - 0.5)


def level(images: torch.Tensor) -> torch.Tensor:
    """Return the grey levels 0 to 255 of pixels in [-1, 1], float32, not rounded."""
    return (images.float() + 1) / STEP


def quantile(noise: torch.Tensor) -> torch.Tensor:
    """Map standard normal to uniform numbers by Phi(noise), clamped to [1e-6, 1 - 1e-6]."""
    return (0.5 * (1 + torch.erf(noise / math.sqrt(2)))).clamp(1e-6, 1 - 1e-6)


def softly_bounded(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Return ``values`` smoothly bounded by ``low`` and ``high``, far from both unchanged."""
    above = low + softplus(values - low)
    return high - softplus(high - above)
