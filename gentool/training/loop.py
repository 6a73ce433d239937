"""The training loop over phases, which all models share.

One counter, the images seen, determines the order of the data, the noise and all schedules.
Therefore a run that was stopped anywhere continues as if it had not been stopped, when the same
command is repeated. A run folder holds ``model.safetensors`` (what all other commands need),
``state.safetensors`` (all that is needed to continue), ``log.jsonl`` and ``samples/``.

Each phase has its own optimiser (``optimisers``) and learning rate (``update``). All other commands
use moving averages of the weights (``ema``).
"""

import contextlib
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from gentool.checkpoint import MODEL_NAME, check_classes
from gentool.core.atomic_files import STATE_NAME, require_room
from gentool.core.devices import deterministic_algorithms, memory_format
from gentool.core.distributed import Ranks, share_statistics
from gentool.core.errors import DataError, Stopped
from gentool.core.rng import derive_seed
from gentool.core.signals import StopFlag
from gentool.data import Dataset, Source, Split
from gentool.models import MODELS
from gentool.models.base import Model
from gentool.training.accumulation import Parts
from gentool.training.average_fit import AverageFit
from gentool.training.batches import Feeder
from gentool.training.budget import Budget
from gentool.training.divergence import (
    NotFinite,
    Setbacks,
    check_averaged,
    check_weights,
)
from gentool.training.ema import Averaging, averaged_copy
from gentool.training.failures import explaining
from gentool.training.identity import IMAGES
from gentool.training.log import RunLog
from gentool.training.phase_spans import PhaseSpans
from gentool.training.reporter import Reporter
from gentool.training.run_folder import Learner, RunFolder
from gentool.training.run_lock import locked
from gentool.training.score_schedule import ScoreSchedule
from gentool.training.scoring import Scoring
from gentool.training.setup import Setup
from gentool.training.state import Counters, HasState
from gentool.training.update import Updates

_LOG_SECONDS = 5.0


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


def train(images: Split, setup: Setup, reporter: Reporter, stop: StopFlag) -> TrainResult:
    """Train, or continue, the run in ``setup.out``.

    Args:
        images: The training images and the held-out images.
        setup: What decides the run.
        reporter: Is informed of how the training goes.
        stop: Ends the run when it is set; the state is saved first.

    Raises:
        UsageError: the folder holds a run with other settings, or another process trains there.
        DataError: fewer images than a batch.
        Stopped: asked to stop, and the state is saved; or the disk is full.
        Diverged: numbers are not finite, again and again; the last good files are untouched.
        DeviceError: out of memory, or an operation that ``deterministic`` forbids.
    """
    if not (setup.out / STATE_NAME).exists():  # else the run first says how its images differ
        _check_batch(images, setup)
    with (
        explaining(setup) as needs,
        locked(setup.out) if Ranks().first else contextlib.nullcontext(),
        deterministic_algorithms(setup.settings.deterministic),
    ):
        trainer = Trainer(images, setup, reporter)
        needs.bytes = trainer.folder.bytes_needed(trainer.learner())
        if trainer.ranks.first:
            require_room(setup.out, needs.bytes)
        return trainer.run(stop)


def _check_batch(images: Split, setup: Setup, *, begun: bool = False) -> None:
    """Check that there are at least as many images as a batch has.

    Raises:
        DataError: there are fewer.
    """
    count, batch = len(images.train), setup.settings.batch
    if count < batch:
        raise DataError(
            f"{count} images are fewer than a batch of {batch}. Add images, or use --batch "
            f"{max(count, 1)}{' --override' if begun else ''}"
        )


