"""``gentool interpolate``: a path through a model's latent space."""

import sys
from pathlib import Path

import typer

from gentool.cli.console import emit, emit_json, parse_seeds, refuse_json_beside_tar
from gentool.errors import UsageError
from gentool.signals import StopFlag

_ANIMATIONS = (".gif", ".webp")
_WIDEST_STRIP = 4096  # pixels


def command(
    model: Path = typer.Argument(help="Model file or run folder.", metavar="MODEL", readable=False),
    seeds: str = typer.Option("0-3", "--seeds", help="Key frames, as 1,5-7.", metavar="LIST"),
    steps: int = typer.Option(
        16, "--steps", min=1, max=10_000, metavar="N", help="Frames from one key to the next."
    ),
    method: str = typer.Option(
        None, "--method", metavar="NAME", help="slerp or lerp; default: what suits the model."
    ),
    class_name: str = typer.Option(
        None, "--class", metavar="NAME", help="One class for all key frames."
    ),
    loop: bool = typer.Option(False, "--loop", help="Go back to the first key frame."),
    output: str = typer.Option(
        "interpolation.png", "-o", "--output", metavar="WHERE",
        help="strip.png or .jpg; film.gif or .webp; a folder; .npz; - for a tar on stdout.",
    ),
    milliseconds: int = typer.Option(
        60, "--milliseconds", min=1, max=65_535, metavar="MS", help="Time per frame of a film."
    ),
    device: str = typer.Option("auto", "--device", metavar="DEVICE", envvar="GENTOOL_DEVICE",
        show_envvar=False, help="auto, cpu, cuda, mps."),
    as_json: bool = typer.Option(False, "--json", help="Result as JSON on stdout."),
) -> None:  # fmt: skip
    """Morph from one sample into the next.

    gentool interpolate model.safetensors --seeds 1,5-7 --steps 16

    gentool interpolate runs/gan-faces --seeds 0-5 --loop -o film.gif
    """
    keys = parse_seeds(seeds)
    if len(keys) < 2:
        raise UsageError(
            f"--seeds {seeds} is one key frame; give at least two, as in --seeds 1,5-7"
        )
    refuse_json_beside_tar(output, as_json=as_json)
    from gentool.checkpoint import load_model
    from gentool.devices import select_device
    from gentool.interpolation import METHODS, interpolate_seeds
    from gentool.outputs import AnimationSink, Sink, open_sink
    from gentool.registry import unknown_name

    if method is not None and method not in METHODS:
        raise unknown_name("method", method, list(METHODS), "gentool interpolate --help")
    with StopFlag() as stop:
        loaded = load_model(model, select_device(device))
        if Path(output).suffix.lower() in _ANIMATIONS:
            sink: Sink = AnimationSink(Path(output).expanduser(), milliseconds)
        else:  # a strip is one row; where that gets too wide, a row from each key
            across = len(keys) * steps * loaded.model.shape.width
            columns = steps if across > _WIDEST_STRIP else len(keys) * steps
            sink = open_sink(output, "png", sys.stdout.buffer, columns)
        frames = 0
        paths: list[str] = []
        for image in interpolate_seeds(
            loaded, keys, steps, method, loop=loop, class_name=class_name
        ):
            stop.poll("stopped")
            paths += [str(p) for p in sink.add(image)]
            frames += 1
        paths += [str(p) for p in sink.close()]
    if as_json:
        emit_json({"model": str(loaded.path), "files": paths, "frames": frames})
        return
    for path in paths:
        emit(path)
