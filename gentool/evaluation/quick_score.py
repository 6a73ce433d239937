"""A cheap score during training, to see whether the averaged model still gets better.

The score is the Frechet distance, in the features of a fixed random network, between 2,000 samples
and at most 2,000 images (held out, if there are enough). There are three early warnings:

* collapse: the samples are much less diverse than the images;
* memorisation: samples are nearer to the training images than to held-out images; or, if too few
  are held out, nearer than training images are to each other;
* leak: samples are more like the augmented images that the discriminator is trained on than like
  the images themselves (Karras et al. 2020, arXiv:2006.06676, section 2.2).

The last state of a GAN is often not the best one; ``best.safetensors`` is chosen by this score.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from gentool.core.errors import DataError
from gentool.core.images import Pixels, to_pixels, to_unit
from gentool.core.rng import Draw, data_order
from gentool.data import Split, Subset
from gentool.inference.blocks import decode_blocks, prior_blocks
from gentool.metrics.extractors import BLOCK, RandomExtractor, check_evaluating
from gentool.metrics.frechet import distance_between, moments
from gentool.metrics.neighbours import memorisation, nearness
from gentool.models.base import Model

Augmented = Callable[[torch.Tensor, Draw], torch.Tensor | None]

_SAMPLES, _BATCH = 2000, 250
_SEED = 2**62  # a seed that users hardly choose: scores use other samples than previews
_FEWEST_HELD_OUT = 500
_LOW_DIVERSITY, _HIGH_MEMORISATION = 0.6, 0.75
# Largest ratio of the distances to the augmented and to the original images that is a leak. It is
# below 1, since poor samples are always a little nearer to augmented images.
_LEAK = 0.8


@dataclass(frozen=True)
class Score:
    """The result of one evaluation of a model.

    Attributes:
        distance: Frechet distance to the images in random features; lower is better.
        record: All measured values, by name.
        warnings: Name of a problem -> a message that also says what to change.
    """

    distance: float
    record: dict[str, float]
    warnings: dict[str, str]


class Scorer:
    """Scores models; the features of the images are computed once, those of samples each time.

    Args:
        images: Two training images or more; the held-out images may be none.

    Raises:
        DataError: there are fewer than two training images.
    """

    def __init__(self, images: Split) -> None:
        train, held_out = images
        if len(train) < 2:
            raise DataError(
                f"a score needs at least two images, not {len(train)}. Give more images"
            )
        self._extractor = RandomExtractor()
        self._images = _some(train)
        self._training = self._extractor.features(self._images)
        enough = len(held_out) >= _FEWEST_HELD_OUT
        self._held_out = self._extractor.features(_some(held_out)) if enough else None
        reference = self._training if self._held_out is None else self._held_out
        self._moments = moments(reference.numpy())
        self._real = self._distance_of_real(train)
        self._spread = mean_distance(reference)

    def _distance_of_real(self, train: Subset) -> float | None:
        """Return the distance that other images of the data have; None if there are too few.

        With held-out images, these are compared with the training images; otherwise 2,000
        training images are compared with up to 2,000 others. A model that is as good as the data
        gets about this distance.
        """
        if self._held_out is not None:
            return distance_between(moments(self._training.numpy()), self._moments)
        others = _some(train, after=_SAMPLES)
        if len(others) < _FEWEST_HELD_OUT:
            return None
        return distance_between(moments(self._extractor.features(others).numpy()), self._moments)

    def score(
        self,
        model: Model,
        augmented: Augmented | None = None,
        poll: Callable[[], None] = lambda: None,
    ) -> Score:
        """Score a model.

        Args:
            model: The model with averaged weights, in eval mode.
            augmented: The augmentation that the discriminator's images have now, which is
                ``Model.augmented`` of the model in training; None for no warning of a leak.
            poll: Called between batches; may raise to stop.

        Raises:
            ValueError: the model is in training mode.
        """
        check_evaluating(model)
        parts = []
        for start in range(0, _SAMPLES, _BATCH):
            poll()
            draws = [(_SEED, k) for k in range(start, start + _BATCH)]
            parts.append(self._extractor.features(decode_blocks(model, prior_blocks(model, draws))))
        samples = torch.cat(parts)
        distance = distance_between(moments(samples.numpy()), self._moments)
        # If all images are the same, the samples cannot be less diverse than the images.
        diversity = mean_distance(samples) / self._spread if self._spread else 1.0
        record = {"fd_random": round(distance, 6)}
        if self._real is not None:
            record["fd_random/real"] = round(self._real, 6)
        record["diversity"] = round(diversity, 4)
        warnings = {}
        if diversity < _LOW_DIVERSITY:
            warnings["collapse"] = (
                f"samples are only {diversity:.0%} as diverse as the images (possible mode "
                f"collapse). {model.advice.against_collapse}"
            )
        copied = self._copied(samples)
        record["memorisation"] = round(copied, 4)
        if copied > _HIGH_MEMORISATION:
            warnings["memorisation"] = (
                f"{copied:.0%} of samples are very near to training images (50% if nothing is "
                "memorised). Use more images or a shorter run"
            )
        seen = None if augmented is None else self._augmented(augmented, model.device)
        if seen is not None:
            ours = moments(samples.numpy())
            leaked = distance_between(ours, moments(seen.numpy()))
            record["fd_augmented"] = round(leaked, 6)
            if leaked < _LEAK * distance_between(ours, moments(self._training.numpy())):
                warnings["leak"] = (
                    "samples are nearer to the augmented images than to the images (augmentation "
                    "leak). Use a weaker -o augment, more images or a longer run"
                )
        return Score(distance, record, warnings)

    def _copied(self, samples: torch.Tensor) -> float:
        """Return the measure of memorisation, 0 to 1; about 0.5 if nothing is memorised.

        It is ``memorisation`` if enough images are held out, else ``nearness``.
        """
        if self._held_out is not None:
            return memorisation(samples, self._training, self._held_out)
        return nearness(samples, self._training)

    @torch.inference_mode()
    def _augmented(self, augmented: Augmented, device: torch.device) -> torch.Tensor | None:
        """Return features of the augmented training images; None if there is no augmentation."""
        found = []
        for start in range(0, len(self._images), BLOCK):
            pixels = torch.from_numpy(self._images[start : start + BLOCK]).to(device)
            draw = Draw(0, "leak check", start + np.arange(len(pixels)), 0, device)
            seen = augmented(to_unit(pixels), draw)
            if seen is None:
                return None
            found.append(self._extractor.features(to_pixels(seen)))
        return torch.cat(found)


def _some(images: Subset, after: int = 0) -> Pixels:
    """Return at most 2,000 of the images, uint8 (N, H, W, C), the same at every call.

    Args:
        images: The images.
        after: How many images of the same random order are passed over.
    """
    last = min(len(images), after + _SAMPLES)
    return images.images[data_order(0, min(after, last), last - min(after, last), len(images))]


def mean_distance(features: torch.Tensor) -> float:
    """Return the mean Euclidean distance between pairs of rows (N, D), a measure of diversity."""
    total = torch.cdist(features, features).sum().item()
    return total / (len(features) * (len(features) - 1))
