"""Measure how a model uses its latents: KL per unit and per layer, active units, codes in use."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from gentool.core.images import Pixels
from gentool.inference.blocks import code_blocks
from gentool.models.base import Model
from gentool.models.capabilities import ACTIVE_VARIANCE, required_likelihood
from gentool.models.quantisers.base import perplexity

_IDLE_NATS = 1.0  # total KL per image; below it, if no unit is active, the posterior has collapsed


class UnitScore(NamedTuple):
    """Use of one latent (unit) over the measured images.

    Attributes:
        unit: Index of the latent, from 0.
        layer: Its layer, from 1 at the top.
        kl: Mean KL of its posterior, in nats per image.
        mean_variance: Variance over images of its posterior mean.
        active: Whether that variance is above ``ACTIVE_VARIANCE``.
    """

    unit: int
    layer: int
    kl: float
    mean_variance: float
    active: bool


@dataclass
class Scores:
    """The scores of one target.

    Attributes:
        name: The target's path.
        values: Scores by name.
        notes: Remarks that a reader of the scores needs, one text each.
        units: Figures of each latent, if the likelihood was measured.
    """

    name: str
    values: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    units: list[UnitScore] = field(default_factory=list)


def score_units(scores: Scores, means: torch.Tensor, count: int, model: Model) -> list[UnitScore]:
    """Add to ``scores`` the total KL, the largest KL of a unit, the KL per layer, and active units.

    A unit is active if its posterior mean varies enough over images (Burda et al. 2016,
    section 5.2).

    Args:
        scores: Receives values and notes.
        means: (3, L): for each latent the mean over images of the KL in nats, of the posterior
            mean, and of the square of the posterior mean.
        count: Number of images.
        model: Gives the layers, and a caveat if the KL is not the one in the bound.

    Returns:
        The figures of each latent.
    """
    kl, mean, square = means
    caveat = required_likelihood(model.variational).kl_caveat
    name = "kl (near)" if caveat else "kl"
    scores.values[name] = float(kl.sum())
    scores.values[f"{name} largest unit"] = float(kl.max())
    lengths = model.layers.lengths if model.layers else (len(kl),)
    if len(lengths) > 1:
        for layer, part in enumerate(kl.split(lengths), start=1):
            scores.values[f"{name} layer {layer}"] = float(part.sum())
    if caveat:
        scores.notes.append(f"{name} is {caveat}")
    variance = (square - mean.square()) * count / max(count - 1, 1)
    active = variance > ACTIVE_VARIANCE
    scores.values["active units"] = int(active.sum())
    if not active.any() and kl.sum() < _IDLE_NATS:  # many inactive units may each carry a little
        scores.notes.append("posterior collapse: no latent is used. Try a smaller -o beta")
    layers = [layer for layer, length in enumerate(lengths, start=1) for _ in range(length)]
    columns = (layers, kl.tolist(), variance.tolist(), active.tolist())
    return [UnitScore(k, *row) for k, row in enumerate(zip(*columns, strict=True))]


def score_codes(scores: Scores, model: Model, pixels: Pixels) -> None:
    """Add to ``scores`` how many codes uint8 images (N, H, W, C) use, and the code perplexity.

    A model without codes adds nothing.
    """
    shares = code_blocks(model, pixels)
    if shares is not None:
        scores.values["codes in use"] = int((shares > 0).sum())
        scores.values["codes"] = len(shares)
        scores.values["code perplexity"] = float(perplexity(shares))
