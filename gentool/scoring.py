"""A cheap score while training: is the averaged model still getting better?

Frechet distance in the fixed random features between 2,000 samples and as many images (kept
out, if there are enough), with two early warnings: diversity that falls (collapse), and
samples that come nearer to the training images than to those kept out (memorisation). In GANs
the last state is often not the best; this is what ``best.safetensors`` is chosen by.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gentool.blocks import decode_blocks, prior_blocks
from gentool.data import Dataset
from gentool.metrics.extractors import RandomExtractor
from gentool.metrics.frechet import distance_between, moments
from gentool.metrics.neighbours import memorisation
from gentool.models.base import Model
from gentool.rng import data_order

_SAMPLES, _BATCH = 2000, 250
_SEED = 2**62  # not a seed that people draw with: scores look at other images than previews
_FEWEST_HELD_OUT = 500
_LOW_DIVERSITY, _HIGH_MEMORISATION = 0.6, 0.75


@dataclass(frozen=True)
class Score:
    """One look at the model.

    Attributes:
        distance: FD-random to the images, lower is better.
        record: Everything measured, by name.
        warnings: In plain words, with what to change.
    """

    distance: float
    record: dict[str, float]
    warnings: tuple[str, ...]


class Scorer:
    """Holds the reference's features, so that each score costs only its samples.

    Args:
        dataset: Prepared images.
        rows: Numbers of the training images.
        held_out: Numbers of those kept out; may be empty.
    """

    def __init__(
        self, dataset: Dataset, rows: NDArray[np.int64], held_out: NDArray[np.int64]
    ) -> None:
        self._extractor = RandomExtractor()
        self._training = self._features(dataset, rows)
        enough = len(held_out) >= _FEWEST_HELD_OUT
        self._held_out = self._features(dataset, held_out) if enough else None
        reference = self._training if self._held_out is None else self._held_out
        self._moments = moments(reference.numpy())
        self._spread = mean_distance(reference)

    def _features(self, dataset: Dataset, rows: NDArray[np.int64]) -> torch.Tensor:
        chosen = rows[data_order(0, 0, min(len(rows), _SAMPLES), len(rows))]
        return self._extractor.features(dataset.images[chosen])

    def score(self, model: Model, poll: Callable[[], None] = lambda: None) -> Score:
        """Score an averaged model, in eval mode; ``poll`` is called between batches.

        Raises:
            Exception: whatever ``poll`` raises.
        """
        parts = []
        for start in range(0, _SAMPLES, _BATCH):
            poll()
            draws = [(_SEED, k) for k in range(start, start + _BATCH)]
            parts.append(self._extractor.features(decode_blocks(model, prior_blocks(model, draws))))
        samples = torch.cat(parts)
        distance = distance_between(moments(samples.numpy()), self._moments)
        diversity = mean_distance(samples) / self._spread
        record = {"fd_random": round(distance, 6), "diversity": round(diversity, 4)}
        warnings = []
        if diversity < _LOW_DIVERSITY:
            warnings.append(
                f"samples are only {diversity:.0%} as diverse as the images (collapse?). A larger "
                "-o penalty or a smaller --lr helps"
            )
        if self._held_out is not None:
            copied = memorisation(samples, self._training, self._held_out)
            record["memorisation"] = round(copied, 4)
            if copied > _HIGH_MEMORISATION:
                warnings.append(
                    f"{copied:.0%} of samples lie nearer to training images than to others (50% "
                    "is none memorised). More images or a shorter run helps"
                )
        return Score(distance, record, tuple(warnings))


def mean_distance(features: torch.Tensor) -> float:
    """Mean Euclidean distance between different rows (N, D): how diverse they are."""
    total = torch.cdist(features, features).sum().item()
    return total / (len(features) * (len(features) - 1))
