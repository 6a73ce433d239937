"""A page server in this process, and a plain client for it."""

import json
import signal
import threading
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gentool.core.signals import StopFlag
from gentool.explore.guarding import Keys
from gentool.explore.serving import listen, serve

Answer = tuple[HTTPResponse, bytes]


class Explorer:
    """Serves a model in a thread; a context manager.

    Attributes:
        keys: The secrets of the server.
        port: Its port.
    """

    def __init__(self, model: Path) -> None:
        self.keys: Keys
        self._stop, self._model, self._ready = StopFlag(), model, threading.Event()
        self._listener = listen(0)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        try:
            serve(self._model, "cpu", self._listener, self._stop, self._start)
        finally:
            self._ready.set()

    def _start(self, keys: Keys) -> None:
        self.keys = keys
        self._ready.set()

    def __enter__(self) -> "Explorer":
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.asked = signal.SIGTERM
        self._thread.join(30)
        assert not self._thread.is_alive()

    @property
    def address(self) -> str:
        """The address of the page, with its token."""
        return self.keys.address(self.keys.token)

    def ask(
        self, method: str, path: str, body: Any = None, kind: str | None = None, **headers: str
    ) -> Answer:
        """Send one request with the cookie; underscores in names of headers are hyphens."""
        told = {"Cookie": f"{self.keys.cookie}={self.keys.token}"}
        if kind is not None:
            told["Content-Type"] = kind
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {k: v for k, v in told.items() if v})
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def post(self, path: str, **told: object) -> Answer:
        """Send JSON."""
        return self.ask("POST", path, json.dumps(told), "application/json")

    def told(self, path: str, **told: object) -> Any:
        """Send JSON, if something is given, and return the JSON of the answer."""
        answer, body = self.post(path, **told) if told else self.ask("GET", path)
        assert answer.status == 200, body
        return json.loads(body)

    def file(self, path: str, *pictures: object) -> bytes:
        """Return the file that pictures become."""
        answer, body = self.post(path, pictures=pictures)
        assert answer.status == 200, body
        return body

    def draw(self, *pictures: object, quick: bool = False) -> NDArray[np.uint8]:
        """Return the pixels of pictures."""
        state = self.told("/state")
        found = np.frombuffer(self.file("/sketch" if quick else "/draw", *pictures), np.uint8)
        return found.reshape(-1, state["height"], state["width"], state["channels"])


def sample(seed: int, index: int, class_name: str | None = None, **drawing: float) -> Any:
    """A sample, as the page describes it."""
    start: dict[str, object] = {"seed": seed, "index": index, "drawing": drawing}
    return {"start": start if class_name is None else {**start, "class": class_name}}


def moved(picture: Any, *moves: tuple[int, float], by: str = "principal") -> Any:
    """A picture, moved along directions."""
    return {**picture, "by": by, "moves": [list(move) for move in moves]}
