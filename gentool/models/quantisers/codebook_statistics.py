"""Counts and sums of one step, for the moving average of a codebook.

A step may be computed in parts and by several processes. If each part updated the codebook, the
result would depend on their number. Therefore the statistics of all parts and processes are added
up, with the same result in all processes, and the codebook is updated once, at the start of the
next step (not after the last).
"""

import torch
from torch import nn

from gentool.core.distributed import rows_of_all_ranks, sum_over_ranks

_NOTHING = 2**62  # the key of an empty row


class Tally(nn.Module):
    """Counts and sums of one step's vectors, and a random sample of these vectors.

    All are buffers, so that a run that was stopped between two steps continues exactly.

    Args:
        words: Number of codes K.
        size: Length L of a vector.

    Attributes:
        step: The step that is counted, int64; -1 before the first.
        counts: Number of vectors of each code, (K,).
        sums: Sum of the vectors of each code, (K, L).
        keys: The K smallest random keys of the step's vectors, ascending, int64 (K,).
        rows: The vectors with these keys, (K, L).
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

    def drawn_count(self) -> torch.Tensor:
        """Return how many rows are filled, int64 (): the first ones, which are in random order."""
        return (self.keys < _NOTHING).sum()

    def clear(self, step: int) -> None:
        """Reset the statistics if they are those of another step; the device is not waited for."""
        kept = self.step == step
        self.step.fill_(step)
        self.counts.mul_(kept)
        self.sums.mul_(kept)
        self.keys.copy_(torch.where(kept, self.keys, _NOTHING))

    @torch.no_grad()
    def add(self, rows: torch.Tensor, indices: torch.Tensor, keys: torch.Tensor) -> None:
        """Add vectors of this process, and those that all other processes add in the same call.

        Args:
            rows: Vectors (N, L), float32.
            indices: Their codes, int64 (N,).
            keys: A random number for each, int64 (N,), in [0, 2^48).
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
    """Return the number of rows of each code, (words,), and their sums, (words, L).

    Args:
        rows: (N, L).
        indices: Codes of the rows, int64 (N,).
        words: Number of codes.
    """
    sums = rows.new_zeros(words, rows.shape[1]).index_add_(0, indices, rows)
    return count_codes(indices, words).to(rows), sums


def count_codes(indices: torch.Tensor, words: int) -> torch.Tensor:
    """Return how often each code occurs, int64 (words,), without waiting for the device.

    Args:
        indices: Codes in [0, words), int64 of any shape.
        words: Number of codes.
    """
    flat = indices.flatten()  # bincount would read the largest index
    return flat.new_zeros(words).index_add_(0, flat, torch.ones_like(flat))
