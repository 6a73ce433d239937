"""The table of trackers, and how one is opened. This file imports no library of a tracker.

To add one, write a file with a class that has the methods of ``Tracker``, and add a row here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from gentool.core.errors import UsageError
from gentool.core.registry import at


@dataclass(frozen=True)
class Start:
    """What a tracker is told of a run before the first values.

    Attributes:
        folder: The run folder, in which a tracker keeps its files where it can.
        name: Name of the run.
        key: Hexadecimal digits that identify the run, also when it is continued.
        images: Images seen at the start of this command; later values of an earlier command
            are out of date.
        settings: The settings of the run, by name.
    """

    folder: Path
    name: str
    key: str
    images: int
    settings: Mapping[str, str]


class Tracker(Protocol):
    """Passes values and pictures on to another program; the step is the number of images seen."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record the value of each named number at this step."""

    def picture(self, step: int, name: str, file: Path) -> None:
        """Record the picture in a PNG file at this step."""

    def close(self) -> None:
        """Write all values that are not written yet, and close the tracker."""


@dataclass(frozen=True)
class Row:
    """One tracker.

    Attributes:
        library: The module that it needs.
        extra: The extra of gentool that installs this module.
        file: The module of this package with the function ``start``.
    """

    library: str
    extra: str
    file: str

    def start(self, start: Start) -> Tracker:
        """Return a tracker of a run that begins or continues."""
        begin: Callable[[Start], Tracker] = at(self.file, "start")()
        return begin(start)


TRACKERS = {
    "tensorboard": Row("tensorboard", "tensorboard", "gentool.trackers.tensorboard"),
    "trackio": Row("trackio", "trackio", "gentool.trackers.trackio"),
    "wandb": Row("wandb", "wandb", "gentool.trackers.wandb"),
}


def refuse_missing(names: Iterable[str]) -> None:
    """Check that the libraries of trackers are installed.

    Raises:
        UsageError: one is not.
    """
    for name in names:
        row = TRACKERS[name]
        if find_spec(row.library) is None:
            raise UsageError(
                f"--log {name} needs the library {row.library}. Run pip install "
                f"'gentool[{row.extra}]'"
            )
