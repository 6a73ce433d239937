"""Small networks inside a prior, and the one loop that fits them.

Their weights are buffers, not parameters: the training loop neither optimises nor averages
them. They are zero, and what they stand in is the identity, until ``fit`` begins them anew, so
a fit is a function of the codes alone and not of the fits before it.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn.functional import layer_norm, linear, silu

from gentool.core.images import ImageShape
from gentool.core.rng import Draw, data_order, normal
from gentool.models.priors.base import Codes
from gentool.models.priors.gaussian import Whitened

_PASSES = 40  # over the codes
_FEWEST_STEPS, _MOST_STEPS = 20, 1500
_RATE, _WARM_UP = 2e-3, 50  # Adam's, falling along a half cosine; steps of linear warm-up


class Affine(nn.Module):
    """x W^T + b with weights that are buffers."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, inputs))
        self.register_buffer("bias", torch.zeros(outputs))

    def begin(self, name: str, gain: float) -> None:
        """Weights from N(0, gain^2 / inputs), a function of ``name``; bias 0."""
        outputs, inputs = self.weight.shape
        drawn = normal(0, f"fit/{name}", np.arange(outputs), inputs)
        self.weight.copy_(torch.from_numpy(drawn) * (gain / math.sqrt(max(inputs, 1))))
        self.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs) -> (B, outputs)."""
        return linear(x, self.weight, self.bias)


class SmallNet(nn.Module):
    """A residual perceptron: h += B silu(A norm(h) + C context), then a last affine map.

    Args:
        inputs: Of the first map.
        outputs: Of the last one, which begins at zero.
        width: Of h.
        blocks: How many residual blocks.
        context: Length of a vector that every block sees; 0 for none.
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
        """Fresh weights, a function of ``name`` alone."""
        for key, part in self.named_modules():
            if isinstance(part, Affine):
                gain = 0.0 if key == "last" else 0.3 if key.startswith("down") else 1.0
                part.begin(f"{name}/{key}", gain)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """(B, inputs) and (B, context) -> (B, outputs)."""
        h = self.first(x)
        for up, down in zip(self.up, self.down, strict=True):
            inside = layer_norm(h, h.shape[1:])
            if context is not None:
                inside = torch.cat([inside, context], dim=1)
            h = h + down(silu(up(inside)))
        return self.last(layer_norm(h, h.shape[1:]))  # type: ignore[no-any-return]


class FittedNetwork(Whitened):
    """A prior whose network sees whitened codes, beside them the class where there are some.

    Codes are then whitened within their classes: less the mean of their class, ``centres`` (C, L).
    A network that is the identity yet stands for one Gaussian per class, all of one covariance.
    """

    most_classes = 1000
    counts_classes = True
    centres: torch.Tensor

    def __init__(self, size: int, components: int, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(size, components, shape, classes)
        if classes:
            self.register_buffer("centres", torch.zeros(classes, size))

    def begin_fit(self, codes: Codes) -> Callable[[int], torch.Tensor]:
        """Whiten, count the classes; the rows (N, L + classes) of every pass, by its number."""
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
        """Codes (B, L) of whitened rows (B, L), of these classes (B,)."""
        codes = self.outward(rows)
        return codes + self.centres[labels] if self.classes else codes

    def parts(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The codes (B, L) and the classes (B, classes) of such rows."""
        return rows[:, : self.size], rows[:, self.size :]


def minimise(
    module: nn.Module,
    loss: Callable[[torch.Tensor, Draw], torch.Tensor],
    rows: Callable[[int], torch.Tensor],
    batch: int = 256,
) -> None:
    """Fit the buffers of ``module`` by Adam (Kingma and Ba 2015), always in the same way.

    Args:
        module: All of its buffers learn.
        loss: (rows (B, ...), randomness) -> one value per row.
        rows: The rows (N, ...) of a pass, by its number, on the CPU.
        batch: Rows a step, at most N.
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
    """The rows in the order of a pass."""
    return torch.from_numpy(data_order(0, turn * count, count, count))


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then a half cosine to zero."""
    return min(1.0, (step + 1) / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))
