"""Training: the one loop over phases, for every model.

One counter, images seen, drives data order, noise and schedules, so a run stopped anywhere
goes on as if it had not been: repeat the command. A run folder holds ``model.safetensors``
(what every verb needs), ``state.safetensors`` (everything needed to go on; the truth),
``log.jsonl`` and ``samples/``.

The learning rate falls along a half cosine per phase (Loshchilov and Hutter 2017), each phase has
its optimiser (``optimisers``), and the verbs use weights averaged with a half-life counted in
images (Karras et al. 2018, arXiv:1710.10196).
"""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from gentool.checkpoint import MODEL_NAME, check_classes
from gentool.core.atomic_files import require_room
from gentool.core.devices import deterministic_algorithms, memory_format
from gentool.core.distributed import Ranks, share_statistics
from gentool.core.errors import DataError, Stopped
from gentool.core.rng import Draw, derive_seed
from gentool.core.signals import StopFlag
from gentool.data import Dataset, Source
from gentool.evaluation.quick_score import Score
from gentool.models import MODELS
from gentool.models.base import Batch, LossTerms, Model, Phase
from gentool.training.accumulation import Parts
from gentool.training.batches import Feeder
from gentool.training.budget import Budget
from gentool.training.divergence import (
    NotFinite,
    check_averaged,
    check_step,
    check_weights,
    explaining,
    go_back,
    gradient_norm,
)
from gentool.training.ema import Averaging, averaged_copy
from gentool.training.log import RunLog
from gentool.training.optimisers import is_left_out, open_optimiser, skipped_share
from gentool.training.run_folder import BEST_NAME, Learner, RunFolder
from gentool.training.run_lock import locked
from gentool.training.score_schedule import Looks
from gentool.training.setup import Setup
from gentool.training.state import Counters

_LOG_SECONDS = 5.0


class Reporter(Protocol):
    """Who is told how training goes."""

    def resumed(self, images: int) -> None:
        """A run goes on from ``images``."""

    def progress(self, images: int, share: float) -> None:
        """After every step: images seen, and the share of the run that is done."""

    def logged(self, record: dict[str, float]) -> None:
        """A line was written to the log."""

    def scored(self, images: int, score: Score) -> None:
        """The averaged weights were scored."""

    def warned(self, message: str) -> None:
        """Something happened that the user should know."""


@dataclass(frozen=True)
class TrainResult:
    """What a finished run leaves.

    Attributes:
        model_path: The model file.
        images: Images seen.
        already_complete: Whether the run was over before this command.
        seed: Of the run.
    """

    model_path: Path
    images: int
    already_complete: bool
    seed: int


def train(dataset: Dataset, setup: Setup, reporter: Reporter, stop: StopFlag) -> TrainResult:
    """Train, or continue, the run in ``setup.out``.

    Raises:
        UsageError: the folder holds a run with other settings, or another process trains there.
        DataError: fewer images than a batch.
        Stopped: asked to stop, and the state is saved; or the disk is full.
        Diverged: numbers are not finite, again and again; the last good files are untouched.
        DeviceError: out of memory, or an operation that ``deterministic`` forbids.
    """
    settings = setup.settings
    count = len(dataset.split(settings.holdout)[0])
    if count < settings.batch:
        raise DataError(
            f"{count} images are fewer than a batch of {settings.batch}. "
            f"Add images, or use --batch {max(count, 1)}"
        )
    with (
        explaining(setup) as needs,
        locked(setup.out) if Ranks().first else contextlib.nullcontext(),
        deterministic_algorithms(settings.deterministic),
    ):
        trainer = Trainer(dataset, setup, reporter)
        needs.bytes = trainer.folder.bytes_needed(trainer.learner())
        if trainer.ranks.first:
            require_room(setup.out, needs.bytes)
        return trainer.run(stop)


