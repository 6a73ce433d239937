"""``gentool evaluate``: how good are the samples, the reconstructions, the likelihood?"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gentool.cli.console import csv_bytes, emit_csv, emit_json, emit_table, say
from gentool.cli.seeds import seed_option
from gentool.cli.writing import Overwrite
from gentool.errors import UsageError
from gentool.registry import unknown_name
from gentool.signals import StopFlag

if TYPE_CHECKING:
    from gentool.evaluation import Evaluation, Request

_STDOUT = "-"  # for a FILE


def command(
    targets: list[Path] = typer.Argument(
        help="Model files, run folders, or images: folders, archives, .npz.",
        metavar="MODEL...", readable=False,
    ),
    data: list[str] = typer.Option(..., "--data", help="Images to compare with.", metavar="SPEC"),
    metrics: str = typer.Option(
        None, "--metrics", metavar="LIST",
        help="frechet, kernel, overlap, memorisation, modes, reconstruction, likelihood; "
        "default all.",
    ),
    count: int = typer.Option(
        10_000, "-n", "--count", min=1, metavar="N",
        help="Samples, and at most as many images to compare with.",
    ),
    seed: int = seed_option(0, "Seed of the samples;"),
    split: str = typer.Option(
        "auto", "--split", metavar="NAME",
        help="held-out, training or all; auto: held-out where the model has one.",
    ),
    features: str = typer.Option(
        "auto", "--features", metavar="NAME",
        help="labels, random, inception, dinov2; auto: labels where there are classes.",
    ),
    weights: Path = typer.Option(
        None, "--weights", metavar="FILE", readable=False, help="Weights of a pretrained extractor."
    ),
    download: bool = typer.Option(False, "--download", help="Fetch weights, or data."),
    importance: int = typer.Option(
        50, "--importance", min=1, metavar="K", help="Importance samples of the bound."
    ),
    likelihood_images: int = typer.Option(
        256, "--likelihood-images", min=1, metavar="N",
        help="Images that the bound is over, at most as many as -n.",
    ),
    size: str = typer.Option(
        None, "--size", metavar="SIZE",
        help="Shape to compare images at where no target is a model, as in train.",
    ),
    mode: str = typer.Option(
        None, "--mode", metavar="MODE", help="Their colour mode then: grey, rgb or rgba."
    ),
    fit: str = typer.Option(
        None, "--fit", metavar="NAME", help="How they get their shape then: crop, pad or stretch."
    ),
    background: str = typer.Option(
        None, "--background", metavar="COLOUR", help="What transparency is laid on then."
    ),
    labels: str = typer.Option(
        None, "--labels", metavar="FILE", help="CSV of path,label, a dataset.json, folders or none."
    ),
    max_bad: float = typer.Option(
        0.01, "--max-bad", metavar="SHARE", min=0, max=1, help="Share of files that may be bad."
    ),
    neighbours: Path = typer.Option(
        None, "--neighbours", metavar="FILE", help="Picture: samples and nearest images."
    ),
    per_image: Path = typer.Option(
        None, "--per-image", metavar="FILE",
        help="CSV (- for stdout): MSE, PSNR and SSIM of every image.",
    ),
    per_unit: Path = typer.Option(
        None, "--per-unit", metavar="FILE",
        help="CSV (- for stdout): KL of every latent, and whether it is used.",
    ),
    overwrite: Overwrite = False,
    device: str = typer.Option("auto", "--device", metavar="DEVICE", envvar="GENTOOL_DEVICE",
        show_envvar=False, help="auto, cpu, cuda, mps."),
    as_json: bool = typer.Option(False, "--json", help="Result as JSON on stdout."),
) -> None:  # fmt: skip
    """Score models, or images, against images.

    gentool evaluate runs/gan-faces --data ./faces

    gentool evaluate runs/a runs/b other_samples/ --data faces.zip -n 5000 --json

    gentool evaluate runs/vae --data faces --metrics likelihood --likelihood-images 10000
    """
    csv_on_stdout = _takes_stdout(per_image, per_unit, as_json=as_json)
    from gentool.devices import select_device
    from gentool.evaluation import SPLITS, Request, evaluate

    wanted = tuple(metrics.split(",")) if metrics is not None else ()
    files = {"reconstruction": per_image, "likelihood": per_unit}
    if split not in SPLITS:
        raise unknown_name("split", split, list(SPLITS), "gentool evaluate --help")
    _check_picture(neighbours)
    request = Request(
        tuple(targets), tuple(data), wanted, count, seed, split, features, weights, download,
        importance, likelihood_images, neighbours is not None, size, labels, max_bad,
        select_device(device), fit, background, mode,
        tuple(name for name, path in files.items() if path is not None),
    )  # fmt: skip
    made = _check_files(request, neighbours, per_image, per_unit, overwrite=overwrite)
    with StopFlag() as stop:
        found = evaluate(request, lambda: stop.poll("stopped; nothing was scored"))
    if neighbours is not None:
        _write_sheets(found, neighbours, made)
    if per_image is not None:
        _write_images(found, per_image, made)
    if per_unit is not None:
        _write_units(found, per_unit, made)
    if as_json:
        rows = [{"target": s.name, **_finite(s.values), "notes": s.notes} for s in found.table]
        emit_json({"protocol": found.protocol, "scores": rows})
    else:
        _show(found, aside=csv_on_stdout)


def _takes_stdout(per_image: Path | None, per_unit: Path | None, *, as_json: bool) -> bool:
    """Whether a CSV goes to stdout, as ``-``; the table goes to stderr then.

    Raises:
        UsageError: stdout would carry two things.
    """
    images, units = (str(path) == _STDOUT for path in (per_image, per_unit))
    if images + units + as_json > 1 and (images or units):
        flags = ("--per-image -", images), ("--per-unit -", units), ("--json", as_json)
        both = " and ".join(flag for flag, given in flags if given)
        raise UsageError(f"{both} go to stdout, which carries one thing; write a CSV to a file")
    return images or units


def _check_picture(path: Path | None) -> None:
    from gentool.images import SUFFIXES

    if path is not None and path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--neighbours {path}: write it as {', '.join(SUFFIXES)}")


def _check_files(
    request: "Request", neighbours: Path | None, per_image: Path | None, per_unit: Path | None,
    *, overwrite: bool,
) -> dict[str, object]:  # fmt: skip
    """See that every file may be written, before the work; how the files will come about."""
    from gentool import __version__
    from gentool.ownership import (
        PICTURE,
        RECIPE_COLUMN,
        TABLE,
        Guard,
        hash_of_files,
        hash_of_place,
        hash_of_recipe,
        place_of,
    )

    files = [_file_of(target) for target in request.targets]
    read = [*files, *map(place_of, request.data), *filter(None, [request.weights])]
    made: dict[str, object] = {
        "gentool": __version__,
        "made_by": "evaluate",
        "targets": hash_of_files(files),
        "data": [hash_of_place(spec) for spec in request.data],
        "features": request.features,
        "split": request.split,
        "count": request.count,
        "seed": request.seed,
        "size": request.size,
        "importance": [request.importance, request.likelihood_images],
        "labels": None if request.labels is None else hash_of_place(request.labels),
    }
    guard = Guard(read, overwrite)
    for path, option in ((per_image, "--per-image"), (per_unit, "--per-unit")):
        if path is not None:
            guard.allow(path, TABLE, option)
            row = {"gentool": __version__, RECIPE_COLUMN: hash_of_recipe(made)}
            guard.allow_recipe(path, TABLE, row)
    if neighbours is not None:
        for number in range(len(files)):
            sheet = _sheet_path(neighbours, number)
            guard.allow(sheet, PICTURE, f"--neighbours of target {number + 1}")
            guard.allow_recipe(sheet, PICTURE, {**made, "target": number})
    return made


def _file_of(target: Path) -> Path:
    """The model file that a target means; a folder of images is itself."""
    from gentool.checkpoint import MODEL_NAME

    return target / MODEL_NAME if (target / MODEL_NAME).is_file() else target


def _sheet_path(path: Path, number: int) -> Path:
    """near.png for the first target, near-2.png for the second, ..."""
    return path if number == 0 else path.with_name(f"{path.stem}-{number + 1}{path.suffix}")


def _write_sheets(found: "Evaluation", path: Path, made: dict[str, object]) -> None:
    """Write one picture per target."""
    from gentool.files import write_bytes
    from gentool.images import encode

    for number, sheet in enumerate(found.sheets):
        data = encode(sheet, path.suffix.lower(), {**made, "target": number})
        written = write_bytes(_sheet_path(path, number), data)
        say(f"samples beside their nearest images: {written}")


def _write_images(found: "Evaluation", path: Path, made: dict[str, object]) -> None:
    written = _write_rows(path, ("target", "image", "mse", "psnr", "ssim"), found.images, made)
    say(f"{len(found.images)} reconstructions, one a line: {written}")


def _write_units(found: "Evaluation", path: Path, made: dict[str, object]) -> None:
    rows = [(s.name, *unit) for s in found.table for unit in s.units]
    names = ("target", "unit", "layer", "kl", "mean_variance", "active")
    written = _write_rows(path, names, rows, made)
    say(f"{len(rows)} latents, one a line: {written}")


def _write_rows(
    path: Path, names: Sequence[str], rows: Iterable[Sequence[object]], made: dict[str, object]
) -> str:
    """Write a table whose last column says by a hash how it came about; where, in words."""
    from gentool.files import write_bytes
    from gentool.ownership import RECIPE_COLUMN, hash_of_recipe

    digest = hash_of_recipe(made)
    table = [(*names, RECIPE_COLUMN), *((*row, digest) for row in rows)]
    if str(path) == _STDOUT:
        emit_csv(table)
        return "on stdout"
    return str(write_bytes(path, csv_bytes(table)))


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
    """JSON knows no infinity, which is the PSNR of a perfect image."""
    return {k: v if math.isfinite(v) else None for k, v in values.items()}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"
