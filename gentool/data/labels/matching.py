"""Match the names in a file of labels with the names of images.

A file of labels may name images by their path from the root, with the root's name or absolute
path before it, without leading folders, without suffix, or in other case. One rule for folders is
used for the whole file: the first that most rows agree with. Within it every name is matched as
exactly as possible.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import DataError
from gentool.data.labels.tables import readable
from gentool.data.labels.values import Label
from gentool.data.labels.words import has_image_suffix

_SAMPLED = 5000  # rows by which it is judged whether a rule is worth trying
_INVISIBLE = " \t\r\n\xa0\u200b\ufeff"


class Rows(NamedTuple):
    """What a file of labels says.

    Attributes:
        file: Its name, for messages.
        names: The name of an image in each row.
        labels: The label in each row; None for an empty cell.
        numbers: The number of each row in the file.
        first: Number of the row that may be a header, else 0.
    """

    file: str
    names: list[str]
    labels: list[Label | None]
    numbers: list[int]
    first: int


class Match(NamedTuple):
    """Which row belongs to which image.

    Attributes:
        row: Position of the row of each image, int64 (N,); -1 for an image without a row.
        unused: Positions of the rows that fit no image.
    """

    row: NDArray[np.int64]
    unused: list[int]


def match_rows(names: Sequence[str], rows: Rows, root: str) -> Match:
    """Return which row belongs to which image.

    Args:
        names: Names of the images, with ``/`` between folders.
        rows: What the file of labels says.
        root: Path of the place that the names begin at.

    Raises:
        DataError: rows with different labels fit one image, or a row fits several images.
    """
    told = [plain_path(name) for name in rows.names]
    enough = min(len(names), len(told)) // 2
    best, problem = Match(np.full(len(names), -1, dtype=np.int64), list(range(len(told)))), None
    rules = _rules(names, told, plain_path(root))
    for rule in [next(rules)] if _are_equal(names, told) else _likely(list(rules), names):
        try:
            found = _matched(names, rows, rule)
        except DataError as error:  # another rule may be the right one
            problem = problem or error
            continue
        if len(found.unused) < len(best.unused):
            best = found
        if len(told) - len(best.unused) > enough:
            return best
    if problem is not None:
        raise problem
    return best


def _are_equal(names: Sequence[str], told: list[str]) -> bool:
    """Return whether most paths of a sample of rows are those of images."""
    there = set(map(plain_path, names))
    sample = told[:: len(told) // _SAMPLED + 1]
    return 2 * sum(path in there for path in sample) > len(sample)


def _likely(rules: "list[_Rule]", names: Sequence[str]) -> "list[_Rule]":
    """Return the rules by which some of a sample of rows fit an image; all if there is none."""
    there = {_number(plain_path(name)) for name in names}
    tails = {path.rpartition("/")[2] for path in there}
    deepest = max(path.count("/") for path in there)

    def fits(rule: _Rule) -> bool:
        sample = rule.rows[:: len(rule.rows) // _SAMPLED + 1]
        paths = [_number(path) for path in sample if path]
        if rule.tails:
            short = (path for path in paths if path.count("/") <= deepest)
            return any(path.rpartition("/")[2] in tails for path in short)
        return any(path in there for path in paths)

    return [rule for rule in rules if fits(rule)] or rules


def plain_path(path: str) -> str:
    """Return a path with ``/`` between its parts and without empty parts."""
    path = path.replace("\\", "/")
    if path[:1] not in ("/", ".") and "//" not in path and "/./" not in path:
        return path
    return "/".join(part for part in path.split("/") if part not in ("", "."))


class _Rule(NamedTuple):
    """How paths of rows and images are compared.

    Attributes:
        rows: The path of each row, as far as it counts; "" for a row that the rule leaves out.
        tails: Whether a row may leave out leading folders of the image's path.
    """

    rows: list[str]
    tails: bool = False


def _rules(names: Sequence[str], told: list[str], root: str) -> Iterator[_Rule]:
    """Yield the rules for folders, the most exact first."""
    yield _Rule(told)
    yield _Rule([_below(path, root) for path in told])
    yield _Rule(told, tails=True)
    depths = {plain_path(name).count("/") for name in names}
    deep = {path.count("/") for path in told}
    for count in sorted({there - depth for there in deep for depth in depths if there > depth}):
        yield _Rule(
            [path.split("/", count)[-1] if path.count("/") >= count else "" for path in told]
        )
    if len({path.rpartition("/")[0] for path in told}) == 1:
        yield _Rule([path.rpartition("/")[2] for path in told], tails=True)


def _below(path: str, root: str) -> str:
    """Return a path without the leading folders that are the last folders of ``root``, else ""."""
    parts, above = path.split("/"), root.split("/")
    for count in range(min(len(parts) - 1, len(above)), 0, -1):
        if parts[:count] == above[-count:]:
            return "/".join(parts[count:])
    return ""


def _exact(path: str) -> str:
    return path


def _composed(path: str) -> str:
    """Return the path in Unicode's composed form, as not all systems store names as typed."""
    if not path.isascii():
        path = unicodedata.normalize("NFC", readable(path))
    return path.strip(_INVISIBLE)


