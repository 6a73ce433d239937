"""A bar for a pass over images: live on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TimeRemainingColumn
from rich.table import Column

from gentool.cli.console import say
from gentool.core.signals import StopFlag
from gentool.training.display import PLAIN_SECONDS, column


class IntakeBar:
    """Shows a pass over images: a bar on a terminal, a plain line every ten seconds elsewhere.

    Args:
        stop: Polled at every update; there is nothing to save.
        what: The label of the bar.
    """

    def __init__(self, stop: StopFlag, what: str) -> None:
        self._stop, self._what = stop, what
        self._live = sys.stderr.isatty()
        self._bar = Progress(
            column("{task.description}"),
            BarColumn(bar_width=16),
            column("{task.completed:,.0f} of {task.total:,.0f}"),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            console=Console(stderr=True),
            disable=not self._live,
            transient=True,
        )
        self._task: TaskID | None = None
        self._last_line = time.monotonic()

    def __enter__(self) -> "IntakeBar":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, done: int, total: int) -> None:
        """Show how many images are done.

        Raises:
            Stopped: a signal asked to stop.
        """
        self._stop.poll("stopped; nothing was written")
        if self._task is None:
            self._task = self._bar.add_task(self._what, total=total)
        self._bar.update(self._task, completed=done, total=total)
        if not self._live and time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._last_line = time.monotonic()
            say(f"{self._what}: {done:,} of {total:,}")
