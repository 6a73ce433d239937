"""Settings as frozen dataclasses: conversion to and from JSON, ``-o key=value`` and TOML.

``option`` declares a setting once, with its default, meaning and bounds. All code uses this
declaration: ``-o`` validates against it, ``gentool list MODEL`` prints it, and the model file
stores the settings. Settings from a file are not trusted: unknown keys, wrong types and values
out of bounds are refused. This module does not import torch.
"""

import math
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast, get_type_hints

from gentool.core.errors import UsageError
from gentool.core.registry import name_error, unknown_name

Scalar = int | float | bool | str
C = TypeVar("C")


def option(
    default: object,
    meaning: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    choices: Iterable[str] | None = None,
    joined: bool = False,
    automatic: bool = False,
    weighted: bool = False,
    word: tuple[str, str] | None = None,
    panel: str = "",
    metavar: str | None = None,
    identity: bool = False,
    record: str = "",
    of_model: bool = False,
    idle: Callable[[Any], str | None] | None = None,
    retired: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """Declare one setting of a frozen dataclass: an option of a model, or a setting of a run.

    Args:
        default: Default value, or ``dataclasses.MISSING`` for none; the field's annotation (int,
            float, bool or str) is the type.
        meaning: One line of help, with the unit.
        low: Smallest number allowed.
        high: Largest number allowed; of a run's words, the most letters.
        choices: Names that are allowed, such as a registry; None allows all values.
        joined: Whether several names may be joined by +; ``none`` then means an empty list.
        automatic: Whether ``auto`` is allowed, with which the model chooses for its images.
        weighted: Whether each name may have a weight and an interval, as in ``Term``.
        word: A word that may stand for the number, and in words what the number is.
        panel: Section of ``--help`` in which the flag of a run's setting stands.
        metavar: What ``--help`` writes for its value.
        identity: Whether two commands that differ in it are different runs.
        record: Part of the model file's training record that holds it: ``training``, ``data`` or
            none.
        of_model: Whether the setting of a run is only another spelling of a model's option.
        idle: Function of the whole dataclass that returns why the option has no effect beside the
            others, as a clause; or None if it has one. See ``idle_options``.
        retired: Further names that only files and runs of older versions may have, and what to do
            instead. See ``refuse_retired``.
    """
    metadata = {
        "meaning": meaning, "low": low, "high": high, "choices": choices, "joined": joined,
        "automatic": automatic, "weighted": weighted, "word": word, "panel": panel,
        "metavar": metavar, "identity": identity, "record": record, "of_model": of_model,
        "idle": idle, "retired": retired,
    }  # fmt: skip
    return field(default=default, metadata=metadata)


def idle_options(config: Any) -> dict[str, str]:
    """Return the options that have no effect beside the others, and why, by name."""
    declared = {f.name: f.metadata["idle"] for f in fields(config)}
    found = {name: idle(config) for name, idle in declared.items() if idle is not None}
    return {name: reason for name, reason in found.items() if reason is not None}


def refuse_idle(config: object, given: Container[str]) -> None:
    """Check that every option that was given has an effect.

    Args:
        config: All options.
        given: Names of the options that were given, not taken from a preset or a file.

    Raises:
        UsageError: an option was given that has no effect beside the others.
    """
    for name, reason in idle_options(config).items():
        if name in given:
            value = getattr(config, name)
            shown = str(value).lower() if isinstance(value, bool) else f"{value!s:.60}"
            raise UsageError(f"option {name}={shown} has no effect: {reason}")


def refuse_retired(config: Any, given: Container[str]) -> None:
    """Check that no option that was given has a value that only older files may have.

    Args:
        config: All options.
        given: Names of the options that were given, not taken from a preset or a file.

    Raises:
        UsageError: an option was given with such a value.
    """
    for declared in fields(config):
        value = str(getattr(config, declared.name))
        instead = declared.metadata["retired"].get(value)
        if instead is not None and declared.name in given:
            raise UsageError(f"{declared.name} {value} is no longer offered. {instead}")


@dataclass(frozen=True)
class Term:
    """One name in a joined option: ``name``, ``name:weight``, ``name/every`` or with both.

    Attributes:
        name: Name of an entry in a table.
        weight: From 0 to 1e6; None means the default of the entry.
        every: Interval in steps, from 1 to 1024; None means the default of the entry.
    """

    name: str
    weight: float | None = None
    every: int | None = None

    @classmethod
    def read(cls, word: str) -> "Term":
        """Parse one term, such as ``r1:0.5/16``.

        Raises:
            UsageError: The weight or the interval is not a number within its bounds.
        """
        rest, slash, every = word.partition("/")
        name, colon, weight = rest.partition(":")
        try:
            term = cls(name, float(weight) if colon else None, int(every) if slash else None)
            fits = 0 <= (term.weight or 0) <= 1e6 and term.every in (None, *range(1, 1025))
        except ValueError:
            fits = False
        if not fits:
            raise UsageError(
                f"cannot read {word!r:.80}: write name:weight/every, for example r1:0.5/16, with a "
                "weight from 0 to 1e+06 and an interval of 1 to 1024 steps"
            )
        return term


@dataclass(frozen=True)
class OptionRow:
    """One row of the table that ``gentool list MODEL`` prints."""

    name: str
    type: str
    default: Scalar
    meaning: str


def describe(cls: type) -> list[OptionRow]:
    """Return the options that the dataclass ``cls`` declares, in order."""
    hints = get_type_hints(cls)
    return [
        OptionRow(f.name, hints[f.name].__name__, cast("Scalar", f.default), f.metadata["meaning"])
        for f in fields(cls)
    ]


def to_json(config: object) -> dict[str, Scalar]:
    """Return the settings of a dataclass instance as plain JSON values."""
    return {f.name: getattr(config, f.name) for f in fields(config)}  # type: ignore[arg-type]


def from_json(cls: type[C], values: Mapping[str, object], listing: str = "gentool list") -> C:
    """Build ``cls`` from plain values, strictly; ``listing`` is the command that errors name.

    Raises:
        UsageError: A key is unknown or missing, or a value has a wrong type or is out of bounds.
    """
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    for key in values:
        if key not in known:
            raise unknown_name("option", key, list(known), listing)
    checked = {k: _check(known[k], hints[k], v) for k, v in values.items()}
    missing = [k for k, f in known.items() if f.default is MISSING and k not in checked]
    if missing:
        raise UsageError(f"option {missing[0]} is missing ({listing} shows all {len(known)})")
    return cls(**checked)


def _check(spec: "Field[Any]", kind: type, value: object) -> Scalar:
    """Return ``value`` as ``kind``.

    Raises:
        UsageError: The type is wrong, or the value is out of the bounds or choices of ``spec``.
    """
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(min(max(value, -(2**63)), 2**63))
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UsageError(f"option {spec.name} takes {_an(kind)}, not {value!r:.80}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = spec.metadata.get("low", -math.inf), spec.metadata.get("high", math.inf)
        if not low <= value <= high or value in (math.inf, -math.inf):  # NaN compares false
            raise UsageError(f"option {spec.name} is {value!s:.20}; allowed: {low:g} to {high:g}")
    if (choices := spec.metadata.get("choices")) is not None:
        joined = spec.metadata.get("joined")
        words = str(value).split("+") if joined and value != "none" else [str(value)]
        if (joined and value == "none") or (spec.metadata.get("automatic") and value == "auto"):
            words = []
        weighted = spec.metadata.get("weighted")
        names = [Term.read(word).name if weighted else word for word in words]
        for name in (name for name in names if name not in spec.metadata.get("retired", ())):
            _check_name(spec.name, name, choices)
            if names.count(name) > 1:
                raise UsageError(f"option {spec.name} contains {name} twice. Remove one of them")
    return value  # type: ignore[return-value]


def _check_name(option_name: str, word: str, choices: Any) -> None:
    if word not in choices:
        if hasattr(choices, "check"):
            choices.check(word)
        names = list(choices)
        raise name_error(option_name, word, names, f"choices: {', '.join(names)}")


def _an(kind: type) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return words[kind]


def parse_options(pairs: Iterable[str]) -> dict[str, str]:
    """Split arguments of the form ``key=value``; a later value of the same key wins.

    Raises:
        UsageError: An argument does not have this form.
    """
    out: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"-o {pair}: write it as -o key=value, for example -o loss=hinge")
        out[key.strip().replace("-", "_")] = value.strip()
    return out


def from_words(cls: type, words: Mapping[str, str], listing: str) -> dict[str, Scalar]:
    """Convert command-line values to the types that ``cls`` declares; bounds are not checked.

    Raises:
        UsageError: A key is unknown, or a value cannot be converted.
    """
    hints = get_type_hints(cls)
    known = [f.name for f in fields(cls)]
    out: dict[str, Scalar] = {}
    for key, word in words.items():
        if key not in known:
            raise unknown_name("option", key, known, listing)
        out[key] = _convert(key, hints[key], word)
    return out


def _convert(key: str, kind: type, word: str) -> Scalar:
    if kind is bool:
        lowered = word.lower()
        if lowered in ("true", "yes", "on", "1", "false", "no", "off", "0"):
            return lowered in ("true", "yes", "on", "1")
    elif kind is str:
        return word
    else:
        try:
            return int(word.replace("_", "")) if kind is int else float(word)
        except ValueError:
            pass
    raise UsageError(f"option {key} takes {_an(kind)}, not '{word:.80}'")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a settings file.

    Raises:
        UsageError: The file cannot be read or is not TOML; the message names the line.
    """
    import tomllib  # not at module level: --help needs none

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the config file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}. Write lines such as images = 200000") from (
            error
        )