class Trainer:
    """One run: live weights, averaged weights, and all that the state file keeps.

    Args:
        images: The training images and the held-out images.
        setup: What decides the run.
        reporter: Is informed of how the training goes.
    """

    def __init__(self, images: Split, setup: Setup, reporter: Reporter) -> None:
        settings, ranks = setup.settings, Ranks()
        self.setup, self.settings, self.reporter, self.ranks = setup, settings, reporter, ranks
        self.images = images
        self.dataset = images.train.dataset
        first, last = ranks.share(settings.batch)
        self.feeder = Feeder(
            images.train.repeated(settings.seed), settings.seed, last - first, setup.device,
            settings.augment, settings.batch,
        )  # fmt: skip
        self.model = new_model(setup, self.dataset, self.feeder)
        self.average = averaged_copy(self.model)
        share_statistics(self.model)
        phases = self.model.phases()
        self.averaging = Averaging(self.model, self.average, phases)
        self.fit = AverageFit(self.average, self.feeder, ranks)
        self.parts = Parts(self.model, settings.batch, reporter.warned, ranks)
        self.updates = Updates(setup, self.model, phases, self.feeder, self.parts, ranks)
        self.phases, self.schedule, self.setbacks = phases, PhaseSpans(phases), Setbacks()
        self.scores = ScoreSchedule(images, settings.score_every)
        self.counters = Counters()
        self.kept: tuple[HasState, ...] = (
            self.counters, self.scores, self.setbacks, self.parts, self.schedule, self.averaging,
            self.updates.filter,
        )  # fmt: skip
        self.budget = Budget(settings.images, settings.minutes, ranks)
        self.folder = RunFolder(setup, images)
        self.log = RunLog(self.folder.log_path)
        self.scoring = Scoring(
            self.scores, self.schedule, self.model, self.average, self.fit, self.folder, self.log,
            reporter, ranks,
        )  # fmt: skip
        self._images_at_start = self._images_of_step = 0
        self._reported = set[str]()  # what was already warned of

    # --- the loop ---------------------------------------------------------------------------

    def run(self, stop: StopFlag) -> TrainResult:
        """Train until the budget is spent; see ``train``."""
        stop.poll("stopped before the first step; no work is lost")
        if self._resume(stop):
            return self._result(already_complete=True)
        while True:
            try:
                self._train_on(stop)
            except NotFinite as fault:
                self._go_back(fault)
            else:
                return self._result(already_complete=False)

    def _resume(self, stop: StopFlag) -> bool:
        """Continue from the state in the folder, if there is one; return whether all is done."""
        resumed = self.folder.read_state(self.learner(), self.kept)
        _check_batch(self.images, self.setup, begun=resumed)
        images = self.counters.images
        done = resumed and self.share() >= 1 and not self.scoring.is_due(images, self.share())
        whole = not resumed or self.folder.holds_model_of(images)
        # All processes have read: what the first one writes now changes no decision of another.
        done, whole = self.ranks.agree(done), self.ranks.agree(whole)
        if self.ranks.first:
            self.folder.prepare()  # a killed command may have left files in a finished run, too
        if done and whole:
            return True
        self._images_at_start = images
        if self.ranks.first:
            self.folder.tell_data()
            self.scores.recall(self.log.cut(images))
        if resumed:
            self.reporter.resumed(images)
            self._report_overridden()
        if self.ranks.first and self.settings.holdout:
            self.folder.kept_out(stop.poll)
        if not whole:  # the last command was killed between the state and the model
            self.save()
        return False

    def _train_on(self, stop: StopFlag) -> None:
        """Take steps, log, score and save until the budget is spent."""
        next_log = time.monotonic() + _LOG_SECONDS
        self.budget.begin()
        self.scoring.score_if_due(self.counters.images, self.share(), stop.poll)
        while (share := self.share()) < 1:
            self.take_step(share)
            self.reporter.progress(self.counters.images, min(self.share(), 1.0))
            now = time.monotonic()
            if now >= next_log and self.share() < 1:  # the last line is written with the last save
                self.write_log(share)
                next_log = now + _LOG_SECONDS
            self.scoring.score_if_due(self.counters.images, self.share(), stop.poll)
            late = self._stop_if_asked(stop, self.budget.save_is_due())
            if self._save_is_due(late):
                self.save()
                self.budget.saved()
        self.save(last=True)
        if (verdict := self.scores.verdict()) is not None and self.setup.keep.best:
            self.reporter.warned(verdict)

    def take_step(self, share: float) -> None:
        """Take one step: update every phase that is due, and then the averages.

        Args:
            share: Fraction of the budget that is spent.

        Raises:
            NotFinite: a loss, gradient or weight is not finite.
        """
        counters, batch = self.counters, self.settings.batch
        self.model.train()
        if self.averaging.settle(share):
            self.model.refresh()
        active = self.schedule.active(share)
        self.schedule.begin(active, counters.images)
        for phase in active:
            for repeat in range(phase.repeats if counters.step % phase.every == 0 else 0):
                start = counters.images + repeat * batch
                means = self.updates.take(phase, start, counters.step, share, self.lr)
                self.log.add(means)
        self._images_of_step = batch * max(p.repeats for p in active)
        counters.images += self._images_of_step
        counters.step += 1
        ages = self.schedule.ages(active, counters.images)
        check_averaged(self.averaging.live(ages), self.model)
        self.averaging.update(ages, self._images_of_step, self.setup.config.ema_images)

    def share(self) -> float:
        """Return the fraction of the budget that is spent; 1 or more when all is."""
        return self.budget.share(self.counters.images, self.seconds(), self.scores.owed_seconds)

    def seconds(self) -> float:
        """Return the wall-clock seconds that the run has taken, over all its commands."""
        return self.counters.seconds + time.monotonic() - self.setup.started

    @property
    def lr(self) -> float:
        """Base learning rate, halved after each setback."""
        return self.settings.lr * self.setbacks.lr_factor

    def learner(self) -> Learner:
        """Return what the state file holds the tensors of."""
        powers = self.averaging.tensors()
        return Learner(self.model, self.average, self.phases, self.updates.optimisers, powers)

    def _result(self, *, already_complete: bool) -> TrainResult:
        """Return what the run leaves."""
        images, seed = self.counters.images, self.settings.seed
        return TrainResult(self.folder.model_path, images, already_complete, seed)

    # --- what interrupts the loop -----------------------------------------------------------

    def _go_back(self, fault: NotFinite) -> None:
        """Return to the last good state with half the learning rate, or end the run."""
        seen = self.counters.images
        self.fit.forget()

        def initial() -> Learner:
            model = new_model(self.setup, self.dataset, self.feeder)
            return replace(self.learner(), model=model, average=averaged_copy(model))

        self.setbacks.go_back(
            fault, self.folder, self.learner(), self.kept, self.counters, self.parts, initial
        )
        images = self.counters.images
        if self.ranks.first:
            self.scores.recall(self.log.cut(images))
            self.log.note(images, {"setback": str(fault), "lr": self.lr})
        self.reporter.warned(
            f"{fault} is not finite at {seen:,} images; continuing at {images:,} images with "
            f"half the learning rate, {self.lr:g}"
        )

    def _report_overridden(self) -> None:
        """Report and log the settings that differ from those that the run began with."""
        if changed := self.folder.overridden:
            if self.ranks.first:
                self.log.note(self.counters.images, {"override": changed})
            what = "images" if changed.keys() == {IMAGES} else "settings"
            self.reporter.warned(f"continuing with other {what}: {self.folder.told}")

    def _stop_if_asked(self, stop: StopFlag, late: bool) -> bool:
        """Save and stop if a process is asked to; return whether one of them is late to save."""
        limit = self.setup.stop_after
        seen = self.counters.images - self._images_at_start
        reached = limit is not None and seen >= limit and self.share() < 1
        asked = stop.asked is not None or reached
        asked, interrupted, late = self.ranks.any(asked, stop.interrupted, late)
        if asked:
            self.save()
            self.ranks.wait()  # torchrun ends all processes when one has left
            message = (
                f"stopped at {self.counters.images:,} images; the run is saved in {self.setup.out}"
            )
            raise Stopped(message, interrupted=interrupted)
        return late

    # --- log and files ----------------------------------------------------------------------

    def write_log(self, share: float) -> None:
        """Write one line of the log: means since the last line."""
        if self.log.empty or not self.ranks.first:
            return
        record = self.log.write(self.counters.images, self.seconds(), min(share, 1.0))
        self.reporter.logged(record)
        words = self.model.advice.health(record)
        if words is not None and (fault := words.partition(":")[0]) not in self._reported:
            self._reported.add(fault)  # each fault is reported once
            self.reporter.warned(words)

    def _save_is_due(self, late: bool) -> bool:
        """Return whether to save now, by the number of images or by the clock."""
        every = self.settings.save_every
        before = self.counters.images - self._images_of_step
        return self.counters.images // every > before // every if every else late

    def save(self, *, last: bool = False) -> None:
        """Write state, model and previews, each whole or not at all.

        Args:
            last: Whether the run is over.

        Raises:
            NotFinite: a weight is not finite; nothing is written.
        """
        began, images = time.monotonic(), self.counters.images
        check_weights(self.folder.tensors(self.learner()), "saved tensor")
        more_seconds = self.fit.fit_for_save(images, self.share())
        if not self.ranks.first:
            return
        self.scoring.write_previews(images)
        if last:
            self.write_log(1.0)
        self.budget.measure(time.monotonic() - began, more_seconds)
        if last and self.setup.keep.best:
            self.folder.complete_best(self.learner(), images)
        # The state before the model: a kill before both leaves the old pair, a kill between them
        # leaves a good state. A finished run has used its whole budget of seconds.
        seconds = max(self.seconds(), self.budget.seconds if last else 0.0)
        self.folder.write_state(self.learner(), self.kept, seconds)
        self.folder.write_model(self.average, images, MODEL_NAME)
        self.reporter.saved(images)
        self.budget.measure(time.monotonic() - began, more_seconds)


def new_model(setup: Setup, dataset: Dataset, feeder: Feeder) -> Model:
    """Return a model with the initial weights of a run, on its device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(setup.settings.seed, "initial weights"))
        model: Model = MODELS.get(setup.model)(
            setup.config, dataset.shape, classes_of(setup, dataset)
        )
    model = model.to(setup.device).to(memory_format=memory_format(setup.device))
    model.begin(feeder.to_begin)
    return model


def classes_of(setup: Setup, data: Dataset | Source) -> int:
    """How many classes of the data the model is conditional on.

    Raises:
        UsageError: a model file cannot hold the classes' names.
    """
    check_classes(data.classes)
    wanted = data.labels is not None and not setup.settings.unconditional
    count = len(data.classes) if wanted else 0
    return 0 if setup.config.why_unconditional(count) else count
