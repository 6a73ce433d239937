"""The settings of an evaluation, and its results."""

from dataclasses import dataclass
from pathlib import Path

import torch

from gentool.core.images import Pixels
from gentool.data import MAX_BAD
from gentool.evaluation.latent_use import Scores


@dataclass(frozen=True)
class Request:
    """The settings of an evaluation.

    Attributes:
        targets: Model files, run folders, or images: folders, archives, ``.npz``.
        data: Sources of the reference images, as in ``train --data``.
        metrics: Names from ``METRICS``; empty for all that a target can have.
        count: Samples per target, and the largest number of reference images.
        seed: Seed of the samples.
        split: One of ``SPLITS``; ``auto`` is held-out if a model kept images out of training.
        features: Name of an extractor, or ``auto``: ``labels`` if there are classes, else
            ``random``.
        weights: File of a pretrained extractor.
        download: Whether data sets and pretrained weights may be downloaded.
        importance: Samples of the importance-weighted bound.
        likelihood_images: Largest number of reference images for the bound.
        pictures: Whether to show samples beside their nearest images.
        size: Size of the images if no target is a model; None for a suitable one.
        labels: A file of labels, ``folders`` or ``none``; None for the labels that are found.
        max_bad: Fraction of files that may be bad, 0 to 1.
        device: Device on which models run.
        fit: If no target is a model, how images get their shape: crop, pad or stretch.
        background: If no target is a model, the colour behind transparent pixels and in padding.
        levels: If no target is a model, the scale of deep images: auto, full or LOW:HIGH.
        mode: If no target is a model, the colour mode of the images.
        files: Which of ``reconstruction`` and ``likelihood`` write their figures per image or per
            unit to a file.
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
    levels: str | None = None
    mode: str | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation.

    Attributes:
        table: Scores of each target.
        protocol: Settings that a reader needs to compare the scores: extractor, split, seed, data.
        sheets: For each target, a sheet of samples beside their neighbours, if wanted.
        images: (target, image, mse, psnr, ssim) of every image that was reconstructed.
    """

    table: list[Scores]
    protocol: dict[str, object]
    sheets: list[Pixels]
    images: list[tuple[str, str, float, float, float]]
