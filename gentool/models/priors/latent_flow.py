"""Flow matching over a grid of latents, learned in the last span of a run.

Path and loss are those of ``flow_matching``, the velocity is a U-Net (``networks.velocity``), so
that neighbouring latents are drawn jointly. The prior is trained by the training loop on draws from
the posteriors, after the encoder, which is then frozen; the network gets the class (Rombach et al.
2022, arXiv:2112.10752, do the same by diffusion). Latents are shifted and scaled by the mean and
standard deviation of each channel, measured in the first steps.
"""

from collections.abc import Iterable

import torch

from gentool.core.distributed import batch_moments
from gentool.core.images import ImageShape
from gentool.core.rng import Draw
from gentool.models.base import Batch
from gentool.models.classes import class_shares, draw_classes
from gentool.models.priors.base import Codes, Encode, Prior
from gentool.models.priors.flow_matching import follow, path_error
from gentool.networks.velocity import VelocityNet

_TINY = 1e-6
_MEASURED = 50  # steps in which mean and deviation are measured
_STEPS = 8  # of Heun's method, two calls of the network each


class LatentFlow(Prior):
    """The velocity network, and mean and variance of the channels.

    Args:
        size: Number of latents L.
        components: Ignored.
        shape: Shape of the images.
        classes: Number of classes; 0 for none.
        places: Rows and columns of the grid that latents (L,) lie on, channel by channel.
        width: Channels of the network.

    Attributes:
        mean: Means of the channels, (C, 1, 1).
        variance: Variances of the channels, (C, 1, 1).
        measured: Number of batches measured, at most 50, a scalar.
    """

    learned = True
    rests = False
    most_classes = 10_000
    counts_classes = True
    words = "a flow-matching model of the latents of the training images, on their grid"
    mean: torch.Tensor
    variance: torch.Tensor
    measured: torch.Tensor

    def __init__(
        self, size: int, components: int, shape: ImageShape, classes: int = 0,
        places: tuple[int, int] = (1, 1), width: int = 128,
    ) -> None:  # fmt: skip
        super().__init__(size, components, shape, classes)
        self.grid = (size // (places[0] * places[1]), *places)
        self.net = VelocityNet(self.grid[0], places, width, classes)
        self.register_buffer("mean", torch.zeros(self.grid[0], 1, 1))
        self.register_buffer("variance", torch.ones(self.grid[0], 1, 1))
        self.register_buffer("measured", torch.zeros(()))

    @classmethod
    def open(
        cls, size: int, components: int, shape: ImageShape, classes: int, places: tuple[int, int],
        width: int,
    ) -> Prior:  # fmt: skip
        """Build the prior with a network for the grid."""
        return cls(size, components, shape, classes, places, width)

    @property
    def ready(self) -> bool:
        """Whether it has begun to learn."""
        return bool(self.measured > 0)

    @property
    def deviation(self) -> torch.Tensor:
        """Standard deviation of the channels, (C, 1, 1), always above 0."""
        return (self.variance + _TINY).sqrt()

    def learn(self, latents: torch.Tensor, labels: torch.Tensor | None, draw: Draw) -> torch.Tensor:
        """Return the mean squared error of the velocity per image, (B,), for latents (B, L)."""
        maps = latents.view(-1, *self.grid)
        if self.training:
            self._measure(maps)
        rows = ((maps - self.mean) / self.deviation).flatten(1)
        labels = labels if self.classes else None

        def velocity(y: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
            return self._velocity(y, angle, labels)

        return path_error(velocity, rows, draw)

    @torch.no_grad()
    def _measure(self, maps: torch.Tensor) -> None:
        """Add a batch to the moments; after 50 batches nothing changes any more."""
        mean, variance, _ = batch_moments(maps, (0, 2, 3))
        weight = (self.measured < _MEASURED).float() / (self.measured + 1)  # 1/n: a plain mean
        self.measured += weight > 0  # no branch, which would wait for the device
        # The variance of all batches is their mean variance plus the variance of their means.
        away = mean.view_as(self.mean) - self.mean
        inner = variance.view_as(self.mean) - self.variance
        self.variance += weight * (inner + (1 - weight) * away.square())
        self.mean += weight * away

    def _velocity(
        self, rows: torch.Tensor, angle: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor:
        return self.net(rows.view(-1, *self.grid), angle, labels).flatten(1)  # type: ignore[no-any-return]

    @torch.no_grad()
    def settle(self, encode: Encode, batches: Iterable[Batch]) -> None:
        """Count the classes of training images; all else is learned in training steps."""
        if self.classes:
            self.class_shares.copy_(class_shares(batches, self.classes, self.mean.device))

    def fit(self, codes: Codes) -> None:
        """Do nothing: this prior is learned in training steps."""

    def transform(
        self, noise: torch.Tensor, uniform: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the end of the path that begins at the noise, (B, L).

        Without labels, classes are drawn with their frequencies. A label is used even where
        ``class_shares`` is 0, since the flow learned from all images, but only some were counted.
        """
        if not self.ready:  # the velocity is still zero, and its computation would take long
            return noise
        kinds = labels
        if self.classes and labels is None:
            kinds = draw_classes(self.class_shares, uniform)

        def velocity(y: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
            return self._velocity(y, angle, kinds)

        maps = follow(velocity, noise, _STEPS).view(-1, *self.grid)
        return (self.mean + self.deviation * maps).flatten(1)
