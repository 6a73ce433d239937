"""Score models, or images in a folder, an archive or a ``.npz``, against reference images.

Both sides are prepared uint8 pixels: samples are rounded as if they were saved, and all other
images go through the same preparation. Every result comes with its protocol: the extractor and
its hash, the numbers of images, the split and the seed.
"""

from gentool.checkpoint import LoadedModel
from gentool.core.errors import UsageError
from gentool.data import Dataset, Preprocessing, Sample, Source, open_sources, prepare
from gentool.evaluation.measuring import Measuring
from gentool.evaluation.metric_choice import (
    Wanted,
    check_names,
    leave_out_features,
    what_is_wanted,
)
from gentool.evaluation.request import Evaluation, Request
from gentool.evaluation.scores import Poll
from gentool.evaluation.split import ReferenceSplit, check_split, choose_split
from gentool.evaluation.targets import choose_preprocessing, common_holdout, open_target
from gentool.metrics.extractors import as_rgb


def evaluate(request: Request, poll: Poll) -> Evaluation:
    """Score every target of a request.

    Args:
        request: The targets, the reference images and the settings.
        poll: Called between batches; may raise to stop.

    Raises:
        ModelFileError: a target is neither a model nor images.
        UsageError: settings contradict each other, or no metric can be measured.
        DataError: images cannot be used, or the split cannot be determined.
    """
    names = check_names(request.metrics) if request.metrics else ()
    targets = {path: open_target(path, request.device) for path in request.targets}
    models = {path: t for path, t in targets.items() if isinstance(t, LoadedModel)}
    holdout = common_holdout(models.values())
    check_split(request.split, models, holdout)
    wanted = what_is_wanted(
        targets, names, request.split, holdout, pictures=request.pictures, files=request.files
    )
    source = open_sources(
        request.data, download=request.download, labels=request.labels, max_bad=request.max_bad
    )
    sample = Sample(source)

    def prepared(by: Preprocessing) -> Dataset:
        return prepare(
            source, by, lambda done, total: poll(), max_bad=request.max_bad, sample=sample
        )

    dataset = prepared(
        choose_preprocessing(
            models,
            sample,
            request.size,
            request.mode,
            request.fit,
            request.background,
            request.levels,
        )
    )
    sample.forget()
    split = choose_split(request.split, models, dataset, prepared, poll)
    _look_at_images(wanted, request, source, split)
    measuring = Measuring(request, wanted, source, split, poll)
    table = [measuring.score(path, target) for path, target in targets.items()]
    if not measuring.sheets and not any(scores.values for scores in table):
        reasons = dict.fromkeys(note for scores in table for note in scores.notes)
        raise UsageError(f"no score can be computed: {'; '.join(reasons)}")
    protocol = measuring.protocol | {
        "split": split.name,
        "seed": request.seed,
        "data": dataset.name,
        "shape": str(dataset.shape),
        "fit": dataset.preprocessing.fit,
        "background": dataset.preprocessing.background,
        **({"levels": str(levels)} if (levels := dataset.preprocessing.levels) else {}),
    }
    return Evaluation(table, protocol, measuring.sheets, measuring.images)


def _look_at_images(
    wanted: Wanted, request: Request, source: Source, split: ReferenceSplit
) -> None:
    """Leave out the metrics that cannot be measured with these reference images.

    Raises:
        UsageError: no metric is left, or fewer samples are requested than the metrics need.
        DataError: there are too few images for the metrics.
    """
    dataset = split.images.dataset
    if split.why is not None:
        wanted.rule_out("memorisation", split.why)
    if "modes" in wanted.metrics and source.read_modes(as_rgb(dataset.images[:1])) is None:
        wanted.rule_out("modes", f"they can be read only from images of builtin:modes, "
                        f"not from {dataset.name}")  # fmt: skip
    wanted.check()
    name = f"the split {split.name} of {dataset.name}"
    images = min(len(split.images), request.count)
    leave_out_features(wanted, request.count, images, name)
