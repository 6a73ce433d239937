"""``gentool train``: from images to a model file."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gentool.cli import console
from gentool.cli.console import Print0, emit, emit_json, emit_table, say
from gentool.cli.opening import Opening, open_data
from gentool.cli.repeating import command_to_go_on
from gentool.cli.seeds import agree_on_seed, settle_seed
from gentool.core.errors import Stopped, UsageError
from gentool.core.escapes import shell_line
from gentool.core.options import Scalar, from_json, from_words, parse_options, to_json
from gentool.core.signals import StopFlag
from gentool.models.presets import PRESETS, budget_of, largest_side, of_large
from gentool.training.settings import AUTO, KEYS, RANDOM, Layers, Setting, collect, resolve

if TYPE_CHECKING:
    import torch

    from gentool.core.distributed import Ranks
    from gentool.data import Dataset, Policy, Source
    from gentool.models.base import BaseConfig
    from gentool.training.loop import TrainSettings


def _complete_model(incomplete: str) -> list[str]:
    return [name for name in PRESETS if name.startswith(incomplete)]


def _option(flag: str, meaning: str, panel: str, metavar: str) -> Any:
    name = f"GENTOOL_{flag.removeprefix('--').upper().replace('-', '_')}"
    return typer.Option(
        None, flag, help=meaning, envvar=name, rich_help_panel=panel, metavar=metavar,
        show_envvar=False,
    )  # fmt: skip


def command(
    context: typer.Context,
    model: str = typer.Argument(
        help="gan, vae, autoencoder (gentool list shows all).", autocompletion=_complete_model
    ),
    data: list[str] = typer.Option(
        None, "--data", metavar="SPEC", rich_help_panel="Basic",
        help="Folder, archive, or builtin:, torchvision:, hub: or shards:NAME; several are joined.",
    ),
    out: str = _option("--out", "Run folder; default runs/MODEL-DATA.", "Basic", "FOLDER"),
    size: str = _option("--size", "Side, or HEIGHTxWIDTH as in 48x64.", "Basic", "SIZE"),
    mode: str = _option("--mode", "grey, rgb or rgba; default: found.", "Basic", "MODE"),
    fit: str = _option("--fit", "crop (the centre), pad or stretch.", "Data", "NAME"),
    background: str = _option(
        "--background", "What transparency is laid on; default white.", "Data", "COLOUR"
    ),
    augment: str = _option(
        "--augment", "Joined by +: flip, crop, colour, ...; default none.", "Data", "NAMES"
    ),
    margin: float = _option(
        "--margin", "Store images larger and cut a window at random.", "Data", "SHARE"
    ),
    labels: str = _option(
        "--labels", "CSV of path,label, a dataset.json, folders or none.", "Data", "FILE"
    ),
    all_frames: bool = typer.Option(
        None, "--all-frames", help="Every frame of animated files.", rich_help_panel="Data",
        envvar="GENTOOL_ALL_FRAMES", show_envvar=False,
    ),
    cache: str = typer.Option(  # GENTOOL_CACHE is the folder
        None, "--cache", help="auto, disk, ram, or never: streamed.", metavar="NAME",
        rich_help_panel="Data",
    ),
    max_bad: float = _option("--max-bad", "Share of files that may be bad.", "Data", "SHARE"),
    strict: bool = typer.Option(
        False, "--strict", help="Stop at the first bad file.", rich_help_panel="Data"
    ),
    download: bool = typer.Option(
        False, "--download", help="Fetch what --data names, if it is not here.",
        rich_help_panel="Data",
    ),
    refresh: bool = typer.Option(
        False, "--refresh", help="Look at every file of a huge folder again.",
        rich_help_panel="Data",
    ),
    images: int = _option("--images", "Budget: images to train on.", "Training", "N"),
    minutes: float = _option("--minutes", "Budget: wall-clock minutes.", "Training", "M"),
    batch: str = _option(
        "--batch", "Images per step; auto: measured here first.", "Training", "N|auto"
    ),
    lr: float = _option("--lr", "Learning rate.", "Training", "RATE"),
    holdout: float = _option(
        "--holdout", "Share of the images kept out, by content, for evaluate.", "Training", "SHARE"
    ),
    score_every: int = _option(
        "--score-every", "Score every N images (0: never; unless given, now and then).",
        "Training", "N",
    ),
    save_every: int = _option(
        "--save-every", "Save every N images; default every few minutes.", "Training", "N"
    ),
    keep: str = _option(
        "--keep",
        "Models to keep: last; best: also the best scored (default); N or all: also numbered "
        "ones in snapshots/, one a save.",
        "Training", "WHICH",
    ),
    unconditional: bool = typer.Option(
        None, "--unconditional", help="Take no notice of class folders.",
        envvar="GENTOOL_UNCONDITIONAL", show_envvar=False, rich_help_panel="Training",
    ),
    seed: str = _option("--seed", "Seed of everything; random draws one.", "Training", "SEED"),
    width: int = _option("--width", "Scales the model; as -o width=N.", "Training", "N"),
    options: list[str] = typer.Option(
        [], "-o", "--option", help="Model option (gentool list MODEL shows them).",
        metavar="KEY=VALUE", rich_help_panel="Training",
    ),
    config: Path = typer.Option(
        None, "--config", help="TOML file of settings.", metavar="FILE", readable=False,
        rich_help_panel="Training",
    ),
    device: str = _option("--device", "auto, cpu, cuda, cuda:1, mps.", "Hardware", "DEVICE"),
    precision: str = _option("--precision", "auto, float32, bfloat16.", "Hardware", "NAME"),
    deterministic: bool = typer.Option(
        None, "--deterministic", help="On a GPU: the same bits every time, slower.",
        envvar="GENTOOL_DETERMINISTIC", show_envvar=False, rich_help_panel="Hardware",
    ),
    override: bool = typer.Option(
        False, "--override", help="Go on with a run in --out though settings have changed.",
        rich_help_panel="Training",
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Show the settings and where each comes from, and stop.",
        rich_help_panel="Output",
    ),
    stop_after: int = typer.Option(
        None, "--stop-after", help="Stop, resumable, after N more images (exit 75).",
        metavar="N", min=1, rich_help_panel="Output",
    ),
    quiet: bool = typer.Option(
        False, "--quiet", "-q", help="No progress on stderr.", rich_help_panel="Output"
    ),
    print0: Print0 = False,
    as_json: bool = typer.Option(
        False, "--json", help="Result as JSON on stdout.", rich_help_panel="Output"
    ),
) -> None:  # fmt: skip
    """Train a model on images; repeat the command to go on.

    gentool train gan --data ./faces

    gentool train vae --data faces.zip --size 64 --minutes 10

    gentool train gan --data builtin:shapes -o loss=hinge --seed 1
    """
    console.refuse_unfit_stdout(as_json=as_json, print0=print0)
    flags = {
        key: Setting(list(value) if key == "data" else value, _origin(context, key))
        for key in KEYS
        if (value := context.params[key]) not in (None, (), [])
    }
    origin = _AS_WORDS[_origin(context, "options").startswith("environment")]
    flag_options = {k: Setting(v, origin) for k, v in parse_options(options).items()}
    if context.params["width"] is not None:
        wide = {"width": Setting(width, _origin(context, "width"))}
        flag_options = wide | flag_options if origin == _AS_WORDS[0] else flag_options | wide
    layers = collect(model, flags, flag_options, config)
    if not all(word.strip() for word in layers.get("data") or [""]):
        raise UsageError(_no_data(model))
    opening = Opening(layers.get("labels"), layers.get("all_frames"), download, refresh)
    with StopFlag() as stop:
        job = _resolve(layers, opening, stop, override=override)
        settings = replace(job.settings, stop_after=stop_after, override=override)
        job = replace(job, settings=settings)
        if dry_run:
            _dry_run(job, as_json=as_json)
        else:
            from gentool.core.distributed import joined

            with joined(settings.device) as ranks, ranks.only_first_speaks():
                show = _Showing(quiet, as_json, print0, command_to_go_on(context, sys.argv[1:]))
                _train(job, stop, ranks, show, strict=strict)


_AS_WORDS = ("flag -o", "environment GENTOOL_OPTION")  # origins of options that are words


def _origin(context: typer.Context, key: str) -> str:
    source = context.get_parameter_source(key)
    if source is not None and source.name == "ENVIRONMENT":
        return f"environment GENTOOL_{key.upper()}"
    return f"flag --{key.replace('_', '-')}"


def _no_data(model: str) -> str:
    from gentool.data.sources.builtin import BUILTIN

    names = " or ".join(f"builtin:{name}" for name in BUILTIN)
    return (
        f"train needs images. Give --data with a folder, a .zip of one, or {names}, for example: "
        f"gentool train {model} --data builtin:shapes"
    )


@dataclass(frozen=True)
class _Job:
    """A resolved command: what to train on which images, and where each setting is from."""

    preset: str
    source: "Source"
    policy: "Policy"
    notes: list[str]
    settings: "TrainSettings"
    values: dict[str, Setting]
    options: dict[str, Setting]
    random_seed: bool
    begun: str = ""  # what is as the run in settings.out began, in words

    def value(self, key: str) -> Any:
        """A setting."""
        return self.values[key].value


def _resolve(layers: Layers, opening: Opening, stop: StopFlag, *, override: bool) -> _Job:
    from gentool.training.continuing import go_on

    opened = cache(lambda: open_data(layers.get("data"), opening, stop))
    job = _plan(layers, opened)
    more, begun = go_on(layers, job.settings, override=override)
    return replace(job if more is layers else _plan(more, opened), begun=begun)


def _plan(layers: Layers, opened: Callable[[], "Source"]) -> _Job:
    from gentool.core.devices import select_device
    from gentool.data import glance, make_policy, resolve_shape
    from gentool.models import MODELS
    from gentool.models.gan.augmentation import open_augmentation
    from gentool.training.loop import classes_of

    device = select_device(layers.get("device"))
    values, options = resolve(layers, device.type)
    config, options = _configure(layers.preset, options)
    model_class = MODELS.get(PRESETS[layers.preset].model)
    augment = values["augment"].value
    changed = augment != "none" and not open_augmentation(augment).keeps_levels
    source = opened()
    shape, notes = resolve_shape(
        source, layers.get("size"), layers.get("mode"), largest_side(device.type)
    )
    for key, value in of_large(layers.preset, device.type, shape.height * shape.width).items():
        if key not in layers.values:
            values[key] = Setting(value, "found from the data")
            notes.append(f"{key} {value:g}: at this size there are few steps in a minute")
    count = round(len(source) * (1 - values["holdout"].value))
    budget = budget_of(layers.preset, device.type, count)
    if budget is not None and not {"images", "minutes"} & layers.values.keys():
        values["images"] = Setting(budget, "found from the data")
        notes.append(f"{budget:,} images seen in all: more of so few would be learned by heart")
    config, choices = model_class.suit(config, count)
    policy = make_policy(shape, *(values[key].value for key in ("fit", "background", "margin")))
    config, more = model_class.look(config, None if changed else partial(glance, source, policy))
    notes += [*choices, *more]
    for key, chosen in to_json(config).items():
        if options[key].value != chosen:
            options[key] = Setting(chosen, "found from the data")
    out = Path(layers.get("out") or f"runs/{layers.preset}-{source.name}").expanduser()
    drawn = values["seed"].value == RANDOM
    values["seed"] = settle_seed(values["seed"], out)
    settings = _settings(layers.preset, values, config, out, policy, device)
    if (count := classes_of(settings, source)) > 0:
        notes.append(f"conditional on {count} classes (--unconditional takes no notice of them)")
    elif settings.conditional and source.labels is not None:
        known = len(source.classes)
        why = model_class.why_unconditional(config, known)
        notes.append(f"no notice is taken of the {known:,} classes: {why}")
    return _Job(layers.preset, source, policy, notes, settings, values, options, drawn)


def _dry_run(job: _Job, *, as_json: bool) -> None:
    shape, settings = job.policy.shape, job.settings
    found = {
        "size": Setting(f"{shape.height}x{shape.width}", "found from the data"),
        "mode": Setting(shape.mode, "found from the data"),
        "out": Setting(str(settings.out), "default"),
        "score_every": Setting("now and then", "default"),
    }
    chosen = {"device": settings.device.type, "precision": str(settings.precision)[6:]}
    chosen["data"] = " ".join(job.value("data"))
    values = {**found, **job.values}
    values |= {k: Setting(v, values[k].origin) for k, v in chosen.items()}
    _show(values, job.options, as_json=as_json)


@dataclass(frozen=True)
class _Showing:
    """What a training shows, and the command that goes on with it after a stop."""

    quiet: bool
    as_json: bool
    print0: bool
    again: str


def _train(job: _Job, stop: StopFlag, ranks: "Ranks", show: _Showing, *, strict: bool) -> None:
    from gentool.cli.progress import Display
    from gentool.data import prepare, write_bad_files
    from gentool.outputs.ownership import refuse_foreign_run
    from gentool.training.loop import train
    from gentool.training.run_lock import refuse_if_locked

    settings, source = job.settings, job.source
    if job.random_seed:
        settings = replace(settings, seed=agree_on_seed(job.values["seed"], ranks))
    if ranks.first:
        refuse_if_locked(settings.out)
        refuse_foreign_run(settings.out)
    if not show.quiet:
        where = " and ".join(job.value("data"))
        say(f"{job.preset} on {len(source):,} images from {where}, {settings.device.type}")
        for note in [*job.notes, _sizes(job)]:
            say(f"  {note}")
    if job.begun:
        say(job.begun)
    with Display(stop, settings.images, quiet=show.quiet) as display:
        with ranks.first_before_others():  # who find its cache
            dataset = prepare(
                source, job.policy, display.intake,
                cache=job.value("cache"), max_bad=job.value("max_bad"), strict=strict,
            )  # fmt: skip
        for note in dataset.notes:
            say(f"  {note}")
        _say_bad(dataset.bad, len(source))
        if job.value("batch") == AUTO:
            settings = _measured(settings, dataset, stop, ranks)
        try:
            result = train(dataset, settings, display, stop)
        except Stopped as error:
            if ranks.first:
                write_bad_files(settings.out, dataset.bad)
            error.again = show.again
            raise
    if not ranks.first:
        return
    if listed := write_bad_files(settings.out, dataset.bad):  # streaming finds them on the way
        say(f"files that cannot be read: {listed}")
    if result.already_complete:
        say(f"already complete: {result.images:,} images. A larger budget goes on from here")
    if show.as_json:
        emit_json({"model": str(result.model_path), "images": result.images,
                   "seed": settings.seed})  # fmt: skip
    else:
        emit(result.model_path, print0=show.print0)
    console.say_command("next:", shell_line(["gentool", "sample", str(settings.out), "-n", "64"]))


def _sizes(job: _Job) -> str:
    """The sizes of a run in words."""
    settings = job.settings
    budget = f"{settings.images:,} images" if settings.images else f"{settings.minutes:g} minutes"
    batch = "to be measured" if job.value("batch") == AUTO else f"of {settings.batch}"
    width, lr = settings.config.width, settings.lr
    return f"width {width}, batches {batch}, lr {lr:g}, {budget} (--dry-run: all settings, and why)"


def _measured(
    settings: "TrainSettings", dataset: "Dataset", stop: StopFlag, ranks: "Ranks"
) -> "TrainSettings":
    from gentool.training.batch_size import choose_batch

    if ranks.count > 1:
        raise UsageError(
            f"--batch auto measures one process, not {ranks.count}. Give --batch N, of all together"
        )
    batch, why = choose_batch(dataset, settings, stop)
    say(f"  {why}")
    return replace(settings, batch=batch)


def _configure(preset: str, options: dict[str, Setting]) -> "tuple[BaseConfig, dict[str, Setting]]":
    """The model's options, checked, each with its origin."""
    from gentool.models import MODELS

    config_class = MODELS.get(PRESETS[preset].model).Config
    listing = f"gentool list {preset}"
    words = {k: s.value for k, s in options.items() if s.origin in _AS_WORDS}
    plain: dict[str, Scalar] = {k: s.value for k, s in options.items() if k not in words}
    config = from_json(config_class, plain | from_words(config_class, words, listing), listing)
    origins = {k: options[k].origin if k in options else "default" for k in to_json(config)}
    return config, {k: Setting(v, origins[k]) for k, v in to_json(config).items()}


