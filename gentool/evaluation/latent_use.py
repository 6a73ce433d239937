"""How a model uses its latents: the KL of every unit and layer, active units, codes in use."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from gentool.core.images import Pixels
from gentool.inference.blocks import code_blocks
from gentool.models.base import Model
from gentool.models.quantisers.base import perplexity
from gentool.models.vae.elbo import ACTIVE_VARIANCE

_IDLE_NATS = 1.0  # per image, below which latents without an active one say nothing


class UnitScore(NamedTuple):
    """One latent: its number, its layer from the top, its mean KL, and whether it is active."""

    unit: int
    layer: int
    kl: float
    mean_variance: float
    active: bool


@dataclass
class Scores:
    """What was measured of one target, and what to know when reading it."""

    name: str
    values: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    units: list[UnitScore] = field(default_factory=list)


def score_units(scores: Scores, means: torch.Tensor, count: int, model: Model) -> list[UnitScore]:
    """KL, in all, of the largest latent and of every layer, and active units.

    A unit is active by the variance of its posterior mean (Burda et al. 2016, section 5.2).

    Args:
        scores: Where to.
        means: Over images, per latent, of the KL, the posterior mean and its square, (3, L).
        count: Of images.
        model: Which knows its layers, and what the KL is if it is not that of the bound.

    Returns:
        The figures of each latent.
    """
    kl, mean, square = means
    name = "kl (near)" if model.kl_caveat else "kl"
    scores.values[name] = float(kl.sum())
    scores.values[f"{name} largest unit"] = float(kl.max())
    lengths = model.layer_lengths or (len(kl),)
    if len(lengths) > 1:
        for layer, part in enumerate(kl.split(lengths), start=1):
            scores.values[f"{name} layer {layer}"] = float(part.sum())
    if model.kl_caveat:
        scores.notes.append(f"{name} is {model.kl_caveat}")
    variance = (square - mean.square()) * count / max(count - 1, 1)
    active = variance > ACTIVE_VARIANCE
    scores.values["active units"] = int(active.sum())
    if not active.any() and kl.sum() < _IDLE_NATS:  # many latents may each say a little
        scores.notes.append("posterior collapse: no latent is used; try a smaller -o beta")
    layers = [layer for layer, length in enumerate(lengths, start=1) for _ in range(length)]
    columns = (layers, kl.tolist(), variance.tolist(), active.tolist())
    return [UnitScore(k, *row) for k, row in enumerate(zip(*columns, strict=True))]


def score_codes(scores: Scores, model: Model, pixels: Pixels) -> None:
    """How many codes uint8 images (N, H, W, C) use, and their perplexity, where there are codes."""
    shares = code_blocks(model, pixels)
    if shares is not None:
        scores.values["codes in use"] = int((shares > 0).sum())
        scores.values["codes"] = len(shares)
        scores.values["code perplexity"] = float(perplexity(shares))