def _any_case(path: str) -> str:
    return _composed(path).casefold()


def _no_suffix(path: str) -> str:
    return _without_suffix(_composed(path))


def _neither(path: str) -> str:
    return _without_suffix(_any_case(path))


def _without_suffix(path: str) -> str:
    return path.rpartition(".")[0] if has_image_suffix(path) else path


def _number(path: str) -> str:
    """Return the path without the zeros before a number, which spreadsheets remove."""
    folder, slash, last = _neither(path).rpartition("/")
    return folder + slash + ((last.lstrip("0") or "0") if last.isdecimal() else last)


_FOLDS: tuple[Callable[[str], str], ...] = (
    _exact, _composed, _any_case, _no_suffix, _neither, _number,
)  # fmt: skip


def _matched(names: Sequence[str], rows: Rows, rule: _Rule) -> Match:
    """Return which row belongs to which image by one rule."""
    row = np.full(len(names), -1, dtype=np.int64)
    free: Iterable[tuple[int, str]] = ((k, plain_path(name)) for k, name in enumerate(names))
    unused = [k for k, path in enumerate(rule.rows) if path]
    left_out = [k for k, path in enumerate(rule.rows) if not path]
    for fold in _FOLDS:
        keys = [fold(rule.rows[k]) for k in unused]
        first: dict[str, int] = {}
        for k, key in zip(unused, keys, strict=True):
            first.setdefault(key, k)
        fitted: dict[str, int] = {}
        rest = []
        for image, path in free:
            fitting = _find(fold(path), first, tails=rule.tails)
            if fitting is None:
                rest.append((image, path))
                continue
            if fitting in fitted:
                raise _fits_two(names, rows, first[fitting], (fitted[fitting], image))
            fitted[fitting] = image
        for key, chosen in _agreed(names, rows, unused, keys, fitted).items():
            row[fitted[key]] = chosen
        unused = [k for k, key in zip(unused, keys, strict=True) if key not in fitted]
        free = rest
        if not rest or not unused:
            break
    return Match(row, sorted(unused + left_out))


def _find(image: str, told: dict[str, int], *, tails: bool) -> str | None:
    """Return the path in ``told`` that fits an image: its own or, with ``tails``, the end of it."""
    while image not in told:
        _, slash, image = image.partition("/")
        if not tails or not slash:
            return None
    return image


def _agreed(
    names: Sequence[str], rows: Rows, unused: list[int], keys: list[str], fitted: dict[str, int]
) -> dict[str, int]:
    """Return the row that counts for each key; a row with an empty label counts last.

    Raises:
        DataError: two rows of one image have different labels.
    """
    found: dict[str, int] = {}
    for k, key in zip(unused, keys, strict=True):
        if key not in fitted:
            continue
        before = found.setdefault(key, k)
        old, new = rows.labels[before], rows.labels[k]
        if old is None:
            found[key] = k
        elif new is not None and new != old:
            raise DataError(
                f"{rows.file} has different labels for {names[fitted[key]]:.200}: {old!s:.60} in "
                f"row {rows.numbers[before]} and {new!s:.60} in row {rows.numbers[k]}. Keep one "
                "of the rows"
            )
    return found


def _fits_two(names: Sequence[str], rows: Rows, row: int, images: tuple[int, int]) -> DataError:
    """Return the error for a row that fits two images."""
    first, second = (names[image] for image in images)
    return DataError(
        f"{rows.file}: row {rows.numbers[row]}, {rows.names[row]:.100}, fits several images: "
        f"{first:.200} and {second:.200}. Write their paths from the root, with their suffixes"
    )