def _settings(
    preset: str, values: dict[str, Setting], config: "BaseConfig", out: Path,
    policy: "Policy", device: "torch.device",
) -> "TrainSettings":  # fmt: skip
    from gentool.core.devices import select_precision
    from gentool.training.loop import TrainSettings
    from gentool.training.snapshots import parse_keep

    value = {k: s.value for k, s in values.items()}
    preset_value: dict[str, Any] = PRESETS[preset].settings(device.type)
    return TrainSettings(
        model=PRESETS[preset].model,
        config=config,
        out=out,
        images=value.get("images"),
        minutes=value.get("minutes"),
        batch=preset_value["batch"] if value["batch"] == AUTO else value["batch"],
        lr=value["lr"],
        seed=value["seed"],
        device=device,
        precision=select_precision(device, value["precision"]),
        started=console.STARTED,
        holdout=value["holdout"],
        conditional=not value["unconditional"],
        score_every=value.get("score_every"),
        policy=policy,
        augment=value["augment"],
        save_every=value["save_every"],
        keep=parse_keep(value["keep"]),
        deterministic=value["deterministic"],
        preset=preset,
    )


def _say_bad(bad: Sequence[tuple[str, str]], total: int) -> None:
    for path, reason in bad[:3]:
        say(f"skipped {path}: {reason}")
    if bad:
        say(f"skipped {len(bad):,} of {total:,} images that cannot be read")


def _show(values: dict[str, Setting], options: dict[str, Setting], *, as_json: bool) -> None:
    everything = values | {f"-o {k}": s for k, s in options.items()}
    if as_json:
        emit_json({k: {"value": s.value, "origin": s.origin} for k, s in everything.items()})
    else:
        emit_table((k, str(s.value), s.origin) for k, s in everything.items())
