"""Training: the one loop over phases, for every model.

One counter, images seen, drives data order, noise and schedules, so a run stopped anywhere
goes on as if it had not been: repeat the command. A run folder holds ``model.safetensors``
(what every verb needs), ``state.safetensors`` (everything needed to go on; the truth),
``log.jsonl`` and ``samples/``.

The learning rate falls along a half cosine per phase (Loshchilov and Hutter 2017), the
optimiser is Adam (Kingma and Ba 2015), and the verbs use weights averaged with a half-life
counted in images (Karras et al. 2018, arXiv:1710.10196).
"""

import errno
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from gentool.averaging import Averaging, averaged_copy
from gentool.checkpoint import MODEL_NAME
from gentool.data import Dataset, Source
from gentool.devices import memory_format
from gentool.distributed import Ranks, joined, share_statistics
from gentool.errors import DataError, DeviceError, Diverged, Stopped, UsageError
from gentool.feeding import Feeder
from gentool.models import MODELS
from gentool.models.base import Batch, Model, Phase
from gentool.rng import Draw, derive_seed
from gentool.runfolder import (
    BEST_NAME,
    PREVIEWS_NAME,
    Counters,
    Learner,
    RunFolder,
    TrainSettings,
)
from gentool.runlog import RunLog
from gentool.scoring import Score, Scorer
from gentool.signals import StopFlag

__all__ = ["Reporter", "TrainResult", "TrainSettings", "Trainer", "classes_of", "cosine", "train"]

_LOG_SECONDS = 5.0
_FIRST_SAVE_SECONDS = 30.0  # then ever rarer, so that saving stays below a few per cent
_SAVE_GROWTH = 1.5
_MOST_SECONDS_BETWEEN_SAVES = 300.0
_FIT_IMAGES = 8192  # training images that a density is fitted to


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


@dataclass(frozen=True)
class TrainResult:
    """What a finished run leaves: the model file, images seen, whether it was done before."""

    model_path: Path
    images: int
    already_complete: bool


def train(
    dataset: Dataset, settings: TrainSettings, reporter: Reporter, stop: StopFlag
) -> TrainResult:
    """Train, or go on with, the run in ``settings.out``.

    Raises:
        UsageError: the folder holds a run with other settings.
        DataError: fewer images than a batch.
        Stopped: asked to stop; the state is saved.
        Diverged: a loss or weight is not finite; the last good files are untouched.
        DeviceError: out of memory.
    """
    count = len(dataset.split(settings.holdout)[0])
    if count < settings.batch:
        raise DataError(
            f"{count} images are fewer than a batch of {settings.batch}. "
            f"Add images, or use --batch {max(count, 1)}"
        )
    try:
        with joined(settings.device) as ranks:
            return Trainer(dataset, settings, reporter, ranks).run(stop)
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"out of memory on {settings.device} at --batch {settings.batch}. "
            f"Use a smaller --batch (say {max(1, settings.batch // 2)}), --size or --width"
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"{reason} in {settings.out}; the last files there are whole. Make room"
            raise Stopped(message, interrupted=False) from error
        raise UsageError(f"cannot write the run folder {settings.out}: {reason}") from error


