"""Small networks inside a prior, and the training loop that fits them.

Their weights are buffers, not parameters, so that the training of the model neither optimises nor
averages them. They are zero, and the prior's map is the identity, until ``fit`` initialises them.
Every fit initialises them again, so it depends on the codes only, not on earlier fits.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn.functional import layer_norm, linear, silu

from gentool.core.half_cosine import half_cosine
from gentool.core.images import ImageShape
from gentool.core.rng import Draw, data_order, normal
from gentool.models.priors.base import Codes
from gentool.models.priors.gaussian import Whitened

_PASSES = 40  # over all codes
_FEWEST_STEPS, _MOST_STEPS = 20, 1500
_RATE, _WARM_UP = 2e-3, 50  # Adam's learning rate, with half-cosine decay; steps of warm-up


class Affine(nn.Module):
    """x W^T + b with buffers as weights."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, inputs))
        self.register_buffer("bias", torch.zeros(outputs))

    def begin(self, name: str, gain: float) -> None:
        """Draw the weights from N(0, gain^2 / inputs), depending on ``name`` only; bias 0."""
        outputs, inputs = self.weight.shape
        drawn = normal(0, f"fit/{name}", np.arange(outputs), inputs)
        self.weight.copy_(torch.from_numpy(drawn) * (gain / math.sqrt(max(inputs, 1))))
        self.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs) to (B, outputs)."""
        return linear(x, self.weight, self.bias)


class SmallNet(nn.Module):
    """A residual perceptron: h += B silu(A norm(h) + C context), then a last affine map.

    Args:
        inputs: Length of the input.
        outputs: Length of the output; the last map is initialised by 0.
        width: Length of h.
        blocks: Number of residual blocks.
        context: Length of a vector that every block gets; 0 for none.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int, blocks: int, context: int = 0
    ) -> None:
        super().__init__()
        self.first = Affine(inputs, width)
        self.up = nn.ModuleList(Affine(width + context, width) for _ in range(blocks))
        self.down = nn.ModuleList(Affine(width, width) for _ in range(blocks))
        self.last = Affine(width, outputs)

    def begin(self, name: str) -> None:
        """Initialise all weights, depending on ``name`` only."""
        for key, part in self.named_modules():
            if isinstance(part, Affine):
                gain = 0.0 if key == "last" else 0.3 if key.startswith("down") else 1.0
                part.begin(f"{name}/{key}", gain)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Map (B, inputs) and (B, context) to (B, outputs)."""
        h = self.first(x)
        for up, down in zip(self.up, self.down, strict=True):
            inside = layer_norm(h, h.shape[1:])
            if context is not None:
                inside = torch.cat([inside, context], dim=1)
            h = h + down(silu(up(inside)))
        return self.last(layer_norm(h, h.shape[1:]))  # type: ignore[no-any-return]


class FittedNetwork(Whitened):
    """A prior with a network on whitened codes, which also gets the class where there are classes.

    With classes, codes are whitened after the mean of their class is subtracted. While the network
    is the identity, the prior is one Gaussian per class, all with the same covariance.

    Attributes:
        centres: Means of the classes, (C, L), where there are classes.
    """

    most_classes = 1000
    counts_classes = True
    centres: torch.Tensor

    def __init__(self, size: int, components: int, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(size, components, shape, classes)
        if classes:
            self.register_buffer("centres", torch.zeros(classes, size))

    def begin_fit(self, codes: Codes) -> Callable[[int], torch.Tensor]:
        """Measure the whitening and count the classes.

        Returns:
            Function of the number of a pass that returns its rows (N, L + classes): whitened draws
            and one-hot classes.
        """
        labels = self.labels_of(codes)
        if self.classes:
            counts = torch.bincount(labels, minlength=self.classes)
            self.class_shares.copy_(counts / len(labels))
            sums = torch.zeros(self.centres.shape).index_add_(0, labels, codes.means.cpu())
            self.centres.copy_(sums / counts.clamp(min=1)[:, None])
            codes = codes._replace(means=codes.means - self.centres[labels.to(codes.means.device)])
        self.measure(codes)
        told = self.one_hot(labels)
        return lambda turn: torch.cat([self.inward(codes.drawn(turn)), told], dim=1)

    def finish(self, rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return codes (B, L) of whitened rows (B, L) and their classes int64 (B,)."""
        codes = self.outward(rows)
        return codes + self.centres[labels] if self.classes else codes

    def parts(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Split rows (B, L + classes) into whitened codes and one-hot classes."""
        return rows[:, : self.size], rows[:, self.size :]


def minimise(
    module: nn.Module,
    loss: Callable[[torch.Tensor, Draw], torch.Tensor],
    rows: Callable[[int], torch.Tensor],
    batch: int = 256,
) -> None:
    """Fit the buffers of ``module`` by Adam (Kingma and Ba 2015), with the same noise every time.

    Args:
        module: All of its buffers are trained.
        loss: (rows (B, ...), randomness) -> one value per row.
        rows: Number of a pass -> its rows (N, ...), on the CPU.
        batch: Rows per step; N if that is less.
    """
    weights = [b.requires_grad_() for b in module.buffers()]
    count = len(rows(0))
    batch = min(batch, count)
    steps = min(max(_PASSES * count // batch, _FEWEST_STEPS), _MOST_STEPS)
    optimiser = torch.optim.Adam(weights, lr=_RATE, betas=(0.9, 0.99), fused=True)
    per_pass = count // batch
    with torch.enable_grad():
        for step in range(steps):
            turn, place = divmod(step, per_pass)
            if place == 0:
                shuffled = rows(turn)[_order(turn, count)]
            part = shuffled[place * batch : (place + 1) * batch].to(weights[0].device)
            draw = Draw(0, "fit", np.arange(step * batch, (step + 1) * batch), step, part.device)
            for group in optimiser.param_groups:
                group["lr"] = _RATE * _schedule(step, steps)
            optimiser.zero_grad(set_to_none=True)
            loss(part, draw).mean().backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
    for weight in weights:
        weight.requires_grad_(False)
        weight.grad = None


def _order(turn: int, count: int) -> torch.Tensor:
    """Return the order of the ``count`` rows in a pass, int64 (count,)."""
    return torch.from_numpy(data_order(0, turn * count, count, count))


def _schedule(step: int, steps: int) -> float:
    """Return a factor for the learning rate: linear warm-up times a half cosine to zero."""
    return min(1.0, (step + 1) / _WARM_UP) * half_cosine(step, steps)
