"""The command ``gentool sample``: draw new images from a model."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gentool.cli import options
from gentool.cli.console import emit, emit_json, refuse_unfit_stdout, say
from gentool.cli.seeds import parse_seeds
from gentool.cli.writing import failures
from gentool.core.errors import PartialSuccess, UsageError
from gentool.core.options import Scalar
from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.checkpoint import LoadedModel
    from gentool.outputs.plan import NamedImage, Plan
    from gentool.outputs.writers import Sink


def command(
    model: options.Model,
    count: int = typer.Option(
        None, "-n", "--count", min=1, max=10**9, metavar="N",
        help="Images per seed; default: 16 for one seed, 1 for several.",
    ),
    seed: Annotated[int | None, options.seed("Seed; default: 0;")] = None,
    seeds: str = typer.Option(None, "--seeds",
    help="Several seeds, such as 0,4-9.", metavar="LIST"),
    start: int = typer.Option(
        0, "--start", min=0, max=2**53, metavar="K",
        help="Index of the first image, to split a large job."
    ),
    class_name: Annotated[
        str | None, options.class_name("Class of the images; all: every class, same latents.")
    ] = None,
    truncation: options.Truncation = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    keep_top: int = typer.Option(
        None, "--keep-top", min=0, max=200, metavar="K",
        help="Variations: the first K layers of latents are those of image 0 of the seed.",
    ),
    latents: Path = typer.Option(
        None, "--latents", metavar="FILE", readable=False,
        help="Decode the latents of a file from --save-latents.",
    ),
    like: Path = typer.Option(
        None, "--like", metavar="FILE", readable=False,
        help="Draw the images of a recipe.toml from 'gentool explore' again.",
    ),
    save_latents: options.SaveLatents = None,
    output: Annotated[
        str,
        options.output(
            "Folder; grid.png, .jpg or .webp for one grid; .npz; - for a tar on stdout."
        ),
    ] = "samples",
    overwrite: options.Overwrite = False,
    image_format: options.ImageFormat = None,
    batch: int = typer.Option(256, "--batch", min=1, metavar="N",
    help="Images per batch in memory."),
    device: options.Device = "auto",
    print0: options.Print0 = False,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Draw new images.

    gentool sample model.safetensors -n 64

    gentool sample runs/gan-faces -n 64 --seed 7 --truncation 0.7 -o grid.png

    gentool sample runs/gan-faces -n 8 --class all -o classes.png

    gentool sample runs/gan-faces --latents kept.safetensors

    gentool sample runs/gan-faces --like recipe.toml

    gentool sample runs/gan-faces -n 100000 -o - | ssh host tar x
    """
    refuse_unfit_stdout(output, as_json=as_json, print0=print0)
    draws = options.given_draws(
        truncation=truncation, temperature=temperature, top_k=top_k, top_p=top_p, keep_top=keep_top
    )
    _refuse_contradictions(latents, save_latents, draws, seed, seeds, count, class_name)
    if like is not None:
        _refuse_beside_like(latents, save_latents, draws, seed, seeds, count, start, class_name)
    several = _several(seed, seeds)
    indices = range(start, start + (count or (16 if seeds is None else 1)))
    from gentool.checkpoint import load_model, locate
    from gentool.core.devices import select_device
    from gentool.core.sheet_labels import SheetLabels
    from gentool.inference.latents import Latents, join, write_latents
    from gentool.inference.sampling import Draws, classes_of, sample
    from gentool.outputs.destination import parse_destination
    from gentool.outputs.marks import LATENTS
    from gentool.outputs.ownership import Guard, OptionalFile
    from gentool.outputs.plan import merged_recipe

    inputs = [file for file in (latents, like) if file is not None]
    guard = Guard([locate(model), *inputs], overwrite, tell=say)
    place = parse_destination(output, image_format, guard)
    keeping = OptionalFile(save_latents, LATENTS, "--save-latents", guard)
    columns = len(several) * len(indices) if class_name == "all" else None  # one row per class
    kept: list[Latents] = []
    with StopFlag() as stop:
        loaded = load_model(model, select_device(device))
        loaded.model.draw_with(**draws)
        if like is not None:
            plan, images = _from_recipes(loaded, like)
        elif latents is None:
            wanted = Draws.of_classes(loaded, several, indices, classes_of(loaded, class_name))
            plan, images = wanted.plan, sample(wanted, batch, kept.append if save_latents else None)
        else:
            plan, images = _from_file(loaded, latents, start, count, batch)
        told = merged_recipe(plan) if save_latents is not None else {}
        keeping.allow_recipe(told)
        names = tuple(loaded.header["classes"]) if class_name == "all" else ()
        sink = place.open(plan, sys.stdout.buffer, columns, labels=SheetLabels(names))
        done, listed = _write(sink, images, stop, as_json=as_json, print0=print0)
        if save_latents is not None:
            keeping.allow_recipe(told)
            write_latents(save_latents, loaded, join(kept), told)
    if as_json:
        drawn = several if latents is None and like is None else None
        emit_json({"model": str(loaded.path), "seeds": drawn, "files": listed, "images": done})
    else:
        say(f"{done:,} images from {loaded.path}: {loaded.model.summary()}")
    if sink.failed:
        raise PartialSuccess(failures(sink.failed, done))


