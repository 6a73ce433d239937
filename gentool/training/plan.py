"""Plan a run: from the settings that were given to all settings, each with the reason for it.

The options of a model that are ``auto`` are chosen by the model (``adapted`` of its options).
``--batch auto`` is measured later, by ``batch_search``.
``gentool train``, its ``--dry-run`` and ``gentool.train`` all execute the ``Plan`` that
``make_plan`` returns. Nothing is trained and nothing is written here; a sample of the images is
inspected.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gentool.core.devices import select_device, select_precision
from gentool.core.images import ImageShape
from gentool.core.options import Scalar, from_json, from_words, refuse_idle, refuse_retired, to_json
from gentool.data import Dataset, Sample, Source, about_given_size, resolve_levels, resolve_shape
from gentool.data.intake import lines_of
from gentool.data.levels import FULL
from gentool.models import MODELS
from gentool.models.augmentation import open_augmentation
from gentool.models.presets import PRESETS, budget_of, largest_side, of_large, usual_images
from gentool.trackers.table import refuse_missing
from gentool.training.continuing import continue_run, has_run
from gentool.training.identity import state_of
from gentool.training.layers import Layers, Setting, resolve
from gentool.training.loop import classes_of
from gentool.training.settings import AS_WORDS, AUTO, RANDOM, Settings, draw_seed, kind_of
from gentool.training.setup import Setup

if TYPE_CHECKING:
    import torch

    from gentool.models.base import BaseConfig

FOUND = "found from the data"
_SEED_LIMIT = 2**63


@dataclass(frozen=True)
class Plan:
    """A run that is ready to be trained, and why it is as it is.

    Attributes:
        setup: What decides the run.
        sample: A sample of its images, which keeps those that were opened.
        notes: One sentence for each choice that was found from the images.
        values: Every setting and where it comes from, by name.
        options: Every model option and where it comes from, by name.
        continued: In words, what the run in the folder has that this machine would choose
            otherwise; empty where nothing differs.
        batch_is_open: Whether the batch may be lowered when fewer images turn out to be usable.
        random_seed: Whether the seed was drawn, so that several processes have to agree on it.
    """

    setup: Setup
    sample: Sample
    notes: tuple[str, ...]
    values: dict[str, Setting]
    options: dict[str, Setting]
    continued: str = ""
    batch_is_open: bool = False
    random_seed: bool = False

    @property
    def source(self) -> Source:
        """The images of the run."""
        return self.sample.source

    @property
    def expected(self) -> tuple[str, ...]:
        """The notes with one on the classes, of which preparing the images may leave some out."""
        return (*self.notes, *about_classes(self.setup, self.source))

    @property
    def batch_is_measured(self) -> bool:
        """Whether the batch is chosen by timing steps; until then it is the preset's."""
        return bool(self.values["batch"].value == AUTO)

    @property
    def training_images(self) -> int:
        """Number of images to train on, before unreadable ones are known."""
        return round(len(self.source) * (1 - self.setup.settings.holdout))

    @property
    def usual_images(self) -> int:
        """How many images a finished run like this one usually sees."""
        preset = self.setup.preset or self.setup.model
        return usual_images(preset, self.setup.device.type, self.training_images)

    def shown(self) -> dict[str, Setting]:
        """Return every setting and option with its origin, as ``--dry-run`` prints them."""
        settings = self.setup.settings
        found = {
            "size": Setting(settings.size, FOUND),
            "mode": Setting(settings.mode, FOUND),
            "out": Setting(str(self.setup.out), "default"),
            "score_every": Setting("automatic", "default"),
        }
        values = {**found, **self.values}
        chosen = {"device": self.setup.device.type, "precision": settings.precision}
        several = {k: getattr(settings, k) for k in values if kind_of(k) is list}
        chosen |= {k: " ".join(words) for k, words in several.items()}
        values |= {k: Setting(v, values[k].origin) for k, v in chosen.items()}
        return values | {f"-o {name}": setting for name, setting in self.options.items()}


