"""What is asked of an evaluation, and what it finds."""

from dataclasses import dataclass
from pathlib import Path

import torch

from gentool.core.images import Pixels
from gentool.data import MAX_BAD
from gentool.evaluation.latent_use import Scores


@dataclass(frozen=True)
class Request:
    """What to score, and how.

    Attributes:
        targets: Model files, run folders, or images: folders, archives, ``.npz``.
        data: Specs of the images to compare with.
        metrics: Some of ``METRICS``, by name; empty for all that a target can have.
        count: Samples per target, and at most as many reference images.
        seed: Of the samples.
        split: One of ``SPLITS``; ``auto`` is held-out where a model kept images out.
        features: Name of an extractor, or ``auto``: labels where there are classes.
        weights: File of a pretrained extractor.
        download: Whether pretrained weights may be fetched.
        importance: Samples of the importance-weighted bound.
        likelihood_images: The bound is over at most so many of the reference images.
        pictures: Whether samples are wanted beside their nearest images.
        size: Shape when no target is a model.
        labels: A file of labels, ``folders`` or ``none``; None for what is found.
        max_bad: Share of files that may be bad.
        device: Where models run.
        fit: How images get their shape when no target is a model: crop, pad or stretch.
        background: What transparency is laid on then.
        mode: Their colour mode then.
        files: Those of ``reconstruction`` and ``likelihood`` whose single figures go to a file.
    """

    targets: tuple[Path, ...]
    data: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    count: int = 10_000
    seed: int = 0
    split: str = "auto"
    features: str = "auto"
    weights: Path | None = None
    download: bool = False
    importance: int = 50
    likelihood_images: int = 256
    pictures: bool = False
    size: str | None = None
    labels: str | None = None
    max_bad: float = MAX_BAD
    device: torch.device | str = "cpu"
    fit: str | None = None
    background: str | None = None
    mode: str | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
        table: Scores per target.
        protocol: What they were measured with.
        sheets: Samples beside their neighbours, per target, where they were wanted.
        images: (target, image, mse, psnr, ssim) of every image that was reconstructed.
    """

    table: list[Scores]
    protocol: dict[str, object]
    sheets: list[Pixels]
    images: list[tuple[str, str, float, float, float]]
