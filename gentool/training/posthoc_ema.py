"""Average the weights of a run again after training, over more or fewer of its last steps.

The state of a run contains averages of a few lengths, and an average of any length between them is
a combination of these (``power_ema``). Parts that are fitted to latents of images, such as most
priors of autoencoders, are then fitted again, as at the end of training.

Parts that a later phase depends on keep their weights. For example, a transformer over codes was
trained on the codes of one encoder and codebook; another average of the encoder would give other
codes.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

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
from gentool.data import Dataset, Split
from gentool.evaluation.quick_score import Score, Scorer
from gentool.inference.held_out import Sides, tell_sides
from gentool.models.base import Batch, Model, has_fitted_parts
from gentool.training.batches import Feeder
from gentool.training.power_ema import KEPT, combination
from gentool.training.state import POWERS

LENGTHS = (0.02, 0.03, 0.04, 0.06, 0.08, 0.11, 0.15, 0.2)  # tried if no length is given


class Reaverager:
    """Makes models of one run with weights averaged over other lengths.

    Args:
        run: The run folder.

    Attributes:
        loaded: The model of the run; its weights are replaced by each new average.
        untouched: Names of the parts that keep their weights, because a later phase depends on
            them.

    Raises:
        UsageError: it is not a run folder with a state, or the training of the weights that can
            be averaged has not begun.
        ModelFileError: a file of the run is damaged.
    """

    def __init__(self, run: Path) -> None:
        path = run / STATE_NAME
        if not path.is_file():
            raise UsageError(f"{run} is not a run folder: gentool average needs its {STATE_NAME}")
        self.loaded = load_model(run / MODEL_NAME)
        header, tensors = read_file(path)
        model = build(self.loaded.header, path)
        self._names, stood_upon = _names_to_average(model, _begun(header))
        stay = {name.partition(".")[0] for name in stood_upon}
        self.untouched = [part for part in model.exported_parts() if part in stay]
        if not self._names:
            raise UsageError(
                f"{run}: only the networks of the last part of the run can be averaged again, and "
                "that part has not begun. Repeat the command that trains it"
            )
        self._kept: dict[str, torch.Tensor] = {}
        for name, weight in self._weights():
            group = [tensors.get(f"{POWERS}{length}/{name}") for length in KEPT]
            like = (weight.shape, weight.dtype)
            whole = [t for t in group if t is not None and (t.shape, t.dtype) == like]
            if len(whole) != len(KEPT):
                raise ModelFileError(f"{path} does not contain the averages of {name}")
            self._kept[name] = torch.stack(whole)
        self._dataset: Dataset | None = None
        self._sides: Sides | None = None

    def _weights(self) -> list[tuple[str, nn.Parameter]]:
        parts = self.loaded.model.exported_parts().items()
        named = ((f"{p}.{n}", w) for p, part in parts for n, w in part.named_parameters())
        return [(name, weight) for name, weight in named if name in self._names]

    def fit_to(self, dataset: Dataset, poll: Callable[[], None]) -> None:
        """Set the images for all later fits (``Model.finish``) and for choosing a length.

        Args:
            dataset: Images, prepared as for the training.
            poll: Called repeatedly; may raise to stop.

        Raises:
            DataError: the model has fitted parts, and either the classes of the images differ
                from the model's, or it is not known which of the images were held out.
            ModelFileError: the header of the model file is damaged.
        """
        known, model = tuple(self.loaded.header["classes"]), self.loaded.model
        if dataset.with_empty is not None and dataset.with_empty.classes == known:
            dataset = dataset.with_empty
        if has_fitted_parts(model) and model.classes and dataset.classes != known:
            raise DataError(
                f"the {len(dataset.classes)} classes of {dataset.name} differ from the "
                f"{len(known)} of {self.loaded.path}. Give the images it was trained on"
            )
        self._dataset, self._sides = dataset, tell_sides(self.loaded, dataset, poll)
        if has_fitted_parts(model) and self.loaded.holdout and self._sides.why is not None:
            raise DataError(
                "the prior of this model is fitted to codes of images, but it is not known which "
                f"of these images were kept out of training ({self._sides.why}). Give the training "
                "images to --data"
            )

    def sides(self) -> tuple[Split, str | None]:
        """Return training images and held-out images, to choose a length by, and a note.

        If it is not known which images were held out, all images count as training images, and
        the note says so; otherwise it is None. ``fit_to`` must have been called.
        """
        dataset, sides = self._dataset, self._sides
        assert dataset is not None
        assert sides is not None
        if sides.why is None:
            return Split(sides.trained, sides.held_out), None
        split = dataset.split(0)
        why = (
            "it is not known which of these images were kept out of training "
            f"({sides.why}), so the length is chosen with all of them"
        )
        return split, why if self.loaded.holdout else None

    def _images(self) -> Iterator[Batch]:
        """Yield the images that training would fit to.

        Raises:
            UsageError: ``fit_to`` was not called; raised at the first iteration.
        """
        if self._dataset is None or self._sides is None:
            raise UsageError(
                "the prior of this model is fitted to codes of images, which depend on the "
                "weights. Give the training images to --data, together with --length"
            )
        seed, seen = (self._recorded(name) for name in ("seed", "images"))
        known = self._sides.why is None
        images = self._sides.trained if known else self._dataset.whole
        feeder = Feeder(images.repeated(seed), seed, 1, self.loaded.model.device)
        yield from feeder.to_fit(seen)

    def _recorded(self, name: str) -> int:
        """Return a number of the training record in the model file; 0 if missing or damaged."""
        value = self.loaded.header["training"].get(name)
        return value if type(value) is int and value >= 0 else 0

    @torch.no_grad()
    def at(self, length: float) -> LoadedModel:
        """Return the model with its weights averaged over ``length``.

        Args:
            length: Standard deviation of the average's profile as a fraction of the training,
                0.02 to 0.2; see ``power_ema``.

        Raises:
            UsageError: a part is fitted to images, and ``fit_to`` was not called.
        """
        shares = torch.from_numpy(combination(length) / combination(length).sum()).float()
        for name, weight in self._weights():
            weight.copy_(torch.tensordot(shares, self._kept[name], dims=1))
        model = self.loaded.model
        model.refresh()
        if has_fitted_parts(model):
            model.finish(self._images)
        training = {**self.loaded.header["training"], "average_length": length}
        return replace(self.loaded, header={**self.loaded.header, "training": training})

    def best(self, scorer: Scorer, told: Callable[[float, Score], None]) -> float:
        """Return the length of ``LENGTHS`` whose samples have the smallest distance to the images.

        Args:
            scorer: Computes the distance.
            told: Called with each length and its score.
        """
        distances = {}
        for length in LENGTHS:
            score = scorer.score(self.at(length).model)
            told(length, score)
            distances[length] = score.distance
        return min(distances, key=lambda length: distances[length])


def _begun(header: Header) -> Collection[str]:
    """Return the names of the phases that have been trained, from the header of a state."""
    began = header.get("began")
    return began.keys() if isinstance(began, dict) else ()


def _names_to_average(model: Model, begun: Collection[str]) -> tuple[set[str], set[str]]:
    """Return the names of the weights to average and of those that later phases depend on.

    Weights of phases that have not begun are in neither set.
    """
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
