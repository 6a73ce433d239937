"""Settings as frozen dataclasses: to and from JSON, ``-o key=value`` and TOML. No torch.

A field is declared once, with its default, meaning and bounds (``option``); everything else
reads that declaration: ``-o`` validates against it, ``gentool list MODEL`` prints it, the
model file stores it. Settings from a file are a stranger's words: unknown keys, wrong types
and values out of bounds are refused.
"""

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
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
) -> Any:
    """Declare one setting of a frozen dataclass: an option of a model, or a setting of a run.

    Args:
        default: Its default, or ``dataclasses.MISSING`` where it has none; the field's annotation
            (int, float, bool or str) is its type.
        meaning: One line for people, with the unit.
        low: Smallest number allowed.
        high: Largest number allowed.
        choices: Table of the allowed words, checked when the setting is used as a name.
        joined: Whether several of them may be joined by +, and ``none`` stands for none.
        automatic: Whether ``auto`` leaves the choice to the model, which knows the images.
        weighted: Whether each of the joined words may bear a weight and an interval, as ``Term``.
        word: A word that may stand for the number, and in words what the number is.
        panel: Section of ``--help`` in which the flag of a run's setting stands.
        metavar: What ``--help`` writes for its value.
        identity: Whether two commands that differ in it are different runs.
        record: Part of the model file's training record that holds it: ``training``, ``data`` or
            none.
        of_model: Whether the setting of a run is only another spelling of a model's option.
    """
    metadata = {
        "meaning": meaning, "low": low, "high": high, "choices": choices, "joined": joined,
        "automatic": automatic, "weighted": weighted, "word": word, "panel": panel,
        "metavar": metavar, "identity": identity, "record": record, "of_model": of_model,
    }  # fmt: skip
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Term:
    """One of several joined words: ``name``, with ``:weight`` or ``/every`` or both after it.

    Attributes:
        name: Of an entry.
        weight: From 0 to 1e6; None for the entry's own.
        every: Interval in steps, from 1 to 1024; None likewise.
    """

    name: str
    weight: float | None = None
    every: int | None = None

    @classmethod
    def read(cls, word: str) -> "Term":
        """Read one word.

        Raises:
            UsageError: weight or interval are no numbers within their bounds.
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
    """One line of ``gentool list MODEL``."""

    name: str
    type: str
    default: Scalar
    meaning: str


def describe(cls: type) -> list[OptionRow]:
    """The options that the dataclass ``cls`` declares, in order."""
    hints = get_type_hints(cls)
    return [
        OptionRow(f.name, hints[f.name].__name__, cast("Scalar", f.default), f.metadata["meaning"])
        for f in fields(cls)
    ]


def to_json(config: object) -> dict[str, Scalar]:
    """The settings of a dataclass instance as plain JSON values."""
    return {f.name: getattr(config, f.name) for f in fields(config)}  # type: ignore[arg-type]


def from_json(cls: type[C], values: Mapping[str, object], listing: str = "gentool list") -> C:
    """Build ``cls`` from plain values, strictly.

    Raises:
        UsageError: an unknown key, a wrong type, or a value out of bounds.
    """
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    for key in values:
        if key not in known:
            raise unknown_name("option", key, list(known), listing)
    checked = {k: _check(known[k], hints[k], v) for k, v in values.items()}
    missing = [k for k, f in known.items() if f.default is MISSING and k not in checked]
    if missing:
        raise UsageError(f"option {missing[0]} is missing. ({listing} shows all {len(known)})")
    return cls(**checked)


def _check(spec: "Field[Any]", kind: type, value: object) -> Scalar:
    """``value`` as ``kind`` and within the bounds of ``spec``, or a UsageError."""
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
        for name in names:
            _check_name(spec.name, name, choices)
            if names.count(name) > 1:
                raise UsageError(f"{name} stands twice in option {spec.name}. Leave one out")
    return value  # type: ignore[return-value]


def _check_name(option_name: str, word: str, choices: Any) -> None:
    if word not in choices:
        if hasattr(choices, "check"):
            choices.check(word)
        names = list(choices)
        raise name_error(option_name, word, names, f"choices: {', '.join(names)}")


def _an(kind: type) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
    return words[kind]


def parse_options(pairs: Iterable[str]) -> dict[str, str]:
    """Split ``key=value`` words; the last of a repeated key wins."""
    out: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"-o {pair}: write it as -o key=value, for example -o loss=hinge")
        out[key.strip().replace("-", "_")] = value.strip()
    return out


def from_words(cls: type, words: Mapping[str, str], listing: str) -> dict[str, Scalar]:
    """Convert command-line words to the types that ``cls`` declares (values not yet bounded)."""
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
    """A settings file, or a UsageError that names the line."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the config file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}. Write lines such as images = 200000") from (
            error
        )
