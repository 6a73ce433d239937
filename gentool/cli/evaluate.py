"""The command ``gentool evaluate``: score samples, reconstructions and likelihoods of models."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gentool.cli import options
from gentool.cli.console import emit_json, emit_table, say
from gentool.cli.score_files import STDOUT, check_files
from gentool.core.errors import UsageError
from gentool.core.registry import unknown_name
from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.evaluation.request import Evaluation


def command(
    targets: list[Path] = typer.Argument(
        help="Model files, run folders, or images: folders, archives, .npz.",
        metavar="MODEL...", readable=False,
    ),
    data: list[str] = typer.Option(..., "--data", help="Images to compare with.", metavar="SPEC"),
    metrics: str = typer.Option(
        None, "--metrics", metavar="LIST",
        help="frechet, kernel, overlap, memorisation, modes, reconstruction, likelihood; "
        "default: all.",
    ),
    count: int = typer.Option(
        10_000, "-n", "--count", min=1, metavar="N",
        help="Number of samples, and largest number of images to compare with.",
    ),
    seed: Annotated[int, options.seed("Seed of the samples;")] = 0,
    split: str = typer.Option(
        "auto", "--split", metavar="NAME",
        help="held-out, training or all; auto: held-out if the model has held-out images.",
    ),
    features: str = typer.Option(
        "auto", "--features", metavar="NAME",
        help="labels, random, inception, dinov2; auto: labels if there are classes, else random.",
    ),
    weights: Path = typer.Option(
        None, "--weights", metavar="FILE", readable=False, help="Weights of a pretrained extractor."
    ),
    download: Annotated[bool, options.download("Download missing weights or data.")] = False,
    importance: int = typer.Option(
        50, "--importance", min=1, metavar="K",
        help="Importance samples per image for the bound on log p(x)."
    ),
    likelihood_images: int = typer.Option(
        256, "--likelihood-images", min=1, metavar="N",
        help="Number of images for the bound on log p(x), at most -n.",
    ),
    size: str = typer.Option(
        None, "--size", metavar="SIZE",
        help="Size of the images if no target is a model, as in train.",
    ),
    mode: str = typer.Option(
        None, "--mode", metavar="MODE",
        help="Colour mode if no target is a model: grey, rgb or rgba."
    ),
    fit: str = typer.Option(
        None, "--fit", metavar="NAME", help="Fit if no target is a model: crop, pad or stretch."
    ),
    background: str = typer.Option(
        None, "--background", metavar="COLOUR",
        help="Colour behind transparent pixels if no target is a model."
    ),
    levels: str = typer.Option(
        None, "--levels", metavar="LEVELS",
        help="Black and white of deep images if no target is a model: auto, full or LOW:HIGH."
    ),
    labels: options.Labels = None,
    max_bad: float = typer.Option(
        0.01, "--max-bad", metavar="SHARE", min=0, max=1,
        help="Fraction of images that may be unreadable or unlabelled."
    ),
    neighbours: Path = typer.Option(
        None, "--neighbours", metavar="FILE", help="Picture of samples beside their nearest images."
    ),
    per_image: Path = typer.Option(
        None, "--per-image", metavar="FILE",
        help="CSV (- for stdout): MSE, PSNR and SSIM of every image.",
    ),
    per_unit: Path = typer.Option(
        None, "--per-unit", metavar="FILE",
        help="CSV (- for stdout): KL of every latent, and whether it is active.",
    ),
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Score models or sets of images by comparison with images.

    gentool evaluate runs/gan-faces --data ./faces

    gentool evaluate runs/a runs/b other_samples/ --data faces.zip -n 5000 --json

    gentool evaluate runs/vae --data faces --metrics likelihood --likelihood-images 10000
    """
    csv_on_stdout = _takes_stdout(per_image, per_unit, as_json=as_json)
    from gentool.core.devices import select_device
    from gentool.evaluation.evaluate import evaluate
    from gentool.evaluation.request import Request
    from gentool.evaluation.split import SPLITS

    wanted = tuple(metrics.split(",")) if metrics is not None else ()
    files = {"reconstruction": per_image, "likelihood": per_unit}
    if split not in SPLITS:
        raise unknown_name("split", split, list(SPLITS), "gentool evaluate --help")
    request = Request(
        tuple(targets), tuple(data), wanted, count, seed, split, features, weights, download,
        importance, likelihood_images, neighbours is not None, size, labels, max_bad,
        select_device(device), fit, background, levels, mode,
        tuple(name for name, path in files.items() if path is not None),
    )  # fmt: skip
    beside = check_files(request, neighbours, per_image, per_unit, overwrite=overwrite)
    with StopFlag() as stop:
        found = evaluate(request, lambda: stop.poll("stopped; nothing was scored"))
    beside.write(found)
    if as_json:
        rows = [{"target": s.name, **_finite(s.values), "notes": s.notes} for s in found.table]
        emit_json({"protocol": found.protocol, "scores": rows})
    else:
        _show(found, aside=csv_on_stdout)


def _takes_stdout(per_image: Path | None, per_unit: Path | None, *, as_json: bool) -> bool:
    """Return whether a CSV goes to stdout (``-``), so that the table must go to stderr.

    Raises:
        UsageError: two kinds of output would go to stdout.
    """
    images, units = (str(path) == STDOUT for path in (per_image, per_unit))
    if images + units + as_json > 1 and (images or units):
        flags = ("--per-image -", images), ("--per-unit -", units), ("--json", as_json)
        both = " and ".join(flag for flag, given in flags if given)
        raise UsageError(f"{both} cannot share stdout. Write the CSV to a file")
    return images or units


def _show(found: "Evaluation", *, aside: bool) -> None:
    names = list(dict.fromkeys(name for s in found.table for name in s.values))
    header = ("", *(s.name for s in found.table))
    lines = [(n, *(_number(s.values.get(n)) for s in found.table)) for n in names]
    emit_table([header, *lines], indent="", aside=aside)
    say("  ".join(f"{k}={v}" for k, v in found.protocol.items()))
    for scores in found.table:
        for note in scores.notes:
            say(f"note: {scores.name}: {note}")


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """Replace infinity, the PSNR of a perfect image, and NaN by None, as JSON has neither."""
    return {k: v if math.isfinite(v) else None for k, v in values.items()}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"
