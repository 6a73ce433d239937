"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.progress_bar import ProgressBar as RichBar
from rich.table import Column
from rich.text import Text

from gentool.core.messages import say

if TYPE_CHECKING:
    from PIL.Image import Image

    from gentool.core.images import ImageShape
    from gentool.core.terminal_pictures import Renderer

_PLAIN_SECONDS = 10.0  # between plain lines
_BAR, _NARROW_BAR, _WIDE = 16, 8, 100  # characters of the bar; from this width on it is longer
_PERCENT = 4  # characters of 100%


def clock(seconds: float) -> str:
    """Return a time as ``h:mm:ss``."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def first_that_fits(lines: Sequence[str], room: int) -> str:
    """Return the first line of at most ``room`` characters; empty if there is none."""
    return next((line for line in lines if len(line) <= room), "")


def bar_width(columns: int) -> int:
    """Return the length of the bar on a terminal with so many characters per line."""
    return _BAR if columns >= _WIDE else _NARROW_BAR


def room_for_text(columns: int) -> int:
    """Return how many characters of a line are left beside the bar and the percentage."""
    return columns - bar_width(columns) - 1 - _PERCENT - 1


class ProgressBar:
    """Shows how much of one or several tasks is done; a context manager.

    Args:
        quiet: Whether nothing is shown.
        transient: Whether the bar disappears from the terminal at the end.
        pictures: Whether ``show_picture`` will be called.
    """

    def __init__(
        self, *, quiet: bool = False, transient: bool = False, pictures: bool = False
    ) -> None:
        console = Console(stderr=True)
        self.live = sys.stderr.isatty() and not quiet and not console.is_dumb_terminal
        self._quiet = quiet
        self._bar = Progress(
            _Bar(console),
            TextColumn("{task.percentage:>3.0f}%", table_column=Column(no_wrap=True)),
            _Status(console),
            console=console,
            disable=not self.live,
            transient=transient,
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._last_line = time.monotonic()
        self._renderer: Renderer | None = None
        if pictures and self.shows_colours:
            from gentool.core.terminal_pictures import find_renderer  # imports PIL

            self._renderer = find_renderer()

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

    def show(self, name: str, done: int, total: int, lines: Sequence[str] = ()) -> None:
        """Show how much of a task is done, on a terminal.

        Args:
            name: Name of the task.
            done: What is done.
            total: Of how much.
            lines: What stands beside the bar, from the longest form to the shortest; the first that
                fits into the line is shown. By default, name, numbers and the time left.
        """
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=total, lines=())
        self._bar.update(self._tasks[name], completed=done, total=total, lines=lines)

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
            corner = corner_of(sheet, tile, console.width)
            if not self._shows_pixels(corner):
                console.print(half_blocks(corner, console.width), end="")

    def _shows_pixels(self, picture: "Image") -> bool:
        """Show a picture with real pixels; return whether the terminal could."""
        if self._renderer is None:
            return False
        try:
            self._bar.console.print(self._renderer(picture.convert("RGB")))
        except Exception:  # a terminal that does not say how large its characters are
            self._renderer = None
            return False
        return True

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


class _Bar(BarColumn):
    """A bar that is shorter on a narrow terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def render(self, task: Task) -> RichBar:
        """Return the bar of a task."""
        self.bar_width = bar_width(self._console.width)
        return super().render(task)


class _Status(ProgressColumn):
    """The text beside the bar, in the longest form that fits; it is never wrapped."""

    def __init__(self, console: Console) -> None:
        super().__init__(Column(no_wrap=True, ratio=1))
        self._console = console

    def render(self, task: Task) -> Text:
        """Return the text of a task."""
        lines = task.fields["lines"] or _counted(task)
        text = first_that_fits(lines, room_for_text(self._console.width))
        return Text(text, no_wrap=True, overflow="ellipsis", style="progress.remaining")


def _counted(task: Task) -> list[str]:
    """Return the name of a task, how much of it is done, and the time left."""
    done = f"{task.completed:,.0f} of {task.total or 0:,.0f}"
    left = task.time_remaining
    named = f"{task.description}  {done}"
    timed = [] if left is None else [f"{named}  {clock(left)} left"]
    return [*timed, named, done]
