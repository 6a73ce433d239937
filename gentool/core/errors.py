"""The exceptions that a user can see, and the exit code of the command line for each.

::

    GentoolError                  1  unexpected
    ├── UsageError                2  options that make no sense
    │   ├── UnknownName              a name that is in no table; suggests the nearest name
    │   ├── NoStyles                 the model has no styles to mix or to edit
    │   └── OutsideSupport           images with pixels outside the support of a likelihood
    ├── DataError                 3  images that cannot be used
    ├── ModelFileError            4  a model file that cannot be trusted or read
    ├── DeviceError               5  the device is absent or out of memory
    ├── Diverged                  6  a loss or weight is not finite
    ├── PartialSuccess            7  some of the inputs or results failed
    ├── Stopped              75/130  a signal or limit stopped the run; it can be continued
    ├── OutputClosed            141  the reader of stdout has closed it
    ├── NoEncoder                 1  the model has no encoder (inversion is used instead)
    └── NoLikelihood              1  the model has no bound on log p(x)

A message has one or two lines: what was given, what is allowed, and what to do next.
"""

from typing import ClassVar


class GentoolError(Exception):
    """Base class of all errors that the command line shows as one line, without a traceback."""

    exit_code: ClassVar[int] = 1


class UsageError(GentoolError):
    """The command or one of its options makes no sense."""

    exit_code = 2


class UnknownName(UsageError):
    """A name is in no table."""


class NoStyles(UsageError):
    """The model does not generate its images from styles."""


class OutsideSupport(UsageError):
    """Images have pixel values outside the support of a likelihood.

    Args:
        support: Text that names the pixel values in the support.
        otherwise: Text that names what to use for other images.
    """

    def __init__(self, support: str, otherwise: str) -> None:
        super().__init__(
            f"this likelihood allows only {support}, but the images have other pixels. Use "
            f"{otherwise}"
        )
        self.support = support


class DataError(GentoolError):
    """The images cannot be used."""

    exit_code = 3


class ModelFileError(GentoolError):
    """A model or state file is damaged, not made by gentool, or not safe to use."""

    exit_code = 4


class DeviceError(GentoolError):
    """The requested device is absent or out of memory."""

    exit_code = 5


class Diverged(GentoolError):
    """A loss or weight is no longer finite."""

    exit_code = 6


class PartialSuccess(GentoolError):
    """Some inputs or results of a command failed; the others are done."""

    exit_code = 7


class Stopped(GentoolError):
    """A signal or a limit stopped the run; the finished work is saved.

    Args:
        message: What was saved and how to continue.
        interrupted: True for Ctrl-C (exit 130), False for other signals and limits (exit 75).
        wanted: Whether the user asked for the stop. False for an error, such as a full disk.

    Attributes:
        again: The shell command that continues the run; None if nothing can be continued.
    """

    exit_code = 75

    def __init__(self, message: str, *, interrupted: bool, wanted: bool = True) -> None:
        super().__init__(message)
        self.interrupted, self.wanted = interrupted, wanted
        self.again: str | None = None


class OutputClosed(GentoolError):
    """The reader of stdout has closed it; a shell reports SIGPIPE with the same exit code."""

    exit_code = 141


class NoEncoder(GentoolError):
    """The model has no encoder; the latents of an image must be found by inversion."""


class NoLikelihood(GentoolError):
    """The model has no bound on log p(x)."""


def exit_code_of(error: GentoolError) -> int:
    """Return the exit code of the command line for ``error``."""
    if isinstance(error, Stopped) and error.interrupted:
        return 130
    return error.exit_code
