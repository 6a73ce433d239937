"""Score one target after another, all against the same reference images."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from gentool.checkpoint import LoadedModel
from gentool.core.errors import DataError
from gentool.core.images import Pixels
from gentool.data import Source, prepare
from gentool.data.remarks import unsuited_notes
from gentool.evaluation.latent_use import Scores
from gentool.evaluation.metric_choice import FEWEST, OF_FEATURES, Wanted
from gentool.evaluation.reference import Reference, make_extractor, make_reference
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
from gentool.evaluation.split import ReferenceSplit
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
        split: The prepared images that the targets are compared with. Targets that are images
            are prepared in the same way.
        poll: Called between batches; may raise to stop.

    Raises:
        DataError: no image is left to train a classifier on.
        UsageError: the extractor cannot be used.
    """

    def __init__(
        self, request: Request, wanted: Wanted, source: Source, split: ReferenceSplit, poll: Poll
    ) -> None:
        self._request, self._wanted, self._poll = request, wanted, poll
        self._source, self._split = source, split
        self._images = split.images.some(request.count)
        self._reference = self._make_reference() if wanted.of_features else None
        self.sheets: list[Pixels] = []
        self.images: list[tuple[str, str, float, float, float]] = []
        self.protocol: dict[str, object] = {}
        if self._reference is not None:
            extractor = self._reference.extractor
            self.protocol |= {"features": extractor.name, "features_hash": extractor.hash}
        if wanted.of_samples:
            self.protocol["samples"] = request.count
        self.protocol["reference"] = len(self._images)

    def _make_reference(self) -> Reference:
        """Compute the features of the reference images, with the chosen or the suitable extractor.

        By default the extractor is ``labels`` if there are two classes or more, else ``random``.
        """
        request, split = self._request, self._split
        dataset = split.images.dataset
        labelled = dataset.labels is not None and len(dataset.classes) > 1  # one teaches nothing
        suits = "labels" if labelled and len(split.rest) else "random"
        name = request.features if request.features != "auto" else suits
        check_extractor(name, labelled=labelled, weights=request.weights, download=request.download)
        if name == "labels" and not len(split.rest):
            raise DataError(
                f"all {len(dataset)} images of {dataset.name} were kept out of training, so none "
                "is left to train a classifier on. Give more images, or --features random"
            )
        extractor = make_extractor(name, split.rest, request.weights)
        extractor.to(request.device)
        return make_reference(extractor, self._images, split.trained)

    def score(self, path: Path, target: Target) -> Scores:
        """Measure all wanted metrics of one target."""
        wanted, reference = self._wanted, self._reference
        scores = Scores(str(path), notes=[*wanted.notes, *wanted.missing(path)])
        metrics = wanted.of(path)
        if wanted.of_samples:
            first = self._score_samples(scores, target, metrics)
            if wanted.pictures and reference is not None:
                self.sheets.append(neighbour_sheet(first, reference))
        if isinstance(target, LoadedModel):
            self._poll()
            self._score_model(scores, target, metrics)
        scores.notes += self._split.notes.get(path, [])
        scores.notes += unsuited_notes(self._images.dataset.notes)
        return scores

    def _score_samples(self, scores: Scores, target: Target, metrics: Sequence[str]) -> Pixels:
        """Add the sample quality of one target to ``scores`` and return its first few samples."""
        request = self._request
        batches: Iterator[Pixels]
        if isinstance(target, LoadedModel):
            batches = sampled(target, request.count, request.seed)
        else:
            preprocessing = self._images.dataset.preprocessing
            found = prepare(
                target, preprocessing, lambda done, total: self._poll(), max_bad=request.max_bad
            )
            scores.notes += unsuited_notes(found.notes)
            images = found.whole.some(request.count).images
            if len(found) < FEWEST and not set(OF_FEATURES).isdisjoint(metrics):
                raise DataError(
                    f"{scores.name} holds {len(found)} images, but a score needs at least {FEWEST}"
                )
            if len(found) < request.count:
                scores.notes.append(f"only {len(found)} images were scored")
            batches = (images[k : k + BATCH] for k in range(0, len(images), BATCH))
            _note_formats(scores, target, self._source)
        return score_samples(
            scores, batches, self._reference, tuple(metrics), self._source.read_modes, self._poll
        )

    def _score_model(self, scores: Scores, model: LoadedModel, metrics: Sequence[str]) -> None:
        """Add to ``scores`` the metrics that only models have: reconstruction and likelihood."""
        request, images = self._request, self._images
        found: list[ImageScore] = []
        if "reconstruction" in metrics:
            found = score_reconstruction(scores, model, images, len(self._split.images))
        if "likelihood" in metrics:
            chosen = images.some(request.likelihood_images)
            score_likelihood(scores, model, chosen, request.importance, request.seed, self._poll)
        if "reconstruction" in metrics and self._reference is not None:
            score_gap(scores, model, self._reference, self._poll)
        self.images += [(scores.name, *image) for image in found]


def _note_formats(scores: Scores, target: Source, reference: Source) -> None:
    """Add a note if one side is JPEG and the other is not: the score includes JPEG's artefacts."""
    kinds = [{Path(p).suffix.lower() in _LOSSY for p in side.paths} for side in (target, reference)]
    if kinds[0] and kinds[1] and kinds[0] != kinds[1]:
        scores.notes.append("one set is JPEG and the other is not, which adds to the distance")
