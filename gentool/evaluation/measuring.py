"""Score one target after another, all against the same reference images."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from gentool.checkpoint import LoadedModel
from gentool.core.errors import DataError
from gentool.core.images import Pixels
from gentool.data import Dataset, Policy, Source, prepare
from gentool.evaluation.latent_use import Scores
from gentool.evaluation.metric_choice import FEWEST, OF_FEATURES, Wanted
from gentool.evaluation.reference import Reference, make_extractor, make_reference, some_rows
from gentool.evaluation.request import Request
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
from gentool.evaluation.split import Split
from gentool.evaluation.targets import Target
from gentool.metrics.pretrained import check_extractor

_LOSSY = {".jpg", ".jpeg"}


class Measuring:
    """Scores targets against one set of reference images.

    Attributes:
        sheets: For each target, a sheet of samples beside their neighbours, if wanted.
        images: (target, image, mse, psnr, ssim) of every image that was reconstructed.
        protocol: The extractor with its hash, and the numbers of samples and reference images.

    Args:
        request: The settings.
        wanted: The metrics.
        source: The reference images.
        dataset: The same images, prepared.
        split: The part of them that the targets are compared with.
        policy: How these images were prepared; targets that are images are prepared in this way.
        poll: Called between batches; may raise to stop.

    Raises:
        DataError: no image is left to train a classifier on.
        UsageError: the extractor cannot be used.
    """

    def __init__(
        self, request: Request, wanted: Wanted, source: Source, dataset: Dataset, split: Split,
        policy: Policy, poll: Poll,
    ) -> None:  # fmt: skip
        self._request, self._wanted, self._poll = request, wanted, poll
        self._source, self._dataset, self._split, self._policy = source, dataset, split, policy
        self._rows = some_rows(split.rows, request.count)
        self._reference = self._make_reference() if wanted.of_features else None
        self.sheets: list[Pixels] = []
        self.images: list[tuple[str, str, float, float, float]] = []
        self.protocol: dict[str, object] = {}
        if self._reference is not None:
            extractor = self._reference.extractor
            self.protocol |= {"features": extractor.name, "features_hash": extractor.hash}
        if wanted.of_samples:
            self.protocol["samples"] = request.count
        self.protocol["reference"] = len(self._rows)

    def _make_reference(self) -> Reference:
        """Compute the features of the reference images, with the chosen or the suitable extractor.

        By default the extractor is ``labels`` if there are two classes or more, else ``random``.
        """
        request, dataset, split = self._request, self._dataset, self._split
        labelled = dataset.labels is not None and len(dataset.classes) > 1  # one teaches nothing
        suits = "labels" if labelled and len(split.rest) else "random"
        name = request.features if request.features != "auto" else suits
        check_extractor(name, labelled=labelled, weights=request.weights, download=request.download)
        if name == "labels" and not len(split.rest):
            raise DataError(
                f"all {len(dataset)} images of {dataset.name} were kept out of training, so none "
                "is left to train a classifier on. Give more images, or --features random"
            )
        extractor = make_extractor(name, dataset, split.rest, request.weights)
        extractor.to(request.device)
        return make_reference(dataset, extractor, self._rows, split.trained)

    @cached_property
    def _names(self) -> list[str]:
        """The name of each prepared image: the names in the source without those of bad files."""
        bad = {path for path, _ in self._dataset.bad}
        names = map(self._source.describe, range(len(self._source)))
        return [name for name in names if name not in bad]

    def score(self, path: Path, target: Target) -> Scores:
        """Measure all wanted metrics of one target."""
        wanted, reference, dataset = self._wanted, self._reference, self._dataset
        scores = Scores(str(path), notes=[*wanted.notes, *wanted.missing(path)])
        metrics = wanted.of(path)
        if wanted.of_samples:
            first = self._score_samples(scores, target, metrics)
            if wanted.pictures and reference is not None:
                self.sheets.append(neighbour_sheet(first, dataset, reference))
        if isinstance(target, LoadedModel):
            self._poll()
            self._score_model(scores, target, metrics)
        scores.notes += self._split.notes.get(path, [])
        return scores

    def _score_samples(self, scores: Scores, target: Target, metrics: Sequence[str]) -> Pixels:
        """Add the sample quality of one target to ``scores`` and return its first few samples."""
        request = self._request
        batches: Iterator[Pixels]
        if isinstance(target, LoadedModel):
            batches = sampled(target, request.count, request.seed)
        else:
            images = prepare(
                target, self._policy, lambda done, total: self._poll(), max_bad=request.max_bad
            ).images
            if len(images) < FEWEST and not set(OF_FEATURES).isdisjoint(metrics):
                raise DataError(
                    f"{scores.name} holds {len(images)} images, but a score needs at least {FEWEST}"
                )
            if len(images) < request.count:
                scores.notes.append(f"only {len(images)} images were scored")
            # A random choice, since files are often sorted by class.
            images = images[some_rows(np.arange(len(images)), request.count)]
            batches = (images[k : k + BATCH] for k in range(0, len(images), BATCH))
            _note_formats(scores, target, self._source)
        return score_samples(
            scores, batches, self._reference, tuple(metrics), self._source.read_modes, self._poll
        )

    def _score_model(self, scores: Scores, model: LoadedModel, metrics: Sequence[str]) -> None:
        """Add to ``scores`` the metrics that only models have: reconstruction and likelihood."""
        request, dataset, rows = self._request, self._dataset, self._rows
        found: list[ImageScore] = []
        if "reconstruction" in metrics:
            found = score_reconstruction(scores, model, dataset, rows, len(self._split.rows))
        if "likelihood" in metrics:
            chosen = some_rows(rows, request.likelihood_images)
            score_likelihood(
                scores, model, dataset, chosen, request.importance, request.seed, self._poll
            )
        if "reconstruction" in metrics and self._reference is not None:
            score_gap(scores, model, dataset, self._reference, self._poll)
        self.images += [(scores.name, self._names[image.row], *image[1:]) for image in found]


def _note_formats(scores: Scores, target: Source, reference: Source) -> None:
    """Add a note if one side is JPEG and the other is not: the score includes JPEG's artefacts."""
    kinds = [{Path(p).suffix.lower() in _LOSSY for p in side.paths} for side in (target, reference)]
    if kinds[0] and kinds[1] and kinds[0] != kinds[1]:
        scores.notes.append("one set is JPEG and the other is not, which adds to the distance")
