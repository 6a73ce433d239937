"""``gentool train``: from images to a model file."""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gentool.cli import console
from gentool.cli.console import emit, emit_json, emit_table, say, say_command
from gentool.cli.opening import Opening, open_data
from gentool.cli.options import Json, Print0, in_panel
from gentool.cli.repeating import command_to_go_on
from gentool.core.atomic_files import REPORT_NAME
from gentool.core.errors import Stopped, UsageError
from gentool.core.options import parse_options
from gentool.core.signals import StopFlag
from gentool.models.presets import PRESETS
from gentool.training.layers import Setting, collect
from gentool.training.settings import AS_WORDS, DATA, DECLARED, TRAINING, flag_of, kind_of

if TYPE_CHECKING:
    from gentool.training.loop import TrainResult
    from gentool.training.plan import Plan


def _complete_model(incomplete: str) -> list[str]:
    return [name for name in PRESETS if name.startswith(incomplete)]


def _settings_as_options() -> Iterator[Parameter]:
    """Return the parameters of ``command`` that the declared settings make."""
    for name, declared in DECLARED.items():
        kind, about = kind_of(name), declared.metadata
        hint: Any = list[str] if kind is list else str if about["word"] else kind
        default = typer.Option(
            None, flag_of(name), help=about["meaning"], rich_help_panel=about["panel"],
            metavar=about["metavar"],
        )  # fmt: skip
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _command(
    context: typer.Context,
    model: str = typer.Argument(
        help="gan, vae, autoencoder (gentool list shows all).", autocompletion=_complete_model
    ),
    *,
    options: list[str] = typer.Option(
        [], "-o", "--option", help="Model option (gentool list MODEL shows them).",
        metavar="KEY=VALUE", rich_help_panel=TRAINING,
    ),
    strict: bool = typer.Option(
        False, "--strict", help="Stop at the first file that cannot be read.", rich_help_panel=DATA
    ),
    download: bool = typer.Option(
        False, "--download", help="Download what --data names, if it is missing.",
        rich_help_panel=DATA,
    ),
    refresh: bool = typer.Option(
        False, "--refresh", help="Read all files again, and compare them with the cache.",
        rich_help_panel=DATA,
    ),
    config: Path = typer.Option(
        None, "--config", help="TOML file of settings.", metavar="FILE", readable=False,
        rich_help_panel=TRAINING,
    ),
    override: bool = typer.Option(
        False, "--override", help="Continue the run in --out although settings have changed.",
        rich_help_panel=TRAINING,
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Show the settings and their origins, and stop.",
        rich_help_panel="Output",
    ),
    stop_after: int = typer.Option(
        None, "--stop-after", help="Stop after N more images; the run can be continued (exit 75).",
        metavar="N", min=1, rich_help_panel="Output",
    ),
    quiet: bool = typer.Option(
        False, "--quiet", "-q", help="Print no progress.", rich_help_panel="Output"
    ),
    preview: bool = typer.Option(
        False, "--preview", help="Show the newest samples in the terminal after each save.",
        rich_help_panel="Output",
    ),
    print0: Annotated[bool, in_panel(Print0, "Output")] = False,
    as_json: Annotated[bool, in_panel(Json, "Output")] = False,
    **settings: Any,
) -> None:  # fmt: skip
    """Train a model on images; repeat the command to continue.

    gentool train gan --data ./faces

    gentool train vae --data faces.zip --size 64 --minutes 10

    gentool train gan --data builtin:shapes -o loss=hinge --seed 1
    """
    console.refuse_unfit_stdout(as_json=as_json, print0=print0)
    if quiet and preview:
        raise UsageError("--quiet and --preview exclude each other. Leave one of them out")
    flags = {
        name: Setting(list(value) if isinstance(value, tuple) else value, _origin(context, name))
        for name, value in settings.items()
        if value not in (None, (), [])
    }
    origin = AS_WORDS[_origin(context, "options").startswith("environment")]
    flag_options = {k: Setting(v, origin) for k, v in parse_options(options).items()}
    layers = collect(model, flags, flag_options, config)
    if not all(word.strip() for word in layers.get("data") or [""]):
        raise UsageError(_no_data(model))
    max_bad = 0.0 if strict else layers.get("max_bad")
    opening = Opening(layers.get("labels"), layers.get("all_frames"), download, refresh, max_bad)
    with StopFlag() as stop:
        from gentool.training.plan import make_plan

        plan = make_plan(
            layers, lambda: open_data(layers.get("data"), opening, stop), console.STARTED,
            stop_after=stop_after, override=override,
        )  # fmt: skip
        if dry_run:
            for note in () if quiet else plan.expected:
                say(note)
            _show(plan.shown(), as_json=as_json)
            return
        shown = _Shown(quiet, preview, as_json, print0, command_to_go_on(context, sys.argv[1:]))
        _train(plan, stop, shown, strict=strict)


