"""Scoring the averaged weights during a run, and keeping the best."""

import time
from collections.abc import Callable

from gentool.core.distributed import Ranks
from gentool.core.errors import Stopped
from gentool.models.base import Model
from gentool.training.average_fit import AverageFit
from gentool.training.log import RunLog
from gentool.training.outlook import PSNR
from gentool.training.phase_spans import PhaseSpans
from gentool.training.reporter import Reporter
from gentool.training.run_folder import BEST_NAME, RunFolder
from gentool.training.score_schedule import ScoreSchedule


class Scoring:
    """The scores of one run; all ranks decide together, and the first one scores.

    Args:
        scores: When scores are due, and the best one.
        schedule: Which phases are active.
        model: The model that learns.
        average: The averaged weights, which are scored.
        fit: What is fitted to them first.
        folder: Where the best model is written.
        log: Where scores are noted.
        reporter: Is informed of scores.
        ranks: The processes that train together.
    """

    def __init__(
        self,
        scores: ScoreSchedule,
        schedule: PhaseSpans,
        model: Model,
        average: Model,
        fit: AverageFit,
        folder: RunFolder,
        log: RunLog,
        reporter: Reporter,
        ranks: Ranks,
    ) -> None:
        self._scores, self._schedule, self._model, self._average = scores, schedule, model, average
        self._fit, self._folder, self._log = fit, folder, log
        self._reporter, self._ranks = reporter, ranks

    def is_due(self, images: int, share: float) -> bool:
        """Return whether the averaged weights are to be scored.

        Args:
            images: Images seen.
            share: Fraction of the run that is finished.
        """
        changing = self._schedule.changes_samples(share)
        since = None if changing else self._schedule.unchanged_since(images)
        return self._scores.due(images, at_rest_since=since)

    def score_if_due(self, images: int, share: float, poll: Callable[[], None]) -> None:
        """Score the averaged weights if that is due, and write them if they are the best so far.

        A score that ``poll`` ends stays due.

        Args:
            images: Images seen.
            share: Fraction of the run that is finished.
            poll: Called now and then; may raise ``Stopped``.

        Raises:
            NotFinite: what is fitted to the averaged weights is not finite.
        """
        if not self._ranks.agree(self.is_due(images, share)):
            return
        began = time.monotonic()
        self._fit.fit(images)
        if not self._ranks.first:
            return
        try:
            score = self._scores.score(self._average, self._model.augmented, images, began, poll)
        except Stopped:
            return
        if not self._schedule.changes_samples(share):
            self._scores.rest()
        self._log.note(images, score.record)
        self.write_previews(images)
        self._reporter.scored(images, score)
        if self._scores.is_best(score) and self._folder.setup.keep.best:
            self._folder.write_model(self._average, images, BEST_NAME, score=score.record)

    def write_previews(self, images: int) -> None:
        """Write the previews, and log the error of their reconstructions with the next line.

        Args:
            images: Images seen.
        """
        error = self._folder.write_previews(self._average, images)
        if error is not None:
            self._log.hold(PSNR, error)
