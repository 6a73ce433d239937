"""The command ``gentool average``: average the weights of a run over another length."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gentool.cli import options
from gentool.cli.console import emit, emit_json, refuse_unfit_stdout, say
from gentool.cli.opening import Opening, open_data
from gentool.core.errors import UsageError
from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.training.posthoc_ema import Reaverager


def command(
    run: Path = typer.Argument(help="Run folder.", metavar="RUN", readable=False),
    length: float = typer.Option(
        None, "--length", min=0.02, max=0.2, metavar="SHARE",
        help="Length of the average, as a fraction of the run.",
    ),
    data: list[str] = typer.Option(
        None, "--data", metavar="SPEC",
        help="The training images. They are needed to choose the length if --length is not given, "
        "and to fit a fitted prior again.",
    ),
    labels: options.Labels = None,
    output: Annotated[
        Path | None, options.output("Default: average.safetensors in RUN.", "FILE")
    ] = None,
    overwrite: options.Overwrite = False,
    print0: options.Print0 = False,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Make a model with weights that are averaged over another length, after training.

    gentool average runs/gan-faces --length 0.05

    gentool average runs/gan-faces --data ./faces

    gentool average runs/vae-faces --length 0.05 --data ./faces
    """
    refuse_unfit_stdout(as_json=as_json, print0=print0)
    if length is None and not data:
        raise UsageError(
            "average needs --length SHARE (0.02 to 0.2), or --data to choose the length"
        )
    from gentool.checkpoint import exported_tensors, write_result
    from gentool.outputs.marks import MODEL
    from gentool.outputs.ownership import Guard
    from gentool.outputs.places import place_of
    from gentool.training.posthoc_ema import Reaverager

    scores: dict[float, float] = {}
    target = output or run / "average.safetensors"
    guard = Guard(map(place_of, data or ()), overwrite)
    with StopFlag() as stop:
        averages = Reaverager(run)
        guard.allow(target, MODEL)
        made_by = _recipe(averages.loaded.sha256, length, data, labels)
        guard.allow_recipe(target, MODEL, made_by)
        if data:
            _fit_to(averages, data, labels, stop)
            if length is None:
                length, scores = _best_length(averages, stop)
        assert length is not None
        model = averages.at(length)
        training = {**model.header["training"], "made_by": made_by}
        guard.allow_recipe(target, MODEL, made_by)  # again: a file may have been made meanwhile
        write_result(target, exported_tensors(model.model), {**model.header, "training": training})
    if as_json:
        emit_json({"model": str(target), "length": length, "fd_random": scores or None})
    else:
        emit(target, print0=print0)
        say(f"averaged over a fraction of {length:g} of the run")
        if averages.untouched:
            names = " and ".join(averages.untouched)
            say(f"unchanged: the {names}, because the other networks were trained for it")


def _recipe(
    sha256: str, length: float | None, data: list[str] | None, labels: str | None
) -> dict[str, object]:
    """Return the recipe of the new model, from the hash of the run's model and the options."""
    from gentool.outputs.places import hash_of_place

    return {
        "verb": "average",
        "of": sha256,
        "length": length,
        "data": [hash_of_place(spec) for spec in data or ()],
        "labels": None if labels is None else hash_of_place(labels),
    }


def _fit_to(averages: "Reaverager", data: list[str], labels: str | None, stop: StopFlag) -> None:
    """Prepare the images as for the training, and set them for all later fits."""
    from gentool.data import prepare

    source = open_data(data, Opening(labels), stop)
    images = prepare(
        source, averages.loaded.training_preprocessing, lambda done, total: stop.poll("stopped")
    )
    averages.fit_to(images, lambda: stop.poll("stopped; nothing was written"))


def _best_length(averages: "Reaverager", stop: StopFlag) -> tuple[float, dict[float, float]]:
    """Choose the length by scores, which are shown; return it and the score of each length."""
    from gentool.evaluation.quick_score import Score, Scorer

    scores: dict[float, float] = {}

    def told(tried: float, score: Score) -> None:
        stop.poll("stopped while scoring; nothing was written")
        scores[tried] = score.distance
        say(f"  length {tried:g}: FD-random {score.distance:.4g}")

    split, why = averages.sides()
    if why is not None:
        say(why)
    return averages.best(Scorer(split), told), scores
