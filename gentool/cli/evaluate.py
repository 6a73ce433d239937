"""``gentool evaluate``: how good are the samples, the reconstructions, the likelihood?"""

from pathlib import Path

import typer

from gentool.cli.console import emit_json, emit_table, say
from gentool.errors import UsageError
from gentool.registry import unknown_name
from gentool.signals import StopFlag


def command(
    targets: list[Path] = typer.Argument(
        help="Model files, run folders, or folders of images.", metavar="MODEL...", readable=False
    ),
    data: str = typer.Option(..., "--data", help="Images to compare with.", metavar="SPEC"),
    metrics: str = typer.Option(
        None, "--metrics", metavar="LIST",
        help="frechet, kernel, overlap, memorisation, reconstruction, likelihood; default all.",
    ),
    count: int = typer.Option(10_000, "-n", "--count", min=10, metavar="N", help="Samples."),
    seed: int = typer.Option(0, "--seed", min=0, metavar="SEED", help="Seed of the samples."),
    split: str = typer.Option(
        "auto", "--split", metavar="NAME",
        help="held-out, training or all; auto: held-out where the model has one.",
    ),
    features: str = typer.Option(
        "auto", "--features", metavar="NAME",
        help="labels, random, inception, dinov2; auto: labels where there are classes.",
    ),
    weights: Path = typer.Option(
        None, "--weights", metavar="FILE", readable=False,
        help="Weights of a pretrained extractor, opened as a pickle: only ones you trust.",
    ),
    download: bool = typer.Option(False, "--download", help="Fetch pretrained weights."),
    importance: int = typer.Option(
        50, "--importance", min=1, metavar="K", help="Importance samples of the bound."
    ),
    size: str = typer.Option(
        None, "--size", metavar="SIZE", help="Shape to compare folders at, as in train."
    ),
    neighbours: Path = typer.Option(
        None, "--neighbours", metavar="FILE", help="Picture: samples and nearest images."
    ),
    device: str = typer.Option("auto", "--device", metavar="DEVICE", envvar="GENTOOL_DEVICE",
        show_envvar=False, help="auto, cpu, cuda, mps."),
    as_json: bool = typer.Option(False, "--json", help="Result as JSON on stdout."),
) -> None:  # fmt: skip
    """Score models, or folders of images, against images.

    gentool evaluate runs/gan-faces --data ./faces

    gentool evaluate runs/a runs/b other_samples/ --data faces.zip -n 5000 --json
    """
    from gentool.devices import select_device
    from gentool.evaluation import METRICS, SPLITS, Request, evaluate
    from gentool.images import SUFFIXES, encode
    from gentool.outputs import write_bytes

    wanted = tuple(metrics.split(",")) if metrics else METRICS
    for name in wanted:
        if name not in METRICS:
            raise unknown_name("metric", name, list(METRICS), "gentool evaluate --help")
    if split not in SPLITS:
        raise unknown_name("split", split, list(SPLITS), "gentool evaluate --help")
    if neighbours is not None and neighbours.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--neighbours {neighbours}: write it as {', '.join(SUFFIXES)}")
    request = Request(
        tuple(targets), data, wanted, count, seed, split, features, weights, download,
        importance, size, select_device(device),
    )  # fmt: skip
    with StopFlag() as stop:
        found = evaluate(request, lambda: stop.poll("stopped; nothing was scored"))
    if neighbours is not None:
        for number, sheet in enumerate(found.sheets):
            name = (
                neighbours.name
                if not number
                else f"{neighbours.stem}-{number + 1}{neighbours.suffix}"
            )
            path = write_bytes(neighbours.with_name(name), encode(sheet, neighbours.suffix.lower()))
            say(f"samples beside their nearest images: {path}")
    if as_json:
        rows = [{"target": s.name, **s.values, "notes": s.notes} for s in found.table]
        emit_json({"protocol": found.protocol, "scores": rows})
        return
    names = list(dict.fromkeys(name for s in found.table for name in s.values))
    header = ("", *(s.name for s in found.table))
    lines = [(n, *(_number(s.values.get(n)) for s in found.table)) for n in names]
    emit_table([header, *lines], indent="")
    say("  ".join(f"{k}={v}" for k, v in found.protocol.items()))
    for scores in found.table:
        for note in scores.notes:
            say(f"note: {scores.name}: {note}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"
