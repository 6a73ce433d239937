"""The server: it listens on this machine alone, in a thread, until it is asked to stop."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import uvicorn

from gentool.checkpoint import load_model
from gentool.core.errors import GentoolError, UsageError
from gentool.core.signals import StopFlag
from gentool.explore.connections import Connection
from gentool.explore.desk import Desk
from gentool.explore.following import Watch
from gentool.explore.guarding import Keys
from gentool.explore.routes import make_app
from gentool.explore.session import Session

_HERE = "127.0.0.1"
_POLL_SECONDS = 0.1
_HEAD_BYTES = 16 * 2**10  # of a request
_LAST_SECONDS = 2  # for requests that are running at the end


def listen(port: int) -> socket.socket:
    """Return a socket that listens on this machine; port 0 takes a free one.

    Raises:
        UsageError: the port cannot be used.
    """
    # With the protocol named, asyncio sends small answers at once; else each waits for 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # a port that was just left can be taken again
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HERE, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise UsageError(
            f"port {port} of {_HERE} cannot be used: {error.strerror or error}. Give another "
            "--port, or leave it out for a free one"
        ) from error
    return listener


def serve(
    path: Path,
    device: str,
    listener: socket.socket,
    stop: StopFlag,
    ready: Callable[[Keys], None],
) -> None:
    """Serve the page of a model until ``stop`` is asked for.

    Args:
        path: A model file or run folder.
        device: Where the model computes.
        listener: From ``listen``; it is closed at the end.
        stop: Ends the server.
        ready: Called with the secrets, once the page can be opened.

    Raises:
        GentoolError: the server could not start, or ended though nobody asked for it.
    """
    with listener:
        watch = Watch.of(path)
        session = Session(load_model(path, device))
        keys = Keys(listener.getsockname()[1])
        config = uvicorn.Config(
            make_app(Desk(session, path, device, watch, stop), keys),
            http=Connection, ws="none", loop="asyncio", lifespan="on", log_config=None,
            log_level="critical", access_log=False, proxy_headers=False, server_header=False,
            timeout_graceful_shutdown=_LAST_SECONDS, h11_max_incomplete_event_size=_HEAD_BYTES,
        )  # fmt: skip
        server = uvicorn.Server(config)
        if stop.asked is not None:  # while the model was loaded
            return
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        told = False
        while thread.is_alive():
            if server.started and not told:
                ready(keys)
                told = True
            server.should_exit = server.should_exit or stop.asked is not None
            thread.join(_POLL_SECONDS)
    if stop.asked is None:
        what = "ended by itself" if server.started else "could not start"
        raise GentoolError(f"the server of the page {what}. Run it again with --debug")
