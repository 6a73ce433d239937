"""The table that pytest prints: how often each promise of gentool was tested, and the result."""

import platform
from collections.abc import Iterator
from datetime import date

_ROWS: dict[str, list[int]] = {}


def record(promise: str, survived: bool) -> bool:
    """Count one attack on a promise; returns ``survived``, to be asserted on."""
    row = _ROWS.setdefault(promise, [0, 0])
    row[0] += 1
    row[1] += survived
    return survived


def rows() -> dict[str, list[int]]:
    """Promise -> [tried, survived]."""
    return _ROWS


def add(other: dict[str, list[int]]) -> None:
    """Add what another process counted."""
    for promise, counts in other.items():
        row = _ROWS.setdefault(promise, [0, 0])
        row[:] = [a + b for a, b in zip(row, counts, strict=True)]


def table() -> Iterator[str]:
    """The lines of the table, in Markdown; none if nothing was tried."""
    if not _ROWS:
        return
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    yield f"| promise ({date.today()}, {machine}) | tried | survived | lost |"
    yield "| --- | --- | --- | --- |"
    for promise, (tried, survived) in sorted(_ROWS.items()):
        yield f"| {promise} | {tried} | {survived} | {tried - survived} |"
