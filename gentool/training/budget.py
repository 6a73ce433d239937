"""A run's budget: how much of it is spent, and when it is time to save.

A budget in minutes must hold what follows the last step as well. That is the last save, with the
fit of a prior before it, which every save before foretells; and, for models whose samples change
until the end, one more look at them. Saves become rarer as a run goes on, so that they take a few
per cent of it at most.
"""

import math
import time

from gentool.core.distributed import Ranks

_FIRST_SAVE_SECONDS = 30.0
_FIRST_SAVE_SHARE = 0.2  # of a timed run, if that is sooner: it measures how long the end takes
_SAVING_SHARE = 0.05  # of the time that saving may take at most, for it also fits priors
_SAVE_GROWTH = 1.5
_MOST_SECONDS_BETWEEN_SAVES = 300.0
_SPARE, _SPARE_SECONDS = 1.3, 0.5  # on what was measured


class Budget:
    """What a run may take, in images or in minutes.

    Args:
        images: The budget in images, where ``minutes`` is None.
        minutes: The budget in minutes of wall clock, over all commands of the run.
        ranks: The processes. The first one's clock counts.
    """

    def __init__(self, images: int | None, minutes: float | None, ranks: Ranks) -> None:
        self._images, self._minutes, self._ranks = images, minutes, ranks
        self._closing = self._saving = 1.0  # seconds of the last save, and of one now
        self._most = 0.0
        self._gap = self._next = math.inf

    @property
    def seconds(self) -> float:
        """All of it, 0 where it is none of time."""
        return 60 * (self._minutes or 0.0)

    def share(self, images: int, seconds: float, owed_seconds: float) -> float:
        """How much is spent, from 0 to 1 and over; it never falls.

        Args:
            images: Seen so far.
            seconds: Taken so far, over all commands of the run.
            owed_seconds: What is to come after the last step, beside the last save.
        """
        if self._minutes is None:
            assert self._images is not None
            return images / self._images
        share = seconds / max(self.seconds - self._closing - owed_seconds, 1e-9)
        self._most = max(self._most, self._ranks.agree(share))
        return self._most

    def begin(self) -> None:
        """Steps begin: the first save is due in half a minute, or sooner in a short run."""
        timed = math.inf if self._minutes is None else self.seconds
        self._gap = min(_FIRST_SAVE_SECONDS, _FIRST_SAVE_SHARE * timed)
        self._next = time.monotonic() + self._gap

    def save_is_due(self) -> bool:
        """Whether it is time, by the first process's clock, which knows what saving costs."""
        return self._ranks.first and time.monotonic() >= self._next

    def saved(self) -> None:
        """Put the next save off."""
        gap = min(self._gap * _SAVE_GROWTH, _MOST_SECONDS_BETWEEN_SAVES)
        self._gap = max(gap, self._saving / _SAVING_SHARE)
        self._next = time.monotonic() + self._gap

    def measure(self, seconds: float, more_seconds: float) -> None:
        """Learn what a save takes.

        Args:
            seconds: This one.
            more_seconds: How much longer the last one will take.
        """
        self._saving = _SPARE * seconds + _SPARE_SECONDS
        self._closing = self._saving + _SPARE * more_seconds
