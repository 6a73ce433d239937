"""Finite scalar quantisation: each coordinate is bounded and rounded, without a codebook.

Mentzer et al. 2023 (arXiv:2309.15505), section 3 and appendix A.1. With n levels, l = (n - 1) / 2,
and o = 1/2, s = atanh(o / l) where n is even, else 0:

    f(z) = l tanh(z + s) - o,

rounded and divided by floor(n / 2), so that the coordinates of code vectors are in [-1, 1]. The
index of a code is the number whose digits are its levels, the first the least significant.
"""

import math

import torch

from gentool.models.quantisers.base import Quantised, Quantiser

_FEWEST_LEVELS = 3  # with two, a coordinate that starts at 0 would be far from one of them
_MARGIN = 1e-3  # relative excess of the bound over the outermost level, so that this is reached


def levels_for(codes: int, size: int) -> tuple[int, ...]:
    """Return numbers of levels, as equal as possible, with a product nearest to ``codes`` by ratio.

    Args:
        codes: Number of codes wanted, 3 or more.
        size: Number of coordinates wanted; there are fewer if each would have less than three
            levels.
    """
    while size > 1 and _FEWEST_LEVELS**size > codes:
        size -= 1
    low = max(math.floor(codes ** (1 / size) + 1e-9), _FEWEST_LEVELS)
    options = [(low + 1,) * k + (low,) * (size - k) for k in range(size + 1)]
    return min(options, key=lambda levels: abs(math.log(math.prod(levels) / codes)))


class FiniteScalar(Quantiser):
    """Quantiser by bounding and rounding.

    Args:
        codes: Number of codes wanted; ``words``, the product of the levels, is near it.
        size: Number of coordinates wanted.

    Attributes:
        levels: Number of levels of each coordinate.
    """

    def __init__(self, codes: int, size: int) -> None:
        self.levels = levels_for(codes, size)
        super().__init__(len(self.levels), math.prod(self.levels))
        self._places = tuple(math.prod(self.levels[:k]) for k in range(self.size))

    def bound(self, grid: torch.Tensor) -> torch.Tensor:
        """Return f(z), float32, which rounds to the levels -floor(n / 2) ... ceil(n / 2) - 1."""
        levels = _column(self.levels, grid)
        half = (levels - 1) * (1 + _MARGIN) / 2
        offset = 0.5 * (levels % 2 == 0)
        return torch.tanh(grid.float() + torch.atanh(offset / half)) * half - offset

    def forward(self, grid: torch.Tensor) -> Quantised:
        """Quantise a grid (B, L, h, w); the loss is 0."""
        bounded = self.bound(grid)
        rounded = bounded.detach().round()
        half = _column(self.levels, grid) // 2
        places = rounded.nan_to_num().long()  # NaN has no index; the vector keeps it
        indices = ((places + half) * _column(self._places, grid)).sum(dim=1)
        vectors = (bounded + (rounded - bounded).detach()) / half
        return Quantised(vectors, indices, vectors.new_zeros(grid.shape[0]))

    def embed(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the vectors (B, L, h, w) of indices (B, h, w)."""
        levels, places = _column(self.levels, indices), _column(self._places, indices)
        half = levels // 2
        return (indices[:, None] // places % levels - half).float() / half


def _column(values: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Return one number per coordinate, int64 (L, 1, 1), on the device of ``like``.

    Each number is filled in on the device: a copy of them all would wait for it.
    """
    column = [torch.full((1, 1), value, device=like.device) for value in values]
    return torch.stack(column)
