"""A velocity field over grids of latents: a small U-Net, conditioned on the time and the class.

The U-Net of Ronneberger et al. 2015 (arXiv:1505.04597) as in diffusion models (Ho et al. 2020,
arXiv:2006.11239; Dhariwal and Nichol 2021, arXiv:2105.05233, section 3.1). In its residual blocks
the time and the class give a scale and a shift after the second normalisation; the coarsest grid
has attention. The time is an angle; see ``models.priors.flow_matching``. Grids are halved while
both sides are at least 8. On a 1x1 grid the network is a perceptron.
"""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from gentool.networks.parts import check_labels, class_vectors

Size = tuple[int, int]

_FREQUENCIES = 16  # sines and cosines of multiples of the angle, as input of the network
_FACTOR = 2  # channels on the coarser grids / channels on the finest grid
_BLOCKS = 2  # per grid and direction (down and up)
_FEWEST = 16  # channels that are normalised together, at least
_HEAD = 32  # channels per head of attention, at least


def _norm(channels: int) -> nn.Module:
    """Return group normalisation with at least 16 channels per group, or with one group.

    On a 1x1 grid, normalisation of a few numbers would leave little more than their signs.
    """
    most = max(channels // _FEWEST, 1)
    return nn.GroupNorm(math.gcd(8, most, channels), channels)


def halvings(places: Size) -> list[Size]:
    """Return grid sizes from ``places`` down, halved (rounded up) while both sides are >= 8."""
    sizes = [places]
    while min(sizes[-1]) >= 8:
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes


class ModulatedBlock(nn.Module):
    """Residual block x + conv(SiLU((1 + a) * norm(conv(SiLU(norm(x)))) + b)).

    The scale a and the shift b are linear functions of the context.
    """

    def __init__(self, channels: int, context: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            _norm(channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.norm = _norm(channels)
        self.modulation = nn.Linear(context, 2 * channels)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Map x (B, C, h, w) and the context (B, context) to (B, C, h, w)."""
        scale, shift = self.modulation(context)[:, :, None, None].chunk(2, dim=1)
        h = self.norm(self.first(x)) * (1 + scale) + shift
        return x + self.last(nn.functional.silu(h))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """x + attention between the positions of a grid (Vaswani et al. 2017, arXiv:1706.03762)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(h for h in range(1, max(channels // _HEAD, 1) + 1) if channels % h == 0)
        self.norm = _norm(channels)
        self.inputs = nn.Conv2d(channels, 3 * channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.output.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, h, w) to the same shape."""
        rows = self.inputs(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1))
        q, k, v = (part.transpose(2, 3) for part in rows.unbind(dim=1))
        mixed = scaled_dot_product_attention(q, k, v).transpose(2, 3)
        return x + self.output(mixed.reshape(x.shape))  # type: ignore[no-any-return]


class VelocityNet(nn.Module):
    """v(y, a): maps (B, C, h, w), angles (B,) and labels int64 (B,) -> maps (B, C, h, w).

    At initialisation the output is 0.

    Args:
        channels: C.
        places: Size (h, w) of the grid.
        width: Channels on the finest grid; coarser grids have twice as many.
        classes: Number of classes; 0 for an unconditional network.
    """

    def __init__(self, channels: int, places: Size, width: int, classes: int = 0) -> None:
        super().__init__()
        self.sizes, self.classes = halvings(places), classes
        widths = [width * (_FACTOR if k else 1) for k in range(len(self.sizes))]
        context = 2 * width
        self.time = nn.Sequential(
            nn.Linear(2 * _FREQUENCIES, context), nn.SiLU(), nn.Linear(context, context)
        )
        if classes:
            self.vectors = class_vectors(classes, context)
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_blocks(n, context) for n in widths)
        self.up = nn.ModuleList(_blocks(n, context) for n in widths)
        self.attention = Attention(widths[-1])
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths))
        self.enlarge = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.last = nn.Sequential(
            _norm(widths[0]),
            nn.SiLU(),
            nn.Conv2d(widths[0], channels, 3, padding=1),
        )
        nn.init.zeros_(self.last[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.last[-1].bias)  # type: ignore[arg-type]

    def forward(
        self, y: torch.Tensor, angle: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the velocity (B, C, h, w), float32.

        Args:
            y: Points on the path, (B, C, h, w).
            angle: Time of each as an angle in [0, pi / 2], (B,).
            labels: Classes, int64 (B,).

        Raises:
            ValueError: the network has classes and ``labels`` is None.
        """
        context = self._context(angle, labels)
        h, kept = self.first(y), []
        for level, blocks in enumerate(self.down):
            h = self.shrink[level - 1](h) if level else h
            h = _through(blocks, h, context)
            kept.append(h)
        kept.pop()
        h = self.attention(h)
        for level in reversed(range(len(self.sizes))):
            h = _through(self.up[level], h, context)
            if level:
                h = interpolate(self.enlarge[level - 1](h), self.sizes[level - 1])
                h = h + kept[level - 1]
        return self.last(h).float()  # type: ignore[no-any-return]

    def _context(self, angle: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """Return the context (B, context): SiLU of the sum of the time and class vectors."""
        steps = torch.arange(1, _FREQUENCIES + 1, device=angle.device)
        phases = angle[:, None] * steps
        context = self.time(torch.cat([phases.sin(), phases.cos()], dim=1))
        if self.classes:
            context = context + self.vectors(check_labels(labels, self.classes))
        return nn.functional.silu(context)


def _blocks(channels: int, context: int) -> nn.ModuleList:
    return nn.ModuleList(ModulatedBlock(channels, context) for _ in range(_BLOCKS))


def _through(blocks: nn.Module, h: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    assert isinstance(blocks, nn.ModuleList)
    for block in blocks:
        h = block(h, context)
    return h
