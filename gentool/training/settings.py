"""The settings of a run: declared once, and where each value comes from.

A setting is one field of ``Settings``. Everything else is derived from that declaration: the flag
of ``gentool train`` and its help, the variable in the environment, the key in a config file, the
bounds, what ``--dry-run`` shows, what identifies a run, what the model file records, and the
keyword of ``gentool.train``. To add a setting, add a field and use it.

``layers`` reads the values from flags, environment, config file and preset. This file imports no
torch, so that a typo is answered at once.
"""

from dataclasses import MISSING, Field, dataclass, fields
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from gentool.core.options import option
from gentool.trackers.table import TRACKERS

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
        "Folder, archive, or builtin:, torchvision:, hub: or shards:NAME; repeat to join several.",
        panel=BASIC,
        metavar="SPEC",
    )
    out: str = option(
        MISSING, "Run folder; default: runs/MODEL-DATA.", panel=BASIC, metavar="FOLDER"
    )
    name: str | None = option(
        None,
        "Title of the run; gentool info shows it.",
        high=200,
        panel=BASIC,
        metavar="TITLE",
        record="training",
    )
    size: str = option(
        MISSING,
        "Side, or HEIGHTxWIDTH such as 48x64; default: from the images.",
        panel=BASIC,
        metavar="SIZE",
    )
    mode: str = option(
        MISSING, "grey, rgb or rgba; default: from the images.", panel=BASIC, metavar="MODE"
    )
    fit: str = option(
        "crop",
        "How images become this shape: crop (the centre), pad or stretch.",
        panel=DATA,
        metavar="NAME",
        identity=True,
        record="data",
    )
    background: str = option(
        "white",
        "Colour behind transparent pixels; default: white.",
        panel=DATA,
        metavar="COLOUR",
        identity=True,
        record="data",
    )
    levels: str = option(
        "full",
        "Values of 16-bit, 32-bit or float images that become black and white: auto (default), "
        "full or LOW:HIGH.",
        panel=DATA,
        metavar="LEVELS",
        identity=True,
        record="data",
    )
    augment: str = option(
        "none",
        "Augmentations joined by +: flip, crop, colour, ...; default: none.",
        panel=DATA,
        metavar="NAMES",
        identity=True,
        record="data",
    )
    margin: float = option(
        0.0,
        "Store images larger by this fraction, and cut random windows.",
        low=0,
        high=1,
        panel=DATA,
        metavar="SHARE",
        identity=True,
        record="data",
    )
    labels: str | None = option(
        None, "CSV or JSON of path,label, FILE:COLUMN, folders or none.", panel=DATA, metavar="FILE"
    )
    all_frames: bool = option(False, "Use every frame of animated files.", panel=DATA)
    cache: Literal["auto", "disk", "ram", "never"] = option(
        "auto",
        "Where prepared images are kept: auto, disk, ram, or never (streamed).",
        panel=DATA,
        metavar="NAME",
    )
    max_bad: float = option(
        0.01,
        "Fraction of images that may be unreadable or unlabelled.",
        low=0,
        high=1,
        panel=DATA,
        metavar="SHARE",
    )
    images: int | None = option(
        None,
        "Budget: number of images to train on, with repetition.",
        low=1,
        high=10**12,
        panel=TRAINING,
        metavar="N",
    )
    minutes: float | None = option(
        None,
        "Budget: minutes of wall-clock time.",
        low=0.01,
        high=10**6,
        panel=TRAINING,
        metavar="M",
    )
    batch: int = option(
        MISSING,
        "Images per step; auto: measured on this device.",
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
        "Fraction of images to keep out of training, for evaluate.",
        low=0,
        high=0.9,
        panel=TRAINING,
        metavar="SHARE",
        identity=True,
        record="data",
    )
    score_every: int | None = option(
        None,
        "Score every N images (0: never; default: automatic).",
        low=0,
        high=10**12,
        panel=TRAINING,
        metavar="N",
    )
    save_every: int = option(
        0,
        "Save every N images; default: every few minutes.",
        low=0,
        high=10**12,
        panel=TRAINING,
        metavar="N",
    )
    keep: str = option(
        "best",
        "Models to keep: last; best: also the best by score (default); N or all: also the last N "
        "or all saved models, in snapshots/.",
        panel=TRAINING,
        metavar="WHICH",
    )
    log: tuple[str, ...] = option(
        (),
        "Also log to tensorboard, trackio or wandb; repeat for several.",
        choices=TRACKERS,
        panel=TRAINING,
        metavar="NAME",
    )
    unconditional: bool = option(False, "Ignore class folders.", panel=TRAINING, identity=True)
    seed: int = option(
        0,
        "Seed of all random numbers; random draws a new one.",
        low=0,
        high=2**63 - 1,
        word=(RANDOM, "a whole number"),
        panel=TRAINING,
        metavar="SEED",
        identity=True,
        record="training",
    )
    width: int | None = option(
        None, "Width of the model; same as -o width=N.", panel=TRAINING, metavar="N", of_model=True
    )
    ema_images: int | None = option(
        None,
        "Half-life of the average of weights, in images; same as -o ema_images=N.",
        panel=TRAINING,
        metavar="N",
        of_model=True,
    )
    device: str = option(
        "auto", "auto, cpu, cuda, cuda:1 or mps.", panel=HARDWARE, metavar="DEVICE"
    )
    precision: str = option(
        "auto",
        "auto, float32 or bfloat16.",
        panel=HARDWARE,
        metavar="NAME",
        identity=True,
        record="training",
    )
    deterministic: bool = option(
        False, "Bit-identical results on a GPU, but slower.", panel=HARDWARE
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


def draw_seed() -> int:
    """Return a seed that nobody could foresee, and that is easy to type again."""
    import secrets  # not at module level: --help needs none, and it takes OpenSSL along

    return secrets.randbelow(2**32)
