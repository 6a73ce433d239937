"""Whether a finished entry of the cache has the images that a source has now.

The name of an entry depends on the names, sizes and times of the files. Other images may have the
same. So an entry keeps the stamps of the sources that it was made from or compared with; with a
stamp that it does not know, the content of every file is compared once. A stamp that changed
without another content, as after a copy or ``chmod``, thus costs one reading of the files.
"""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from gentool.core.atomic_files import replacing
from gentool.core.messages import Progress
from gentool.data.cache.entry import Opened
from gentool.data.cache.workers import cores
from gentool.data.preprocessing import Preprocessing
from gentool.data.reading import Bad, attempt
from gentool.data.sources.table import Source

STAMPS = "stamps"
_MOST_STAMPS = 64
_AT_ONCE = 256  # images between two calls of `progress`, which may raise to stop


def knows(entry: Path, source: Source) -> bool:
    """Return whether the entry has the images of the source, judged by its stamp alone."""
    return source.stamp is None or (not source.reread and source.stamp in _stamps(entry))


def remember(entry: Path, source: Source) -> None:
    """Record that the entry has the images of the source."""
    known = _stamps(entry)
    if source.stamp is None or source.stamp in known:
        return
    kept = [*known, source.stamp][-_MOST_STAMPS:]
    with contextlib.suppress(OSError), replacing(entry / STAMPS) as out:  # it may be read-only
        out.write("\n".join(kept).encode())


def _stamps(entry: Path) -> list[str]:
    try:
        return (entry / STAMPS).read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):
        return []


def matches(
    found: Opened, source: Source, preprocessing: Preprocessing, progress: Progress
) -> bool:
    """Return whether the images of a source are those of an entry, by reading all of them.

    Args:
        found: The entry.
        source: The images.
        preprocessing: How the entry was prepared.
        progress: Called with (done, total); may raise to stop.

    Raises:
        GentoolError: the source as a whole cannot be read.
    """
    total = len(source)
    left_out = {bad.number: bad for bad in found.bad}
    if total != len(found.hashes) + len(left_out):
        return False
    rows = np.arange(total) - np.searchsorted(sorted(left_out), np.arange(total))

    def is_same(index: int) -> bool:
        row = None if index in left_out else int(rows[index])
        return _is_same(found, source, preprocessing, index, row)

    with ThreadPoolExecutor(1 if source.access == "sequential" else cores()) as pool:
        for numbers in _blocks(total):
            progress(numbers.start, total)
            if not all(pool.map(is_same, numbers)):
                return False
    return True


def _blocks(total: int) -> Iterator[range]:
    return (range(k, min(k + _AT_ONCE, total)) for k in range(0, total, _AT_ONCE))


def _is_same(
    found: Opened, source: Source, preprocessing: Preprocessing, index: int, row: int | None
) -> bool:
    """Return whether image ``index`` is that in ``row``; for None, whether it is still bad."""
    if row is not None:
        proof = attempt(source.proof, index)
        if proof is not None:
            return not isinstance(proof, Bad) and proof == int(found.hashes[row])
    image = attempt(lambda k: source.load(k, preprocessing), index)
    if row is None or isinstance(image, Bad):
        return row is None and isinstance(image, Bad)
    same = image.content_hash == int(found.hashes[row])
    return same and np.array_equal(image.pixels, found.stored[row])
