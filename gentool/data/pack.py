"""Write prepared images as a .zip of PNG files, for viewing or for copying to other places.

The zip is itself a source: training on it uses the same pixels as training on the original
source. Class folders are kept; for labels that do not come from folders they are created. Every
member has the time of its source file. Every PNG carries the hash of its source file, so that a
hold-out split of the zip equals that of the original source.
"""

import struct
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from gentool.core.atomic_files import replacing
from gentool.core.errors import DataError, UsageError
from gentool.core.messages import Progress
from gentool.core.picture_files import encode
from gentool.data.origin import with_origin
from gentool.data.preprocessing import Preprocessing
from gentool.data.sources.selection import why_skipped
from gentool.data.sources.table import Source

_POLL = 64  # images between two calls of `progress`, which may raise to stop
_FIRST, _LAST = 315532800, 2**32 - 1  # 1980 and 2106 in seconds since 1970: a zip has no others
_TIMES = struct.Struct("<HHBL")  # the extra field with a time in UTC, "UT"
_UT = 0x5455


def pack(
    source: Source,
    preprocessing: Preprocessing,
    out: Path,
    progress: Progress,
    comment: Callable[[int], bytes] = lambda count: b"",
) -> tuple[int, list[tuple[str, str]]]:
    """Write the prepared images of ``source`` into a .zip.

    Args:
        source: Where the images come from.
        preprocessing: How the images are prepared.
        out: Path of the .zip; an older file is replaced when everything has been written.
        progress: Called with (done, total); may raise to stop.
        comment: Takes the number of images and returns the comment of the zip, which says how
            the zip was made.

    Returns:
        The number of images written, and (name, reason) of those that could not be read.

    Raises:
        UsageError: the file cannot be written.
        DataError: no image can be read.
    """
    taken: set[str] = set()
    bad: list[tuple[str, str]] = []
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for index in range(len(source)):
                if index % _POLL == 0:
                    progress(index, len(source))
                try:
                    loaded = source.load(index, preprocessing)
                except Exception as error:  # whatever a broken file makes a decoder raise
                    bad.append((source.describe(index), str(error).splitlines()[0]))
                    continue
                name = _member(source, index, taken)
                data = with_origin(encode(loaded.pixels, ".png"), loaded.content_hash)
                archive.writestr(_dated(name, source.time(index)), data)
            archive.comment = comment(len(taken))
            if not taken:
                raise DataError(
                    f"none of the {len(source)} images can be read; the first: {bad[0][1]}"
                )
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}") from error
    progress(len(source), len(source))
    return len(taken), bad


def _dated(name: str, time: float | None) -> zipfile.ZipInfo:
    """Return a member with the time of its image's file, in UTC: equal files give equal zips.

    The image of no file has the first date that a zip can hold, which says that there is none.
    """
    seconds = _FIRST if time is None else min(max(int(time), _FIRST), _LAST)
    day = datetime.fromtimestamp(seconds, UTC)
    member = zipfile.ZipInfo(name, (day.year, day.month, day.day, day.hour, day.minute, day.second))
    if seconds != _FIRST:
        member.extra = _TIMES.pack(_UT, 5, 1, seconds)
    return member


def _folder(kind: str) -> str:
    """Return a class name as a folder name that is neither hidden nor leads to another place."""
    plain = "".join(c if c.isprintable() and c not in "/\\:" else "_" for c in kind)
    return f"_{plain}" if why_skipped(plain) or not plain else plain


def _member(source: Source, index: int, taken: set[str]) -> str:
    """Return a new member name ``class/name.png``, and add it to ``taken``.

    A number is appended if two files differ only in their suffix.
    """
    own = PurePosixPath(source.paths[index]) if source.paths else PurePosixPath(f"{index:08d}")
    stem = str(own.with_suffix(""))
    if source.labels is not None:
        kind = source.classes[source.labels[index]]
        if own.parts[0] != kind:
            stem = f"{_folder(kind)}/{stem}"
    name, number = f"{stem}.png", 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}.png"
    taken.add(name)
    return name
