"""The settings of a run: declared once, and where each value comes from.

A setting is one field of ``Settings``. Everything else is derived from that declaration: the flag
of ``gentool train`` and its help, the variable in the environment, the key in a config file, the
bounds, what ``--dry-run`` shows, what identifies a run, what the model file records, and the
keyword of ``gentool.train``. To add a setting, add a field and use it.

Values come from: flag > environment > config file > preset > default. Each keeps its origin. This
file imports no torch, so that a typo is answered at once.
"""

import secrets
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from gentool.core.errors import UsageError
from gentool.core.options import Scalar, option, read_toml
from gentool.core.registry import unknown_name
from gentool.models.presets import get_preset

AUTO = "auto"  # for batch: measured before the first step
RANDOM = "random"  # for seed: drawn before the first step
AS_WORDS = ("flag -o", "environment GENTOOL_OPTION")  # origins of model options that are words
BASIC, DATA, TRAINING, HARDWARE = "Basic", "Data", "Training", "Hardware"  # panels of --help
SHAPE = "--size and --mode"  # the key of both in the identity of a run


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a run, when all are known.

    A field without a default is found from the images or the preset.
    """

    data: tuple[str, ...] = option(
        (),
        "Folder, archive, or builtin:, torchvision:, hub: or shards:NAME; several are joined.",
        panel=BASIC,
        metavar="SPEC",
    )
    out: str = option(
        MISSING, "Run folder; default runs/MODEL-DATA.", panel=BASIC, metavar="FOLDER"
    )
    name: str | None = option(
        None,
        "A title, kept in the model file; gentool info shows it.",
        high=200,
        panel=BASIC,
        metavar="TITLE",
        record="training",
    )
    size: str = option(MISSING, "Side, or HEIGHTxWIDTH as in 48x64.", panel=BASIC, metavar="SIZE")
    mode: str = option(MISSING, "grey, rgb or rgba; default: found.", panel=BASIC, metavar="MODE")
    fit: str = option(
        "crop",
        "crop (the centre), pad or stretch.",
        panel=DATA,
        metavar="NAME",
        identity=True,
        record="data",
    )
    background: str = option(
        "white",
        "What transparency is laid on; default white.",
        panel=DATA,
        metavar="COLOUR",
        identity=True,
        record="data",
    )
    augment: str = option(
        "none",
        "Joined by +: flip, crop, colour, ...; default none.",
        panel=DATA,
        metavar="NAMES",
        identity=True,
        record="data",
    )
    margin: float = option(
        0.0,
        "Store images larger and cut a window at random.",
        low=0,
        high=1,
        panel=DATA,
        metavar="SHARE",
        identity=True,
        record="data",
    )
    labels: str | None = option(
        None, "CSV of path,label, a dataset.json, folders or none.", panel=DATA, metavar="FILE"
    )
    all_frames: bool = option(False, "Every frame of animated files.", panel=DATA)
    cache: Literal["auto", "disk", "ram", "never"] = option(
        "auto", "auto, disk, ram, or never: streamed.", panel=DATA, metavar="NAME"
    )
    max_bad: float = option(
        0.01, "Share of files that may be bad.", low=0, high=1, panel=DATA, metavar="SHARE"
    )
    images: int | None = option(
        None, "Budget: images to train on.", low=1, high=10**12, panel=TRAINING, metavar="N"
    )
    minutes: float | None = option(
        None, "Budget: wall-clock minutes.", low=0.01, high=10**6, panel=TRAINING, metavar="M"
    )
    batch: int = option(
        MISSING,
        "Images per step; auto: measured here first.",
        low=1,
        high=65536,
        word=(AUTO, "a number of images"),
        panel=TRAINING,
        metavar="N|auto",
        identity=True,
        record="training",
    )
    lr: float = option(
        MISSING,
        "Learning rate.",
        low=1e-9,
        high=10,
        panel=TRAINING,
        metavar="RATE",
        identity=True,
        record="training",
    )
    holdout: float = option(
        0.0,
        "Share of the images kept out, by content, for evaluate.",
        low=0,
        high=0.9,
        panel=TRAINING,
        metavar="SHARE",
        identity=True,
        record="data",
    )
    score_every: int | None = option(
        None,
        "Score every N images (0: never; unless given, now and then).",
        low=0,
        high=10**12,
        panel=TRAINING,
        metavar="N",
    )
    save_every: int = option(
        0,
        "Save every N images; default every few minutes.",
        low=0,
        high=10**12,
        panel=TRAINING,
        metavar="N",
    )
    keep: str = option(
        "best",
        "Models to keep: last; best: also the best scored (default); N or all: also numbered "
        "ones in snapshots/, one a save.",
        panel=TRAINING,
        metavar="WHICH",
    )
    unconditional: bool = option(
        False, "Take no notice of class folders.", panel=TRAINING, identity=True
    )
    seed: int = option(
        0,
        "Seed of everything; random draws one.",
        low=0,
        high=2**63 - 1,
        word=(RANDOM, "a whole number"),
        panel=TRAINING,
        metavar="SEED",
        identity=True,
        record="training",
    )
    width: int | None = option(
        None, "Scales the model; as -o width=N.", panel=TRAINING, metavar="N", of_model=True
    )
    ema_images: int | None = option(
        None,
        "Half-life of the weights' average, in images; as -o ema_images=N.",
        panel=TRAINING,
        metavar="N",
        of_model=True,
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps.", panel=HARDWARE, metavar="DEVICE")
    precision: str = option(
        "auto",
        "auto, float32, bfloat16.",
        panel=HARDWARE,
        metavar="NAME",
        identity=True,
        record="training",
    )
    deterministic: bool = option(
        False, "On a GPU: the same bits every time, slower.", panel=HARDWARE
    )  # fmt: skip


DECLARED: dict[str, "Field[Any]"] = {f.name: f for f in fields(Settings)}
_HINTS = get_type_hints(Settings)
OF_MODEL = tuple(name for name, f in DECLARED.items() if f.metadata["of_model"])
NAMES = tuple(name for name in DECLARED if name not in OF_MODEL)  # the rest are the run's own
DEFAULTS: dict[str, Any] = {
    name: DECLARED[name].default
    for name in NAMES
    if DECLARED[name].default not in (MISSING, None, ())
}


def flag_of(name: str) -> str:
    """``score_every`` -> ``--score-every``."""
    return f"--{name.replace('_', '-')}"


def kind_of(name: str) -> type:
    """The type of a setting's value: int, float, bool or str, or list for several words."""
    hint = _HINTS[name]
    if get_origin(hint) is tuple:
        return list
    if get_origin(hint) is Literal:
        return str
    if isinstance(hint, UnionType):  # int | None
        hint = next(part for part in get_args(hint) if part is not type(None))
    assert isinstance(hint, type)
    return hint


