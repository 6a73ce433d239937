"""Scores of model files, or of folders of images, against images.

The same prepared uint8 pixels on both sides: samples rounded as they would be saved, the
reference through the same intake at the same shape. Every figure comes with its protocol:
extractor and hash, numbers of images, split, seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gentool.checkpoint import MODEL_NAME, LoadedModel, load_model
from gentool.data import MAX_BAD, Dataset, Policy, Source, open_sources, prepare, resolve_shape
from gentool.data.sources import FolderSource
from gentool.errors import DataError, UsageError
from gentool.evaluation.latents import Scores
from gentool.evaluation.reference import (
    Reference,
    choose_rows,
    make_extractor,
    make_reference,
    some_rows,
)
from gentool.evaluation.scores import (
    BATCH,
    ImageScore,
    Poll,
    neighbour_sheet,
    sampled,
    score_gap,
    score_likelihood,
    score_reconstruction,
    score_samples,
)
from gentool.images import Pixels
from gentool.metrics.pretrained import check_extractor

OF_FEATURES = ("frechet", "kernel", "overlap", "memorisation")  # of samples
OF_SAMPLES = (*OF_FEATURES, "modes")
METRICS = (*OF_SAMPLES, "reconstruction", "likelihood")
FEWEST = 20  # samples, and images beside them, of which a distance says anything
SPLITS = ("auto", "held-out", "training", "all")
_LOSSY = {".jpg", ".jpeg"}
_LARGEST_SIDE = 64  # of the shape chosen when neither a model nor the caller says one


@dataclass(frozen=True)
class Request:
    """What to score, and how.

    Attributes:
        targets: Model files, run folders, or folders of images.
        data: Specs of the images to compare with.
        metrics: Some of ``METRICS``.
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
    """

    targets: tuple[Path, ...]
    data: tuple[str, ...]
    metrics: tuple[str, ...] = METRICS
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

    @property
    def of_features(self) -> bool:
        """Whether features of images are needed."""
        return self.pictures or not set(OF_FEATURES).isdisjoint(self.metrics)

    @property
    def of_samples(self) -> bool:
        """Whether samples are needed."""
        return self.pictures or not set(OF_SAMPLES).isdisjoint(self.metrics)


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


def evaluate(request: Request, poll: Poll) -> Evaluation:
    """Score every target.

    Args:
        request: What and how.
        poll: Called between batches; may raise to stop.

    Raises:
        ModelFileError: a target that is neither model nor folder of images.
        UsageError: settings that contradict each other.
        DataError: images that cannot be used.
    """
    opened = {path: _open(path, request.device) for path in request.targets}
    models = [target for target in opened.values() if isinstance(target, LoadedModel)]
    source = open_sources(request.data, download=request.download, labels=request.labels)
    policy = _policy(models, source, request.size)
    holdout = _holdout(models)
    split = request.split if request.split != "auto" else ("held-out" if holdout else "all")
    if split == "held-out" and not holdout:
        raise UsageError("no model here kept images out. Train with --holdout 0.1, or --split all")
    dataset = prepare(source, policy, lambda done, total: poll(), max_bad=request.max_bad)
    rows = choose_rows(dataset, holdout, split, request.count)
    if not len(rows):
        raise DataError(
            f"none of the {len(dataset)} images of {dataset.name} is of the split {split}, by "
            f"--holdout {holdout:g} of the model. Give more images, or --split all"
        )
    request, left_out = _feasible(
        request, len(rows), f"the split {split} of {dataset.name}", bool(models)
    )
    reference = _reference(request, dataset, rows, holdout, split) if request.of_features else None
    table, sheets, images = [], [], []
    names = _names(source, dataset) if models and "reconstruction" in request.metrics else []
    for path, target in opened.items():
        scores = Scores(str(path), notes=list(left_out))
        if request.of_samples:
            first = _score_samples(scores, target, request, source, dataset, reference, poll)
            if request.pictures and reference is not None:
                sheets.append(neighbour_sheet(first, dataset, reference))
        if isinstance(target, LoadedModel):
            poll()
            found = _score_model(scores, target, request, dataset, rows, poll)
            if "reconstruction" in request.metrics and reference is not None:
                score_gap(scores, target, dataset, reference, poll)
            images += [(scores.name, names[image.row], *image[1:]) for image in found]
        table.append(scores)
    for scores, target in zip(table, opened.values(), strict=True):
        if isinstance(target, LoadedModel) and split != "held-out" and _trained_on(target, dataset):
            scores.notes.append(
                "it was trained on images of the reference; --holdout keeps some out"
            )
    protocol: dict[str, object] = {}
    if reference is not None:
        protocol |= {
            "features": reference.extractor.name, "features_hash": reference.extractor.hash
        }  # fmt: skip
    if request.of_samples:
        protocol["samples"] = request.count
    protocol |= {
        "reference": len(rows),
        "split": split,
        "seed": request.seed,
        "data": dataset.name,
        "shape": str(policy.shape),
        "fit": policy.fit,
        "background": policy.background,
    }
    return Evaluation(table, protocol, sheets, images)


def _feasible(
    request: Request, images: int, name: str, has_models: bool
) -> tuple[Request, list[str]]:
    """The request without what so few samples or images say nothing of, and that in words.

    Raises:
        UsageError: fewer samples are asked for than any of its metrics needs.
        DataError: there are fewer images.
    """
    wanted = [m for m in request.metrics if m in OF_FEATURES]
    if min(request.count, images) >= FEWEST or not wanted:
        return request, []
    few = request.count < FEWEST
    reason = (
        f"{', '.join(wanted)}: {FEWEST} samples or more, and as many images to compare with, are "
        f"needed; {f'-n is {request.count}' if few else f'{name} has {images}'}"
    )
    left = tuple(m for m in request.metrics if m not in OF_FEATURES)
    if not request.pictures and not (left and has_models):
        kind = UsageError if few else DataError
        raise kind(f"{reason}. Give more, or a model and --metrics reconstruction,likelihood")
    return replace(request, metrics=left), [f"left out {reason}"]


def _reference(
    request: Request, dataset: Dataset, rows: NDArray[np.int64], holdout: float, split: str
) -> Reference:
    """The features of the images ``rows``, by the extractor that is asked for or suits them."""
    labelled = dataset.labels is not None and len(dataset.classes) > 1  # of one nothing is learned
    name = request.features if request.features != "auto" else "labels" if labelled else "random"
    check_extractor(name, labelled=labelled, weights=request.weights, download=request.download)
    trained = dataset.split(holdout)[0]
    if name == "labels" and not len(trained):
        raise DataError(
            f"all {len(dataset)} images of {dataset.name} were kept out, so that none is left to "
            "train a classifier on. Give more images, or --features random"
        )
    extractor = make_extractor(name, dataset, trained, request.weights)
    extractor.to(request.device)
    return make_reference(dataset, extractor, rows, trained if split == "held-out" else rows[:0])


def _open(path: Path, device: torch.device | str) -> LoadedModel | Source:
    if path.is_dir() and not (path / MODEL_NAME).is_file():
        return FolderSource(path)
    return load_model(path, device)


def _policy(models: list[LoadedModel], source: Source, size: str | None) -> Policy:
    """The one shape and intake that all models share, or else what ``train`` would choose."""
    policies = {m.policy for m in models}
    if len(policies) > 1:
        raise UsageError(
            f"the models make images of {' and '.join(sorted(map(str, policies)))}; scores compare "
            "only at one shape and intake. Score them one by one"
        )
    if policies:
        return policies.pop()
    return Policy(resolve_shape(source, size, None, _LARGEST_SIDE)[0])


def _holdout(models: list[LoadedModel]) -> float:
    """The share that every model kept out.

    Raises:
        UsageError: they differ.
    """
    shares = {loaded.holdout for loaded in models}
    if len(shares) > 1:
        raise UsageError(
            f"the models kept out different shares ({sorted(shares)}); score them one by one"
        )
    return shares.pop() if shares else 0.0


def _trained_on(loaded: LoadedModel, dataset: Dataset) -> bool:
    data = loaded.header["training"].get("data")
    return isinstance(data, dict) and data.get("fingerprint") == dataset.fingerprint


def _names(source: Source, dataset: Dataset) -> list[str]:
    """What to call each prepared image: the source's own names without the bad ones."""
    bad = {path for path, _ in dataset.bad}
    return [name for k in range(len(source)) if (name := source.describe(k)) not in bad]


