"""When a run looks at its own samples: every N images, or as often as costs little.

Unless told otherwise a run of over half a minute is scored by the clock, so that all looks
together take about a thirtieth of its time. The weights know nothing of it: a run is the same
with and without.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import DataError
from gentool.data import Dataset
from gentool.evaluation.quick_score import Augmented, Score, Scorer
from gentool.models.base import Model

_FIRST_SECONDS, _COST = 30.0, 30.0  # before the first look; between two, in times of the last
_WORSE = 1.1  # times the best distance, beyond which the last model is said to be worse


class Looks:
    """The scores of one run.

    Args:
        dataset: Prepared images.
        rows: Numbers of the training images.
        held_out: Numbers of those kept out.
        every: Images between two scores; 0 for none, None for the clock.

    Raises:
        DataError: scores are asked for, and there is but one image.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: NDArray[np.int64],
        held_out: NDArray[np.int64],
        every: int | None,
    ) -> None:
        if len(rows) < 2:  # no distance to a single image has a meaning
            if every:
                raise DataError("a score needs two images or more, not 1. Leave --score-every out")
            every = 0
        self._images, self._every = (dataset, rows, held_out), every
        self._scorer: Scorer | None = None
        self._next = time.monotonic() + _FIRST_SECONDS
        self._at_rest, self._seconds = False, 0.0
        self._told: set[str] = set()
        self._last, self._best, self._best_images = math.inf, math.inf, 0

    def due(self, images: int, scored: int, *, at_rest_since: int | None = None) -> bool:
        """Whether it is time.

        Args:
            images: Seen so far.
            scored: Seen at the last score.
            at_rest_since: Images seen when training last changed the samples, of which one more
                look is enough; None while it still does.
        """
        if self._every is not None:
            return self._every > 0 and images // self._every > scored // self._every
        if at_rest_since is None:
            return time.monotonic() >= self._next
        return 0 < scored < at_rest_since  # none in so short a run that it was never looked at

    def score(
        self, model: Model, augmented: Augmented, images: int, began: float,
        poll: Callable[[], None],
    ) -> Score:  # fmt: skip
        """Score averaged weights; see ``Scorer.score``. Each kind of warning is given once.

        What it cost since ``began``, by the monotonic clock, decides when the next is due.
        """
        scoring = time.monotonic()
        if self._scorer is None:
            self._scorer = Scorer(*self._images)
        score = self._scorer.score(model, augmented, poll)
        now = time.monotonic()
        self._seconds = now - scoring
        self._next = now + max(_FIRST_SECONDS, _COST * (now - began))
        told = self._told
        if self._every is None and math.isinf(self._last):
            told = told | {"collapse"}  # half a minute on, samples may be alike that will not be
        new = {k: words for k, words in score.warnings.items() if k not in told}
        self._told |= new.keys()
        self._remember(score.distance, images)
        return replace(score, warnings=new)

    def recall(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Know the scores among the lines of the run's log, from before it was stopped, alone."""
        self._last, self._best, self._best_images = math.inf, math.inf, 0
        for record in records:
            if "fd_random" in record:
                self._remember(record["fd_random"], record["images"])

    def _remember(self, distance: float, images: int) -> None:
        self._last = distance
        if distance < self._best:
            self._best, self._best_images = distance, images

    def rest(self) -> None:
        """The last look was at samples that no longer change."""
        self._at_rest = True

    @property
    def owed_seconds(self) -> float:
        """What the look at rest will take, 0 where none is to come."""
        return self._seconds if self._every is None and not self._at_rest else 0.0

    def verdict(self) -> str | None:
        """What to say at the end where an earlier state was better."""
        if self._last <= _WORSE * self._best:
            return None
        return (
            f"the last score, {self._last:.4g}, is worse than {self._best:.4g} at "
            f"{self._best_images:,} images. best.safetensors holds that state"
        )
