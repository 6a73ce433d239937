"""Metrics of nearest neighbours: precision, recall, density, coverage, memorisation.

Precision and recall: Kynkaanniemi et al. 2019 (arXiv:1904.06991), Eq. 1 and 2, k = 3. Density
and coverage: Naeem et al. 2020 (arXiv:2002.09797), Eq. 4 and 5, k = 5. A sample is in the ball of
a reference point if it is no farther from it than the point's k-th nearest neighbour among the
other reference points. Distances are computed in blocks of rows: memory O(block x N).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

_BLOCK = 1024
PRECISION_NEIGHBOURS, DENSITY_NEIGHBOURS = 3, 5


@dataclass(frozen=True)
class Overlap:
    """Fractions that measure how samples and reference overlap; in [0, 1] except density.

    Attributes:
        precision: Fraction of samples in the ball of any reference point; measures realism.
        recall: Fraction of reference points in the ball of any sample; measures variety.
        density: Mean number of reference balls that contain a sample, divided by k; above 1 if
            samples concentrate where the reference is dense.
        coverage: Fraction of reference points with a sample in their ball; measures variety.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def distances(x: torch.Tensor, y: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield Euclidean distances of features (N, D) to (M, D), in blocks (B, M) of rows of ``x``.

    They are not computed as |x|^2 + |y|^2 - 2 x.y, which is inexact for small distances, and
    these matter here.
    """
    for block in torch.split(x, _BLOCK):
        yield torch.cdist(block, y, compute_mode="donot_use_mm_for_euclid_dist")


def radii(x: torch.Tensor, k: int) -> torch.Tensor:
    """Return the distance of each row to its k-th nearest neighbour in the other rows, (N,)."""
    # k + 1, because the nearest of all rows is the row itself, at distance zero.
    return torch.cat([block.kthvalue(k + 1, dim=1).values for block in distances(x, x)])


def overlap(samples: torch.Tensor, reference: torch.Tensor) -> Overlap:
    """Return the overlap of features (N, D) and (M, D) on the CPU, with over 5 rows each."""
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
    """Return distance and index of the row of ``y`` that is nearest to each row of ``x``.

    The distances and the indices (int64) have shape (N,).
    """
    found = [block.min(dim=1) for block in distances(x, y)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def several_nearest(x: torch.Tensor, y: torch.Tensor, count: int) -> torch.Tensor:
    """Return indices of the ``count`` rows of ``y`` that are nearest to each row of ``x``.

    The nearest is first; int64 (N, count).
    """
    found = [block.topk(count, dim=1, largest=False).indices for block in distances(x, y)]
    return torch.cat(found)


def nearness(samples: torch.Tensor, training: torch.Tensor) -> float:
    """Return how often samples are nearer to the training images than these are to each other.

    It is the probability, from 0 to 1, that the distance of a random sample to its nearest training
    image is less than that of a random training image to its nearest other one; a tie counts half.
    It replaces ``memorisation`` if there are no held-out images. New images of the same
    distribution give about 0.5, and copies give 1. Samples far from the data give less than 0.5,
    which may hide copies among them.

    Args:
        samples: Features (N, D).
        training: Features (M, D).
    """
    to_training, _ = nearest(samples, training)
    apart = radii(training, 1).sort().values
    below = torch.searchsorted(apart, to_training)
    not_above = torch.searchsorted(apart, to_training, right=True)
    return 1 - (below + not_above).float().mean().item() / (2 * len(apart))


def memorisation(samples: torch.Tensor, training: torch.Tensor, held_out: torch.Tensor) -> float:
    """Return the fraction of samples that are nearer to a training than to any held-out image.

    A tie counts half. Only equally many training and held-out images are used (the first rows of
    the larger set), because the larger set would be nearer by chance. A model that has learned the
    distribution without copying gives 0.5; a model that copies its training set gives 1 (the idea
    of Meehan et al. 2020, arXiv:2004.05675).

    Args:
        samples: Features (N, D).
        training: Features (M, D).
        held_out: Features (K, D).
    """
    count = min(len(training), len(held_out))
    to_training, _ = nearest(samples, training[:count])
    to_held_out, _ = nearest(samples, held_out[:count])
    ties = (to_training == to_held_out).float() / 2
    return ((to_training < to_held_out).float() + ties).mean().item()
