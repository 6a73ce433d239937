"""Attacks on the page of ``explore``: only the person who started it is answered."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from explorer import Explorer, sample

from gentool.core.errors import UsageError
from gentool.explore import connections
from gentool.explore.pictures import parse_pictures
from gentool.explore.serving import listen


@pytest.fixture(scope="module")
def explorer(gan: Path) -> Iterator[Explorer]:
    with Explorer(gan) as started:
        yield started


def refused(answer: Any) -> str:
    """The sentence of a refusal."""
    response, body = answer
    assert 400 <= response.status < 500, body
    assert response.headers["Content-Type"] == "application/json"
    told = json.loads(body)
    assert list(told) == ["error"]
    assert "\n" not in told["error"]
    return str(told["error"])


def test_it_listens_on_this_machine_alone() -> None:
    with listen(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "path", ["/", "/state", "/page/main.js", "/nothing", "/?token=", "/?token=x"]
)
@pytest.mark.parametrize("cookie", ["", "gentool-1=x", "token=x"])
def test_nothing_is_answered_without_the_token(explorer: Explorer, path: str, cookie: str) -> None:
    answer = explorer.ask("GET", path, Cookie=cookie)
    assert answer[0].status == 403
    assert "holds the token" in refused(answer)
    assert "Set-Cookie" not in answer[0].headers


def test_the_token_in_the_address_opens_only_the_page(explorer: Explorer) -> None:
    query = f"?token={explorer.keys.token}"
    answer, _ = explorer.ask("GET", f"/{query}", Cookie="")
    assert answer.status == 200
    kept = answer.headers["Set-Cookie"]
    assert kept == (
        f"{explorer.keys.cookie}={explorer.keys.token}; HttpOnly; SameSite=Strict; Path=/"
    )
    assert "holds the token" in refused(explorer.ask("GET", f"/state{query}", Cookie=""))
    assert "holds the token" in refused(explorer.ask("POST", f"/{query}", Cookie=""))


def test_the_address_for_the_browser_works_once(explorer: Explorer) -> None:
    assert explorer.keys.once is not None
    path = f"/?token={explorer.keys.once}"
    assert explorer.ask("GET", path, Cookie="")[0].status == 200
    assert "holds the token" in refused(explorer.ask("GET", path, Cookie=""))


@pytest.mark.parametrize("host", [
    "evil.example", "127.0.0.1", "127.0.0.1:1", "0.0.0.0:{port}", "127.0.0.1:{port}.evil.example",
    "evil.example:{port}",
])  # fmt: skip
def test_another_host_is_refused(explorer: Explorer, host: str) -> None:
    answer = explorer.ask("GET", "/state", Host=host.format(port=explorer.port))
    assert "only at 127.0.0.1" in refused(answer)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}",
                                    "http://127.0.0.1:1", "http://localhost:{port}"])  # fmt: skip
def test_another_origin_is_refused(explorer: Explorer, origin: str) -> None:
    told = {"Origin": origin.format(port=explorer.port)}
    for method, path in (("GET", "/state"), ("POST", "/draw"), ("OPTIONS", "/draw"), ("GET", "/")):
        answer = explorer.ask(method, path, **told)
        assert "other pages" in refused(answer)
        assert not [h for h in answer[0].headers if h.lower().startswith("access-control")]


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
def test_what_another_page_loads_is_refused(explorer: Explorer, site: str) -> None:
    answer = explorer.ask("GET", "/state", Sec_Fetch_Site=site)
    assert "other pages" in refused(answer)


def test_answers_forbid_everything_from_elsewhere(explorer: Explorer) -> None:
    for path in ("/", "/page/main.js", "/state", "/nothing"):
        headers = explorer.ask("GET", path)[0].headers
        policy = headers["Content-Security-Policy"].split("; ")
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert not [part for part in policy if "unsafe" in part or "http" in part or "*" in part]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert "server" not in headers


@pytest.mark.parametrize("path", [
    "/page/../routes.py", "/page/%2e%2e/routes.py", "/page/..%2froutes.py", "/page//etc/passwd",
    "/page/%00", "/page/", "/page", "/etc/passwd", "//etc/passwd", "/page/main.js/",
    "/%2e%2e/%2e%2e", "/page/..\\routes.py", "/state/../../x",
])  # fmt: skip
def test_paths_lead_nowhere(explorer: Explorer, path: str) -> None:
    assert "not answered at this address" in refused(explorer.ask("GET", path))


def test_methods_are_fixed(explorer: Explorer) -> None:
    for method, path in (("GET", "/draw"), ("POST", "/state"), ("DELETE", "/"), ("PUT", "/photo")):
        assert "not answered" in refused(explorer.ask(method, path))


def test_a_form_of_another_page_is_no_json(explorer: Explorer) -> None:
    kinds = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None]
    for kind in kinds:
        assert "takes JSON" in refused(explorer.ask("POST", "/draw", "{}", kind))
        assert "takes the bytes" in refused(explorer.ask("POST", "/photo", b"x", kind))


def test_huge_bodies_are_refused_before_they_arrive(explorer: Explorer) -> None:
    for path, kind in (("/draw", "application/json"), ("/photo", "application/octet-stream")):
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{explorer.port}\r\nContent-Type: {kind}\r\n"
            f"Cookie: {explorer.keys.cookie}={explorer.keys.token}\r\n"
        )
        with socket.create_connection(("127.0.0.1", explorer.port), 20) as link:
            link.sendall(f"{head}Content-Length: 99999999999\r\n\r\n".encode())
            assert link.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_without_end_is_cut(explorer: Explorer) -> None:
    head = (
        f"POST /draw HTTP/1.1\r\nHost: 127.0.0.1:{explorer.port}\r\n"
        f"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        f"Cookie: {explorer.keys.cookie}={explorer.keys.token}\r\n\r\n"
    )
    sent = 0
    with socket.create_connection(("127.0.0.1", explorer.port), 20) as link:
        link.sendall(head.encode())
        chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
        try:
            while sent < 2**26:
                link.sendall(chunk)
                sent += 65_536
        except OSError:
            pass  # the server has closed the connection
        link.settimeout(20)
        try:
            answer = link.recv(100)
        except OSError:
            answer = b""
    assert answer.startswith(b"HTTP/1.1 413") or sent < 2**26
    assert explorer.told("/pulse")["generation"] == 0


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: ", b"\x16\x03\x01\x02\x00"])
def test_a_hundred_connections_do_not_shut_the_page_out(explorer: Explorer, begun: bytes) -> None:
    links = []
    try:
        for _ in range(100):
            link = socket.create_connection(("127.0.0.1", explorer.port), 20)
            links.append(link)
            link.sendall(begun)
        began = time.monotonic()
        assert explorer.draw(sample(0, 0)).shape == (1, 16, 16, 3)
        assert time.monotonic() - began < 10
    finally:
        for link in links:
            link.close()


def test_a_connection_that_sends_nothing_is_closed(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PATIENCE_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", explorer.port), 20) as link:
        link.sendall(b"GET /sta")
        with contextlib.suppress(ConnectionResetError):
            assert link.recv(1) == b""


def test_an_endless_head_is_refused(explorer: Explorer) -> None:
    with socket.create_connection(("127.0.0.1", explorer.port), 20) as link:
        link.sendall(b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * 40_000)
        assert link.recv(100).startswith(b"HTTP/1.1 400")


ODD: list[Any] = [
    None, {}, [], [[]], [{}], ["x"], [{"start": {}}], [{"start": {"seed": 1}}],
    [{"start": {"seed": -1, "index": 0}}], [{"start": {"seed": 2**63, "index": 0}}],
    [{"start": {"seed": True, "index": 0}}], [{"start": {"seed": 1.0, "index": 0}}],
    [{"start": {"seed": 0, "index": 0, "path": "/etc/passwd"}}], [{"start": {"photo": "../x"}}],
    [{"start": {"photo": "0" * 17}}], [{"start": {"photo": 7}}], [{"start": {"keys": [], "at": 0}}],
    [{"start": {"keys": [sample(0, 0)], "at": 0}}],
    [{"start": {"keys": [sample(0, 0)] * 2, "at": 1.1}}],
    [{"start": {"keys": [sample(0, 0)] * 65, "at": 1}}],
    [{"start": {"keys": [{"start": {"keys": [sample(0, 0)] * 2, "at": 0}}] * 2, "at": 0}}],
    [{**sample(0, 0), "moves": [[0]]}], [{**sample(0, 0), "moves": [[0, "x"]]}],
    [{**sample(0, 0), "moves": [[-1, 1]]}], [{**sample(0, 0), "moves": [[0, 1e9]]}],
    [{**sample(0, 0), "moves": [[0, 1]] * 65}], [{**sample(0, 0), "by": 3}],
    [{"start": {"seed": 0, "index": 0, "class": 3}}],
    [{"start": {"seed": 0, "index": 0, "drawing": {"truncation": "x"}}}],
    [{"start": {"seed": 0, "index": 0, "drawing": {"truncation": True}}}],
    [sample(0, 0)] * 257,
]  # fmt: skip


@pytest.mark.parametrize("pictures", ODD)
def test_odd_pictures_are_refused(pictures: Any) -> None:
    with pytest.raises(UsageError):
        parse_pictures(pictures)


@pytest.mark.parametrize("pictures", [
    [sample(0, 0, "nonsense")], [sample(0, 0, truncation=2)], [sample(0, 0, nonsense=1)],
    [{**sample(0, 0), "moves": [[4000, 1]]}], [{**sample(0, 0), "by": "x", "moves": [[0, 1]]}],
])  # fmt: skip
def test_what_the_model_cannot_draw_is_refused(explorer: Explorer, pictures: Any) -> None:
    for path in ("/draw", "/sketch", "/sheet", "/recipe", "/commands"):
        refused(explorer.post(path, pictures=pictures))


@pytest.mark.parametrize("body", ["", "x", "[]", "{", '{"pictures": NaN}', '{"a": 1, "a": 2}',
                                  "[" * 1000, '{"pictures": 1e999}', "\udcff"])  # fmt: skip
def test_what_is_no_json_is_refused(explorer: Explorer, body: str) -> None:
    data = body.encode("utf-8", "surrogateescape")
    refused(explorer.ask("POST", "/draw", data, "application/json"))


def test_names_from_a_model_file_are_only_text(explorer: Explorer) -> None:
    scripts = Path(connections.__file__).with_name("page").glob("*.js")
    source = "\n".join(path.read_text() for path in scripts)
    for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert danger not in source