def _score_samples(
    scores: Scores,
    target: LoadedModel | Source,
    request: Request,
    source: Source,
    dataset: Dataset,
    reference: Reference | None,
    poll: Poll,
) -> Pixels:
    """Sample quality of one target into ``scores``; its first few images."""
    batches: Iterator[Pixels]
    if isinstance(target, LoadedModel):
        batches = sampled(target, request.count, request.seed)
    else:
        policy = Policy(dataset.shape)
        images = prepare(target, policy, lambda done, total: poll(), max_bad=request.max_bad).images
        if len(images) < FEWEST and not set(OF_FEATURES).isdisjoint(request.metrics):
            raise DataError(
                f"{scores.name} holds {len(images)} images; a score needs {FEWEST} or more"
            )
        if len(images) < request.count:
            scores.notes.append(f"{len(images)} images only")
        images = images[some_rows(np.arange(len(images)), request.count)]  # of every class
        batches = (images[k : k + BATCH] for k in range(0, len(images), BATCH))
        _note_formats(scores, target, source)
    return score_samples(scores, batches, reference, request.metrics, source.read_modes, poll)


def _score_model(
    scores: Scores,
    model: LoadedModel,
    request: Request,
    dataset: Dataset,
    rows: NDArray[np.int64],
    poll: Poll,
) -> list[ImageScore]:
    """What only a model has, reconstructions and a likelihood, into ``scores``."""
    images: list[ImageScore] = []
    if "reconstruction" in request.metrics:
        images = score_reconstruction(scores, model, dataset, rows)
    if "likelihood" in request.metrics:
        chosen = some_rows(rows, request.likelihood_images)
        score_likelihood(scores, model, dataset, chosen, request.importance, request.seed, poll)
    return images


def _note_formats(scores: Scores, target: Source, reference: Source) -> None:
    """Say when one side is JPEG and the other is not: its artefacts would be scored."""
    kinds = [{Path(p).suffix.lower() in _LOSSY for p in side.paths} for side in (target, reference)]
    if kinds[0] and kinds[1] and kinds[0] != kinds[1]:
        scores.notes.append("one side is JPEG and the other is not: part of the distance is that")
