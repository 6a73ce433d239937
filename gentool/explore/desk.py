"""What the requests of the page share: the session, and who may use it now."""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from gentool.checkpoint import load_model
from gentool.core.errors import GentoolError, Stopped, UsageError
from gentool.core.signals import StopFlag
from gentool.explore.following import Watch
from gentool.explore.session import Session
from gentool.inference.latents import Latents

RETRY_SECONDS = 10.0  # after a save that could not be loaded
FOLLOW_SECONDS = 1.0  # from one check of the file to the next
_POLL_SECONDS = 0.2
_T = TypeVar("_T")


@dataclass
class Desk:
    """What the requests share.

    Attributes:
        session: The model and what was found with it.
        path: The model as the user named it.
        device: Where it computes.
        watch: Notices a new model file.
        stop: Set when the server ends.
        note: What the page has to say about the model file; may be empty.
    """

    session: Session
    path: Path
    device: str
    watch: Watch
    stop: StopFlag
    note: str = ""
    _computing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _searching: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def compute(self, request: Request, function: Callable[[], _T]) -> _T:
        """Call a function that uses the session; one at a time.

        Raises:
            ClientDisconnect: the page no longer waits for the answer.
        """
        async with self._computing:
            if await request.is_disconnected():
                raise ClientDisconnect
            return await asyncio.to_thread(function)

    async def search(self, request: Request, photo: str) -> Latents:
        """Search for better latents of a photo, beside all other requests.

        Raises:
            ClientDisconnect: the page no longer waits for the answer.
            UsageError: another search is running, or the photo is gone.
        """
        if self._searching.locked():
            raise UsageError("a search is running. Wait for its end")
        stop = StopFlag()
        async with self._searching:
            task = asyncio.create_task(asyncio.to_thread(self.session.search, photo, stop))
            while not (await asyncio.wait({task}, timeout=_POLL_SECONDS))[0]:
                if self.stop.asked or await request.is_disconnected():
                    stop.asked = signal.SIGTERM
            try:
                return task.result()
            except Stopped as error:
                raise ClientDisconnect from error

    async def follow(self) -> None:
        """Load the model again whenever its file is replaced.

        A save that cannot be loaded is tried again, since a lack of memory, for example, may pass.
        """
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                await self._load_if_new()
            except Exception as error:
                known = isinstance(error, GentoolError)
                why = f"{error}" if known else f"{type(error).__name__}: {error}"
                self.note = f"The new save cannot be used: {why}"
                await asyncio.sleep(RETRY_SECONDS)

    async def _load_if_new(self) -> None:
        """Load the model if its file is not the one whose model is shown."""
        stamp = await asyncio.to_thread(self.watch.changed)
        if stamp is None:
            self.note = ""
            return
        loaded = await asyncio.to_thread(load_model, self.path, self.device)
        async with self._computing:
            self.session.replace(loaded)
            self.watch.seen, self.note = stamp, ""