class Trainer:
    """One run: live weights, averaged weights, optimisers and the counter."""

    def __init__(self, dataset: Dataset, setup: Setup, reporter: Reporter) -> None:
        settings = setup.settings
        self.ranks = Ranks()
        self.rows_of_step = self.ranks.share(settings.batch)
        self.dataset, self.setup, self.settings, self.reporter = dataset, setup, settings, reporter
        self.rows, held_out = dataset.split(settings.holdout)
        self.looks = Looks(dataset, self.rows, held_out, settings.score_every)
        self.feeder = Feeder(
            dataset, dataset.training_rows(settings.holdout, settings.seed), settings.seed,
            self.rows_of_step[1] - self.rows_of_step[0], setup.device, settings.augment,
            settings.batch,
        )  # fmt: skip
        self.model = self._initial_model()
        self.average = averaged_copy(self.model)
        share_statistics(self.model)
        self.phases = self.model.phases()
        self.optimisers = {p.name: open_optimiser(p, settings.lr) for p in self.phases}
        self.counters = Counters()
        self.folder = RunFolder(setup, dataset, self.rows)
        self._images_at_start = self._images_of_step = 0
        self._ailing = set[str]()  # what was warned of
        self.log = RunLog(self.folder.log_path)
        self._finished_at, self._fit_seconds = -1, 0.0  # images seen at the last ``_finish``
        self.budget = Budget(settings.images, settings.minutes, self.ranks)
        self.averaging = Averaging(self.model, self.average, self.phases)
        self.parts = self._parts()

    def _initial_model(self) -> Model:
        setup, device = self.setup, self.setup.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.settings.seed, "initial weights"))
            model: Model = MODELS.get(setup.model)(
                setup.config, self.dataset.shape, classes_of(setup, self.dataset)
            )
        model = model.to(device).to(memory_format=memory_format(device))
        model.begin(self.feeder.to_begin)
        return model

    def _parts(self) -> Parts:
        batch = self.settings.batch
        return Parts(self.model, batch, self.counters.part, self.reporter.warned, self.ranks)

    # --- the loop ---------------------------------------------------------------------------

    def run(self, stop: StopFlag) -> TrainResult:
        """Train until the budget is spent; see ``train``."""
        stop.poll("stopped before the first step; nothing was lost")
        before = self.folder.read_state(self.learner())
        self.counters = before or self.counters
        spent = self.share() >= 1
        done = before is not None and spent and not self._score_is_due()
        whole = before is None or self.folder.holds_model_of(self.counters.images)
        # All have read; what the first writes now is not what another decides upon.
        done, whole = self.ranks.agree(done), self.ranks.agree(whole)
        if self.ranks.first:
            self.folder.prepare()  # a killed command may have left something in a finished run, too
        if done and whole:
            return self._result(already_complete=True)
        self._images_at_start = self.counters.images
        if self.ranks.first:
            self.looks.recall(self.log.cut(self.counters.images))
        if before is not None:
            self.reporter.resumed(self.counters.images)
            self._say_overridden()
        if self.ranks.first and self.settings.holdout:
            self.folder.kept_out(stop.poll)
        if not whole:  # killed between the state and the model
            self.save()
        self.parts = self._parts()
        while True:
            try:
                self._train_on(stop)
            except NotFinite as fault:
                self._go_back(fault)
            else:
                return self._result(already_complete=False)

    def _result(self, *, already_complete: bool) -> TrainResult:
        """Return what the run leaves."""
        images, seed = self.counters.images, self.settings.seed
        return TrainResult(self.folder.model_path, images, already_complete, seed)

    def _train_on(self, stop: StopFlag) -> None:
        """Steps, log, scores and saves from here to the end of the budget."""
        next_log = time.monotonic() + _LOG_SECONDS
        self.budget.begin()
        self._score_if_due(stop)
        while (share := self.share()) < 1:
            self.take_step(share)
            self.reporter.progress(self.counters.images, min(self.share(), 1.0))
            now = time.monotonic()
            if now >= next_log:
                self.write_log(share)
                next_log = now + _LOG_SECONDS
            self._score_if_due(stop)
            late = self._stop_if_asked(stop, self.budget.save_is_due())
            if self._save_is_due(late):
                self.save()
                self.budget.saved()
        self.write_log(1.0)
        self.save(last=True)
        if (verdict := self.looks.verdict()) is not None and self.setup.keep.best:
            self.reporter.warned(verdict)

    def _save_is_due(self, late: bool) -> bool:
        every = self.settings.save_every
        before = self.counters.images - self._images_of_step
        return self.counters.images // every > before // every if every else late

    def _go_back(self, fault: NotFinite) -> None:
        """Return to the last good state with half the learning rate, or end; see ``go_back``."""
        seen, self._finished_at = self.counters.images, -1

        def initial() -> Learner:
            model = self._initial_model()
            return replace(self.learner(), model=model, average=averaged_copy(model))

        self.counters = go_back(fault, self.folder, self.learner(), self.counters, initial)
        images, lr = self.counters.images, self._lr()
        if self.ranks.first:
            self.looks.recall(self.log.cut(images))
            self.log.note(images, {"setback": str(fault), "lr": lr})
        self.reporter.warned(
            f"{fault} left the finite numbers at {seen:,} images; going on at {images:,} with "
            f"half the learning rate, {lr:g}"
        )

    def _lr(self) -> float:
        """Before its schedule."""
        return self.settings.lr * 0.5**self.counters.setbacks

    def _say_overridden(self) -> None:
        """Log the settings that are not those the run began with."""
        if changed := self.folder.overridden:
            if self.ranks.first:
                self.log.note(self.counters.images, {"override": changed})
            words = "; ".join(f"{k} was {was}, is {now}" for k, (was, now) in changed.items())
            self.reporter.warned(f"going on with other settings: {words}")

    def _stop_if_asked(self, stop: StopFlag, late: bool) -> bool:
        """Save and stop if any process is asked to; returns whether any is ``late`` to save."""
        limit = self.setup.stop_after
        seen = self.counters.images - self._images_at_start
        reached = limit is not None and seen >= limit and self.share() < 1
        asked = stop.asked is not None or reached
        asked, interrupted, late = self.ranks.any(asked, stop.interrupted, late)
        if asked:
            self.save()
            self.ranks.wait()  # torchrun ends all when one has left
            message = f"stopped at {self.counters.images:,} images; saved in {self.setup.out}"
            raise Stopped(message, interrupted=interrupted)
        return late

    def share(self) -> float:
        """How much of the budget is spent, from 0 to 1 and over."""
        return self.budget.share(self.counters.images, self.seconds(), self.looks.owed_seconds)

    def seconds(self) -> float:
        """Wall-clock seconds that the run has taken, over all its commands."""
        return self.counters.seconds + time.monotonic() - self.setup.started

    def take_step(self, share: float) -> None:
        """One step: every phase that is due, then the averages."""
        self.model.train()
        counters = self.counters
        settled = self.averaging.settle(share, counters.settled)
        if settled != counters.settled:
            self.model.refresh()
            counters.settled = settled
        active = self._active(share)
        for phase in active:
            counters.began.setdefault(phase.name, counters.images)
            if counters.step % phase.every:
                continue
            for repeat in range(phase.repeats):
                self._update(phase, self.counters.images + repeat * self.settings.batch, share)
        self._images_of_step = self.settings.batch * max(p.repeats for p in active)
        counters.images += self._images_of_step
        counters.step += 1
        ages = {p.name: counters.images - counters.began[p.name] for p in active}
        check_averaged(self.averaging.live(ages), self.model)
        self.averaging.update(ages, self._images_of_step, self.setup.config.ema_images)

    def _update(self, phase: Phase, start: int, share: float) -> None:
        """One gradient step of one phase on the batch that begins at image ``start``."""
        settings, device, precision = self.settings, self.setup.device, self.setup.precision
        first, last = self.rows_of_step
        indices = np.arange(start + first, start + last, dtype=np.int64)
        self.model.requires_grad_(False)
        phase.module.requires_grad_(True)
        batch, half = self.feeder.batch(start + first), precision != torch.float32
        draw = Draw(settings.seed, phase.name, indices, self.counters.step, device, min(share, 1.0))

        def partial_loss(first: int, last: int) -> LossTerms:
            part = slice(first, last)
            labels = None if batch.labels is None else batch.labels[part]
            with torch.autocast(device.type, precision, enabled=half):
                return phase.loss(
                    Batch(batch.images[part], labels), replace(draw, indices=indices[part])
                )

        optimiser = self.optimisers[phase.name]
        for group in optimiser.param_groups:
            falling = cosine(phase.progress(share), phase.decay)
            group["lr"] = self._lr() * phase.lr_factor * falling
        loss, means = self.parts.backward(
            partial_loss, optimiser.zero_grad, list(phase.module.parameters())
        )
        self.counters.part = self.parts.size if self.parts.size < settings.batch else 0
        check_step(self.model, phase, loss)
        length = gradient_norm(phase.module)
        means |= {f"grad_{phase.name}": length}
        counters = self.counters
        if not is_left_out(phase, length, counters.lengths, counters.skips):
            optimiser.step()
        if phase.skip_over:
            share = skipped_share(counters.skips[phase.name])
            means[f"skipped_{phase.name}"] = torch.tensor(share)
        self.log.add(means)

    # --- files ------------------------------------------------------------------------------

    def write_log(self, share: float) -> None:
        """One line of the log: means since the last one."""
        if self.log.empty or not self.ranks.first:
            return
        record = self.log.write(self.counters.images, self.seconds(), min(share, 1.0))
        self.reporter.logged(record)
        words = self.model.health(record)
        if words is not None and (ill := words.partition(":")[0]) not in self._ailing:
            self._ailing.add(ill)  # once is enough
            self.reporter.warned(words)

    def save(self, *, last: bool = False) -> None:
        """Write state, model and previews, each whole or not at all.

        Args:
            last: Whether the run is over.

        Raises:
            NotFinite: a weight is not finite; nothing is written.
        """
        began = time.monotonic()
        check_weights(self.folder.tensors(self.learner()), "saved tensor")
        fresh, growth = self._finished_at != self.counters.images, self._fit_growth()
        self._finish()
        more = self._fit_seconds * (growth - fresh)  # that the last fit takes beyond what this did
        if not self.ranks.first:
            return
        self.folder.write_previews(self.average, self.counters.images)
        self.budget.measure(time.monotonic() - began, more)
        if last and self.setup.keep.best:
            self.folder.complete_best(self.learner(), self.counters.images)
        # Files last: a kill before leaves the old pair, a kill between leaves a good state.
        seconds = max(self.seconds(), self.budget.seconds if last else 0.0)  # all, when it is over
        self.folder.write_state(self.learner(), replace(self.counters, seconds=seconds))
        self.folder.write_model(self.average, self.counters.images, MODEL_NAME)
        self.budget.measure(time.monotonic() - began, more)

    def _fit_growth(self) -> float:
        """How many times as many images the last fit will look at as one does now."""
        if not self.average.fitted:
            return 1.0
        seen, share = self.counters.images, max(self.share(), 0.01)
        return self.feeder.fit_count(round(seen / min(share, 1.0))) / self.feeder.fit_count(seen)

    def _finish(self) -> None:
        """What is fitted to the averaged weights before they are used.

        Raises:
            NotFinite: a weight or a code of an image is not.
        """
        if self._finished_at == self.counters.images:
            return
        began = time.monotonic()
        with self.ranks.of_first(NotFinite):
            if self.ranks.first:
                try:
                    self.average.finish(self._fit_batches)
                except LinAlgError as error:
                    raise NotFinite("what the averages are fitted to") from error
                check_weights(self.average.state_dict(), "averaged weight")
        self._finished_at, self._fit_seconds = self.counters.images, time.monotonic() - began

    def learner(self) -> Learner:
        """What a state file holds the tensors of."""
        return Learner(
            self.model, self.average, self.phases, self.optimisers, self.averaging.tensors()
        )

    def _moving(self) -> bool:
        """Whether a phase that changes samples is active."""
        return any(p.changes_samples for p in self._active(self.share()))

    def _active(self, share: float) -> list[Phase]:
        return [p for p in self.phases if p.span[0] <= share < p.span[1]]

    def _score_is_due(self) -> bool:
        counters = self.counters
        since = None if self._moving() else self._at_rest_since()
        return self.looks.due(counters.images, counters.scored, at_rest_since=since)

    def _at_rest_since(self) -> int:
        """Images seen when the samples last changed, once they no longer do."""
        began, now = self.counters.began, self.counters.images
        resting = (p.name for p in self.phases if not p.changes_samples)
        return min((began.get(name, now) for name in resting), default=now)

    def _score_if_due(self, stop: StopFlag) -> None:
        """Score the averages and keep the best so far; a score cut short by a stop stays due."""
        moving = self._moving()
        if not self.ranks.agree(self._score_is_due()):
            return
        began = time.monotonic()
        self._finish()
        if not self.ranks.first:
            return
        try:
            score = self.looks.score(
                self.average, self.model.augmented, self.counters.images, began, stop.poll
            )
        except Stopped:
            return
        images = self.counters.images
        self.counters.scored = images
        if not moving:
            self.looks.rest()
        self.log.note(images, score.record)
        self.reporter.scored(images, score)
        if score.distance < self.counters.best_score:
            self.counters.best_score = score.distance
            if self.setup.keep.best:
                self.folder.write_model(self.average, images, BEST_NAME, score=score.record)

    def _fit_batches(self) -> Iterator[Batch]:
        """A sample of the training images, the same at the same count of images seen."""
        return self.feeder.to_fit(self.counters.images)


def classes_of(setup: Setup, data: Dataset | Source) -> int:
    """How many classes of the data the model is conditional on.

    Raises:
        UsageError: a model file cannot hold the classes' names.
    """
    check_classes(data.classes)
    wanted = data.labels is not None and not setup.settings.unconditional
    count = len(data.classes) if wanted else 0
    return count if MODELS.get(setup.model).conditional(setup.config, count) else 0


def cosine(share: float, floor: float) -> float:
    """A half cosine from 1 at share 0 to ``floor`` at share 1."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0)))