def identity_of(settings: Settings) -> dict[str, object]:
    """Return what two commands must share to be the same run, by flag."""
    shared = {flag_of(n): getattr(settings, n) for n in NAMES if DECLARED[n].metadata["identity"]}
    return {SHAPE: f"{settings.size} {settings.mode}", **shared}


def default_identity() -> dict[str, object]:
    """Return the part of an identity that a run has which was begun before a setting existed."""
    return {flag_of(n): v for n, v in DEFAULTS.items() if DECLARED[n].metadata["identity"]}


def record_of(settings: Settings, part: str) -> dict[str, object]:
    """Return the settings that the model file records, by name; None stands for no value.

    Args:
        settings: Of the run.
        part: ``training`` or ``data``.
    """
    values = {n: getattr(settings, n) for n in NAMES if DECLARED[n].metadata["record"] == part}
    return {name: value for name, value in values.items() if value is not None}


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
        raise UsageError("--images and --minutes are two budgets for one run; give one of them")
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
        raise UsageError(f"{path}: options is a table; write [options] above its lines")
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
        words = {str: "a word", bool: "true or false"}.get(kind, "a number")
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
        raise UsageError(f"{key} takes a word or a list of words, not {value!r:.80}")
    return words


def _short(number: float) -> str:
    """Return a number in few characters, however many digits it was given in."""
    return f"{number:g}" if isinstance(number, float) else f"{number!s:.20}"


def draw_seed() -> int:
    """Return a seed that nobody could foresee, and that is easy to type again."""
    return secrets.randbelow(2**32)


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
