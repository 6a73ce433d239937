"""The command ``gentool reconstruct``: find the latents of images and decode them again."""

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gentool.cli.console import Print0, emit, emit_json, refuse_unfit_stdout, say
from gentool.cli.seeds import seed_option
from gentool.cli.writing import Overwrite, failures
from gentool.core.errors import DataError, PartialSuccess, UsageError
from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.inference.reconstruction import Reconstruction


def command(
    model: Path = typer.Argument(help="Model file or run folder.", metavar="MODEL", readable=False),
    images: list[Path] = typer.Argument(
        help="Images, or folders of them.", metavar="IMAGE...", readable=False
    ),
    output: str = typer.Option(
        "reconstructions", "-o", "--output", metavar="WHERE",
        help="Folder; or grid.png, .jpg or .webp for one sheet; .npz; - for a tar on stdout.",
    ),
    only: bool = typer.Option(
        False, "--only", help="The reconstructions alone, under the originals' own paths."
    ),
    overwrite: Overwrite = False,
    image_format: str = typer.Option(
        "png", "--format", metavar="NAME", help="Format of single files: png, jpg or webp."
    ),
    steps: int = typer.Option(
        None, "--steps", min=0, max=10**6, metavar="N",
        help="Gradient steps that look for better latents; 0 for the encoder alone.",
    ),
    fit_weights: Path = typer.Option(
        None, "--fit-weights", metavar="FILE",
        help="Fit the weights to these images too, and save that model in FILE.",
    ),
    denoise: bool = typer.Option(
        False, "--denoise", help="Take noise away, by a model that learned it (-o denoise)."
    ),
    draw: bool = typer.Option(
        False, "--draw", help="Decode a draw from the posterior (VAEs), not its mean."
    ),
    keep_top: int = typer.Option(
        None, "--keep-top", min=0, max=200, metavar="K",
        help="Keep the first K layers of latents, where there are some; draw the rest anew.",
    ),
    save_latents: Path = typer.Option(
        None, "--save-latents", metavar="FILE",
        help="Keep what was found too, as .safetensors, for sample and interpolate.",
    ),
    seed: int = seed_option(0, "Seed of the search or the draws;"),
    device: str = typer.Option("auto", "--device", metavar="DEVICE", envvar="GENTOOL_DEVICE",
        show_envvar=False, help="auto, cpu, cuda, mps."),
    print0: Print0 = False,
    as_json: bool = typer.Option(False, "--json", help="Result as JSON on stdout."),
) -> None:  # fmt: skip
    """Write each image beside what the model makes of it, with MSE, PSNR and SSIM.

    gentool reconstruct model.safetensors photo.png

    gentool reconstruct runs/vae-faces photos/ --only -o out/

    gentool reconstruct runs/vae-faces photos/ -o sheet.png

    gentool reconstruct runs/gan-faces me.jpg --fit-weights me.safetensors

    Prints path, MSE (0 to 1 scale), PSNR (dB) and SSIM, separated by tabs; with --print0 the paths
    alone.
    """
    refuse_unfit_stdout(output, as_json=as_json, print0=print0)
    import numpy as np

    from gentool.checkpoint import load_model, locate
    from gentool.core.devices import select_device
    from gentool.inference.latents import write_latents
    from gentool.inference.reconstruction import (
        find_images,
        find_latents,
        fit,
        fitted_recipe,
        picture,
        plan_pictures,
        read_images,
        reconstruct,
        redraw_below,
        require_denoiser,
        write_fitted,
    )
    from gentool.outputs.destination import parse_destination
    from gentool.outputs.marks import LATENTS, MODEL
    from gentool.outputs.ownership import Guard
    from gentool.outputs.plan import NamedImage, merged_recipe

    if denoise and (steps or fit_weights is not None):
        raise UsageError("--denoise goes by the encoder alone; a search would fit the noise")
    if draw and steps:
        raise UsageError("--draw goes by the encoder alone; leave --steps out")
    if keep_top is not None and fit_weights is not None:
        raise UsageError("--keep-top draws pictures anew; --fit-weights fits to those given")
    guard = Guard([locate(model), *images], overwrite, tell=say)
    place = parse_destination(output, image_format, guard)
    if fit_weights is not None:
        guard.allow(fit_weights, MODEL, "--fit-weights")
    if save_latents is not None:
        guard.allow(save_latents, LATENTS, "--save-latents")
    with StopFlag() as stop:
        loaded = load_model(model, select_device(device))
        if denoise:
            require_denoiser(loaded)
        if draw and not loaded.model.has_posterior:
            raise UsageError("this model has no posterior to draw from. Leave --draw out")
        if keep_top is not None:
            loaded.model.check_layers(keep_top)
        wanted = find_images(images)
        good, bad = read_images(loaded, wanted)
        for path, reason in bad.items():
            say(f"error: {path}: {reason}")
        if not good:
            raise DataError(f"none of {len(wanted)} images can be read")
        by_posterior = loaded.model.has_posterior and not steps
        searched = bool(loaded.model.search_steps if steps is None else steps)
        how = _how(draw if by_posterior else None, keep_top, steps, seed, searched=searched)
        more = {"fitted": True} if fit_weights is not None else {}
        plan = plan_pictures(loaded, good, only=only, **how, **more)
        told = merged_recipe(plan)
        made_by = fitted_recipe(loaded, plan)
        if fit_weights is not None:
            guard.allow_recipe(fit_weights, MODEL, made_by)
        if save_latents is not None:
            guard.allow_recipe(save_latents, LATENTS, told)
        sink = place.open(plan, sys.stdout.buffer)
        began = time.monotonic()
        pixels = np.stack(list(good.values()))
        latents = find_latents(loaded, pixels, steps, seed, stop, drawn=draw, tell=say)
        if keep_top is not None:
            latents = redraw_below(loaded, latents, keep_top, seed)
        if fit_weights is not None:
            loaded = fit(loaded, good, latents, stop)
            guard.allow_recipe(fit_weights, MODEL, made_by)  # a file may have been made meanwhile
            loaded = write_fitted(loaded, good, fit_weights, made_by)
        if save_latents is not None:
            guard.allow_recipe(save_latents, LATENTS, told)
            write_latents(save_latents, loaded, latents, told)
        results = reconstruct(loaded, good, latents)
        seconds = (time.monotonic() - began) / len(good)
        written = []
        for planned, result in zip(plan.results(), results, strict=True):
            told_of = {**planned.recipe, "psnr": round(result.psnr, 4)}
            files = sink.add(NamedImage(planned.name, picture(result, only=only), told_of))
            written.append(files)
            where = files[0] if files else None if place.form == "folder" else result.path
            if where is not None and not as_json and place.form != "tar":
                figures = f"{result.mse:.6f}", f"{result.psnr:.2f}", f"{result.ssim:.4f}"
                emit(where, *(() if print0 else figures), print0=print0)
        sheet = sink.close()
    rows = [_row(r, [*files, *sheet]) for r, files in zip(results, written, strict=True)]
    mean = sum(r.psnr for r in results) / len(results)
    if as_json:
        emit_json({"images": rows, "mean_psnr": mean if math.isfinite(mean) else None, **how})
    for path in sheet if not as_json else ():
        emit(path, print0=print0)
    which = " by draws from the posterior" if draw else " by the posterior mean"
    by = which if by_posterior else ""
    by += f", {keep_top} layers kept" if keep_top is not None else ""
    say(f"{len(results)} images{by}, mean PSNR {mean:.2f} dB, {seconds:.2g} s each")
    if fit_weights is not None:
        say(f"fitted to them: {fit_weights}")
    if sink.failed:
        raise PartialSuccess(failures(sink.failed, len(results)))
    if bad:
        raise PartialSuccess(f"{len(bad)} of {len(wanted)} images cannot be read")


def _how(
    draw: bool | None, keep_top: int | None, steps: int | None, seed: int, *, searched: bool
) -> dict[str, object]:
    """Return the options that affect the result, for recipes and JSON.

    Args:
        draw: True for a draw from the posterior, False for its mean; None if no posterior is used.
        keep_top: Number of layers that are kept; None for all.
        steps: Steps of the search, if given.
        seed: The seed; included only if the result may depend on it.
        searched: Whether latents are searched, which may start at random points.
    """
    given = {"draw": draw, "keep_top": keep_top, "steps": steps}
    told: dict[str, object] = {k: v for k, v in given.items() if v is not None}
    random = searched or told not in (
        {},
        {"draw": False},
        {"draw": False, "steps": 0},
        {"steps": 0},
    )
    return {**told, "seed": seed} if random else told


def _row(result: "Reconstruction", files: list[Path]) -> dict[str, object]:
    """Return the JSON entry of one image; an infinite PSNR is None, since JSON has no infinity."""
    return {
        "image": str(result.path),
        "mse": result.mse,
        "psnr": result.psnr if math.isfinite(result.psnr) else None,
        "ssim": result.ssim,
        "file": str(files[0]) if files else None,
    }
