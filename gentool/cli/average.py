"""``gentool average``: another length of averaging for a run that is over."""

from pathlib import Path

import typer

from gentool.cli.console import emit, emit_json, say
from gentool.cli.opening import Opening, open_data
from gentool.errors import UsageError
from gentool.signals import StopFlag


def command(
    run: Path = typer.Argument(help="Run folder.", metavar="RUN", readable=False),
    length: float = typer.Option(
        None, "--length", min=0.02, max=0.2, metavar="SHARE",
        help="How far back the average reaches, as a share of the run.",
    ),
    data: list[str] = typer.Option(
        None, "--data", metavar="SPEC", help="Choose the length whose samples are nearest to these."
    ),
    output: Path = typer.Option(
        None, "-o", "--output", metavar="FILE", help="Default: average.safetensors in RUN."
    ),
    as_json: bool = typer.Option(False, "--json", help="Result as JSON on stdout."),
) -> None:  # fmt: skip
    """Make a model whose weights are averaged over another length, after training.

    gentool average runs/gan-faces --length 0.05

    gentool average runs/gan-faces --data ./faces
    """
    if (length is None) == (not data):
        raise UsageError("average needs --length SHARE (0.02 to 0.2), or --data to choose it by")
    from gentool.checkpoint import exported_tensors, write_file
    from gentool.data import prepare
    from gentool.reaveraging import Reaverager
    from gentool.scoring import Score, Scorer

    scores: dict[float, float] = {}

    def told(tried: float, score: Score) -> None:
        stop.poll("stopped while scoring; nothing is written")
        scores[tried] = score.distance
        say(f"  length {tried:g}: FD-random {score.distance:.4g}")

    with StopFlag() as stop:
        averages = Reaverager(run)
        if data:
            source = open_data(data, Opening(), stop)
            images = prepare(
                source, averages.loaded.policy, lambda done, total: stop.poll("stopped")
            )
            length = averages.best(Scorer(images, *images.split(averages.loaded.holdout)), told)
        model = averages.at(length)
        target = output or run / "average.safetensors"
        try:
            write_file(target, exported_tensors(model.model), model.header)
        except OSError as error:
            raise UsageError(f"cannot write {target}: {error.strerror}") from error
    if as_json:
        emit_json({"model": str(target), "length": length, "fd_random": scores or None})
    else:
        emit(str(target))
        say(f"averaged over {length:g} of the run")