def _refuse_contradictions(
    latents: Path | None, save_latents: Path | None, draws: Mapping[str, Scalar],
    seed: int | None, seeds: str | None, count: int | None, class_name: str | None,
) -> None:  # fmt: skip
    """Check that the options which say what is drawn can be combined.

    Raises:
        UsageError: Two options contradict each other.
    """
    if latents is not None and (
        draws or save_latents or any(x is not None for x in (seed, seeds, class_name))
    ):
        raise UsageError(
            "with --latents, only -n and --start choose the images. Leave seeds, --class, "
            "--save-latents and drawing options out"
        )
    if seed is not None and seeds is not None:
        raise UsageError("--seed and --seeds exclude each other. Give one of them")
    if draws.get("keep_top") and seeds is not None and (count or 1) == 1:
        raise UsageError(
            "--keep-top varies image 0 of a seed. Give the number of images per seed with -n"
        )


def _refuse_beside_like(
    latents: Path | None, save_latents: Path | None, draws: Mapping[str, Scalar],
    seed: int | None, seeds: str | None, count: int | None, start: int, class_name: str | None,
) -> None:  # fmt: skip
    """Check that nothing else than ``--like`` chooses the images.

    Raises:
        UsageError: Another option does.
    """
    others = (latents, save_latents, seed, seeds, count, class_name)
    if draws or start or any(given is not None for given in others):
        raise UsageError(
            "with --like, the file alone chooses the images. Leave -n, --start, seeds, --class, "
            "--latents, --save-latents and drawing options out"
        )


def _several(seed: int | None, seeds: str | None) -> list[int]:
    """Return the seeds that ``--seeds`` or ``--seed`` name; 0 if neither is given.

    Raises:
        UsageError: A seed is named twice.
    """
    several = parse_seeds(seeds) if seeds is not None else [seed or 0]
    if len(set(several)) < len(several):
        raise UsageError(
            "--seeds contains a seed twice, which would repeat an image. Give each seed once"
        )
    return several


def _from_file(
    loaded: "LoadedModel", path: Path, start: int, count: int | None, batch: int
) -> "tuple[Plan, Iterator[NamedImage]]":
    """Return the plan and the images of a file of latents; warn if it is of another model.

    Raises:
        UsageError: The file has no latents at the wanted indices.
    """
    from gentool.inference.latents import read_latents
    from gentool.inference.sampling import plan_latents, rows_of, sample_latents

    file = read_latents(path, loaded)
    if file.warning:
        say(f"warning: {file.warning}")
    rows = rows_of(file, path, start, count)
    return plan_latents(loaded, file, rows), sample_latents(loaded, file, rows, batch)


def _from_recipes(loaded: "LoadedModel", path: Path) -> "tuple[Plan, Iterator[NamedImage]]":
    """Return the plan and the images of a file of recipes; warn if it is of another model.

    Raises:
        UsageError: The file cannot be read, or does not fit the model.
    """
    from gentool.inference.picks import draw_picks, plan_picks
    from gentool.inference.recipe_files import read_recipe_file

    file = read_recipe_file(path, loaded)
    if file.warning:
        say(f"warning: {file.warning}")
    return plan_picks(loaded, file.picks), draw_picks(loaded, file.picks)


def _write(
    sink: "Sink", images: "Iterable[NamedImage]", stop: StopFlag, *, as_json: bool, print0: bool
) -> tuple[int, list[str]]:
    """Write all images, and show each file on stdout unless JSON follows at the end.

    Returns:
        The number of images; and their files for the JSON, or nothing if they were shown.
    """
    listed: list[str] = []

    def announce(paths: list[Path]) -> None:
        for path in paths:
            if as_json:
                listed.append(str(path))
            else:
                emit(path, print0=print0)

    done = 0
    for image in images:
        stop.poll(f"stopped after {done:,} images; every written file is complete")
        announce(sink.add(image))
        done += 1
    announce(sink.close())
    return done, listed
