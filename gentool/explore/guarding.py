"""The guard before every request: only the page itself, opened by its owner, is answered.

A page of the web can send requests to this machine, and a name that it controls can be made to
point here (DNS rebinding). So a request needs the token, which only the printed address holds; it
must name this machine as its host; and it must not come from another page. Answers tell the
browser to load nothing from elsewhere.
"""

import secrets
from dataclasses import dataclass, field

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MOST_REQUESTS = 32  # at one time
_ALWAYS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass
class Keys:
    """The secrets of one server.

    Attributes:
        port: Its port; cookies are shared by all ports of a machine, so the name holds it.
        token: In the printed address; the browser keeps it as a cookie.
        once: For the address that is handed to a browser, where other users may read it in the
            list of processes; it works once.
    """

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    once: str | None = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def cookie(self) -> str:
        """Name of the cookie that holds the token."""
        return f"gentool-{self.port}"

    def address(self, token: str) -> str:
        """Return the address of the page."""
        return f"http://127.0.0.1:{self.port}/?token={token}"


class Guard:
    """Passes on the requests that are allowed, and sets the headers of every answer.

    Args:
        app: The application.
        keys: The secrets.
    """

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app, self._keys, self._running = app, keys, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        cookie: list[str] = []

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers[name] = value
                for value in cookie:
                    headers.append("Set-Cookie", value)
            await send(message)

        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            await refusal(scope, receive, send_guarded)
            return
        if request.query_params.get("token"):
            cookie.append(
                f"{self._keys.cookie}={self._keys.token}; HttpOnly; SameSite=Strict; Path=/"
            )
        self._running += 1
        try:
            await self._app(scope, receive, send_guarded)
        finally:
            self._running -= 1

    def _refusal(self, request: Request) -> Response | None:
        """Return the answer to a request that is not allowed; None if it is."""
        port = self._keys.port
        host = request.headers.get("host", "")
        if host not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            return refuse(403, f"this page is only at 127.0.0.1:{port}")
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return refuse(403, "requests of other pages are not answered")
        entering = request.url.path == "/" and request.method == "GET"
        fetched_by = request.headers.get("sec-fetch-site", "none")
        if not entering and fetched_by not in ("same-origin", "none"):
            return refuse(403, "requests of other pages are not answered")
        if not (self._kept(request) or (entering and self._entered(request))):
            return refuse(403, "open the address that gentool explore printed; it holds the token")
        if self._running >= _MOST_REQUESTS:
            return refuse(503, "too many requests at one time; try again")
        return None

    def _kept(self, request: Request) -> bool:
        """Return whether the browser sent the cookie."""
        return _equal(request.cookies.get(self._keys.cookie, ""), self._keys.token)

    def _entered(self, request: Request) -> bool:
        """Return whether the address holds a token; the one that works once is used up."""
        given = request.query_params.get("token", "")
        if self._keys.once is not None and _equal(given, self._keys.once):
            self._keys.once = None
            return True
        return _equal(given, self._keys.token)


def _equal(given: str, wanted: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def refuse(status: int, why: str) -> Response:
    """Return an answer that is an error: one sentence, as JSON."""
    return JSONResponse({"error": why}, status_code=status)
