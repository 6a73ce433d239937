"""Asked to stop: Ctrl-C, SIGTERM and SIGHUP set a flag that every long loop polls.

The first signal asks; a second Ctrl-C ends the program at once. Loops call ``poll`` where
stopping loses nothing, and whoever has something to save looks at ``asked`` instead.
"""

import atexit
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from gentool.errors import Stopped

_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


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
    """All of them, but no hangup that ``nohup`` told this process to ignore."""
    hangup = getattr(signal, "SIGHUP", None)
    return [n for n in _SIGNALS if n != hangup or signal.getsignal(n) != signal.SIG_IGN]


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"stopped\n")
    os._exit(130 if number == signal.SIGINT else 75)


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
        self.asked = signal.Signals(number)

    @property
    def interrupted(self) -> bool:
        """Whether it was Ctrl-C that asked."""
        return self.asked == signal.SIGINT

    def poll(self, message: str = "stopped; nothing was lost") -> None:
        """Raise ``Stopped`` if a signal came."""
        if self.asked is not None:
            raise Stopped(message, interrupted=self.interrupted)
