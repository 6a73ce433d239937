"""Vector quantisation: a vector becomes the nearest of learned ones, e_k.

van den Oord et al. 2017 (arXiv:1711.00937): the nearest vector (Eq. 1), the commitment of Eq. 3
(its mean over the grid), and for the codebook the moving averages of appendix A.1: counts N_k and
sums m_k with e_k = m_k / N_k. K-means of the first batch begins it. A code whose count falls below
a tenth of the mean is moved to a vector of the batch, count and sum with it (random restarts,
Dhariwal et al. 2020, arXiv:2005.00341, section 3.1).
"""

import torch
from torch.nn.functional import embedding

from gentool.models.quantisers.base import Quantised, Quantiser
from gentool.networks.parts import fill_normal
from gentool.rng import Draw

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
    """

    vectors: torch.Tensor
    counts: torch.Tensor
    started: torch.Tensor

    def __init__(self, codes: int, size: int) -> None:
        super().__init__(size, codes)
        self.register_buffer("vectors", fill_normal(torch.empty(codes, size)))
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("started", torch.zeros((), dtype=torch.int64))

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

    @torch.no_grad()
    def learn(self, grid: torch.Tensor, draw: Draw) -> None:
        """Begin the codebook, or move its averages by one batch and restart what is unused."""
        rows = _rows(grid.float())
        mean_count = len(rows) / self.words
        order = draw.uniform("codebook", *grid.shape[2:]).flatten().argsort(stable=True)
        if not self.started:
            self.vectors.copy_(kmeans(rows, rows[order], self.words, _KMEANS_STEPS))
            self.counts.fill_(mean_count)
            self.started.fill_(1)
            return
        counts, sums = _totals(rows, nearest(rows, self.vectors), self.words)
        sums = _DECAY * self.sums + (1 - _DECAY) * sums
        self.counts.mul_(_DECAY).add_(counts, alpha=1 - _DECAY)
        self.vectors.copy_(sums / self.counts[:, None].clamp_min(1e-12))
        dead = (self.counts < _DEAD * mean_count).nonzero().flatten()[: len(rows)]
        self.vectors[dead] = rows[order[: len(dead)]]
        self.counts[dead] = mean_count


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


def _totals(
    rows: torch.Tensor, indices: torch.Tensor, words: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """How many rows each code has, (words,), and their sum, (words, L)."""
    sums = rows.new_zeros(words, rows.shape[1]).index_add_(0, indices, rows)
    return torch.bincount(indices, minlength=words).to(rows), sums


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
        counts, sums = _totals(rows, nearest(rows, centres), words)
        means = sums / counts[:, None].clamp_min(1)
        centres = torch.where(counts[:, None] > 0, means, centres)
    return centres
