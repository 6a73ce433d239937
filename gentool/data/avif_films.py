"""Films in AVIF files that are cut short: which of their frames are whole. Opens no file.

A decoder refuses such a file, although most frames may be there. The tables in its header say where
each frame lies (ISO/IEC 14496-12, 8.6 and 8.7).
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_MOST_FRAMES = 10**6
_MOST_FILLED = 2**28  # bytes, and at most ...
_FILLED = 16  # ... so many times what is there
_TABLES = (b"mdia", b"minf", b"stbl")  # the boxes of a track that lead to its tables


class _Box(NamedTuple):
    kind: bytes
    body: int
    end: int


def whole_frames(data: bytes) -> int | None:
    """Return how many first frames of a film that is cut short are whole; None for other files."""
    try:
        if _length(data) <= len(data):
            return None
        movies = _inside(data, 0, len(data), b"moov")
        counts = [
            _whole_of(data, *_find(data, track))
            for movie in movies
            for track in _inside(data, movie.body, movie.end, b"trak")
        ]
    except (
        struct.error,
        ValueError,
        IndexError,
        KeyError,
    ):  # the tables are damaged or cut themselves
        return None
    return min(counts) if counts else None


def filled(data: bytes) -> bytes:
    """Return a file that is cut short at its promised length, with zeros for what is missing."""
    return data + bytes(min(_length(data) - len(data), _MOST_FILLED, _FILLED * len(data)))


def _length(data: bytes) -> int:
    """Return the length of a file that its boxes promise."""
    return max((box.end for box in _boxes(data, 0, len(data))), default=0)


def _boxes(data: bytes, start: int, stop: int) -> Iterator[_Box]:
    """Yield the boxes in a part of a file; the last one may end after it."""
    while start + 8 <= stop:
        size, body = int.from_bytes(data[start : start + 4], "big"), start + 8
        if size == 1:
            size, body = int.from_bytes(data[body : body + 8], "big"), start + 16
        end = start + size if size else stop
        if end < body:
            return
        yield _Box(data[start + 4 : start + 8], body, end)
        start = end


def _inside(data: bytes, start: int, stop: int, kind: bytes) -> list[_Box]:
    return [box for box in _boxes(data, start, stop) if box.kind == kind]


def _find(data: bytes, track: _Box) -> tuple[int, int]:
    """Return where the tables of a track begin and end."""
    body, end = track.body, track.end
    for kind in _TABLES:
        _, body, end = _inside(data, body, end, kind)[0]
    return body, end


def _whole_of(data: bytes, start: int, stop: int) -> int:
    """Return how many first samples of a track are whole."""
    tables = {box.kind: box.body for box in _boxes(data, start, stop)}
    places = _places(data, tables)
    runs = _numbers(data, tables[b"stsc"], 3)
    size, count = struct.unpack_from(">2I", data, tables[b"stsz"] + 4)
    if count > _MOST_FRAMES:
        raise ValueError("too many frames")
    sizes = [size] * count if size else [n for (n,) in _numbers(data, tables[b"stsz"] + 4, 1)]
    done, run = 0, 0
    for number, place in enumerate(places, start=1):
        while run + 1 < len(runs) and runs[run + 1][0] <= number:
            run += 1
        for _ in range(runs[run][1]):
            if done == len(sizes) or place + sizes[done] > len(data):
                return done
            place, done = place + sizes[done], done + 1
    return done


def _places(data: bytes, tables: dict[bytes, int]) -> list[int]:
    """Return where the chunks of samples of a track begin."""
    if b"stco" in tables:
        return [place for (place,) in _numbers(data, tables[b"stco"], 1)]
    return [high << 32 | low for high, low in _numbers(data, tables[b"co64"], 2)]


def _numbers(data: bytes, box: int, columns: int) -> list[tuple[int, ...]]:
    """Return the rows of a table after its version and count, as numbers of 32 bits."""
    (count,) = struct.unpack_from(">I", data, box + 4)
    if count > _MOST_FRAMES:
        raise ValueError("too many rows")
    row = struct.Struct(f">{columns}I")
    return [row.unpack_from(data, box + 8 + k * row.size) for k in range(count)]
