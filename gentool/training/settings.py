"""Where each setting of ``train`` comes from: flag > environment > config file > preset > default.

Every value keeps its origin, so that ``--dry-run`` can say it. No torch here: a typo is
answered before anything heavy is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gentool.core.errors import UsageError
from gentool.core.options import Scalar, read_toml
from gentool.core.registry import unknown_name
from gentool.models.presets import get_preset

# name -> (type, smallest, largest); bounds are for whole numbers and numbers
KEYS: dict[str, tuple[type, float, float]] = {
    "data": (list, 0, 0),
    "out": (str, 0, 0),
    "size": (str, 0, 0),
    "mode": (str, 0, 0),
    "fit": (str, 0, 0),
    "background": (str, 0, 0),
    "margin": (float, 0, 1),
    "augment": (str, 0, 0),
    "labels": (str, 0, 0),
    "all_frames": (bool, 0, 0),
    "cache": (str, 0, 0),
    "max_bad": (float, 0, 1),
    "images": (int, 1, 10**12),
    "minutes": (float, 0.01, 10**6),
    "batch": (int, 1, 65536),
    "lr": (float, 1e-9, 10),
    "seed": (int, 0, 2**63 - 1),
    "holdout": (float, 0, 0.9),
    "score_every": (int, 0, 10**12),
    "save_every": (int, 0, 10**12),
    "keep": (str, 0, 0),
    "deterministic": (bool, 0, 0),
    "unconditional": (bool, 0, 0),
    "device": (str, 0, 0),
    "precision": (str, 0, 0),
}
AUTO = "auto"  # for batch: measured before the first step
RANDOM = "random"  # for seed: drawn before the first step
# Settings that take a number or this word, and what the number is.
_WORDS = {"batch": (AUTO, "a number of images"), "seed": (RANDOM, "a whole number")}
DEFAULTS: dict[str, Scalar] = {
    "fit": "crop",
    "background": "white",
    "margin": 0.0,
    "augment": "none",
    "all_frames": False,
    "cache": "auto",
    "max_bad": 0.01,
    "seed": 0,
    "holdout": 0.0,
    "save_every": 0,
    "keep": "best",
    "deterministic": False,
    "unconditional": False,
    "device": "auto",
    "precision": "auto",
}


@dataclass(frozen=True)
class Setting:
    """A value and where it comes from, in words."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Layers:
    """Settings as given, before the device is known.

    Attributes:
        preset: Name of the preset.
        values: Explicit settings by name, highest origin already chosen.
        options: Model options as words (flags) or plain values (config file), by name.
    """

    preset: str
    values: dict[str, Setting]
    options: dict[str, Setting]

    def get(self, key: str) -> Any:
        """The explicit or default value of ``key``, or None."""
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
        flags: What the command line and the environment gave.
        flag_options: Model options from there: ``-o`` pairs as words, and the width.
        config_file: A TOML file with the flags' names as keys and a table ``[options]``.

    Raises:
        UsageError: an unknown key, a wrong type, or a value out of bounds.
    """
    get_preset(preset)
    values: dict[str, Setting] = {}
    options: dict[str, Setting] = {}
    if config_file is not None:
        table = read_toml(config_file)
        origin = f"config file {config_file.name}"
        in_file = table.pop("options", {})
        if not isinstance(in_file, dict):
            raise UsageError(f"{config_file}: options is a table; write [options] above its lines")
        if "width" in table:
            in_file["width"] = table.pop("width")
        for key, value in table.items():
            if key not in KEYS:
                names = [*KEYS, "width", "options"]
                raise unknown_name("setting", key, names, "gentool train --help")
            values[key] = Setting(value, origin)
        options |= {k: Setting(v, origin) for k, v in in_file.items()}
    if "images" in flags or "minutes" in flags:  # a budget replaces a lower one of either kind
        values.pop("images", None)
        values.pop("minutes", None)
    values |= flags
    if {"images", "minutes"} <= values.keys():  # a flag's budget goes over the environment's
        for key in ("images", "minutes"):
            other = values["minutes" if key == "images" else "images"]
            if values[key].origin.startswith("environment") and other.origin.startswith("flag"):
                del values[key]
                break
    options |= flag_options
    checked = {k: Setting(_check(k, s.value), s.origin) for k, s in values.items()}
    if "images" in checked and "minutes" in checked:
        raise UsageError("--images and --minutes are two budgets for one run; give one of them")
    return Layers(preset, checked, options)


def with_values(
    layers: Layers, values: Mapping[str, Setting], options: Mapping[str, Setting]
) -> Layers:
    """Layers with more settings and model options, the settings checked like those given.

    Raises:
        UsageError: an unknown key, a wrong type, or a value out of bounds.
    """
    for key in values:
        if key not in KEYS:
            raise unknown_name("setting", key, list(KEYS), "gentool train --help")
    checked = {k: Setting(_check(k, s.value), s.origin) for k, s in values.items()}
    return Layers(layers.preset, {**layers.values, **checked}, {**layers.options, **options})


def _check(key: str, value: object) -> Scalar | list[str]:
    """``value`` with the type and bounds of ``key``."""
    kind, low, high = KEYS[key]
    if kind is list:
        return _check_words(key, value)
    if key in _WORDS and isinstance(value, str):
        value = _number_or_word(key, value)
        if isinstance(value, str):
            return value
    if kind is str and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # size = 64 in a config file
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(min(max(value, -(2**63)), 2**63))
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        words = {str: "a word", bool: "true or false"}.get(kind, "a number")
        raise UsageError(f"{key} takes {words}, not {value!r}")
    if (
        isinstance(value, int | float) and kind is not bool and not low <= value <= high
    ):  # NaN compares false
        raise UsageError(
            f"--{key.replace('_', '-')} is {_short(value)}; allowed: {low:g} to {high:g}"
        )
    return value  # type: ignore[return-value]


def _number_or_word(key: str, given: str) -> int | str:
    """``64`` or the setting's word, such as ``auto``, as a flag or the environment gives it."""
    word, meaning = _WORDS[key]
    if given == word:
        return given
    if not given.removeprefix("-").isdecimal() or len(given) > 20:
        raise UsageError(f"--{key} {given:.40}: write {meaning}, or {word}")
    return int(given)


def _check_words(key: str, value: object) -> list[str]:
    """One word, or several."""
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UsageError(f"{key} takes a word or a list of words, not {value!r:.80}")
    return words


def _short(number: float) -> str:
    """A number in few characters, however many digits it was given in."""
    return f"{number:g}" if isinstance(number, float) else f"{number!s:.20}"


def resolve(layers: Layers, device_kind: str) -> tuple[dict[str, Setting], dict[str, Setting]]:
    """Settings and model options with preset and defaults beneath what was given.

    Args:
        layers: What was given.
        device_kind: ``cpu``, ``cuda`` or ``mps``, which chooses the preset's column.
    """
    origin = f"preset {layers.preset} on {device_kind}"
    preset = get_preset(layers.preset).settings(device_kind)
    values = {k: Setting(v, "default") for k, v in DEFAULTS.items()}
    values |= {k: Setting(v, origin) for k, v in preset.items() if k in KEYS}
    if "minutes" in layers.values:
        del values["images"]
    values |= layers.values
    options = {k: Setting(v, origin) for k, v in preset.items() if k not in KEYS}
    return values, options | layers.options
