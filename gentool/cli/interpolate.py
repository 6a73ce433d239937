"""The command ``gentool interpolate``: a path in a model's latent space, or a sheet of styles."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gentool.cli import options
from gentool.cli.console import emit, emit_json, refuse_unfit_stdout, say
from gentool.cli.films import Enlarge, FilmOptions, Fps, Milliseconds, Seconds
from gentool.cli.keyframes import Wanted, find_keys
from gentool.cli.seeds import parse_seeds
from gentool.cli.writing import failures
from gentool.core.errors import PartialSuccess, UsageError
from gentool.core.registry import unknown_name
from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.checkpoint import LoadedModel
    from gentool.core.images import Pixels
    from gentool.outputs.destination import Destination
    from gentool.outputs.plan import Plan
    from gentool.outputs.writers import Sink

_METHODS, _SPACES = ["slerp", "lerp"], ["z", "w"]


def command(
    model: options.Model,
    files: list[Path] = typer.Argument(
        None, metavar="[KEY]...", readable=False,
        help="Key frames: photos, or files of latents from --save-latents.",
    ),
    seeds: str = typer.Option(
        None, "--seeds",
        help="Seeds of key frames, such as 1,5-7; default: 0-3 if no KEY is given.", metavar="LIST"
    ),
    steps: int = typer.Option(
        None, "--steps", min=1, max=10_000, metavar="N",
        help="Frames from one key to the next; default: 16.",
    ),
    method: str = typer.Option(
        None, "--method", metavar="NAME",
        help="slerp (arc) or lerp (line); default: slerp between seeds; lerp for photos that a VAE "
        "encoded, for codes and for styles.",
    ),
    space: str = typer.Option(
        None, "--space", metavar="NAME", help="z, or w (styles); default: w for models with styles."
    ),
    class_name: Annotated[str | None, options.class_name("Class of all key frames.")] = None,
    truncation: options.Truncation = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    loop: bool = typer.Option(False, "--loop", help="Return to the first key frame at the end."),
    mix: str = typer.Option(
        None, "--mix", metavar="LIST",
        help="Write a sheet: each row has the coarse styles of a key frame and the fine styles of "
        "these seeds, or of a photo or file of latents.",
    ),
    crossover: int = typer.Option(
        None, "--crossover", min=1, metavar="LAYER",
        help="First layer with fine styles; default: the middle."
    ),
    output: Annotated[
        str,
        options.output(
            "strip.png or .jpg; film.gif, .webp, .mp4 or .webm; a folder; .npz; - for a tar on "
            "stdout."
        ),
    ] = "interpolation.png",
    overwrite: options.Overwrite = False,
    milliseconds: Milliseconds = None,
    fps: Fps = None,
    seconds: Seconds = None,
    enlarge: Enlarge = None,
    device: options.Device = "auto",
    print0: options.Print0 = False,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Interpolate between samples or photos, or mix their styles.

    gentool interpolate model.safetensors --seeds 1,5-7 --steps 16

    gentool interpolate runs/gan-faces --seeds 0-5 --loop -o film.gif

    gentool interpolate runs/gan-faces --seeds 0-5 --seconds 10 --fps 30 --enlarge 8 -o film.mp4

    gentool interpolate runs/gan-faces photoA.png photoB.png

    gentool interpolate runs/stylegan2-faces --seeds 0-3 --mix 10-15
    """
    draws = options.given_draws(
        truncation=truncation, temperature=temperature, top_k=top_k, top_p=top_p
    )
    keys = parse_seeds(seeds or "0-3") if seeds or not files else []
    wanted = Wanted(files or [], keys, class_name, space, draws)
    _check(wanted, method, mix, crossover, steps, output, loop=loop)
    refuse_unfit_stdout(output, as_json=as_json, print0=print0)
    from gentool.checkpoint import load_model, locate
    from gentool.core.devices import select_device
    from gentool.core.picture_files import FILM_SUFFIXES
    from gentool.outputs.destination import parse_destination
    from gentool.outputs.ownership import Guard
    from gentool.outputs.plan import named
    from gentool.outputs.writers import into

    others, mixed = _mixed(mix) if mix is not None else ([], [])
    guard = Guard([locate(model), *wanted.files, *others], overwrite, tell=say)
    place = parse_destination(output, None, guard, FILM_SUFFIXES if mix is None else ())
    shown = FilmOptions(milliseconds, fps, seconds, enlarge, steps)
    shown.check(place)
    paths: list[str] = []
    with StopFlag() as stop:
        loaded = load_model(model, select_device(device))
        if mix is None:
            plan, sink, images = _path(loaded, wanted, stop, method, place, shown, loop=loop)
        else:
            fine = replace(wanted, files=others, seeds=mixed, space="w")
            plan, sink, images = _sheet(loaded, wanted, fine, crossover, place, stop)
        for files in into(sink, named(plan, images)):
            stop.poll("stopped")
            paths += map(str, files)
            for path in files if not as_json else ():
                emit(path, print0=print0)
    if as_json:
        emit_json({"model": str(loaded.path), "files": paths, "frames": plan.count})
    if sink.failed:
        raise PartialSuccess(failures(sink.failed, plan.count))


