"""Vector quantisation: a vector becomes the nearest of learned ones, e_k.

van den Oord et al. 2017 (arXiv:1711.00937): the nearest vector (Eq. 1), the commitment of Eq. 3
(its mean over the grid), and for the codebook the moving averages of appendix A.1: counts N_k and
sums m_k with e_k = m_k / N_k, which move once a step, before the next (``tally``). K-means of
training images begins it. A code whose count falls below a tenth of the mean is moved to a vector
of the step, count and sum with it (random restarts, Dhariwal et al. 2020, arXiv:2005.00341, section
3.1).
"""

import numpy as np
import torch
from torch.nn.functional import embedding

from gentool.core.distributed import of_first_rank
from gentool.core.rng import Draw, uniform
from gentool.models.quantisers.base import Quantised, Quantiser
from gentool.models.quantisers.codebook_statistics import Tally, totals
from gentool.networks.parts import fill_normal

_DECAY = 0.99  # of the running sums; van den Oord 2017, appendix A.1
_COMMITMENT = 0.25  # beta, ibid., Eq. 3
_DEAD = 0.1  # of the mean count: a code that is used less is restarted
_KMEANS_STEPS = 10
_MOST_DISTANCES = 2**24  # held in memory at once


class Codebook(Quantiser):
    """The nearest of learned vectors.

    Args:
        codes: Words.
        size: Length of a vector.

    Attributes:
        vectors: e_k, (words, L).
        counts: N_k as shares of their mean, (words,), so that they do not depend on the batch.
    """

    vectors: torch.Tensor
    counts: torch.Tensor

    def __init__(self, codes: int, size: int) -> None:
        super().__init__(size, codes)
        self.register_buffer("vectors", fill_normal(torch.empty(codes, size)))
        self.register_buffer("counts", torch.ones(codes))

    @property
    def sums(self) -> torch.Tensor:
        """m_k = N_k e_k, (words, L); following from the two others, it is restarted with them."""
        return self.vectors * self.counts[:, None]

    def forward(self, grid: torch.Tensor) -> Quantised:
        """Quantise; the loss is the commitment."""
        grid = grid.float()
        indices = nearest(_rows(grid), self.vectors).view(len(grid), *grid.shape[2:])
        codes = self.embed(indices)
        loss = _COMMITMENT * (grid - codes).square().mean(dim=(1, 2, 3))
        return Quantised(grid + (codes - grid).detach(), indices, loss)

    def embed(self, indices: torch.Tensor) -> torch.Tensor:
        """The vectors of indices."""
        return embedding(indices, self.vectors).movedim(-1, 1).contiguous()

    def open_tally(self) -> Tally:
        """Of its words."""
        return Tally(self.words, self.size)

    @torch.no_grad()
    def begin(self, grid: torch.Tensor) -> None:
        """By k-means; all processes take the first one's, lest rounding make them differ."""
        rows = _rows(grid.float())
        numbers = uniform(0, "codebook", np.arange(len(rows)), 1)[:, 0]
        first = rows[torch.from_numpy(numbers.argsort()).to(rows.device)]
        self.vectors.copy_(of_first_rank(kmeans(rows, first, self.words, _KMEANS_STEPS)))

    @torch.no_grad()
    def learn(self, grid: torch.Tensor, draw: Draw, tally: Tally) -> None:
        """Take in a part of a step; move by the step before, if this is the first part."""
        if tally.step != draw.step:
            if tally.step >= 0:
                self._move(tally)
            tally.clear(draw.step)
        rows = _rows(grid.float())
        halves = (draw.uniform("codebook", 2, *grid.shape[2:]) * 2**24).long()
        keys = halves[:, 0] * 2**24 + halves[:, 1]  # 48 bits: no two alike
        tally.add(rows, nearest(rows, self.vectors), keys.flatten())

    def _move(self, tally: Tally) -> None:
        """Move the averages by a whole step and restart what is unused."""
        mean = tally.counts.sum() / self.words
        sums = _DECAY * self.sums + (1 - _DECAY) * tally.sums / mean
        self.counts.mul_(_DECAY).add_(tally.counts / mean, alpha=1 - _DECAY)
        self.vectors.copy_(sums / self.counts[:, None].clamp_min(1e-12))
        rows = tally.drawn()
        dead = (self.counts < _DEAD).nonzero().flatten()[: len(rows)]
        self.vectors[dead] = rows[: len(dead)]
        self.counts[dead] = 1


def _rows(grid: torch.Tensor) -> torch.Tensor:
    """The vectors (N, L) of a grid (B, L, h, w)."""
    return grid.movedim(1, -1).flatten(0, -2)


@torch.no_grad()
def nearest(rows: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """For each row (N, L) the number of the nearest vector (K, L), int64 (N,); float32 inside."""
    squares = vectors.square().sum(dim=1)
    with torch.autocast(rows.device.type, enabled=False):
        # |r - e|^2 without |r|^2, which is the same for all e.
        parts = torch.split(rows, max(_MOST_DISTANCES // len(vectors), 1))
        return torch.cat([(squares - 2 * part @ vectors.T).argmin(dim=1) for part in parts])


def kmeans(rows: torch.Tensor, first: torch.Tensor, words: int, steps: int) -> torch.Tensor:
    """Lloyd's k-means: centres (words, L) of rows (N, L).

    Args:
        rows: What is to be represented.
        first: The centres to begin with, the foremost ``words`` of these; said again, a little
            apart, where they are fewer.
        words: How many centres.
        steps: Of Lloyd's iteration.
    """
    spread = 1e-3 * rows.std(dim=0, correction=0)
    copies = [first + n * spread for n in range(-(-words // len(first)))]
    centres = torch.cat(copies)[:words]
    for _ in range(steps):
        counts, sums = totals(rows, nearest(rows, centres), words)
        means = sums / counts[:, None].clamp_min(1)
        centres = torch.where(counts[:, None] > 0, means, centres)
    return centres
