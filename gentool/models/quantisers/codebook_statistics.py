"""What the vectors of one step say to a codebook, over all its parts and all processes.

A step may be taken in parts and by several processes. A codebook that moved with each of them would
be another one for each, so here what they say is added up, alike in all processes, and the
codebook moves once, when the next step begins (not after the last).
"""

import torch
from torch import nn

from gentool.core.distributed import rows_of_all_ranks, sum_over_ranks

_NOTHING = 2**62  # the key of a place that no vector has taken


class Tally(nn.Module):
    """Counts and sums of one step's vectors, and some of them, drawn evenly.

    All are buffers, so that a run stopped between two steps goes on as it would have.

    Args:
        words: K, codes.
        size: L, length of a vector.

    Attributes:
        step: Which one is counted, int64; -1 before the first.
        counts: Vectors of each code, (K,).
        sums: Of the vectors of each code, (K, L).
        keys: Of the vectors with the least keys, ascending, int64 (K,).
        rows: These vectors, (K, L).
    """

    step: torch.Tensor
    counts: torch.Tensor
    sums: torch.Tensor
    keys: torch.Tensor
    rows: torch.Tensor

    def __init__(self, words: int, size: int) -> None:
        super().__init__()
        self.words = words
        self.register_buffer("step", torch.full((), -1, dtype=torch.int64))
        self.register_buffer("counts", torch.zeros(words))
        self.register_buffer("sums", torch.zeros(words, size))
        self.register_buffer("keys", torch.full((words,), _NOTHING, dtype=torch.int64))
        self.register_buffer("rows", torch.zeros(words, size))

    def drawn(self) -> torch.Tensor:
        """Vectors of the step in an order by chance, (at most K, L)."""
        return self.rows[: int((self.keys < _NOTHING).sum())]

    def clear(self, step: int) -> None:
        """Count another step."""
        self.step.fill_(step)
        self.counts.zero_()
        self.sums.zero_()
        self.keys.fill_(_NOTHING)

    @torch.no_grad()
    def add(self, rows: torch.Tensor, indices: torch.Tensor, keys: torch.Tensor) -> None:
        """Take in vectors of this part and process, and those that others take in meanwhile.

        Args:
            rows: Vectors (N, L), float32.
            indices: Their codes, int64 (N,).
            keys: A number by chance for each, int64 (N,), in [0, 2^48).
        """
        counts, sums = totals(rows, indices, self.words)
        joint = sum_over_ranks(torch.cat([counts[:, None], sums], dim=1))
        self.counts += joint[:, 0]
        self.sums += joint[:, 1:]
        least = keys.argsort()[: self.words]
        keys = torch.cat([self.keys, rows_of_all_ranks(keys[least])])
        rows = torch.cat([self.rows, rows_of_all_ranks(rows[least])])
        least = keys.argsort(stable=True)[: self.words]
        self.keys.copy_(keys[least])
        self.rows.copy_(rows[least])


def totals(
    rows: torch.Tensor, indices: torch.Tensor, words: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """How many rows each code has, (words,), and their sum, (words, L)."""
    sums = rows.new_zeros(words, rows.shape[1]).index_add_(0, indices, rows)
    return torch.bincount(indices, minlength=words).to(rows), sums
