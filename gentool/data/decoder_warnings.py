"""Ignore the warnings of decoders, in any number of threads at once.

``warnings.catch_warnings`` alone would not do: it changes a setting of the whole process. If two
threads are inside of it and leave in the order in which they came, the filter of the second stays
for good, and warnings that are meant for the user are lost.
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_DECODERS = r"(PIL|numpy|gentool\.data\.(preprocessing|encoded))\b"
_lock = threading.Lock()
_inside: "list[warnings.catch_warnings[None]]" = []  # one for each thread that is inside


@contextmanager
def ignored_decoder_warnings() -> Iterator[None]:
    """Ignore warnings of Pillow and numpy, such as those about metadata."""
    with _lock:
        _inside.append(_inside[0] if _inside else _begin())
    try:
        yield
    finally:
        with _lock:
            caught = _inside.pop()
            if not _inside:
                caught.__exit__(None, None, None)


def _begin() -> "warnings.catch_warnings[None]":
    """Save the filters of the process, and add one that ignores the decoders."""
    caught = warnings.catch_warnings()
    caught.__enter__()
    warnings.filterwarnings("ignore", module=_DECODERS)
    return caught
