"""Tables of named objects: name -> (description, loader), with suggestions for misspelt names.

A table lists its entries explicitly in one module; no entry registers itself when it is
imported. A loader runs only at ``get``, so listing the names does not import torch.
"""

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, TypeVar

from gentool.core.errors import UnknownName

T = TypeVar("T")
_SHOWN = 60  # characters of a wrong name that a message repeats


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One row of a table: a one-line description and a function that returns the object."""

    description: str
    load: Callable[[], T]


def at(module: str, name: str) -> Callable[[], Any]:
    """Return a loader that imports ``module`` when called and returns its attribute ``name``."""
    return lambda: getattr(import_module(module), name)


def unknown_name(kind: str, given: str, names: list[str], listing: str) -> UnknownName:
    """Return the error for an unknown name, with the nearest name if one is similar.

    Args:
        kind: What the name stands for, in the singular.
        given: The unknown name.
        names: Names that exist.
        listing: The command that lists them.
    """
    return name_error(kind, given, names, f"{listing} shows all {len(names)}")


def name_error(kind: str, given: str, names: list[str], where: str) -> UnknownName:
    """Return the same error as ``unknown_name``; ``where`` is the hint where the names are."""
    near = difflib.get_close_matches(given[:_SHOWN], names, n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    shown = given if len(given) <= _SHOWN else f"{given[:_SHOWN]}..."
    return UnknownName(f"there is no {kind} named '{shown}'. {hint}({where})")


class Registry(Generic[T]):
    """An explicit, ordered table of named objects.

    Args:
        kind: What an entry is, in the singular, for messages ("GAN loss").
        listing: The command that prints the table.
        entries: The rows.
        retired: Rows for files of older versions only; ``get`` returns them, and nothing lists
            them.
    """

    def __init__(
        self, kind: str, listing: str, entries: dict[str, Entry[T]],
        retired: dict[str, Entry[T]] | None = None,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.listing = listing
        self._entries = entries
        self._retired = retired or {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def check(self, name: str) -> None:
        """Raise ``UnknownName`` with the nearest name if ``name`` is not in the table."""
        if name not in self._entries:
            raise unknown_name(self.kind, name, list(self._entries), self.listing)

    def get(self, name: str) -> T:
        """Return the object called ``name``.

        Raises:
            UnknownName: The table has no such name.
        """
        if name in self._retired:
            return self._retired[name].load()
        self.check(name)
        return self._entries[name].load()

    def describe(self) -> dict[str, str]:
        """Return name -> one-line description, in the table's order."""
        return {name: entry.description for name, entry in self._entries.items()}
