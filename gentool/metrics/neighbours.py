"""How samples lie among the reference: precision, recall, density, coverage, memorisation.

Precision and recall: Kynkaanniemi et al. 2019 (arXiv:1904.06991), Eq. 1 and 2, k = 3. Density
and coverage: Naeem et al. 2020 (arXiv:2002.09797), Eq. 4 and 5, k = 5. A sample lies in the
ball of a reference point when it is no farther than that point's k-th neighbour (itself not
counted). Distances are worked out in blocks of rows: memory O(block x N).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

_BLOCK = 1024
PRECISION_NEIGHBOURS, DENSITY_NEIGHBOURS = 3, 5


@dataclass(frozen=True)
class Overlap:
    """Shares, all but density within [0, 1].

    Attributes:
        precision: Samples inside the reference's balls: are they realistic?
        recall: Reference points inside the samples' balls: is everything reached?
        density: As precision, each ball counted; above 1 where samples crowd.
        coverage: Reference points with a sample in their ball: what is covered?
    """

    precision: float
    recall: float
    density: float
    coverage: float


def distances(x: torch.Tensor, y: torch.Tensor) -> Iterator[torch.Tensor]:
    """Euclidean distances of features (N, D) to (M, D), in blocks (B, M) of rows of ``x``.

    Not through |x|^2 + |y|^2 - 2 x.y, which loses the small distances that matter here.
    """
    for block in torch.split(x, _BLOCK):
        yield torch.cdist(block, y, compute_mode="donot_use_mm_for_euclid_dist")


def radii(x: torch.Tensor, k: int) -> torch.Tensor:
    """Distance of each row to its k-th neighbour among the others, shape (N,)."""
    # The nearest of all is the row itself, at distance zero: hence k + 1.
    return torch.cat([block.kthvalue(k + 1, dim=1).values for block in distances(x, x)])


def overlap(samples: torch.Tensor, reference: torch.Tensor) -> Overlap:
    """All four shares for features (N, D) and (M, D), more than 5 rows each."""
    near, far = radii(reference, PRECISION_NEIGHBOURS), radii(reference, DENSITY_NEIGHBOURS)
    own = radii(samples, PRECISION_NEIGHBOURS)
    precise, dense = 0.0, 0.0
    covered = torch.zeros(len(reference), dtype=torch.bool)
    recalled = torch.zeros(len(reference), dtype=torch.bool)
    start = 0
    for block in distances(samples, reference):
        within = block <= far
        precise += (block <= near).any(dim=1).sum().item()
        dense += within.sum().item()
        covered |= within.any(dim=0)
        recalled |= (block <= own[start : start + len(block), None]).any(dim=0)
        start += len(block)
    return Overlap(
        precise / len(samples),
        recalled.float().mean().item(),
        dense / (DENSITY_NEIGHBOURS * len(samples)),
        covered.float().mean().item(),
    )


def nearest(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distance and number of each row's nearest row of ``y``, both shape (N,)."""
    found = [block.min(dim=1) for block in distances(x, y)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def several_nearest(x: torch.Tensor, y: torch.Tensor, count: int) -> torch.Tensor:
    """Numbers of each row's nearest rows of ``y``, the nearest first, int64 (N, count)."""
    found = [block.topk(count, dim=1, largest=False).indices for block in distances(x, y)]
    return torch.cat(found)


def nearness(samples: torch.Tensor, training: torch.Tensor) -> float:
    """How often a sample lies nearer to its nearest training image than one of those to another.

    The chance that a random sample's distance to ``training`` is shorter than that of a random
    training image to all others, ties counted half, from 0 to 1. Without held-out images it asks
    what ``memorisation`` asks: about 0.5 of fresh images, 1 of copies, and less than 0.5 of samples
    that lie off the data, which hides copies among them.
    """
    to_training, _ = nearest(samples, training)
    apart = radii(training, 1).sort().values
    below = torch.searchsorted(apart, to_training)
    not_above = torch.searchsorted(apart, to_training, right=True)
    return 1 - (below + not_above).float().mean().item() / (2 * len(apart))


def memorisation(samples: torch.Tensor, training: torch.Tensor, held_out: torch.Tensor) -> float:
    """Share of samples that lie nearer to a training image than to any held-out image.

    Both sides must be equally many, or the larger would be nearer by chance: 0.5 is what a
    model gives that knows the distribution and no single image; 1 copies its training set
    (the idea of Meehan et al. 2020, arXiv:2004.05675).
    """
    count = min(len(training), len(held_out))
    to_training, _ = nearest(samples, training[:count])
    to_held_out, _ = nearest(samples, held_out[:count])
    ties = (to_training == to_held_out).float() / 2
    return ((to_training < to_held_out).float() + ties).mean().item()
