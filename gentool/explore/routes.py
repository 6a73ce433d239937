"""The requests of the page: each is answered with JSON, pixels or a file, never with a path."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gentool.core.errors import GentoolError, UsageError
from gentool.core.messages import say
from gentool.explore.bodies import read_photo, read_pictures, read_word
from gentool.explore.controls import describe_model, images_seen
from gentool.explore.desk import Desk
from gentool.explore.favourites import RECIPE_NAME, commands, picture_of, sheet_of
from gentool.explore.guarding import Guard, Keys, refuse
from gentool.inference.recipe_files import recipe_text

_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript",
          ".svg": "image/svg+xml"}  # fmt: skip
_LONGEST_NAME = 120  # letters of the name of a file, without its ending
Answer = Callable[[Request], Awaitable[Response]]


def make_app(desk: Desk, keys: Keys) -> ASGIApp:
    """Return the application, behind its guard."""
    page = _page()
    routes = [
        Route("/", _static(page["index.html"])),
        *(Route(f"/page/{name}", _static(answer)) for name, answer in page.items()),
        *(_route(desk, name, answer, method) for name, (method, answer) in _ANSWERS.items()),
    ]

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        following = asyncio.create_task(desk.follow())
        yield
        following.cancel()

    handlers: dict[Any, Any] = {HTTPException: _unknown}
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return Guard(app, keys)


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refuse(error.status_code, f"{request.method} is not answered at this address")


def _page() -> dict[str, Response]:
    """Return the files of the page; these are all that exist, whatever an address says."""
    return {
        file.name: Response(file.read_bytes(), media_type=_KINDS[file.suffix])
        for file in Path(__file__).with_name("page").iterdir()
        if file.suffix in _KINDS
    }


def _static(answer: Response) -> Answer:
    async def answer_it(request: Request) -> Response:
        return answer

    return answer_it


def _route(
    desk: Desk, name: str, answer: Callable[[Desk, Request], Awaitable[Response]], method: str
) -> Route:
    """Return a route whose errors are sentences."""

    async def answer_it(request: Request) -> Response:
        try:
            return await answer(desk, request)
        except ClientDisconnect:
            return Response(status_code=204)
        except GentoolError as error:
            return refuse(400, str(error))
        except HTTPException as error:
            return refuse(error.status_code, error.detail)
        except Exception as error:
            say(f"error: unexpected {type(error).__name__} in {name}: {error}")
            return refuse(500, f"unexpected {type(error).__name__}; the terminal shows more")

    return Route(f"/{name}", answer_it, methods=[method])


def _json(value: object) -> Response:
    """Return JSON in ASCII, since names of classes may hold what UTF-8 does not."""
    return Response(json.dumps(value), media_type="application/json")


def _pixels(desk: Desk, data: bytes) -> Response:
    """Return pixels; a header names the model that drew them."""
    headers = {"X-Generation": str(desk.session.generation)}
    return Response(data, media_type="application/octet-stream", headers=headers)


# The answers


async def _state(desk: Desk, request: Request) -> Response:
    session = desk.session

    def describe() -> dict[str, Any]:
        told = describe_model(session.loaded, desk.path)
        return {**told, "generation": session.generation}

    return _json(await desk.compute(request, describe))


async def _pulse(desk: Desk, request: Request) -> Response:
    training = await asyncio.to_thread(desk.watch.in_training)
    return _json(
        {
            "generation": desk.session.generation,
            "images": images_seen(desk.session.loaded),
            "training": training,
            "note": desk.note,
        }
    )


async def _draw(desk: Desk, request: Request) -> Response:
    pictures = await read_pictures(request)

    def draw() -> Response:
        return _pixels(desk, desk.session.draw(pictures).tobytes())

    return await desk.compute(request, draw)


async def _sketch(desk: Desk, request: Request) -> Response:
    pictures = await read_pictures(request)

    def sketch() -> Response:
        return _pixels(desk, b"".join(desk.session.sketch(p).tobytes() for p in pictures))

    return await desk.compute(request, sketch)


async def _directions(desk: Desk, request: Request) -> Response:
    by = await read_word(request, "by")

    def find() -> Response:
        found = desk.session.directions(by)
        return _json({"by": found.method, "count": len(found), "space": found.space})

    return await desk.compute(request, find)


async def _photo(desk: Desk, request: Request) -> Response:
    data = await read_photo(request)

    def add() -> Response:
        name = desk.session.add_photo(data)
        return _json({"photo": name, "psnr": round(desk.session.likeness(name), 2)})

    return await desk.compute(request, add)


async def _original(desk: Desk, request: Request) -> Response:
    name, session = await read_word(request, "photo"), desk.session
    return await desk.compute(request, lambda: _pixels(desk, session.original(name).tobytes()))


async def _search(desk: Desk, request: Request) -> Response:
    name, session = await read_word(request, "photo"), desk.session
    generation = session.generation
    latents = await desk.search(request, name)

    def keep() -> Response:
        if session.generation != generation:
            raise UsageError("the model changed during the search. Search again")
        found = session.keep(name, latents)
        return _json({"photo": found, "psnr": round(session.likeness(found), 2)})

    return await desk.compute(request, keep)


async def _sheet(desk: Desk, request: Request) -> Response:
    pictures, session = await read_pictures(request), desk.session
    return await desk.compute(
        request, lambda: _file("favourites.png", sheet_of(session.loaded, session.picks(pictures)))
    )


async def _picture(desk: Desk, request: Request) -> Response:
    pictures, session = await read_pictures(request), desk.session

    def draw() -> Response:
        return _file(*picture_of(session.loaded, session.picks(pictures[:1])[0]))

    return await desk.compute(request, draw)


async def _recipe(desk: Desk, request: Request) -> Response:
    pictures, session = await read_pictures(request), desk.session

    def write() -> Response:
        text = recipe_text(session.loaded, session.picks(pictures))
        return _file(RECIPE_NAME, text.encode())

    return await desk.compute(request, write)


async def _commands(desk: Desk, request: Request) -> Response:
    pictures, session = await read_pictures(request), desk.session
    lines = await desk.compute(request, lambda: commands(desk.path, session.picks(pictures)))
    return _json({"commands": lines})


def _file(name: str, data: bytes) -> Response:
    """Return a file to save; in its name, all but safe letters become an underscore."""
    stem, dot, ending = name.rpartition(".")
    kind = "image/png" if ending == "png" else "application/toml"
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", stem)[:_LONGEST_NAME] or "image"
    headers = {"Content-Disposition": f'attachment; filename="{safe}{dot}{ending}"'}
    return Response(data, media_type=kind, headers=headers)


_ANSWERS: dict[str, tuple[str, Callable[[Desk, Request], Awaitable[Response]]]] = {
    "state": ("GET", _state),
    "pulse": ("GET", _pulse),
    "draw": ("POST", _draw),
    "sketch": ("POST", _sketch),
    "directions": ("POST", _directions),
    "photo": ("POST", _photo),
    "original": ("POST", _original),
    "search": ("POST", _search),
    "sheet": ("POST", _sheet),
    "picture": ("POST", _picture),
    "recipe": ("POST", _recipe),
    "commands": ("POST", _commands),
}
