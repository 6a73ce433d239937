"""Warnings of decoders are ignored in several threads, and other warnings are not."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from gentool.data.decoder_warnings import ignored_decoder_warnings


def test_threads_that_leave_as_they_came_leave_no_filter_behind() -> None:
    before = list(warnings.filters)
    entered, left = threading.Event(), threading.Event()

    def first() -> None:
        with ignored_decoder_warnings():
            entered.wait(10)
        left.set()

    def second() -> None:
        with ignored_decoder_warnings():
            entered.set()
            left.wait(10)
            warnings.warn_explicit("metadata", UserWarning, "x.py", 1, module="PIL.Image")

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first), pool.submit(second)]:
            done.result()
    assert list(warnings.filters) == before


def test_warnings_from_elsewhere_are_still_given() -> None:
    with ignored_decoder_warnings(), pytest.raises(UserWarning, match="for the user"):
        warnings.warn("for the user", stacklevel=1)  # warnings are errors in tests
