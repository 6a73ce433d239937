"""When a run scores its own samples: every N images, or by the clock.

By default a run is scored by the clock: for the first time after half a minute, and then so rarely
that all scores together take about a thirtieth of the time. Scores do not change the weights: a
run gives the same model with and without them.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from gentool.core.errors import DataError
from gentool.data import Split
from gentool.evaluation.quick_score import Augmented, Score, Scorer
from gentool.models.base import Model
from gentool.training.state import read_count

# Seconds before the first score, which is also the least time between two scores; and the time
# between two scores, in multiples of the time that the last one took.
_FIRST_SECONDS, _COST = 30.0, 30.0
_WORSE = 1.1  # the last model is reported as worse if its distance is over this times the best


class ScoreSchedule:
    """The scores of one run: when they are due, and the last and the best one.

    Args:
        images: The training images and the held-out images.
        every: Images between two scores; 0 for no scores, None to score by the clock.

    Attributes:
        scored: Images seen at the last score.
        best_score: The lowest distance so far, infinity before the first score.

    Raises:
        DataError: ``every`` asks for scores, and there are fewer than two training images.
    """

    def __init__(self, images: Split, every: int | None) -> None:
        if len(images.train) < 2:  # the Frechet distance to a single image has no meaning
            if every:
                raise DataError("a score needs at least two images, not 1. Leave --score-every out")
            every = 0
        self._images, self._every = images, every
        self._scorer: Scorer | None = None
        self._next = time.monotonic() + _FIRST_SECONDS
        self._at_rest, self._seconds = False, 0.0
        self._told: set[str] = set()
        self._last, self._best, self._best_images = math.inf, math.inf, 0
        self.scored, self.best_score = 0, math.inf

    def state(self) -> dict[str, Any]:
        """Return what the state file keeps."""
        best = self.best_score
        return {"scored": self.scored, "best_score": best if math.isfinite(best) else None}

    def load(self, header: Mapping[str, Any]) -> None:
        """Restore what ``state`` returned.

        Raises:
            ValueError: a count that no run can have.
        """
        best = header.get("best_score")
        self.scored = read_count(header.get("scored", 0))
        self.best_score = math.inf if best is None else float(best)

    def due(self, images: int, *, at_rest_since: int | None = None) -> bool:
        """Return whether a score is due.

        Args:
            images: Images seen so far.
            at_rest_since: Images seen when the samples changed for the last time; by the clock,
                one more score is then enough. None while training still changes the samples.
        """
        scored = self.scored
        if self._every is not None:
            return self._every > 0 and images // self._every > scored // self._every
        if at_rest_since is None:
            return time.monotonic() >= self._next
        return 0 < scored < at_rest_since  # a run too short to be scored before gets no score

    def score(
        self, model: Model, augmented: Augmented, images: int, began: float,
        poll: Callable[[], None],
    ) -> Score:  # fmt: skip
        """Score averaged weights; see ``Scorer.score``. Each kind of warning is returned only once.

        The time since ``began``, a value of ``time.monotonic()``, decides when the next score is
        due.
        """
        scoring = time.monotonic()
        if self._scorer is None:
            self._scorer = Scorer(self._images)
        score = self._scorer.score(model, augmented, poll)
        now = time.monotonic()
        self._seconds = now - scoring
        self._next = now + max(_FIRST_SECONDS, _COST * (now - began))
        told = self._told
        if self._every is None and math.isinf(self._last):
            # After only half a minute, samples may be alike and still become diverse later.
            told = told | {"collapse"}
        new = {k: words for k, words in score.warnings.items() if k not in told}
        self._told |= new.keys()
        self._remember(score.distance, images)
        self.scored = images
        return replace(score, warnings=new)

    def is_best(self, score: Score) -> bool:
        """Return whether a score is the best so far, and remember it then."""
        if score.distance >= self.best_score:
            return False
        self.best_score = score.distance
        return True

    def recall(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace the last and the best score by those in the lines of the run's log."""
        self._last, self._best, self._best_images = math.inf, math.inf, 0
        for record in records:
            if "fd_random" in record:
                self._remember(record["fd_random"], record["images"])

    def _remember(self, distance: float, images: int) -> None:
        self._last = distance
        if distance < self._best:
            self._best, self._best_images = distance, images

    def rest(self) -> None:
        """Note that the last score was of samples that no longer change."""
        self._at_rest = True

    @property
    def owed_seconds(self) -> float:
        """Estimated seconds of the score after the samples' last change; 0 if none is due."""
        return self._seconds if self._every is None and not self._at_rest else 0.0

    def verdict(self) -> str | None:
        """Return a message if an earlier score was clearly better than the last, else None."""
        if self._last <= _WORSE * self._best:
            return None
        return (
            f"the last score, {self._last:.4g}, is worse than {self._best:.4g} at "
            f"{self._best_images:,} images. best.safetensors holds the better state"
        )
