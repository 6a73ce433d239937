"""Asked to stop: Ctrl-C, SIGTERM and SIGHUP set a flag that every long loop polls.

The first signal asks; a second Ctrl-C ends the program at once. Loops call ``poll`` where
stopping loses nothing, and whoever has something to save looks at ``asked`` instead.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from gentool.errors import Stopped

_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class StopFlag:
    """A context manager that turns signals into a flag, and puts the old handlers back.

    Outside the main thread Python allows no handlers; there the flag simply stays down.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopFlag":
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
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
