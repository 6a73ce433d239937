"""The command ``gentool reconstruct``: find the latents of images and decode them again."""

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gentool.cli import options
from gentool.cli.console import emit, emit_json, refuse_unfit_stdout, say
from gentool.cli.writing import failures
from gentool.core.errors import DataError, PartialSuccess, UsageError
from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.checkpoint import LoadedModel
    from gentool.core.images import Pixels
    from gentool.inference.latents import Latents
    from gentool.inference.reconstruction import Method, Reconstruction
    from gentool.outputs.destination import Form
    from gentool.outputs.ownership import OptionalFile
    from gentool.outputs.plan import Plan
    from gentool.outputs.writers import Sink


def command(
    model: options.Model,
    images: options.Images,
    output: Annotated[
        str,
        options.output(
            "Folder; grid.png, .jpg or .webp for one sheet; .npz; - for a tar on stdout."
        ),
    ] = "reconstructions",
    only: bool = typer.Option(
        False, "--only", help="Write only the reconstructions, under the paths of the originals."
    ),
    overwrite: options.Overwrite = False,
    image_format: options.ImageFormat = None,
    steps: int = typer.Option(
        None, "--steps", min=0, max=10**6, metavar="N",
        help="Gradient steps of the search for better latents; 0: only the encoder.",
    ),
    fit_weights: Path = typer.Option(
        None, "--fit-weights", metavar="FILE",
        help="Also fit the weights to these images, and save that model in FILE.",
    ),
    denoise: bool = typer.Option(
        False, "--denoise", help="Remove noise, with a model that was trained for it (-o denoise)."
    ),
    draw: bool = typer.Option(
        False, "--draw", help="Decode a sample from the posterior (VAEs) instead of its mean."
    ),
    keep_top: int = typer.Option(
        None, "--keep-top", min=0, max=200, metavar="K",
        help="Keep the first K layers of latents, and sample the others (hvae).",
    ),
    save_latents: options.SaveLatents = None,
    seed: Annotated[int, options.seed("Seed of the search or of the samples;")] = 0,
    device: options.Device = "auto",
    print0: options.Print0 = False,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Write each image beside its reconstruction, with MSE, PSNR and SSIM.

    gentool reconstruct model.safetensors photo.png

    gentool reconstruct runs/vae-faces photos/ --only -o out/

    gentool reconstruct runs/vae-faces photos/ -o sheet.png

    gentool reconstruct runs/gan-faces me.jpg --fit-weights me.safetensors

    Prints path, MSE (0 to 1 scale), PSNR (dB) and SSIM, separated by tabs; with --print0 only the
    paths.
    """
    refuse_unfit_stdout(output, as_json=as_json, print0=print0)
    _refuse_contradictions(denoise, draw, keep_top, steps, fit_weights)
    from gentool.checkpoint import load_model, locate
    from gentool.core.devices import select_device
    from gentool.inference.reconstruction import Method, fitted_recipe, plan_pictures
    from gentool.outputs.destination import parse_destination
    from gentool.outputs.marks import LATENTS, MODEL
    from gentool.outputs.ownership import Guard, OptionalFile
    from gentool.outputs.plan import merged_recipe

    guard = Guard([locate(model), *images], overwrite, tell=say)
    place = parse_destination(output, image_format, guard)
    fitted = OptionalFile(fit_weights, MODEL, "--fit-weights", guard)
    kept = OptionalFile(save_latents, LATENTS, "--save-latents", guard)
    method = Method(steps, seed, drawn=draw, keep_top=keep_top, denoise=denoise)
    with StopFlag() as stop:
        loaded = load_model(model, select_device(device))
        method.check(loaded)
        good, unread = _read(loaded, images)
        how = method.told(loaded)
        more = {"fitted": True} if fit_weights is not None else {}
        plan = plan_pictures(loaded, good, only=only, **how, **more)
        fitted.allow_recipe(fitted_recipe(loaded, plan))
        kept.allow_recipe(merged_recipe(plan))
        sink = place.open(plan, sys.stdout.buffer)
        began = time.monotonic()
        latents = method.find(loaded, good, stop, say)
        results = _decode(loaded, good, latents, plan, fitted, kept, stop)
        seconds = (time.monotonic() - began) / len(good)
        writer = _Writer(sink, place.form, as_json, print0)
        files = writer.write(plan, results, only=only)
    mean = sum(r.psnr for r in results) / len(results)
    if as_json:
        rows = [_row(r, paths) for r, paths in zip(results, files, strict=True)]
        emit_json({"images": rows, "mean_psnr": mean if math.isfinite(mean) else None, **how})
    by = _in_words(method, by_posterior=method.by_posterior(loaded))
    say(f"{len(results)} images{by}, mean PSNR {mean:.2f} dB, {seconds:.2g} s each")
    if fit_weights is not None:
        say(f"model that was fitted to them: {fit_weights}")
    if sink.failed:
        raise PartialSuccess(failures(sink.failed, len(results)))
    if unread:
        raise PartialSuccess(unread)


def _refuse_contradictions(
    denoise: bool, draw: bool, keep_top: int | None, steps: int | None, fit_weights: Path | None
) -> None:
    """Check that the options can be combined.

    Raises:
        UsageError: Two options contradict each other.
    """
    if denoise and (steps or fit_weights is not None):
        raise UsageError(
            "--denoise uses only the encoder, because a search would fit the noise. Leave --steps "
            "and --fit-weights out"
        )
    if draw and steps:
        raise UsageError("--draw uses only the encoder. Leave --steps out")
    if keep_top is not None and fit_weights is not None:
        raise UsageError(
            "--keep-top samples new pictures, and --fit-weights needs the given ones. Leave one of "
            "them out"
        )


def _read(loaded: "LoadedModel", paths: list[Path]) -> "tuple[dict[Path, Pixels], str | None]":
    """Read the images at paths, and report each that cannot be read.

    Returns:
        The images that could be read, by path; and a message that counts the others, or None.

    Raises:
        DataError: None of the images can be read.
    """
    from gentool.inference.reconstruction import find_images, read_images

    wanted = find_images(paths)
    good, bad = read_images(loaded, wanted, say)
    for path, reason in bad.items():
        say(f"error: {path}: {reason}")
    if not good:
        raise DataError(f"none of {len(wanted)} images can be read")
    return good, f"{len(bad)} of {len(wanted)} images cannot be read" if bad else None


def _decode(
    loaded: "LoadedModel", images: "dict[Path, Pixels]", latents: "Latents", plan: "Plan",
    fitted: "OptionalFile", kept: "OptionalFile", stop: StopFlag,
) -> "list[Reconstruction]":  # fmt: skip
    """Decode latents; first write the fitted model and the latents, if these files are named.

    Args:
        loaded: The model.
        images: The originals, by path.
        latents: Latents of the images.
        plan: Names and recipes of the pictures.
        fitted: The file for the model with weights fitted to the images, which then decodes.
        kept: The file for the latents.
        stop: Polled at every step of the fit.
    """
    from gentool.inference.latents import write_latents
    from gentool.inference.reconstruction import fit, fitted_recipe, reconstruct, write_fitted
    from gentool.outputs.plan import merged_recipe

    if fitted.path is not None:
        made_by = fitted_recipe(loaded, plan)
        loaded = fit(loaded, images, latents, stop)
        fitted.allow_recipe(made_by)
        loaded = write_fitted(loaded, images, fitted.path, made_by)
    if kept.path is not None:
        told = merged_recipe(plan)
        kept.allow_recipe(told)
        write_latents(kept.path, loaded, latents, told)
    return reconstruct(loaded, images, latents)


@dataclass(frozen=True)
class _Writer:
    """Writes the pictures, and shows their files on stdout.

    Attributes:
        sink: Where the pictures are written.
        form: Kind of output, such as ``folder``.
        as_json: Whether nothing is shown, since JSON follows at the end.
        print0: Whether paths alone are shown, each with a zero byte after it.
    """

    sink: "Sink"
    form: "Form"
    as_json: bool
    print0: bool

    def write(
        self, plan: "Plan", results: "list[Reconstruction]", *, only: bool
    ) -> list[list[Path]]:
        """Write all pictures and show each; return the files of each result."""
        from gentool.inference.reconstruction import named_pictures

        written = []
        for result, image in zip(results, named_pictures(plan, results, only=only), strict=True):
            written.append(self.sink.add(image))
            self._show(result, written[-1])
        sheet = self.sink.close()
        for path in sheet if not self.as_json else ():
            emit(path, print0=self.print0)
        return [[*files, *sheet] for files in written]

    def _show(self, result: "Reconstruction", files: list[Path]) -> None:
        """Show one result: its file, or the original if it has no file of its own."""
        where = files[0] if files else None if self.form == "folder" else result.path
        if where is not None and not self.as_json and self.form != "tar":
            figures = f"{result.mse:.6f}", f"{result.psnr:.2f}", f"{result.ssim:.4f}"
            emit(where, *(() if self.print0 else figures), print0=self.print0)


def _in_words(method: "Method", *, by_posterior: bool) -> str:
    """Return how the latents were found, as words that follow the number of images."""
    which = " from samples of the posterior" if method.drawn else " from the posterior mean"
    by = which if by_posterior else ""
    return by + (f", {method.keep_top} layers kept" if method.keep_top is not None else "")


def _row(result: "Reconstruction", files: list[Path]) -> dict[str, object]:
    """Return the JSON entry of one image; an infinite PSNR is None, since JSON has no infinity."""
    return {
        "image": str(result.path),
        "mse": result.mse,
        "psnr": result.psnr if math.isfinite(result.psnr) else None,
        "ssim": result.ssim,
        "file": str(files[0]) if files else None,
    }