class Trainer:
    """One run: live weights, averaged weights, optimisers and the counter."""

    def __init__(
        self,
        dataset: Dataset,
        settings: TrainSettings,
        reporter: Reporter,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.rows_of_step = self.ranks.share(settings.batch)
        self.dataset, self.settings, self.reporter = dataset, settings, reporter
        self.rows, held_out = dataset.split(settings.holdout)
        self.scorer = Scorer(dataset, self.rows, held_out) if settings.score_every else None
        model_class = MODELS.get(settings.model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(settings.seed, "initial weights"))
            self.model: Model = model_class(
                settings.config, dataset.shape, classes_of(settings, dataset)
            )
        self.model.to(settings.device).to(memory_format=memory_format(settings.device))
        self.feeder = Feeder(
            dataset, dataset.training_rows(settings.holdout, settings.seed), settings.seed,
            self.rows_of_step[1] - self.rows_of_step[0], settings.device, settings.augment,
            settings.batch,
        )  # fmt: skip
        self.average = averaged_copy(self.model)
        share_statistics(self.model)
        self.phases = self.model.phases()
        self.optimisers = {p.name: _adam(p, settings) for p in self.phases}
        self.counters = Counters()
        self.folder = RunFolder(settings, dataset, self.rows)
        self._images_at_start = 0
        self.images_per_step = settings.batch * max(p.repeats for p in self.phases)
        self.log = RunLog(self.folder.log_path)
        self._closing_seconds = 1.0  # measured at every save
        self.averaging = Averaging(self.model, self.average, self.phases)

    # --- the loop ---------------------------------------------------------------------------

    def run(self, stop: StopFlag) -> TrainResult:
        """Train until the budget is spent; see ``train``."""
        out, model_path = self.settings.out, self.folder.model_path
        before = self.folder.read_state(self._learner())
        resumed = before is not None
        self.counters = before or self.counters
        if resumed and self.share() >= 1 and model_path.is_file():
            return TrainResult(model_path, self.counters.images, already_complete=True)
        (out / PREVIEWS_NAME).mkdir(parents=True, exist_ok=True)
        self._images_at_start = self.counters.images
        if self.ranks.first:
            self.log.cut(self.counters.images)
        if resumed:
            self.reporter.resumed(self.counters.images)
        next_log = time.monotonic() + _LOG_SECONDS
        gap = _FIRST_SAVE_SECONDS
        next_save = time.monotonic() + gap
        while (share := self.share()) < 1:
            self.take_step(share)
            self.reporter.progress(self.counters.images, min(self.share(), 1.0))
            now = time.monotonic()
            if now >= next_log:
                self.write_log(share)
                next_log = now + _LOG_SECONDS
            self._score_if_due()
            self._stop_if_asked(stop)
            if now >= next_save:
                self.save()
                gap = min(gap * _SAVE_GROWTH, _MOST_SECONDS_BETWEEN_SAVES)
                next_save = time.monotonic() + gap
        self.write_log(1.0)
        self.save()
        return TrainResult(model_path, self.counters.images, already_complete=False)

    def _stop_if_asked(self, stop: StopFlag) -> None:
        limit = self.settings.stop_after
        seen = self.counters.images - self._images_at_start
        reached = limit is not None and seen >= limit and self.share() < 1
        if self.ranks.any(stop.asked is not None or reached, self.settings.device):
            self.save()
            self.ranks.agree(0.0, self.settings.device)  # torchrun ends all when one has left
            message = f"stopped at {self.counters.images:,} images; saved in {self.settings.out}"
            raise Stopped(message, interrupted=stop.interrupted)

    def share(self) -> float:
        """How much of the budget is spent, from 0 to 1 and over."""
        if self.settings.minutes is not None:
            share = self.seconds() / max(self.settings.minutes * 60 - self._closing_seconds, 1e-9)
            return self.ranks.agree(share, self.settings.device)
        assert self.settings.images is not None
        return self.counters.images / self.settings.images

    def seconds(self) -> float:
        """Wall-clock seconds that the run has taken, over all its commands."""
        return self.counters.seconds + time.monotonic() - self.settings.started

    def take_step(self, share: float) -> None:
        """One step: every phase that is due, then the averages."""
        self.model.train()
        counters = self.counters
        settled = self.averaging.settle(share, counters.settled)
        if settled != counters.settled:
            self.model.refresh()
            counters.settled = settled
        active = [p for p in self.phases if p.span[0] <= share < p.span[1]]
        for phase in active:
            counters.began.setdefault(phase.name, counters.images)
            if counters.step % phase.every:
                continue
            for repeat in range(phase.repeats):
                self._update(phase, self.counters.images + repeat * self.settings.batch, share)
        counters.images += self.images_per_step
        counters.step += 1
        ages = {p.name: counters.images - counters.began[p.name] for p in active}
        self.averaging.update(ages, self.images_per_step, self.settings.config.ema_images)

    def _update(self, phase: Phase, start: int, share: float) -> None:
        """One gradient step of one phase on the batch that begins at image ``start``."""
        settings = self.settings
        first, last = self.rows_of_step
        indices = np.arange(start + first, start + last, dtype=np.int64)
        self.model.requires_grad_(False)
        phase.module.requires_grad_(True)
        draw = Draw(
            settings.seed, phase.name, indices, self.counters.step, settings.device, min(share, 1.0)
        )
        half = settings.precision != torch.float32
        with torch.autocast(settings.device.type, settings.precision, enabled=half):
            terms = phase.loss(self.feeder.batch(start + first), draw)
        optimiser = self.optimisers[phase.name]
        for group in optimiser.param_groups:
            group["lr"] = settings.lr * phase.lr_factor * cosine(phase.progress(share), phase.decay)
        optimiser.zero_grad(set_to_none=True)
        loss = terms.total.mean()
        weight = (last - first) / settings.batch  # 1.0 in one process, which changes no bit
        (loss * weight).backward()  # type: ignore[no-untyped-call]
        self.ranks.sum_gradients(phase.module.parameters())
        optimiser.step()
        self.ranks.average_buffers(self.model, weight)
        self.log.add({k: v.mean() for k, v in terms.parts.items()} or {"loss": loss})

    # --- files ------------------------------------------------------------------------------

    def write_log(self, share: float) -> None:
        """One line of the log: means since the last one.

        Raises:
            Diverged: a loss since then was not finite.
        """
        if self.log.empty or not self.ranks.first:
            return
        record = self.log.write(self.counters.images, self.seconds(), min(share, 1.0))
        self.reporter.logged(record)
        for name, value in record.items():
            if not math.isfinite(value):
                raise _diverged(f"the mean of {name}", self.settings)

    def save(self) -> None:
        """Write state, model and previews, each whole or not at all.

        Raises:
            Diverged: a weight is not finite; nothing is written.
        """
        began = time.monotonic()
        for name, tensor in self.model.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise _diverged(f"the weights {name}", self.settings)
        if not self.ranks.first:
            return
        self.average.finish(self._fit_batches)
        self.folder.write_previews(self.average, self.counters.images)
        self._closing_seconds = 1.3 * (time.monotonic() - began) + 0.5
        # Files last: a kill before leaves the old pair, a kill between leaves a good state.
        self.folder.write_state(self._learner(), replace(self.counters, seconds=self.seconds()))
        self.folder.write_model(self.average, self.counters.images, MODEL_NAME)
        self._closing_seconds = 1.3 * (time.monotonic() - began) + 0.5

    def _learner(self) -> Learner:
        return Learner(
            self.model, self.average, self.phases, self.optimisers, self.averaging.tensors()
        )

    def _score_if_due(self) -> None:
        """Score the averages when the counter has passed a multiple; keep the best so far."""
        every = self.settings.score_every
        before = self.counters.images - self.images_per_step
        if (
            self.scorer is None
            or not self.ranks.first
            or self.counters.images // every == before // every
        ):
            return
        self.average.finish(self._fit_batches)
        score = self.scorer.score(self.average, self.model.augmented)
        self.log.note(self.counters.images, score.record)
        self.reporter.scored(self.counters.images, score)
        if score.distance < self.counters.best_score:
            self.counters.best_score = score.distance
            self.folder.write_model(
                self.average, self.counters.images, BEST_NAME, score=score.record
            )

    def _fit_batches(self) -> Iterator[Batch]:
        """A fixed sample of the training images."""
        return self.feeder.fixed(_FIT_IMAGES)


def classes_of(settings: TrainSettings, data: Dataset | Source) -> int:
    """How many classes of the data the model is conditional on."""
    wanted = settings.conditional and MODELS.get(settings.model).takes_classes
    return len(data.classes) if wanted and data.labels is not None else 0


def _adam(phase: Phase, settings: TrainSettings) -> torch.optim.Adam:
    return torch.optim.Adam(
        phase.module.parameters(), lr=settings.lr, betas=phase.betas, fused=True
    )


def cosine(share: float, floor: float) -> float:
    """A half cosine from 1 at share 0 to ``floor`` at share 1."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0)))


def _diverged(what: str, settings: TrainSettings) -> Diverged:
    return Diverged(
        f"{what} left the finite numbers. Files in {settings.out} hold the last good state. "
        f"Try --lr {settings.lr / 2:g} or --precision float32, with another --out"
    )
