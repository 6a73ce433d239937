"""Passing a run on to trackers (``--log``), which never end the training."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from gentool.core.atomic_files import PREVIEWS_NAME, put
from gentool.trackers.table import TRACKERS, Start, Tracker

if TYPE_CHECKING:
    from gentool.data import Dataset
    from gentool.evaluation.quick_score import Score
    from gentool.training.plan import Plan
    from gentool.training.run import Observer

_KEY_NAME = "tracker.id"  # a file in the run folder; it identifies the run for trackers
_KEY_DIGITS = 12
_NOT_LOGGED = {"images"}  # it is the step


@contextmanager
def tracking(observer: "Observer", plan: "Plan", *, first: bool) -> Iterator["Observer"]:
    """Return an observer that also passes the run on to the trackers of the plan.

    Args:
        observer: Is informed of everything.
        plan: The plan of the run.
        first: Whether this process logs; the other processes of a run do not.
    """
    if not first or not plan.setup.settings.log:
        yield observer
        return
    tracked = Tracking(observer, plan)
    try:
        yield tracked
    finally:
        tracked.close()


class Tracking:
    """An observer that passes everything on, and values and pictures to trackers, too.

    Args:
        observer: Is informed of everything.
        plan: The plan of the run.
    """

    def __init__(self, observer: "Observer", plan: "Plan") -> None:
        self._inner, self._plan = observer, plan
        self._trackers: dict[str, Tracker] | None = None  # None before the first value
        self._images = 0

    def planned(self, plan: "Plan") -> None:
        """Pass the plan on to the inner reporter, and keep it: its seed may be a new one."""
        self._plan = plan
        self._inner.planned(plan)

    def intake(self, done: int, total: int) -> None:
        """Pass this on to the inner reporter."""
        self._inner.intake(done, total)

    def prepared(self, dataset: "Dataset", total: int) -> None:
        """Pass this on to the inner reporter."""
        self._inner.prepared(dataset, total)

    def note(self, message: str) -> None:
        """Pass this on to the inner reporter."""
        self._inner.note(message)

    def resumed(self, images: int) -> None:
        """Remember where the run continues."""
        self._images = images
        self._inner.resumed(images)

    def progress(self, images: int, share: float) -> None:
        """Pass this on to the inner reporter."""
        self._inner.progress(images, share)

    def logged(self, record: dict[str, float]) -> None:
        """Log the numbers of a line of the log."""
        self._inner.logged(record)
        self._scalars(round(record["images"]), record)

    def scored(self, images: int, score: "Score") -> None:
        """Log the scores, and the pictures that were written with them."""
        self._inner.scored(images, score)
        self._scalars(images, score.record)
        self._pictures(images)

    def saved(self, images: int) -> None:
        """Pass the newest pictures on to the tracker."""
        self._inner.saved(images)
        self._pictures(images)

    def warned(self, message: str) -> None:
        """Pass this on to the inner reporter."""
        self._inner.warned(message)

    def _scalars(self, images: int, values: Mapping[str, float]) -> None:
        numbers = {name: value for name, value in values.items() if name not in _NOT_LOGGED}
        self._each(lambda tracker: tracker.scalars(images, numbers))

    def _pictures(self, images: int) -> None:
        folder = self._plan.setup.out / PREVIEWS_NAME
        for name, ending in (("samples", ""), ("reconstructions", "-reconstructions")):
            file = folder / f"{images:09d}{ending}.png"
            if file.is_file():
                self._each(lambda tracker, n=name, f=file: tracker.picture(images, n, f))  # type: ignore[misc]

    def close(self) -> None:
        """Let the trackers write what is left."""
        if self._trackers is not None:
            self._each(lambda tracker: tracker.close())

    def _each(self, act: Callable[[Tracker], None]) -> None:
        """Call every tracker; one that fails is reported and then left out."""
        if self._trackers is None:
            self._trackers = self._started()
        for name, tracker in list(self._trackers.items()):
            try:
                act(tracker)
            except Exception as error:  # a tracker must never end a training
                del self._trackers[name]
                self._failed(name, error)

    def _started(self) -> dict[str, Tracker]:
        started = {}
        for name in dict.fromkeys(self._plan.setup.settings.log):
            try:
                started[name] = TRACKERS[name].start(self._start())
            except Exception as error:  # as above
                self._failed(name, error)
        return started

    def _start(self) -> Start:
        """Return what the trackers are told of the run; its key is kept in the run folder."""
        out, shown = self._plan.setup.out, self._plan.shown()
        settings = {k: str(s.value) for k, s in shown.items() if s.value is not None}
        path, key = out / _KEY_NAME, ""
        if self._images:
            with suppress(OSError, ValueError):
                key = path.read_text(encoding="ascii")[:_KEY_DIGITS]
        if not _is_key(key):
            key = secrets.token_hex(_KEY_DIGITS // 2)
            put(path, key.encode())
        name = self._plan.setup.settings.name or out.absolute().name
        return Start(out, name, key, self._images, settings)

    def _failed(self, name: str, error: Exception) -> None:
        self._inner.warned(f"--log {name} failed and is left out from here on: {error!s:.200}")


def _is_key(word: str) -> bool:
    return len(word) == _KEY_DIGITS and set(word) <= set("0123456789abcdef")