def make_plan(
    layers: Layers,
    opened: Callable[[], Source],
    started: float,
    *,
    stop_after: int | None = None,
    override: bool = False,
) -> Plan:
    """Choose all that was left open.

    Args:
        layers: What was given.
        opened: Opens the images; called once the device and the options are known to be right.
        started: As in ``Setup``.
        stop_after: As in ``Setup``.
        override: As in ``Setup``.

    Raises:
        UsageError: a setting or option that is not allowed, or another run in the folder.
        DataError: images that cannot be used.
        DeviceError: a device that this machine does not have.
        ModelFileError: the run in the folder is damaged.
    """

    @cache
    def sample() -> Sample:
        return Sample(opened())

    limits = {"started": started, "stop_after": stop_after, "override": override}
    plan = _plan(layers, sample, limits)
    more, words = continue_run(layers, plan.setup, override=override)
    plan = replace(plan if more is layers else _plan(more, sample, limits), continued=words)
    if not has_run(plan.setup.out):  # an old run may have what a new one may not
        refuse_retired(plan.setup.config, layers.options)
        refuse_idle(plan.setup.config, layers.options)
    return plan


def _plan(layers: Layers, opened: Callable[[], Sample], limits: dict[str, Any]) -> Plan:
    """Return the plan of a new run with these settings."""
    refuse_missing(layers.get("log") or ())
    device = select_device(layers.get("device"))
    values, options = resolve(layers, device.type)
    config, options = _configure(layers.preset, options)
    augment = values["augment"].value
    changes_levels = augment != "none" and not open_augmentation(augment).keeps_levels
    sample = opened()
    source = sample.source
    shape, notes = resolve_shape(
        sample, layers.get("size"), layers.get("mode"), largest_side(device.type),
        values["fit"].value,
    )  # fmt: skip
    notes += about_given_size(
        sample, layers.get("size"), values["fit"].value, largest_side(device.type)
    )
    notes += _levels(layers, values, sample)
    notes += _for_large_images(layers, values, device.type, shape.height * shape.width)
    count = round(len(source) * (1 - values["holdout"].value))
    notes += _budget(layers, values, device.type, count)
    notes += _small_batch(layers, values, len(source))  # with bad files there are even fewer
    out = layers.get("out") or f"runs/{layers.preset}-{source.name}"
    random_seed = values["seed"].value == RANDOM
    values["seed"] = _settle_seed(values["seed"], Path(out).expanduser())
    settings = _settings(layers.preset, values, shape, str(out), device)
    setup = Setup(PRESETS[layers.preset].model, config, settings, preset=layers.preset, **limits)
    _ = setup.keep  # a wrong one is refused here, before any image is prepared
    prepared = partial(sample.prepared, setup.preprocessing)
    some = None if changes_levels else prepared
    config, choices = config.adapted(count, some)
    for key, chosen in to_json(config).items():
        if options[key].value != chosen:
            options[key] = Setting(chosen, FOUND)
    setup = replace(setup, config=config)
    learned = classes_of(setup, source) > 0
    told = lines_of(
        source.intake, brief=True, classes=not setup.settings.unconditional, learned=learned
    )
    notes = [*told, *notes, *choices]
    return Plan(
        setup, sample, tuple(notes), values, options,
        batch_is_open="batch" not in layers.values, random_seed=random_seed,
    )  # fmt: skip


def _levels(layers: Layers, values: dict[str, Setting], sample: Sample) -> list[str]:
    """Put the scale of deep images into ``values``, and return sentences on it."""
    given = layers.values.get("levels")
    levels, notes = resolve_levels(sample, given.value if given else None)
    chosen = given is None or given.value == AUTO
    origin = values["levels"].origin if not chosen or levels == FULL else FOUND
    values["levels"] = Setting(levels, origin)
    return notes


def _for_large_images(
    layers: Layers, values: dict[str, Setting], device_kind: str, pixels: int
) -> list[str]:
    """Put what suits large images into ``values``, where nothing was given, and say so."""
    notes = []
    for key, value in of_large(layers.preset, device_kind, pixels).items():
        if key not in layers.values:
            values[key] = Setting(value, FOUND)
            notes.append(f"{key} {value:g}: at this image size there are few steps per minute")
    return notes


