"""Flow matching: a velocity field that transports noise to codes (Lipman et al. 2023).

Codes u are whitened first. On the variance-preserving path

    y(a) = cos(a) noise + sin(a) u,   0 <= a <= pi / 2

(arXiv:2210.02747, Eq. 20 with Albergo and Vanden-Eijnden's angles, arXiv:2209.15571, section 2) a
network learns the velocity by conditional flow matching, Eq. 9:

    v(y, a) = argmin E || v(y(a), a) - (cos(a) u - sin(a) noise) ||^2.

The network is initialised by v = 0, for which samples are the noise itself, so the prior is the
full Gaussian. Samples follow v from a = 0 to pi / 2 in equal steps of Heun's method. With classes,
the network also gets the class.
"""

import math
from collections.abc import Callable

import torch

from gentool.core.images import ImageShape
from gentool.core.rng import Draw
from gentool.models.priors.base import Codes
from gentool.models.priors.small_networks import FittedNetwork, SmallNet, minimise

_WIDTH, _BLOCKS = 192, 2
_FREQUENCIES = 8  # of the angle's sine and cosine features
_STEPS = 24  # of Heun's method, two calls of the network each


Velocity = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # y (B, L), angle (B,) -> (B, L)


def path_error(velocity: Velocity, rows: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Return the mean squared error of the velocity at a random angle, per row, (B,).

    Args:
        velocity: (y (B, L), angle (B,)) -> (B, L).
        rows: Codes u, (B, L).
        draw: Randomness of the step.
    """
    noise = draw.normal("noise", rows.shape[1])
    angle = draw.uniform("angle", 1)[:, 0] * (math.pi / 2)
    sine, cosine = angle.sin()[:, None], angle.cos()[:, None]
    found = velocity(cosine * noise + sine * rows, angle)
    return (found - (cosine * rows - sine * noise)).square().mean(dim=1)


def follow(velocity: Velocity, noise: torch.Tensor, steps: int) -> torch.Tensor:
    """Return the end (B, L) of the path that begins at ``noise``, by Heun's method.

    Args:
        velocity: (y (B, L), angle (B,)) -> (B, L).
        noise: (B, L).
        steps: Number of steps, with two calls of ``velocity`` each.
    """
    step = math.pi / 2 / steps
    rows = noise
    for k in range(steps):
        here, there = (noise.new_full((noise.shape[0],), (k + j) * step) for j in (0, 1))
        begin = velocity(rows, here)
        end = velocity(rows + step * begin, there)
        rows = rows + step / 2 * (begin + end)
    return rows


class FlowMatching(FittedNetwork):
    """Whitening, then the flow along a learned velocity; see the module."""

    words = "a flow-matching model of the codes of the training images"

    def __init__(self, size: int, components: int, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(size, components, shape, classes)
        self.net = SmallNet(size, size, _WIDTH, _BLOCKS, context=2 * _FREQUENCIES + classes)

    def velocity(self, kinds: torch.Tensor) -> Velocity:
        """Return v(y, a) for one-hot classes (B, classes): y (B, L), a (B,) -> (B, L)."""

        def velocity(rows: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
            phases = angle[:, None] * torch.arange(1, _FREQUENCIES + 1, device=angle.device)
            context = torch.cat([phases.sin(), phases.cos(), kinds], dim=1)
            return self.net(rows, context)  # type: ignore[no-any-return]

        return velocity

    @torch.no_grad()
    def fit(self, codes: Codes) -> None:
        """Fit by conditional flow matching, with new draws in every pass."""
        rows = self.begin_fit(codes)
        self.net.begin("velocity")
        minimise(self.net, self._error, rows)

    def _error(self, rows: torch.Tensor, draw: Draw) -> torch.Tensor:
        """Return the error of the velocity, (B,), of rows with their classes."""
        whitened, kinds = self.parts(rows)
        return path_error(self.velocity(kinds), whitened, draw)

    def transform(
        self, noise: torch.Tensor, uniform: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return codes (B, L) at the end of the paths that begin at the noise."""
        kinds = self.kinds(uniform, labels)
        rows = follow(self.velocity(self.one_hot(kinds)), noise, _STEPS)
        return self.finish(rows, kinds)
