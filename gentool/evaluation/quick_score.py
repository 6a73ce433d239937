"""A cheap score while training: is the averaged model still getting better?

Frechet distance in the fixed random features between 2,000 samples and as many images (kept
out, if there are enough), with three early warnings: diversity that falls (collapse), samples
that come nearer to the training images than to those kept out, or, where too few are kept out,
than training images come to each other (memorisation), and samples that look more like the images
as a player sees them augmented than like the images themselves (a leak, Karras et al. 2020,
arXiv:2006.06676, section 2.2). In GANs the last state is often not the best; this is what
``best.safetensors`` is chosen by.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gentool.core.errors import DataError
from gentool.core.images import to_pixels, to_unit
from gentool.core.rng import Draw, data_order
from gentool.data import Dataset
from gentool.inference.blocks import decode_blocks, prior_blocks
from gentool.metrics.extractors import BLOCK, RandomExtractor, check_evaluating
from gentool.metrics.frechet import distance_between, moments
from gentool.metrics.neighbours import memorisation, nearness
from gentool.models.base import Model

Augmented = Callable[[torch.Tensor, Draw], torch.Tensor | None]

_SAMPLES, _BATCH = 2000, 250
_SEED = 2**62  # not a seed that people draw with: scores look at other images than previews
_FEWEST_HELD_OUT = 500
_LOW_DIVERSITY, _HIGH_MEMORISATION = 0.6, 0.75
_LEAK = 0.8  # of the distance to the images; any poor samples are a little nearer


@dataclass(frozen=True)
class Score:
    """One look at the model.

    Attributes:
        distance: FD-random to the images, lower is better.
        record: Everything measured, by name.
        warnings: What is wrong -> the same in plain words, with what to change.
    """

    distance: float
    record: dict[str, float]
    warnings: dict[str, str]


class Scorer:
    """Holds the reference's features, so that each score costs only its samples.

    Args:
        dataset: Prepared images.
        rows: Numbers of the training images, two or more.
        held_out: Numbers of those kept out; may be empty.

    Raises:
        DataError: there is but one image, or none.
    """

    def __init__(
        self, dataset: Dataset, rows: NDArray[np.int64], held_out: NDArray[np.int64]
    ) -> None:
        if len(rows) < 2:
            raise DataError(f"a score needs two images or more, not {len(rows)}. Give more images")
        self._extractor = RandomExtractor()
        self._images = _some(dataset, rows)
        self._training = self._extractor.features(self._images)
        enough = len(held_out) >= _FEWEST_HELD_OUT
        self._held_out = self._extractor.features(_some(dataset, held_out)) if enough else None
        reference = self._training if self._held_out is None else self._held_out
        self._moments = moments(reference.numpy())
        self._spread = mean_distance(reference)

    def score(
        self,
        model: Model,
        augmented: Augmented | None = None,
        poll: Callable[[], None] = lambda: None,
    ) -> Score:
        """Score an averaged model, in eval mode.

        Args:
            model: The averages.
            augmented: How a player sees training images now: ``Model.augmented`` of the model
                in training.
            poll: Called between batches.

        Raises:
            ValueError: the model is in training mode.
            Exception: whatever ``poll`` raises.
        """
        check_evaluating(model)
        parts = []
        for start in range(0, _SAMPLES, _BATCH):
            poll()
            draws = [(_SEED, k) for k in range(start, start + _BATCH)]
            parts.append(self._extractor.features(decode_blocks(model, prior_blocks(model, draws))))
        samples = torch.cat(parts)
        distance = distance_between(moments(samples.numpy()), self._moments)
        # Of images that are all alike, samples that are alike have all the diversity there is.
        diversity = mean_distance(samples) / self._spread if self._spread else 1.0
        record = {"fd_random": round(distance, 6), "diversity": round(diversity, 4)}
        warnings = {}
        if diversity < _LOW_DIVERSITY:
            warnings["collapse"] = (
                f"samples are only {diversity:.0%} as diverse as the images (collapse?). "
                f"{model.against_collapse}"
            )
        copied = self._copied(samples)
        record["memorisation"] = round(copied, 4)
        if copied > _HIGH_MEMORISATION:
            warnings["memorisation"] = (
                f"{copied:.0%} of samples lie nearer to training images than others do (50% is "
                "none memorised). More images or a shorter run helps"
            )
        seen = None if augmented is None else self._augmented(augmented, model.device)
        if seen is not None:
            ours = moments(samples.numpy())
            leaked = distance_between(ours, moments(seen.numpy()))
            record["fd_augmented"] = round(leaked, 6)
            if leaked < _LEAK * distance_between(ours, moments(self._training.numpy())):
                warnings["leak"] = (
                    "samples look more like the augmented images than like the images (a leak). "
                    "Less -o augment, more images or a longer run helps"
                )
        return Score(distance, record, warnings)

    def _copied(self, samples: torch.Tensor) -> float:
        """How near samples lie to training images, beside images that were never trained on."""
        if self._held_out is not None:
            return memorisation(samples, self._training, self._held_out)
        return nearness(samples, self._training)

    @torch.inference_mode()
    def _augmented(self, augmented: Augmented, device: torch.device) -> torch.Tensor | None:
        """Features of training images as a player sees them."""
        found = []
        for start in range(0, len(self._images), BLOCK):
            pixels = torch.from_numpy(self._images[start : start + BLOCK]).to(device)
            draw = Draw(0, "leak check", start + np.arange(len(pixels)), 0, device)
            seen = augmented(to_unit(pixels), draw)
            if seen is None:
                return None
            found.append(self._extractor.features(to_pixels(seen)))
        return torch.cat(found)


def _some(dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """At most 2,000 images (N, H, W, C), the same at every call."""
    return np.array(dataset.images[rows[data_order(0, 0, min(len(rows), _SAMPLES), len(rows))]])


def mean_distance(features: torch.Tensor) -> float:
    """Mean Euclidean distance between different rows (N, D): how diverse they are."""
    total = torch.cdist(features, features).sum().item()
    return total / (len(features) * (len(features) - 1))
