"""A run's budget: what fraction of it is spent, and when to save.

A budget in minutes includes the work after the last step: the last save with the fit of a prior
before it, whose time is estimated from earlier saves, and a last score of the samples if one is
still due. Saves become less frequent during a run, so that they take only a few per cent of it.
"""

import math
import time

from gentool.core.distributed import Ranks

_FIRST_SAVE_SECONDS = 30.0
# The first save of a timed run is due after this fraction of it, if that is earlier. It measures
# how long the last save will take.
_FIRST_SAVE_SHARE = 0.2
_SAVING_SHARE = 0.05  # largest fraction of the time for saves, which also fit priors
_SAVE_GROWTH = 1.5  # factor from one interval between saves to the next
_MOST_SECONDS_BETWEEN_SAVES = 300.0
_SPARE, _SPARE_SECONDS = 1.3, 0.5  # safety factor and seconds added to a measured time


class Budget:
    """Budget of a run, in images or in minutes.

    Args:
        images: The budget in images; used if ``minutes`` is None.
        minutes: The budget in minutes of wall-clock time, over all commands of the run.
        ranks: The ranks. The clock of the first rank decides.
    """

    def __init__(self, images: int | None, minutes: float | None, ranks: Ranks) -> None:
        self._images, self._minutes, self._ranks = images, minutes, ranks
        self._closing = self._saving = 1.0  # estimated seconds of the last save, and of one now
        self._most = 0.0
        self._gap = self._next = math.inf

    @property
    def seconds(self) -> float:
        """The whole budget in seconds; 0 if the budget is in images."""
        return 60 * (self._minutes or 0.0)

    def share(self, images: int, seconds: float, owed_seconds: float) -> float:
        """Return the fraction of the budget that is spent; 1 or more if all is. It never decreases.

        Args:
            images: Images seen so far.
            seconds: Seconds used so far, over all commands of the run.
            owed_seconds: Seconds of work after the last step, without the last save.
        """
        if self._minutes is None:
            assert self._images is not None
            return images / self._images
        share = seconds / max(self.seconds - self._closing - owed_seconds, 1e-9)
        self._most = max(self._most, self._ranks.agree(share))
        return self._most

    def begin(self) -> None:
        """Schedule the first save: in half a minute, or earlier if the budget is short."""
        timed = math.inf if self._minutes is None else self.seconds
        self._gap = min(_FIRST_SAVE_SECONDS, _FIRST_SAVE_SHARE * timed)
        self._next = time.monotonic() + self._gap

    def save_is_due(self) -> bool:
        """Return whether a save is due on the first rank; always False on the other ranks."""
        return self._ranks.first and time.monotonic() >= self._next

    def saved(self) -> None:
        """Schedule the next save, after a save is done."""
        gap = min(self._gap * _SAVE_GROWTH, _MOST_SECONDS_BETWEEN_SAVES)
        self._gap = max(gap, self._saving / _SAVING_SHARE)
        self._next = time.monotonic() + self._gap

    def measure(self, seconds: float, more_seconds: float) -> None:
        """Update the estimated times of a save now and of the last save.

        Args:
            seconds: Measured seconds of this save.
            more_seconds: Seconds that the last save will take in addition.
        """
        self._saving = _SPARE * seconds + _SPARE_SECONDS
        self._closing = self._saving + _SPARE * more_seconds