def _foresee(
    loaded: "LoadedModel", wanted: Wanted, place: "Destination", what: dict[str, object], name: str
) -> None:
    """Check, before the slow search for latents of photos, that the output may be replaced.

    Raises:
        UsageError: a file was made with another recipe; or the model cannot draw as wanted.
    """
    from gentool.outputs.plan import recipe

    loaded.model.draw_with(**wanted.draws)
    place.foresee(recipe(loaded, made_by="interpolate", **what), name)


def _mixed(words: str) -> tuple[list[Path], list[int]]:
    """Return the files and the seeds in a value of ``--mix``: either one file, or seeds."""
    path = Path(words)
    return ([path], []) if path.suffix and path.exists() else ([], parse_seeds(words))


def _check(
    wanted: Wanted, method: str | None, mix: str | None, crossover: int | None,
    steps: int | None, output: str, *, loop: bool,
) -> None:  # fmt: skip
    """Check that the options are known and fit together.

    Raises:
        UsageError: they do not.
    """
    for kind, given, allowed in (("method", method, _METHODS), ("space", wanted.space, _SPACES)):
        if given is not None and given not in allowed:
            raise unknown_name(kind, given, allowed, "gentool interpolate --help")
    if mix is not None:
        film = Path(output).suffix.lower() in (".gif", ".mp4", ".webm")
        if loop or method or steps or wanted.space == "z" or film:
            raise UsageError(
                "--mix writes one sheet in w. Leave --loop, --method, --steps, --space z and films "
                "out"
            )
    elif crossover is not None:
        raise UsageError("--crossover needs --mix LIST. Give both")
    elif not wanted.files and len(wanted.seeds) < 2:
        raise UsageError(
            f"--seeds {wanted.seeds[0]} is only one key frame. Give at least two, such as --seeds "
            "1,5-7"
        )


def _path(
    loaded: "LoadedModel", wanted: Wanted, stop: StopFlag, method: str | None,
    place: "Destination", shown: FilmOptions, *, loop: bool,
) -> tuple["Plan", "Sink", "Iterator[Pixels]"]:  # fmt: skip
    """Return the plan of a path's frames, the sink that writes them, and the frames."""
    from gentool.core.sheets import strip_columns
    from gentool.inference.interpolation import interpolate, plan_path

    film = shown.film(place)
    told: dict[str, object] = {**wanted.recipe, "loop": loop}
    told |= {"method": method} if method else {}
    if shown.seconds is None:  # else it follows from the number of keys, which is not known yet
        told["steps"] = shown.steps_between(2, film, loop=loop)
    _foresee(loaded, wanted, place, told, f"{wanted.name}-{0:06d}")
    keys = find_keys(loaded, wanted, stop)
    if len(keys) < 2:
        raise UsageError(
            f"{wanted.files[0]} is only one key frame. Give at least two, or also --seeds"
        )
    steps = shown.steps_between(len(keys), film, loop=loop)
    plan = plan_path(loaded, keys, steps, method, wanted.name, loop=loop, **wanted.recipe)
    columns = strip_columns(plan.count, plan.shape.height, plan.shape.width, steps)
    sink = place.open(plan, sys.stdout.buffer, columns, film)
    return plan, sink, interpolate(loaded, keys, steps, method, loop=loop)


def _sheet(
    loaded: "LoadedModel", wanted: Wanted, mixed: Wanted, crossover: int | None,
    place: "Destination", stop: StopFlag,
) -> tuple["Plan", "Sink", "Iterator[Pixels]"]:  # fmt: skip
    """Return the plan of a sheet of mixed styles, the sink that writes it, and the images."""
    from gentool.inference.interpolation import mixing_layer, mixing_sheet, plan_mixing

    what = {**wanted.recipe, **{f"mix_{k}": v for k, v in mixed.recipe.items()}}
    _foresee(loaded, wanted, place, what, f"{wanted.name}-mix-{mixed.name}-fine000")
    coarse = find_keys(loaded, replace(wanted, space="w"), stop)
    fine = find_keys(loaded, mixed, stop)
    layer, corner = mixing_layer(crossover, fine.values.shape[1]), place.form == "sheet"
    plan = plan_mixing(
        loaded, len(coarse), len(fine), layer, f"{wanted.name}-mix-{mixed.name}",
        corner=corner, **what,
    )  # fmt: skip
    sink = place.open(plan, sys.stdout.buffer, len(fine) + 1)
    return plan, sink, mixing_sheet(loaded, coarse, fine, layer, corner=corner)
