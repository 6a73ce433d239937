"""The command ``gentool traverse``: find directions in latent space and show their effects.

The result has one row of images for each direction.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from gentool.cli import options
from gentool.cli.console import emit, emit_json, refuse_unfit_stdout, say
from gentool.cli.keyframes import Wanted, find_keys
from gentool.cli.writing import failures
from gentool.core.errors import PartialSuccess, UsageError
from gentool.core.signals import StopFlag


def command(
    model: options.Model,
    start: Path = typer.Argument(
        None, metavar="[START]", readable=False,
        help="Picture to change: a photo or a file of latents; default: the sample of --seed.",
    ),
    seed: Annotated[int | None, options.seed("Seed of the picture to change; default: 0;")] = None,
    method: str = typer.Option(
        "principal", "--by", metavar="NAME",
        help="principal: principal components of styles or pictures; sefa (gan): from the first "
        "weights; units (vae): the most active latents.",
    ),
    count: int = typer.Option(
        8, "--directions", min=1, max=4096, metavar="N",
        help="Number of directions, strongest first."
    ),
    steps: int = typer.Option(
        7, "--steps", min=2, max=1000, metavar="N",
        help="Images per row; the middle image is the start."
    ),
    amount: float = typer.Option(
        2.0, "--amount", min=0, max=100, metavar="D",
        help="Distance to each side, in standard deviations.",
    ),
    class_name: Annotated[str | None, options.class_name("Class of the picture.")] = None,
    truncation: options.Truncation = None,
    output: Annotated[
        str, options.output("sheet.png, .jpg or .webp; a folder; .npz; - for a tar on stdout.")
    ] = "traversal.png",
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    print0: options.Print0 = False,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Find directions in the latent space of a model, and draw a row of images for each.

    gentool traverse runs/gan-faces

    gentool traverse runs/gan-faces photo.png --by sefa --directions 4 -o changes.png
    """
    refuse_unfit_stdout(output, as_json=as_json, print0=print0)
    if start is not None and seed is not None:
        raise UsageError("START and --seed exclude each other. Give one of them")
    from gentool.checkpoint import load_model, locate
    from gentool.core.devices import select_device
    from gentool.inference.traversal import find_directions, label_sheet, plan_traversal, traverse
    from gentool.outputs.destination import parse_destination
    from gentool.outputs.ownership import Guard
    from gentool.outputs.plan import named, recipe
    from gentool.outputs.writers import into

    files = [] if start is None else [start]
    seeds: list[int] = [seed or 0] if start is None else []
    place = parse_destination(output, None, Guard([locate(model), *files], overwrite, tell=say))
    listed: list[str] = []
    with StopFlag() as stop:
        loaded = load_model(model, select_device(device))
        draws = options.given_draws(truncation=truncation)
        loaded.model.draw_with(**draws)
        wanted = Wanted(files, seeds, class_name, None, draws)
        known = recipe(loaded, made_by="traverse", directions=method, **wanted.recipe)
        place.foresee(known, f"{wanted.name}-direction000-000")
        found = find_directions(loaded.model, method, count)
        wanted = replace(wanted, space=found.space)
        plan = plan_traversal(loaded, found, steps, amount, wanted.name, **wanted.recipe)
        labels = label_sheet(found, steps, amount)
        sink = place.open(plan, sys.stdout.buffer, steps, labels=labels)
        point = find_keys(loaded, wanted, stop)
        if len(point) != 1:
            raise UsageError(f"{start} holds {len(point)} pictures, but traverse changes only one")
        for written in into(sink, named(plan, traverse(loaded, point, found, steps, amount))):
            stop.poll("stopped")
            listed += map(str, written)
            for path in written if not as_json else ():
                emit(path, print0=print0)
    if as_json:
        deviations = found.deviations.tolist()
        told = {"seed": seeds[0]} if seeds else {}
        emit_json({"model": str(loaded.path), **told, "files": listed, "deviations": deviations})
    say(
        f"{len(found)} {method} directions in {found.space}, up to {amount:g} standard deviations "
        "to each side"
    )
    if sink.failed:
        raise PartialSuccess(failures(sink.failed, plan.count))
