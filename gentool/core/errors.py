"""The exceptions a user can meet; the command line turns each into its exit code.

::

    GentoolError                  1  unexpected
    ├── UsageError                2  options that make no sense
    │   ├── UnknownName              a name in no table, with the nearest ones
    │   ├── NoStyles                 a model that has no styles to mix or move in
    │   └── OutsideSupport           images that a likelihood does not take
    ├── DataError                 3  images that cannot be used
    ├── ModelFileError            4  a model file that cannot be trusted or read
    ├── DeviceError               5  a device or its memory
    ├── Diverged                  6  training left the finite numbers
    ├── PartialSuccess            7  some of the inputs failed
    ├── Stopped              75/130  asked to stop; the run can go on
    ├── OutputClosed            141  the reader of stdout has gone
    ├── NoEncoder                 1  a model that has no encoder (inversion takes over)
    └── NoLikelihood              1  a model that gives no log p(x)

A message says what was given, what is allowed and the next step, in one or two lines.
"""

from typing import ClassVar


class GentoolError(Exception):
    """Base of all errors that are shown as one line instead of a traceback."""

    exit_code: ClassVar[int] = 1


class UsageError(GentoolError):
    """The command or one of its options makes no sense."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that stands in no table."""


class NoStyles(UsageError):
    """The model's images are not made from styles."""


class OutsideSupport(UsageError):
    """Images have pixels that a likelihood gives no probability to.

    Args:
        support: Which pixels it takes, in words.
        otherwise: What to train with for others, in words.
    """

    def __init__(self, support: str, otherwise: str) -> None:
        super().__init__(
            f"this likelihood takes {support}, and the images have other pixels. Use {otherwise}"
        )
        self.support = support


class DataError(GentoolError):
    """The images cannot be used."""

    exit_code = 3


class ModelFileError(GentoolError):
    """A model or state file is broken, foreign or not to be trusted."""

    exit_code = 4


class DeviceError(GentoolError):
    """The device that was asked for is absent or out of memory."""

    exit_code = 5


class Diverged(GentoolError):
    """A loss or weight is no longer finite."""

    exit_code = 6


class PartialSuccess(GentoolError):
    """Some inputs of a batch failed; the others were done."""

    exit_code = 7


class Stopped(GentoolError):
    """A signal (or a limit) asked the run to stop; what was done is saved.

    Args:
        message: What was saved and how to go on.
        interrupted: True for Ctrl-C (exit 130), False for other signals and limits (exit 75).
        wanted: Whether the user asked for it; a full disk is no wish, but an error.

    Attributes:
        again: The command that goes on, for a shell; None where there is nothing to go on with.
    """

    exit_code = 75

    def __init__(self, message: str, *, interrupted: bool, wanted: bool = True) -> None:
        super().__init__(message)
        self.interrupted, self.wanted = interrupted, wanted
        self.again: str | None = None


class OutputClosed(GentoolError):
    """Whoever read stdout has gone; a shell reports SIGPIPE by the same number."""

    exit_code = 141


class NoEncoder(GentoolError):
    """The model has no encoder; its latents must be found by inversion."""


class NoLikelihood(GentoolError):
    """The model gives no bound on log p(x)."""


def exit_code_of(error: GentoolError) -> int:
    """The exit code that the command line returns for ``error``."""
    if isinstance(error, Stopped) and error.interrupted:
        return 130
    return error.exit_code
