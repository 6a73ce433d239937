"""The command ``gentool data cache``: list, verify and prune the entries of the cache folder."""

from datetime import datetime
from typing import TYPE_CHECKING

import typer

from gentool.cli import options
from gentool.cli.console import emit, emit_json, emit_table, say
from gentool.core.errors import DataError, UsageError
from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.data import Entry

_SPANS = {"m": 60, "h": 3600, "d": 86_400}
_SIZES = {"M": 10**6, "G": 10**9, "T": 10**12}


def command(
    listing: bool = typer.Option(False, "--list",
    help="List what the cache contains; the default."),
    prune: str = typer.Option(
        None, "--prune", metavar="WHAT",
        help="all; 30d: what was not used for 30 days; 10G: the oldest, until 10 GB are left.",
    ),
    verify: bool = typer.Option(False, "--verify",
    help="Read all prepared images and compare their checksums."),
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Show, verify or shrink what gentool keeps in its cache folder.

    gentool data cache --list

    gentool data cache --prune 30d
    """
    from gentool.data import cache_folder, list_entries
    from gentool.data import verify as read_whole

    if prune is not None:
        dropped = _prune(prune)
        say(f"deleted {len(dropped)} entries, {_size(sum(e.bytes for e in dropped))}")
    entries = list_entries()
    faults = {}
    if verify:
        with StopFlag() as stop:
            for entry in entries:
                stop.poll("stopped; nothing was changed")
                if entry.kind == "images" and (fault := read_whole(entry)):
                    faults[str(entry.path)] = fault
    if as_json:
        emit_json({"folder": str(cache_folder()), "faults": faults, "entries": [
            {"path": str(e.path), "kind": e.kind, "bytes": e.bytes, "used": e.used,
             "about": e.about, "in_use": e.in_use} for e in entries]})  # fmt: skip
    else:
        emit(f"{cache_folder()}: {_size(sum(e.bytes for e in entries))}")
        if entries:
            emit_table((_size(e.bytes), e.kind, _day(e.used), e.path.name, e.about)
                       for e in entries)  # fmt: skip
    if faults:
        path, fault = next(iter(faults.items()))
        raise DataError(
            f"{len(faults)} entries are damaged; the first: {path}: {fault}. They are prepared "
            "again at their next use"
        )


def _prune(what: str) -> "list[Entry]":
    from gentool.data import prune

    if what == "all":
        return prune(everything=True)
    number, unit = what[:-1], what[-1:]
    if number.isdecimal() and len(number) < 10:
        if unit in _SPANS:
            return prune(older_than=int(number) * _SPANS[unit])
        if unit in _SIZES:
            return prune(max_bytes=int(number) * _SIZES[unit])
    raise UsageError(
        f"--prune {what:.40}: write all, an age such as 30d (m, h, d), "
        "or a size such as 10G (M, G, T)"
    )


def _size(count: int) -> str:
    for unit, size in reversed(_SIZES.items()):
        if count >= size:
            return f"{count / size:.1f} {unit}B"
    return f"{count / 1000:.1f} kB"


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