def _budget(layers: Layers, values: dict[str, Setting], device_kind: str, count: int) -> list[str]:
    """Put the budget that suits the number of images into ``values``, unless one was given."""
    budget = budget_of(layers.preset, device_kind, count)
    if budget is None or {"images", "minutes"} & layers.values.keys():
        return []
    values["images"] = Setting(budget, FOUND)
    return [f"images {budget:,}: a longer run would memorise so few images"]


def _small_batch(layers: Layers, values: dict[str, Setting], count: int) -> list[str]:
    """Lower the batch in ``values`` to the number of images, unless a batch was given."""
    batch = values["batch"].value
    if "batch" in layers.values or count >= batch:
        return []
    values["batch"] = Setting(max(count, 1), FOUND)
    return [small_batch_words(max(count, 1), batch)]


def small_batch_words(count: int, batch: int) -> str:
    """Return a sentence on a batch that was lowered from ``batch`` to ``count`` images."""
    return f"batch {count:,}: there are no more training images (otherwise {batch:,})"


def about_classes(setup: Setup, data: Dataset | Source) -> list[str]:
    """Return a sentence on the classes of the images: whether the model learns them, and why.

    Args:
        setup: The setup of the run.
        data: The images: a source, or the data set of those that can be read.
    """
    if (count := classes_of(setup, data)) > 0:
        origin = data.intake.classes_from
        return [f"conditional on {count} classes from {origin} (--unconditional ignores them)"]
    if setup.settings.unconditional or data.labels is None:
        return []
    known = len(data.classes)
    why = setup.config.why_unconditional(known)
    return [f"the {known:,} classes are ignored: {why}"]


def _configure(preset: str, options: dict[str, Setting]) -> "tuple[BaseConfig, dict[str, Setting]]":
    """Return the model's options, checked, and each with its origin."""
    config_class = MODELS.get(PRESETS[preset].model).Config
    listing = f"gentool list {preset}"
    words = {k: s.value for k, s in options.items() if s.origin in AS_WORDS}
    plain: dict[str, Scalar] = {k: s.value for k, s in options.items() if k not in words}
    config = from_json(config_class, plain | from_words(config_class, words, listing), listing)
    origins = {k: options[k].origin if k in options else "default" for k in to_json(config)}
    return config, {k: Setting(v, origins[k]) for k, v in to_json(config).items()}


def _settings(
    preset: str, values: dict[str, Setting], shape: ImageShape, out: str, device: "torch.device"
) -> Settings:
    """Return the settings with every value known."""
    value = {name: setting.value for name, setting in values.items()}
    if value["batch"] == AUTO:
        value["batch"] = PRESETS[preset].settings(device.type)["batch"]
    precision = select_precision(device, value["precision"])
    known = {
        **{k: tuple(v) for k, v in value.items() if isinstance(v, list)},
        "out": out,
        "size": f"{shape.height}x{shape.width}",
        "mode": shape.mode,
        "device": str(device),
        "precision": str(precision).removeprefix("torch."),
    }
    return Settings(**{**value, **known})


def _settle_seed(setting: Setting, out: Path) -> Setting:
    """Return the seed; a random one is that of the run in ``out``, or drawn for a new run.

    So the same command again continues the run that it began.
    """
    if setting.value != RANDOM:
        return setting
    seed = _seed_of_run(out)
    if seed is not None:
        return Setting(seed, f"the seed of the run in {out} ({setting.origin})")
    return Setting(draw_seed(), f"drawn at random ({setting.origin})")


def _seed_of_run(out: Path) -> int | None:
    """Return the seed of the run in a folder; None where there is no run to continue."""
    identity = (state_of(out) or {}).get("identity")
    seed = identity.get("--seed") if isinstance(identity, dict) else None
    return seed if type(seed) is int and 0 <= seed < _SEED_LIMIT else None
