"""Connections: one that sends nothing is closed, so that idle ones cannot shut out the page."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_MOST_CONNECTIONS = 64
PATIENCE_SECONDS = 10.0  # for the head of the first request


class Connection(H11Protocol):
    """A connection that is closed unless its first request begins soon.

    Beyond ``_MOST_CONNECTIONS``, the oldest connection that has not begun a request makes room; if
    all have, the new one is closed.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the time for the first request."""
        if len(self.connections) >= _MOST_CONNECTIONS and not self._make_room():
            transport.abort()
            return
        super().connection_made(transport)
        self._timer = self.loop.call_later(PATIENCE_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time."""
        if self._timer is not None:
            self._timer.cancel()
            super().connection_lost(exc)

    @property
    def waits(self) -> bool:
        """Whether the connection has no request, or has answered all."""
        return self.cycle is None or self.cycle.response_complete

    def _make_room(self) -> bool:
        """Close the oldest connection that waits; return whether there was one."""
        waiting = [c for c in self.connections if isinstance(c, Connection) and c.waits]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda c: c._timer.when() if c._timer is not None else 0.0)
        self.connections.discard(oldest)
        oldest.transport.abort()
        return True

    def _give_up(self) -> None:
        if self.cycle is None:
            self.transport.abort()
