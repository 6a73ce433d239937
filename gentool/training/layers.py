"""Where the value of each setting comes from: flag > environment > config file > preset > default.

Every value keeps its origin, which ``--dry-run`` shows. This file imports no torch, so that a typo
is answered at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gentool.core.errors import UsageError
from gentool.core.options import Scalar, read_toml
from gentool.core.registry import name_error, unknown_name
from gentool.models.presets import get_preset
from gentool.training.settings import DECLARED, DEFAULTS, NAMES, OF_MODEL, flag_of, kind_of


@dataclass(frozen=True)
class Setting:
    """A value, and in words where it comes from."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Layers:
    """Settings as given, before the device is known.

    Attributes:
        preset: Name of the preset.
        values: Explicit settings by name; of several origins the highest was chosen.
        options: Model options by name: words (from flags) or plain values (from a config file).
    """

    preset: str
    values: dict[str, Setting]
    options: dict[str, Setting]

    def get(self, key: str) -> Any:
        """Return the explicit or default value of ``key``, or None."""
        return self.values[key].value if key in self.values else DEFAULTS.get(key)


def collect(
    preset: str,
    flags: Mapping[str, Setting],
    flag_options: Mapping[str, Setting],
    config_file: Path | None,
) -> Layers:
    """Put flags and environment over the config file.

    Args:
        preset: Name given to ``train``.
        flags: What the command line and the environment gave, by name of the setting.
        flag_options: Model options from there, as words.
        config_file: A TOML file with the settings' names as keys and a table ``[options]``.

    Raises:
        UsageError: an unknown key, a wrong type, or a value out of bounds.
    """
    get_preset(preset)
    values, options = _read(config_file) if config_file is not None else ({}, {})
    if "images" in flags or "minutes" in flags:  # a budget replaces a lower one of either kind
        values.pop("images", None)
        values.pop("minutes", None)
    values |= {name: s for name, s in flags.items() if name in NAMES}
    if {"images", "minutes"} <= values.keys():  # a flag's budget goes over the environment's
        for key in ("images", "minutes"):
            other = values["minutes" if key == "images" else "images"]
            if values[key].origin.startswith("environment") and other.origin.startswith("flag"):
                del values[key]
                break
    options |= flag_options
    for name in OF_MODEL:  # -o goes over the flag of the same name, unless the environment says it
        by_option = flag_options.get(name)
        if name in flags and (by_option is None or by_option.origin.startswith("environment")):
            options[name] = flags[name]
    checked = {k: Setting(_check(k, s.value), s.origin) for k, s in values.items()}
    if "images" in checked and "minutes" in checked:
        raise UsageError("--images and --minutes are two budgets for one run. Give one of them")
    return Layers(preset, checked, options)


def _read(path: Path) -> tuple[dict[str, Setting], dict[str, Setting]]:
    """Return the settings and the model options of a config file.

    Raises:
        UsageError: it cannot be read, or has an unknown key.
    """
    table = read_toml(path)
    origin = f"config file {path.name}"
    in_file = table.pop("options", {})
    if not isinstance(in_file, dict):
        raise UsageError(f"options must be a table in {path}. Write [options] above its lines")
    in_file |= {name: table.pop(name) for name in OF_MODEL if name in table}
    for key in table:
        if key not in NAMES:
            raise unknown_name("setting", key, [*DECLARED, "options"], "gentool train --help")
    values = {key: Setting(value, origin) for key, value in table.items()}
    return values, {key: Setting(value, origin) for key, value in in_file.items()}


def with_values(
    layers: Layers, values: Mapping[str, Setting], options: Mapping[str, Setting]
) -> Layers:
    """Return layers with more settings, which are checked, and more model options.

    Raises:
        UsageError: an unknown key, a wrong type, or a value out of bounds.
    """
    for key in values:
        if key not in NAMES:
            raise unknown_name("setting", key, list(NAMES), "gentool train --help")
    checked = {k: Setting(_check(k, s.value), s.origin) for k, s in values.items()}
    return Layers(layers.preset, {**layers.values, **checked}, {**layers.options, **options})


def _check(key: str, value: object) -> Scalar | list[str]:
    """Return ``value`` with the type and within the bounds of ``key``."""
    kind, declared = kind_of(key), DECLARED[key].metadata
    if kind is list:
        return _check_words(key, value)
    if declared["word"] is not None and isinstance(value, str):
        value = _number_or_word(key, value, *declared["word"])
        if isinstance(value, str):
            return value
    if kind is str and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # size = 64 in a config file
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(min(max(value, -(2**63)), 2**63))
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        words = {str: "text", bool: "true or false"}.get(kind, "a number")
        raise UsageError(f"{key} takes {words}, not {value!r}")
    if isinstance(value, str) and len(value) > declared["high"]:
        raise UsageError(f"{flag_of(key)} has {len(value):,} letters; allowed: {declared['high']}")
    if isinstance(value, int | float) and kind is not bool:
        low, high = declared["low"], declared["high"]
        if not low <= value <= high:  # NaN compares false
            raise UsageError(f"{flag_of(key)} is {_short(value)}; allowed: {low:g} to {high:g}")
    return value  # type: ignore[return-value]


def _number_or_word(key: str, given: str, word: str, meaning: str) -> int | str:
    """Return ``64``, or the setting's word such as ``auto``, of what a flag gives as text."""
    if given == word:
        return given
    if not given.removeprefix("-").isdecimal() or len(given) > 20:
        raise UsageError(f"--{key} {given:.40}: write {meaning}, or {word}")
    return int(given)


def _check_words(key: str, value: object) -> list[str]:
    """Return one word, or several, as a list."""
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UsageError(f"{key} takes text or a list of texts, not {value!r:.80}")
    choices = DECLARED[key].metadata["choices"]
    for word in words:
        if choices is not None and word not in choices:
            names = list(choices)
            raise name_error(f"{key} target", word, names, f"choices: {', '.join(names)}")
    return words


def _short(number: float) -> str:
    """Return a number in few characters, however many digits it was given in."""
    return f"{number:g}" if isinstance(number, float) else f"{number!s:.20}"


def resolve(layers: Layers, device_kind: str) -> tuple[dict[str, Setting], dict[str, Setting]]:
    """Return settings and model options, with preset and defaults beneath what was given.

    Args:
        layers: What was given.
        device_kind: ``cpu``, ``cuda`` or ``mps``, which chooses the preset's column.
    """
    origin = f"preset {layers.preset} on {device_kind}"
    preset = get_preset(layers.preset).settings(device_kind)
    values = {k: Setting(v, "default") for k, v in DEFAULTS.items()}
    values |= {k: Setting(v, origin) for k, v in preset.items() if k in NAMES}
    if "minutes" in layers.values:
        del values["images"]
    values |= layers.values
    options = {k: Setting(v, origin) for k, v in preset.items() if k not in NAMES}
    return values, options | layers.options