def _with_settings(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function of the command, with the declared settings in its signature."""
    signature = inspect.signature(function)
    (context, model, *own), declared = signature.parameters.values(), _settings_as_options()
    own = [p for p in own if p.kind is not Parameter.VAR_KEYWORD]
    listed = [context, model, *declared, *own]
    vars(function)["__signature__"] = signature.replace(parameters=listed)
    function.__annotations__ |= {p.name: p.annotation for p in listed}
    del function.__annotations__["settings"]
    return function


command = _with_settings(_command)


def _origin(context: typer.Context, key: str) -> str:
    source = context.get_parameter_source(key)
    if source is not None and source.name == "ENVIRONMENT":
        return f"environment GENTOOL_{key.upper()}"
    return f"flag --{key.replace('_', '-')}"


def _no_data(model: str) -> str:
    from gentool.data.sources.builtin import BUILTIN

    names = " or ".join(f"builtin:{name}" for name in BUILTIN)
    return (
        f"train needs images. Give --data a folder, a .zip of images, or {names}, for example: "
        f"gentool train {model} --data builtin:shapes"
    )


@dataclass(frozen=True)
class _Shown:
    """What the command prints, and the command that continues the run after a stop."""

    quiet: bool
    preview: bool
    as_json: bool
    print0: bool
    again: str


def _train(plan: "Plan", stop: StopFlag, shown: _Shown, *, strict: bool) -> None:
    from gentool.core.distributed import joined
    from gentool.report.writing import reporting
    from gentool.training.display import Display
    from gentool.training.run import execute
    from gentool.training.tracking import tracking

    setup = plan.setup
    with joined(setup.device) as ranks, ranks.only_first_speaks():
        how = {"quiet": shown.quiet, "preview": shown.preview}
        with Display(stop, setup.settings.images, **how) as display:
            try:
                with (
                    reporting(display, plan, stop, first=ranks.first) as reported,
                    tracking(reported, plan, first=ranks.first) as observer,
                ):
                    result, listed = execute(plan, observer, stop, ranks, strict=strict)
            except Stopped as error:
                error.again = shown.again
                if (
                    ranks.first
                    and not shown.quiet
                    and (report := setup.out / REPORT_NAME).is_file()
                ):
                    say(f"report: {report}")
                raise
        if not ranks.first:
            return
        if listed:  # streaming finds them on the way
            say(f"files that cannot be read: {listed}")
        _tell_end(plan, result, shown)


def _tell_end(plan: "Plan", result: "TrainResult", shown: _Shown) -> None:
    """Print the model, how far the run came, its scores in words, and the next commands."""
    from gentool.training.ending import ending_of

    if result.already_complete:
        say(f"already complete: {result.images:,} images. Use a larger budget to continue")
    ending, out = ending_of(plan, result.images), plan.setup.out
    if shown.as_json:
        emit_json({"model": str(result.model_path), "images": result.images,
                   "usual_images": ending.usual, "seed": result.seed,
                   "report": str(out / REPORT_NAME), "scores": ending.measured.scores(),
                   "next": ending.commands, "intake": plan.source.intake.as_json()})  # fmt: skip
    else:
        emit(result.model_path, print0=shown.print0)
    if shown.quiet:
        return
    for line in ending.words:
        say(line)
    say("next:")
    for line in ending.commands:
        say_command(" ", line)


def _show(settings: "Mapping[str, Setting]", *, as_json: bool) -> None:
    if as_json:
        emit_json({k: {"value": s.value, "origin": s.origin} for k, s in settings.items()})
    else:
        emit_table((k, str(s.value), s.origin) for k, s in settings.items())
