"""Another length of averaging, when the run is over.

The state of a run holds averages of a few lengths; any length between them is a combination
(``powers``). What is fitted to codes of images, as most priors of autoencoders are, is
then fitted anew, as when training ends.

What a later part of the run learned to draw for stays as that part knew it: a transformer over
codes has learned the codes of one encoder and codebook, and those of another average of the
encoder are others.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gentool.checkpoint import (
    MODEL_NAME,
    STATE_NAME,
    Header,
    LoadedModel,
    build,
    load_model,
    read_file,
)
from gentool.core.errors import DataError, ModelFileError, UsageError
from gentool.data import Dataset
from gentool.evaluation.quick_score import Score, Scorer
from gentool.inference.held_out import Rows, Sides, tell_sides
from gentool.models.base import Batch, Model
from gentool.training.batches import Feeder
from gentool.training.power_ema import KEPT, combination
from gentool.training.state import POWERS

LENGTHS = (0.02, 0.03, 0.04, 0.06, 0.08, 0.11, 0.15, 0.2)  # tried when none is asked for


class Reaverager:
    """The averages of one run.

    Attributes:
        untouched: Parts that stay as they are, since a later phase learned to draw for them.

    Args:
        run: The run folder.

    Raises:
        UsageError: no run folder with a state, or what can be averaged has not begun to learn.
        ModelFileError: one of its files is damaged.
    """

    def __init__(self, run: Path) -> None:
        path = run / STATE_NAME
        if not path.is_file():
            raise UsageError(f"{run} is no run folder: gentool average needs its {STATE_NAME}")
        self.loaded = load_model(run / MODEL_NAME)
        header, tensors = read_file(path)
        model = build(self.loaded.header, path)
        self._names, stood_upon = _names_to_average(model, _begun(header))
        stay = {name.partition(".")[0] for name in stood_upon}
        self.untouched = [part for part in model.exported_parts() if part in stay]
        if not self._names:
            raise UsageError(
                f"{run}: only what learns in the last part of the run can be averaged anew, and "
                "that has not begun. Repeat the command that trains it"
            )
        self._kept: dict[str, torch.Tensor] = {}
        for name, weight in self._weights():
            group = [tensors.get(f"{POWERS}{length}/{name}") for length in KEPT]
            like = (weight.shape, weight.dtype)
            whole = [t for t in group if t is not None and (t.shape, t.dtype) == like]
            if len(whole) != len(KEPT):
                raise ModelFileError(f"{path} does not hold the averages of {name}")
            self._kept[name] = torch.stack(whole)
        self._dataset: Dataset | None = None
        self._sides: Sides | None = None

    def _weights(self) -> list[tuple[str, nn.Parameter]]:
        parts = self.loaded.model.exported_parts().items()
        named = ((f"{p}.{n}", w) for p, part in parts for n, w in part.named_parameters())
        return [(name, weight) for name, weight in named if name in self._names]

    def fit_to(self, dataset: Dataset, poll: Callable[[], None]) -> None:
        """At every length from now on, fit what is fitted to images (``Model.finish``) to these.

        Args:
            dataset: Images, prepared as for the training.
            poll: Called now and then; may raise to stop.

        Raises:
            DataError: their classes are not those of a conditional model; or images were kept out
                of training, and it cannot be known which of these they are.
            ModelFileError: the header of the model is damaged.
        """
        known, model = tuple(self.loaded.header["classes"]), self.loaded.model
        if model.fitted and model.classes and dataset.classes != known:
            raise DataError(
                f"{dataset.name} has {len(dataset.classes)} classes that are not the "
                f"{len(known)} of {self.loaded.path}. Give the images it was trained on"
            )
        self._dataset, self._sides = dataset, tell_sides(self.loaded, dataset, poll)
        if model.fitted and self.loaded.holdout and self._sides.why is not None:
            raise DataError(
                "the prior of this model is fitted to codes of images, and which of these images "
                f"were kept out of training cannot be known ({self._sides.why}). Give --data the "
                "images of its training"
            )

    def sides(self) -> tuple[Rows, Rows, str | None]:
        """The images to choose a length by: trained on, kept out, and what to know of that."""
        dataset, sides = self._dataset, self._sides
        assert dataset is not None
        assert sides is not None
        if sides.why is None:
            return sides.trained, sides.held_out, None
        everything = np.arange(len(dataset))
        why = (
            "which of these images were kept out of training cannot be known "
            f"({sides.why}): the length is chosen by all of them"
        )
        return everything, everything[:0], why if self.loaded.holdout else None

    def _images(self) -> Iterator[Batch]:
        """The images that training would fit to; nothing happens until the first is asked for.

        Raises:
            UsageError: there are none, though a fit asks for them.
        """
        if self._dataset is None or self._sides is None:
            raise UsageError(
                "the prior of this model is fitted to codes of images, which other weights change. "
                "Give --data with the images it was trained on, beside --length"
            )
        seed, seen = (self._recorded(name) for name in ("seed", "images"))
        known = self._sides.why is None
        rows = self._sides.trained if known else np.arange(len(self._dataset))
        rows = self._dataset.repeated(rows, seed)
        feeder = Feeder(self._dataset, rows, seed, 1, self.loaded.model.device)
        yield from feeder.to_fit(seen)

    def _recorded(self, name: str) -> int:
        """A count of the training, as the file has it."""
        value = self.loaded.header["training"].get(name)
        return value if type(value) is int and value >= 0 else 0

    @torch.no_grad()
    def at(self, length: float) -> LoadedModel:
        """The model with weights averaged over ``length``, a share of the run (0.02 to 0.2).

        Raises:
            UsageError: a part is fitted to images, and ``fit_to`` was given none.
        """
        shares = torch.from_numpy(combination(length) / combination(length).sum()).float()
        for name, weight in self._weights():
            weight.copy_(torch.tensordot(shares, self._kept[name], dims=1))
        model = self.loaded.model
        model.refresh()
        if model.fitted:
            model.finish(self._images)
        training = {**self.loaded.header["training"], "average_length": length}
        return replace(self.loaded, header={**self.loaded.header, "training": training})

    def best(self, scorer: Scorer, told: Callable[[float, Score], None]) -> float:
        """The length whose samples come nearest to the images; ``told`` hears of each."""
        distances = {}
        for length in LENGTHS:
            score = scorer.score(self.at(length).model)
            told(length, score)
            distances[length] = score.distance
        return min(distances, key=lambda length: distances[length])


def _begun(header: Header) -> Collection[str]:
    """Names of the phases that have had a turn, by the header of a state."""
    began = header.get("began")
    return began.keys() if isinstance(began, dict) else ()


def _names_to_average(model: Model, begun: Collection[str]) -> tuple[set[str], set[str]]:
    """Names of the weights that have learned: of the last, and of those it learned to draw for."""
    parts, phases = model.exported_parts().items(), model.phases()
    names = {w: f"{part}.{n}" for part, module in parts for n, w in module.named_parameters()}
    last: set[str] = set()
    stood_upon: set[str] = set()
    for phase in phases:
        if phase.name in begun:
            later = any(p.changes_samples and p.span[0] >= phase.span[1] for p in phases)
            found = {names[w] for w in phase.module.parameters() if w in names}
            (stood_upon if later else last).update(found)
    return last, stood_upon
