"""What every likelihood can, and the bounds of its scale."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import softplus

from gentool.core.errors import OutsideSupport

LEVELS = 256
STEP = 2 / (LEVELS - 1)  # between two grey levels on the [-1, 1] scale
_OFF_LEVEL = 0.01  # of a step; more is no rounding error
_LOOK_EVERY = 64  # steps of training between two looks at what a device has found
_AT_ONCE = ("cpu",)  # kinds of device that need not be waited for


class Likelihood(nn.Module, ABC):
    """Base of the entries.

    Attributes:
        params_per_channel: Decoder outputs per colour channel, if they are per channel.
        discrete: True when ``log_prob`` is a log mass, False for a log density.
        scaled: Whether it is built with a standard deviation.
        support: Which pixels it takes, in words.
        otherwise: What to train with on others, in words.
    """

    params_per_channel: ClassVar[int] = 1
    discrete: ClassVar[bool]
    scaled: ClassVar[bool] = False
    support: ClassVar[str]
    otherwise: ClassVar[str]
    _fine: torch.Tensor | None = None  # whether all images since the last look were in the support

    def outputs(self, channels: int) -> int:
        """How many maps the decoder gives for images of so many channels."""
        return channels * self.params_per_channel

    @abstractmethod
    def log_prob(self, params: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Log p(x | z) per image in nats, shape (B,).

        Args:
            params: The decoder's output, (B, outputs(C), H, W).
            images: (B, C, H, W) in [-1, 1], within the support; see ``check`` and ``watch``.
        """

    @abstractmethod
    def mean(self, params: torch.Tensor) -> torch.Tensor:
        """E[x | z] in [-1, 1], (B, C, H, W)."""

    @abstractmethod
    def sample(self, params: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """A draw from p(x | z), given standard normal ``noise`` (B, C, H, W)."""

    @abstractmethod
    def supports(self, images: torch.Tensor) -> torch.Tensor:
        """Whether all pixels of images (B, C, H, W) lie in the support, a bool."""

    def check(self, images: torch.Tensor) -> None:
        """Refuse to score images outside the support.

        Raises:
            OutsideSupport: they are.
        """
        if not self.supports(images):
            raise OutsideSupport(self.support, "images such as the model was trained on")

    def watch(self, images: torch.Tensor, step: int, first: str = "") -> None:
        """Refuse to train on images outside the support; each is looked at, if not at once.

        Off the CPU what was found is asked for now and then, for the device must be waited for.

        Args:
            images: (B, C, H, W) in [-1, 1].
            step: Of the run.
            first: What else could be done, in words, before ``otherwise``.

        Raises:
            OutsideSupport: an image of this step, or of one since the last look, is outside.
        """
        fine = self.supports(images)
        self._fine = fine if self._fine is None else self._fine & fine
        if images.device.type not in _AT_ONCE and step % _LOOK_EVERY:
            return
        fine, self._fine = self._fine, None
        if not fine:
            remedy = f"{first}, or {self.otherwise}" if first else self.otherwise
            raise OutsideSupport(self.support, remedy)


def on_levels(images: torch.Tensor) -> torch.Tensor:
    """Whether all pixels are one of the 256 grey levels, -1 + 2 k / 255."""
    levels = level(images)
    whole = (levels - levels.round()).abs().max() < _OFF_LEVEL
    return whole & (levels.min() > -0.5) & (levels.max() < LEVELS - 0.5)


def level(images: torch.Tensor) -> torch.Tensor:
    """Grey levels 0 to 255 of pixels in [-1, 1], not rounded."""
    return (images.float() + 1) / STEP


def quantile(noise: torch.Tensor) -> torch.Tensor:
    """Phi(noise): standard normal -> uniform, kept off 0 and 1."""
    return (0.5 * (1 + torch.erf(noise / math.sqrt(2)))).clamp(1e-6, 1 - 1e-6)


def softly_bounded(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """``values`` bent to stay above ``low`` and below ``high``; far from both unchanged."""
    above = low + softplus(values - low)
    return high - softplus(high - above)
