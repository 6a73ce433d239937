"""The bodies of requests: read as they arrive, within bounds of size and time."""

import asyncio
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from gentool.core.strict_json import parse_json
from gentool.explore.pictures import Picture, parse_pictures

_JSON_BYTES, _PHOTO_BYTES = 2**20, 32 * 2**20
_BODY_SECONDS = 30.0  # in which a request must arrive


async def read_pictures(request: Request) -> list[Picture]:
    """Return the pictures that a request asks for.

    Raises:
        HTTPException: as for ``read_json``.
        UsageError: they are not described as they should be.
    """
    return parse_pictures((await read_json(request)).get("pictures"))


async def read_word(request: Request, name: str) -> str:
    """Return the text that a request has under a name.

    Raises:
        HTTPException: as for ``read_json``; or there is no such text.
    """
    word = (await read_json(request)).get(name)
    if not isinstance(word, str) or len(word) > 100:
        raise HTTPException(400, f"{name} is not given as a short text")
    return word


async def read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request.

    Raises:
        HTTPException: there is none, or it is too large.
    """
    if request.headers.get("content-type") != "application/json":
        raise HTTPException(415, "this address takes JSON")
    try:
        told = parse_json(await _body(request, _JSON_BYTES))
    except ValueError as error:
        raise HTTPException(400, f"this is not JSON: {error!s:.100}") from error
    if not isinstance(told, dict):
        raise HTTPException(400, "this is no JSON object")
    return told


async def read_photo(request: Request) -> bytes:
    """Return the bytes of a photo.

    Raises:
        HTTPException: there are none, or too many.
    """
    if request.headers.get("content-type") != "application/octet-stream":
        raise HTTPException(415, "this address takes the bytes of an image")
    return await _body(request, _PHOTO_BYTES)


async def _body(request: Request, most: int) -> bytes:
    """Return the body of a request.

    Raises:
        HTTPException: it is too large, or does not arrive in time.
    """
    too_large = HTTPException(413, f"this is too large; at most {most // 2**20} MiB are taken")
    told = request.headers.get("content-length", "0")
    if not (told.isascii() and told.isdecimal() and len(told) < 20) or int(told) > most:
        raise too_large
    found = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                found += part
                if len(found) > most:
                    raise too_large
    except TimeoutError as error:
        raise HTTPException(408, "the request did not arrive in time") from error
    return bytes(found)
