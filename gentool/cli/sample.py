"""``gentool sample``: new images from a model file."""

import sys
from pathlib import Path

import typer

from gentool.cli.console import emit, emit_json, parse_seeds, refuse_json_beside_tar, say
from gentool.signals import StopFlag


def command(
    model: Path = typer.Argument(help="Model file or run folder.", metavar="MODEL", readable=False),
    count: int = typer.Option(
        None, "-n", "--count", min=1, max=10**9, metavar="N",
        help="Images per seed; default 16 for one seed, 1 for several.",
    ),
    seed: int = typer.Option(0, "--seed", min=0, max=2**63 - 1, help="Seed.", metavar="SEED"),
    seeds: str = typer.Option(None, "--seeds", help="Several seeds, as 0,4-9.", metavar="LIST"),
    start: int = typer.Option(
        0, "--start", min=0, max=2**53, metavar="K", help="First index, to split a large job."
    ),
    class_name: str = typer.Option(
        None, "--class", metavar="NAME", help="Of one class, or all: the same latents in each."
    ),
    output: str = typer.Option(
        "samples", "-o", "--output", metavar="WHERE",
        help="Folder; grid.png, .jpg or .webp for one grid; .npz; - for a tar on stdout.",
    ),
    image_format: str = typer.Option(
        "png", "--format", metavar="NAME", help="Format of single files: png, jpg or webp."
    ),
    batch: int = typer.Option(256, "--batch", min=1, metavar="N", help="Images held at once."),
    device: str = typer.Option("auto", "--device", metavar="DEVICE", envvar="GENTOOL_DEVICE",
        show_envvar=False, help="auto, cpu, cuda, mps."),
    as_json: bool = typer.Option(False, "--json", help="Result as JSON on stdout."),
) -> None:  # fmt: skip
    """Draw new images.

    gentool sample model.safetensors -n 64

    gentool sample runs/gan-faces -n 64 --seed 7 -o grid.png

    gentool sample runs/gan-faces -n 8 --class all -o classes.png

    gentool sample runs/gan-faces -n 100000 -o - | ssh host tar x
    """
    refuse_json_beside_tar(output, as_json=as_json)
    several = parse_seeds(seeds) if seeds is not None else [seed]
    indices = range(start, start + (count or (16 if seeds is None else 1)))
    from gentool.checkpoint import load_model
    from gentool.devices import select_device
    from gentool.outputs import open_sink
    from gentool.sampling import sample

    columns = len(several) * len(indices) if class_name == "all" else None  # a row per class
    sink = open_sink(output, image_format, sys.stdout.buffer, columns)
    listed: list[str] = []

    def announce(paths: list[Path]) -> None:
        for path in paths:
            if as_json:
                listed.append(str(path))
            else:
                emit(str(path))

    done = 0
    with StopFlag() as stop:
        loaded = load_model(model, select_device(device))
        kinds = [class_name] if class_name not in (None, "all") else None
        if class_name == "all":
            kinds = loaded.header["classes"] if loaded.model.classes else ["all"]
        for image in sample(loaded, several, indices, batch, kinds):
            stop.poll(f"stopped after {done:,} images; every file that was written is whole")
            announce(sink.add(image))
            done += 1
        announce(sink.close())
    if as_json:
        emit_json({"model": str(loaded.path), "files": listed, "images": done})
    else:
        say(f"{done:,} images from {loaded.path}: {loaded.model.summary()}")
