"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from gentool.core.messages import say

if TYPE_CHECKING:
    from gentool.core.images import ImageShape

_PLAIN_SECONDS = 10.0  # between plain lines


class ProgressBar:
    """Shows how much of one or several tasks is done; a context manager.

    Args:
        quiet: Whether nothing is shown.
        transient: Whether the bar disappears from the terminal at the end.
    """

    def __init__(self, *, quiet: bool = False, transient: bool = False) -> None:
        self.live = sys.stderr.isatty() and not quiet
        self._quiet = quiet
        self._bar = Progress(
            _column("{task.description}"),
            BarColumn(bar_width=16),
            _column("{task.percentage:>3.0f}%"),
            _column("{task.completed:,.0f} of {task.total:,.0f}"),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            _column("{task.fields[text]}", ratio=1),  # takes what is left of the line
            console=Console(stderr=True),
            disable=not self.live,
            transient=transient,
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, name: str, done: int, total: int) -> None:
        """Show how much of a task is done, on a terminal."""
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=total, text="")
        self._bar.update(self._tasks[name], completed=done, total=total)

    def annotate(self, name: str, text: str) -> None:
        """Show a text behind a task that is shown."""
        self._bar.update(self._tasks[name], text=text)

    @property
    def shows_colours(self) -> bool:
        """Whether there is a terminal with colours."""
        return self.live and self._bar.console.color_system is not None

    def show_picture(self, file: Path, tile: "ImageShape") -> None:
        """Show the first tiles of a sheet above the bar; nothing if the file cannot be read."""
        from PIL import Image  # only with a picture

        from gentool.core.half_blocks import corner_of, half_blocks

        console = self._bar.console
        with contextlib.suppress(OSError), Image.open(file, formats=["PNG"]) as sheet:
            console.print(half_blocks(corner_of(sheet, tile, console.width), console.width), end="")

    def remove(self, name: str) -> None:
        """Remove a task from the terminal, if it is shown."""
        if name in self._tasks:
            self._bar.remove_task(self._tasks.pop(name))

    def line_is_due(self) -> bool:
        """Return whether a plain line is due, where there is no terminal; the caller prints it."""
        now = time.monotonic()
        if self.live or self._quiet or now - self._last_line < _PLAIN_SECONDS:
            return False
        self._last_line = now
        return True

    def pass_over(self, name: str, done: int, total: int) -> None:
        """Show how many images a pass has reached, on a terminal or as a plain line."""
        self.show(name, done, total)
        if self.line_is_due():
            say(f"{name}: {done:,} of {total:,}")


def _column(text: str, ratio: int | None = None) -> TextColumn:
    """Return a text column that is never wrapped; with a ratio it is cut when the line is full."""
    return TextColumn(text, markup=False, table_column=Column(no_wrap=True, ratio=ratio))
