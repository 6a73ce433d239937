"""Which metrics are asked for, which of them each target can have, and why not the others."""

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

OF_FEATURES = ("frechet", "kernel", "overlap", "memorisation")  # of samples
OF_SAMPLES = (*OF_FEATURES, "modes")
OF_MODELS = ("reconstruction", "likelihood")
METRICS = (*OF_SAMPLES, *OF_MODELS)
FEWEST = 20  # samples, and images beside them, of which a distance says anything
_FILES = {"reconstruction": "--per-image", "likelihood": "--per-unit"}


@dataclass
class Wanted:
    """The metrics of one command.

    Attributes:
        metrics: All that are asked for.
        named: Whether they were asked for by name, so that none may vanish without a word.
        why_not: Target -> metric -> why it has no such figure.
        pictures: Whether samples are wanted beside their nearest images.
        files: Metrics whose single figures are to be written to a file.
        notes: What to know of every target.
    """

    metrics: tuple[str, ...]
    named: bool
    why_not: dict[Path, dict[str, str]]
    pictures: bool = False
    files: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def of(self, target: Path) -> tuple[str, ...]:
        """The metrics that a target can have."""
        return tuple(m for m in self.metrics if m not in self.why_not[target])

    def any_of(self, metrics: Sequence[str]) -> bool:
        """Whether some target can have one of these."""
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
        """No target can have this metric."""
        for reasons in self.why_not.values():
            reasons.setdefault(metric, reason)

    def check(self) -> None:
        """See that something is left of what was asked for by name, or for a file.

        Raises:
            UsageError: nothing is; with the reasons.
        """
        for metric in self.files:
            if not self.any_of([metric]):
                raise UsageError(f"{_FILES[metric]}: {self._reasons([metric])}")
        if self.named and not self.pictures and not self.any_of(METRICS):
            raise UsageError(f"nothing of --metrics is left: {self._reasons(self.metrics)}")

    def _reasons(self, metrics: Sequence[str]) -> str:
        """Why no target has one of the metrics, each reason once."""
        words = [
            f"{metric}: {reasons.get(metric, 'not among --metrics')}"
            for metric in metrics
            for reasons in self.why_not.values()
        ]
        return "; ".join(dict.fromkeys(words))

    def missing(self, target: Path) -> list[str]:
        """Notes on what was asked for by name and a target cannot have."""
        reasons = self.why_not[target]
        return [f"no {m}: {reasons[m]}" for m in self.metrics if self.named and m in reasons]


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """The metrics of a list, each once, without spaces around them.

    Raises:
        UsageError: there is none, or one that stands in no table.
    """
    plain = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not plain:
        raise UsageError(f"--metrics names none. Choose of {', '.join(METRICS)}")
    for name in plain:
        if name not in METRICS:
            raise unknown_name("metric", name, list(METRICS), "gentool evaluate --help")
    return plain


def what_is_wanted(
    targets: Mapping[Path, Target], metrics: Sequence[str], split: str, holdout: float, *,
    pictures: bool, files: Sequence[str],
) -> Wanted:  # fmt: skip
    """The metrics that the targets can have, as far as is known before any image is read.

    Args:
        targets: Models and images.
        metrics: By name, or empty for all.
        split: As it was asked for.
        holdout: Share of the images that the models did not see.
        pictures: As in ``Wanted``.
        files: As in ``Wanted``.

    Raises:
        UsageError: nothing is left of what was named.
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
    """Which metrics of models a target cannot have, and why."""
    if not isinstance(target, LoadedModel):
        return dict.fromkeys(OF_MODELS, "only a model has one")
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
                model.log_prob_bound(to_unit(torch.from_numpy(blank).to(model.device)), draw, 1)
        except NoLikelihood as error:
            found["likelihood"] = str(error)
        except OutsideSupport:  # of a blank image; what the others have is seen later
            pass
    return found


def leave_out_features(wanted: Wanted, count: int, images: int, name: str) -> None:
    """Rule out what so few samples or images say nothing of, and note that.

    Args:
        wanted: To be changed.
        count: Samples that are asked for.
        images: That they are compared with.
        name: What to call these images.

    Raises:
        UsageError: fewer samples are asked for than any of the metrics needs.
        DataError: there are fewer images.
    """
    few = [m for m in OF_FEATURES if m in wanted.metrics and wanted.any_of([m])]
    if min(count, images) >= FEWEST or not few:
        return
    reason = (
        f"{', '.join(few)}: {FEWEST} samples or more, and as many images to compare with, are "
        f"needed; {f'-n is {count}' if count < FEWEST else f'{name} has {images}'}"
    )
    left = [m for m in wanted.metrics if m not in few]
    if not wanted.pictures and not wanted.any_of(left):
        kind = UsageError if count < FEWEST else DataError
        raise kind(f"{reason}. Give more, or a model and --metrics reconstruction,likelihood")
    wanted.metrics = tuple(left)
    wanted.notes.append(f"left out {reason}")
