"""Signals that ask the program to stop: Ctrl-C, SIGTERM, SIGHUP and those of batch systems.

Slurm, LSF and Grid Engine send SIGUSR1 or SIGUSR2 as a warning before the time limit. The kernel
sends SIGXCPU at the soft limit of CPU time, and then every second. The first signal only sets a
flag; Ctrl-C after it ends the program at once. Loops call ``poll`` at points where a stop loses
nothing; code that has something to save first checks ``asked`` instead.
"""

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from gentool.core.errors import Stopped

_IGNORABLE = [  # Windows has none of them
    getattr(signal, name)
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
]
_SIGNALS: list[signal.Signals] = [signal.SIGINT, signal.SIGTERM, *_IGNORABLE]


def leave_when_asked() -> None:
    """Exit at once at a signal, with the documented exit code, while there is nothing to save.

    A ``StopFlag`` replaces these handlers while there is something to save.
    """
    heeded = _heeded()
    for number in heeded:
        signal.signal(number, _leave)
    atexit.register(_ignore, heeded)


def _ignore(numbers: list[signal.Signals]) -> None:
    """Ignore signals at exit: Python then restores the default handlers, which kill a process."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _heeded() -> list[signal.Signals]:
    """Return the signals to handle: all but those that ``nohup`` or ``trap ''`` made ignored."""
    return [n for n in _SIGNALS if n not in _IGNORABLE or signal.getsignal(n) != signal.SIG_IGN]


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"stopped\n")
    os._exit(130 if number == signal.SIGINT else 75)


@contextlib.contextmanager
def unheard_by_children() -> Iterator[None]:
    """Block these signals for good in child processes that this thread starts in the block.

    Batch systems send signals to every process of a job. Only this process must handle them: a
    child that a signal ended would look like one that crashed. Children inherit the signal mask.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopFlag:
    """A context manager in which signals set a flag; at the end it restores the old handlers.

    Outside the main thread Python allows no handlers, so there the flag is never set.

    Attributes:
        asked: The first signal that came, or None.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopFlag":
        if threading.current_thread() is threading.main_thread():
            for number in _heeded():
                if signal.getsignal(number) is not None:  # else another language set the handler
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None and self.interrupted and self._in_library:
            raise KeyboardInterrupt  # it came after the last poll, and its caller has to know

    @property
    def _in_library(self) -> bool:
        """Whether Ctrl-C had Python's own handler, as where gentool is imported."""
        return self._before.get(signal.SIGINT) is signal.default_int_handler

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None and number == signal.SIGINT:
            if self._in_library:
                raise KeyboardInterrupt
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        self.asked = self.asked or signal.Signals(number)

    @property
    def interrupted(self) -> bool:
        """Whether the first signal was Ctrl-C (SIGINT)."""
        return self.asked == signal.SIGINT

    def poll(self, message: str = "stopped; the finished work is kept") -> None:
        """Raise ``Stopped`` with ``message`` if a signal came."""
        if self.asked is not None:
            raise Stopped(message, interrupted=self.interrupted)
