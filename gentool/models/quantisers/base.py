"""Base of the quantisers: vectors to codes, codes to vectors, and counts of codes.

Quantisers compute in float32, also under autocast, and use the straight-through gradient (Bengio et
al. 2013, arXiv:1308.3432).
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import nn

from gentool.core.rng import Draw
from gentool.models.quantisers.codebook_statistics import Tally, count_codes


class Quantised(NamedTuple):
    """A quantised grid.

    Attributes:
        vectors: Code vectors (B, L, h, w), float32; their gradient is passed to the input
            unchanged.
        indices: Codes, int64 (B, h, w), in [0, words).
        loss: What the quantiser adds to the loss, (B,).
    """

    vectors: torch.Tensor
    indices: torch.Tensor
    loss: torch.Tensor


def perplexity(shares: torch.Tensor) -> torch.Tensor:
    """Return exp(entropy) of frequencies (K,), a scalar.

    It is the number of equally frequent codes that would have the same entropy.
    """
    entropy: torch.Tensor = torch.special.entr(shares).sum()
    return entropy.exp()


class Quantiser(nn.Module, ABC):
    """Base of the quantisers.

    Args:
        size: Length L of a vector, the channels of a grid.
        words: Number of codes.

    Attributes:
        usage: Frequencies of the codes in the training images, (words,); zeros before ``observe``.
    """

    usage: torch.Tensor

    def __init__(self, size: int, words: int) -> None:
        super().__init__()
        self.size, self.words = size, words
        self.register_buffer("usage", torch.zeros(words))

    @abstractmethod
    def forward(self, grid: torch.Tensor) -> Quantised:
        """Quantise a grid (B, L, h, w) of any floating dtype."""

    @abstractmethod
    def embed(self, indices: torch.Tensor) -> torch.Tensor:
        """Return code vectors (B, L, h, w), float32, of indices (B, h, w)."""

    def open_tally(self) -> Tally | None:
        """Return empty statistics of a training step; None if the quantiser does not learn so."""
        return None

    def begin(self, grid: torch.Tensor) -> None:
        """Initialise from encoded training images (B, L, h, w), the same in all processes."""

    def learn(self, grid: torch.Tensor, draw: Draw, tally: Tally) -> None:
        """Learn from a grid (B, L, h, w), a part of a training step, before it is quantised."""

    def shares(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the frequency of each code in ``indices`` of any shape, (words,), float32."""
        return count_codes(indices, self.words).float() / indices.numel()

    def observe(self, indices: torch.Tensor) -> None:
        """Store the frequency of each code in ``indices`` of any shape."""
        self.usage.copy_(self.shares(indices))

    def health(self) -> str:
        """Return how many codes the training images use, as text."""
        used, even = int((self.usage > 0).sum()), float(perplexity(self.usage))
        return f"{used:,} of {self.words:,} codes are in use, with perplexity {even:,.0f}"
