"""Asked to stop: Ctrl-C, SIGTERM, SIGHUP, and what batch systems send set a flag.

SIGUSR1 and SIGUSR2 are the warnings that Slurm, LSF and Grid Engine send before the time is up,
SIGXCPU that of the kernel at the soft limit of CPU time, each second again. The first signal
asks; a second Ctrl-C ends the program at once. Loops call ``poll`` where stopping loses nothing,
and whoever has something to save looks at ``asked`` instead.
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
    """End at once at a signal, with the documented exit code: for where nothing is to be saved.

    A ``StopFlag`` takes over where something is.
    """
    heeded = _heeded()
    for number in heeded:
        signal.signal(number, _leave)
    atexit.register(_ignore, heeded)


def _ignore(numbers: list[signal.Signals]) -> None:
    """Nothing is left to stop; Python's last act is to put the deadly defaults back."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _heeded() -> list[signal.Signals]:
    """All of them, but none that ``nohup`` or ``trap ''`` told this process to ignore."""
    return [n for n in _SIGNALS if n not in _IGNORABLE or signal.getsignal(n) != signal.SIG_IGN]


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"stopped\n")
    os._exit(130 if number == signal.SIGINT else 75)


@contextlib.contextmanager
def unheard_by_children() -> Iterator[None]:
    """Processes that this thread starts in the block hear none of these signals, ever.

    Batch systems send them to every process of a job. This process decides what is done; a child
    that ended by itself would look like one that crashed. The mask of a thread is inherited.
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
    """A context manager that turns signals into a flag, and puts the old handlers back.

    Outside the main thread Python allows no handlers; there the flag simply stays down.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopFlag":
        if threading.current_thread() is threading.main_thread():
            for number in _heeded():
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

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None and number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        self.asked = self.asked or signal.Signals(number)

    @property
    def interrupted(self) -> bool:
        """Whether it was Ctrl-C that asked."""
        return self.asked == signal.SIGINT

    def poll(self, message: str = "stopped; nothing was lost") -> None:
        """Raise ``Stopped`` if a signal came."""
        if self.asked is not None:
            raise Stopped(message, interrupted=self.interrupted)
