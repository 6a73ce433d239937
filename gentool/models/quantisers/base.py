"""What every quantiser can: turn vectors into codes, codes into vectors, and count codes.

It quantises in float32 whatever the precision around it, and lets the gradient straight through
(Bengio et al. 2013, arXiv:1308.3432).
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import nn

from gentool.core.rng import Draw
from gentool.models.quantisers.codebook_statistics import Tally


class Quantised(NamedTuple):
    """A quantised grid.

    Attributes:
        vectors: Code vectors (B, L, h, w), float32, with the gradient of the input.
        indices: Codes, int64 (B, h, w), in [0, words).
        loss: What quantising adds to the loss, (B,).
    """

    vectors: torch.Tensor
    indices: torch.Tensor
    loss: torch.Tensor


def perplexity(shares: torch.Tensor) -> torch.Tensor:
    """Exp of the entropy of frequencies (K,): how many codes, used evenly, would be as varied."""
    entropy: torch.Tensor = torch.special.entr(shares).sum()
    return entropy.exp()


class Quantiser(nn.Module, ABC):
    """Base of the entries.

    Args:
        size: L, channels of a grid's vectors.
        words: How many codes there are.

    Attributes:
        usage: Shares of the codes in the training images, (words,); zeros until observed.
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
        """Code vectors (B, L, h, w), float32, of indices (B, h, w)."""

    def open_tally(self) -> Tally | None:
        """What a step of training is counted in; None for a quantiser that does not learn so."""
        return None

    def begin(self, grid: torch.Tensor) -> None:
        """Begin at a grid of training images, the same in all processes."""

    def learn(self, grid: torch.Tensor, draw: Draw, tally: Tally) -> None:
        """Learn from a grid of training images, a part of a step, before it is quantised."""

    def shares(self, indices: torch.Tensor) -> torch.Tensor:
        """Frequency of each code in ``indices`` of any shape, (words,), float32."""
        counts = torch.bincount(indices.flatten(), minlength=self.words)
        return counts.float() / indices.numel()

    def observe(self, indices: torch.Tensor) -> None:
        """Remember how often the codes occur in ``indices``, of any shape."""
        self.usage.copy_(self.shares(indices))

    def health(self) -> str:
        """How many codes the training images use, in words."""
        used, even = int((self.usage > 0).sum()), float(perplexity(self.usage))
        return f"{used:,} of {self.words:,} codes are in use, perplexity {even:,.0f}"
