"""Vector quantisation: a vector becomes the nearest vector e_k of a learned codebook.

van den Oord et al. 2017 (arXiv:1711.00937): the nearest vector (Eq. 1), the commitment loss of Eq.
3 (its mean over the grid), and for the codebook the moving averages of appendix A.1: counts N_k and
sums m_k with e_k = m_k / N_k, which are updated once a step, at the start of the next
(``codebook_statistics``). The codebook is initialised by k-means of encoded training images. A code
whose count falls below a tenth of the mean is moved to a vector of the step, with its count and sum
(random restarts, Dhariwal et al. 2020, arXiv:2005.00341, section 3.1).
"""

import numpy as np
import torch
from torch.nn.functional import embedding

from gentool.core.distributed import of_first_rank
from gentool.core.rng import Draw, uniform
from gentool.models.quantisers.base import Quantised, Quantiser
from gentool.models.quantisers.codebook_statistics import Tally, totals
from gentool.networks.parts import fill_normal

DECAY = 0.99  # of the moving averages; van den Oord 2017, appendix A.1
_COMMITMENT = 0.25  # beta, ibid., Eq. 3
_DEAD = 0.1  # a code with less than this fraction of the mean count is restarted
_KMEANS_STEPS = 10
MOST_DISTANCES = 2**24  # held in memory at once


class Codebook(Quantiser):
    """Quantiser by the nearest of learned vectors.

    Args:
        codes: Number of codes, ``words``.
        size: Length L of a vector.

    Attributes:
        vectors: e_k, (words, L), float32.
        counts: N_k divided by their mean, (words,), so that they do not depend on the batch size.
    """

    vectors: torch.Tensor
    counts: torch.Tensor

    def __init__(self, codes: int, size: int) -> None:
        super().__init__(size, codes)
        self.register_buffer("vectors", fill_normal(torch.empty(codes, size)))
        self.register_buffer("counts", torch.ones(codes))

    @property
    def sums(self) -> torch.Tensor:
        """m_k = N_k e_k, (words, L), computed from the other two, so a restart changes it too."""
        return self.vectors * self.counts[:, None]

    def forward(self, grid: torch.Tensor) -> Quantised:
        """Quantise a grid (B, L, h, w); the loss is the commitment."""
        grid = grid.float()
        indices = nearest(_rows(grid), self.vectors).view(grid.shape[0], *grid.shape[2:])
        codes = self.embed(indices)
        loss = _COMMITMENT * (grid - codes).square().mean(dim=(1, 2, 3))
        return Quantised(grid + (codes - grid).detach(), indices, loss)

    def embed(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the vectors (B, L, h, w) of indices (B, h, w)."""
        return embedding(indices, self.vectors).movedim(-1, 1).contiguous()

    def open_tally(self) -> Tally:
        """Return empty statistics for its codes."""
        return Tally(self.words, self.size)

    @torch.no_grad()
    def begin(self, grid: torch.Tensor) -> None:
        """Initialise the codebook by k-means.

        All processes take the result of the first one, since rounding could make theirs differ.
        """
        rows = _rows(grid.float())
        numbers = uniform(0, "codebook", np.arange(len(rows)), 1)[:, 0]
        first = rows[torch.from_numpy(numbers.argsort()).to(rows.device)]
        self.vectors.copy_(of_first_rank(kmeans(rows, first, self.words, _KMEANS_STEPS)))

    @torch.no_grad()
    def learn(self, grid: torch.Tensor, draw: Draw, tally: Tally) -> None:
        """Add a part of a step to ``tally``.

        The first part of a step updates the codebook by the statistics of the step before.
        """
        self._move(tally, (tally.step != draw.step) & (tally.step >= 0))
        tally.clear(draw.step)
        rows = _rows(grid.float())
        halves = (draw.uniform("codebook", 2, *grid.shape[2:]) * 2**24).long()
        keys = halves[:, 0] * 2**24 + halves[:, 1]  # 48 random bits: equal keys are very unlikely
        tally.add(rows, nearest(rows, self.vectors), keys.flatten())

    def _move(self, tally: Tally, whole: torch.Tensor) -> None:
        """Update the moving averages by a whole step, and restart unused codes.

        Args:
            tally: Statistics of the step.
            whole: Whether the step is over, bool (). Otherwise nothing changes. It is a tensor, as
                a device would have to be waited for to read it.
        """
        mean = tally.counts.sum() / self.words
        sums = DECAY * self.sums + (1 - DECAY) * tally.sums / mean
        counts = (self.counts * DECAY).add_(tally.counts / mean, alpha=1 - DECAY)
        vectors = sums / counts[:, None].clamp_min(1e-12)
        dead = counts < _DEAD
        place = (dead.cumsum(dim=0) - 1).clamp_min(0)  # of a dead code among the dead ones
        restarted = dead & (place < tally.drawn_count())
        vectors = torch.where(restarted[:, None], tally.rows[place], vectors)
        self.vectors.copy_(torch.where(whole, vectors, self.vectors))
        self.counts.copy_(torch.where(whole, torch.where(restarted, 1, counts), self.counts))


def _rows(grid: torch.Tensor) -> torch.Tensor:
    """Return the vectors (N, L) of a grid (B, L, h, w)."""
    return grid.movedim(1, -1).flatten(0, -2)


@torch.no_grad()
def nearest(rows: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Return the index of the nearest vector for each row, int64 (N,), without autocast.

    Args:
        rows: (N, L).
        vectors: (K, L).
    """
    squares = vectors.square().sum(dim=1)
    with torch.autocast(rows.device.type, enabled=False):
        # |r - e|^2 without |r|^2, which is the same for all e.
        most = max(MOST_DISTANCES // len(vectors), 1)
        # An exported program has as many parts for every batch: one.
        parts = [rows] if torch.compiler.is_exporting() else torch.split(rows, most)
        return torch.cat([(squares - 2 * part @ vectors.T).argmin(dim=1) for part in parts])


def kmeans(rows: torch.Tensor, first: torch.Tensor, words: int, steps: int) -> torch.Tensor:
    """Return centres (words, L) of rows by Lloyd's k-means.

    Args:
        rows: Vectors (N, L).
        first: Initial centres, the first ``words`` rows of it; if it has fewer, they are repeated
            with small offsets.
        words: Number of centres.
        steps: Number of iterations.
    """
    spread = 1e-3 * rows.std(dim=0, correction=0)
    copies = [first + n * spread for n in range(-(-words // len(first)))]
    centres = torch.cat(copies)[:words]
    for _ in range(steps):
        counts, sums = totals(rows, nearest(rows, centres), words)
        means = sums / counts[:, None].clamp_min(1)
        centres = torch.where(counts[:, None] > 0, means, centres)
    return centres
