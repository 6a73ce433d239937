"""Choose the metrics: which are wanted, which each target can have, and why not the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from gentool.checkpoint import LoadedModel
from gentool.core.errors import DataError, NoEncoder, NoLikelihood, OutsideSupport, UsageError
from gentool.core.images import to_unit
from gentool.core.registry import unknown_name
from gentool.core.rng import Draw
from gentool.evaluation.split import HELD_OUT, KEPT_NONE
from gentool.evaluation.targets import Target
from gentool.inference.blocks import encode_blocks
from gentool.models.capabilities import required_likelihood

OF_FEATURES = ("frechet", "kernel", "overlap", "memorisation")  # need features of samples
OF_SAMPLES = (*OF_FEATURES, "modes")
OF_MODELS = ("reconstruction", "likelihood")
METRICS = (*OF_SAMPLES, *OF_MODELS)
FEWEST = 20  # samples, and reference images, that a distance between them needs at least
_FILES = {"reconstruction": "--per-image", "likelihood": "--per-unit"}


@dataclass
class Wanted:
    """The metrics of one command.

    Attributes:
        metrics: Names of all metrics that are wanted.
        named: Whether the user named them, so that a missing one must be reported.
        why_not: Target -> metric -> why the target cannot have this metric.
        pictures: Whether samples are to be shown beside their nearest images.
        files: Metrics whose figures per image or per unit are to be written to a file.
        notes: Notes that belong to every target.
    """

    metrics: tuple[str, ...]
    named: bool
    why_not: dict[Path, dict[str, str]]
    pictures: bool = False
    files: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def of(self, target: Path) -> tuple[str, ...]:
        """Return the wanted metrics that a target can have."""
        return tuple(m for m in self.metrics if m not in self.why_not[target])

    def any_of(self, metrics: Sequence[str]) -> bool:
        """Whether at least one target can have at least one of these metrics."""
        return any(not set(metrics).isdisjoint(self.of(target)) for target in self.why_not)

    @property
    def of_features(self) -> bool:
        """Whether features of images are needed."""
        return self.pictures or self.any_of(OF_FEATURES)

    @property
    def of_samples(self) -> bool:
        """Whether samples are needed."""
        return self.pictures or self.any_of(OF_SAMPLES)

    def rule_out(self, metric: str, reason: str) -> None:
        """Record that no target can have this metric; reasons that are known already stay."""
        for reasons in self.why_not.values():
            reasons.setdefault(metric, reason)

    def check(self) -> None:
        """Check that some target has each metric of ``files``, and one of those that were named.

        Raises:
            UsageError: no target has; the message gives the reasons.
        """
        for metric in self.files:
            if not self.any_of([metric]):
                raise UsageError(f"{_FILES[metric]}: {self._reasons([metric])}")
        if self.named and not self.pictures and not self.any_of(METRICS):
            raise UsageError(f"none of --metrics can be computed: {self._reasons(self.metrics)}")

    def _reasons(self, metrics: Sequence[str]) -> str:
        """Return the reasons why no target has one of the metrics, each reason once."""
        words = [
            f"{metric}: {reasons.get(metric, 'it is not in --metrics')}"
            for metric in metrics
            for reasons in self.why_not.values()
        ]
        return "; ".join(dict.fromkeys(words))

    def missing(self, target: Path) -> list[str]:
        """Return a note for each metric that the user named and a target cannot have."""
        reasons = self.why_not[target]
        return [
            f"{m} was not computed: {reasons[m]}"
            for m in self.metrics
            if self.named and m in reasons
        ]


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics of a list, each once, without spaces around them.

    Raises:
        UsageError: the list is empty, or holds an unknown name.
    """
    plain = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not plain:
        raise UsageError(f"--metrics is empty. Choose from {', '.join(METRICS)}")
    for name in plain:
        if name not in METRICS:
            raise unknown_name("metric", name, list(METRICS), "gentool evaluate --help")
    return plain


def what_is_wanted(
    targets: Mapping[Path, Target], metrics: Sequence[str], split: str, holdout: float, *,
    pictures: bool, files: Sequence[str],
) -> Wanted:  # fmt: skip
    """Find the metrics that the targets can have, as far as is known before any image is read.

    Args:
        targets: Models and images.
        metrics: Names of metrics; empty for all.
        split: The split that the user chose.
        holdout: Fraction of the images that the models were not trained on.
        pictures: As in ``Wanted``.
        files: As in ``Wanted``.

    Raises:
        UsageError: as for ``Wanted.check``.
    """
    named = tuple(metrics) or METRICS
    why_not = {path: _why_not(target, named) for path, target in targets.items()}
    wanted = Wanted(named, bool(metrics), why_not, pictures, tuple(files))
    if not holdout:
        wanted.rule_out("memorisation", KEPT_NONE)
    elif split not in ("auto", HELD_OUT):
        wanted.rule_out("memorisation", f"it needs --split {HELD_OUT}")
    wanted.check()
    return wanted


def _why_not(target: Target, metrics: Sequence[str]) -> dict[str, str]:
    """Return the metrics of models that a target cannot have, each with the reason."""
    if not isinstance(target, LoadedModel):
        return dict.fromkeys(OF_MODELS, "only models have this metric")
    found = {}
    model, shape = target.model, target.model.shape
    blank = np.zeros((1, shape.height, shape.width, shape.channels), dtype=np.uint8)
    if "reconstruction" in metrics:
        try:
            encode_blocks(model, blank)
        except NoEncoder as error:
            found["reconstruction"] = str(error)
    if "likelihood" in metrics:
        draw = Draw(0, "evaluation", np.arange(1), 0, model.device)
        try:
            with torch.inference_mode():
                images = to_unit(torch.from_numpy(blank).to(model.device))
                required_likelihood(model.variational).log_prob_bound(images, draw, 1)
        except NoLikelihood as error:
            found["likelihood"] = str(error)
        except OutsideSupport:  # only the blank image is outside; others are tried later
            pass
    return found


def leave_out_features(wanted: Wanted, count: int, images: int, name: str) -> None:
    """Leave out the metrics of features if there are too few samples or images, and add a note.

    Args:
        wanted: The metrics; changed in place.
        count: Number of samples.
        images: Number of images that the samples are compared with.
        name: Name of these images, for messages.

    Raises:
        UsageError: there are too few samples, and no other metric is left.
        DataError: there are too few images, and no other metric is left.
    """
    few = [m for m in OF_FEATURES if m in wanted.metrics and wanted.any_of([m])]
    if min(count, images) >= FEWEST or not few:
        return
    reason = (
        f"{', '.join(few)}: at least {FEWEST} samples, and as many images to compare with, are "
        f"needed, but {f'-n is {count}' if count < FEWEST else f'{name} has {images}'}"
    )
    left = [m for m in wanted.metrics if m not in few]
    if not wanted.pictures and not wanted.any_of(left):
        kind = UsageError if count < FEWEST else DataError
        raise kind(
            f"{reason}. Give more images, or a model and --metrics reconstruction,likelihood"
        )
    wanted.metrics = tuple(left)
    wanted.notes.append(f"not computed: {reason}")
