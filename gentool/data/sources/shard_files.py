"""The files of shards, in a folder or at a URL: their bytes, and what tells that they changed."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gentool.core.errors import DataError
from gentool.data.sources.changes import stamp_of, stamp_of_file

REMOTE = ("s3://", "gs://", "azure://")
_MAX_INDEX = 2**28
_MOST_TAGS = 1000  # files that a server is asked about ...
_ASKING = 16  # ... at a time


def fetch(place: str, name: str, scratch: Path) -> bytes:
    """Return the bytes of a file of the shards.

    Raises:
        DataError: it cannot be read, or the index is too large.
    """
    try:
        if place.startswith(REMOTE):
            from litdata.streaming.downloader import get_downloader

            local = scratch / name
            remote = f"{place.rstrip('/')}/{name}"
            get_downloader(place, str(scratch), []).download_file(remote, str(local))
        else:
            local = Path(place).expanduser() / name
        if name == "index.json" and local.stat().st_size > _MAX_INDEX:
            raise DataError(f"the index of shards:{place:.200} is too large")
        return local.read_bytes()
    except DataError:
        raise
    except Exception as error:  # every kind of storage raises its own errors
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise DataError(
            f"there are no shards at {place:.200}: {name} cannot be read ({reason:.200}). "
            "Write shards with gentool data shards"
        ) from error


def stamp_of_place(place: str, chunks: Sequence[str], scratch: Path) -> str | None:
    """Return the stamp of the files with the images; None where a server tells none.

    Raises:
        DataError: the server does not answer.
    """
    if place.startswith(REMOTE):
        return _tags(place, chunks, scratch)
    with os.scandir(Path(place).expanduser()) as entries:
        files = sorted((entry.name, entry.stat()) for entry in entries if entry.is_file())
    return stamp_of(f"{name} {stamp_of_file(info)}" for name, info in files)


def _tags(place: str, chunks: Sequence[str], scratch: Path) -> str | None:
    """Return a hash of what a server says about files: the ETag, else the time of the last change.

    Of very many files, some are asked for, spread evenly. None means that this server never tells,
    for example because it may not be asked. A server that does not answer now is an error: without
    its tags, a run that continues would seem to have other images.

    Raises:
        DataError: the server does not answer.
    """
    from litdata.streaming.downloader import get_downloader

    _, _, rest = place.partition("://")
    bucket, _, folder = rest.strip("/").partition("/")
    some = chunks[:: len(chunks) // _MOST_TAGS + 1]
    try:
        import obstore

        store = get_downloader(place, str(scratch), [])._get_store(bucket)

        def tag(name: str) -> str:
            told = obstore.head(store, f"{folder}/{name}" if folder else name)
            return f"{name} {told['size']} {told['e_tag'] or told['last_modified']}"

        with ThreadPoolExecutor(_ASKING) as pool:
            return stamp_of(pool.map(tag, some))
    except Exception as error:  # every kind of storage raises its own errors
        if type(error).__name__ != "GenericError":
            return None
        raise DataError(
            f"shards:{place:.200} does not answer ({str(error).partition(chr(10))[0]:.200}). "
            "Repeat the command later"
        ) from error
