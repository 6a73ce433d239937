"""The command ``gentool report``: one page of HTML about one run, or several side by side."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gentool.cli import options
from gentool.cli.console import emit, emit_json, refuse_unfit_stdout, say
from gentool.core.errors import GentoolError, UsageError
from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.data import Source
    from gentool.report.drawing import Drawn
    from gentool.report.reading import RunView

_MOST_RUNS = 8


def command(
    runs: list[Path] = typer.Argument(help="Run folders.", metavar="RUN...", readable=False),
    data: str = typer.Option(
        None, "--data", metavar="SPEC",
        help="Images of the runs, for reconstructions and nearest images; default: those that "
        "the run was trained on, where they still are.",
    ),
    output: Path = typer.Option(
        None, "-o", "--output", metavar="FILE",
        help="Page to write; default: report.html in the run folder; needed for several runs.",
    ),
    quick: bool = typer.Option(
        False, "--quick", help="Leave out the pictures that the models have to draw."
    ),
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    print0: options.Print0 = False,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Write one page of HTML about a run, or about several side by side.

    gentool report runs/gan-faces

    gentool report runs/gan-faces runs/vae-faces -o compare.html

    The page shows the film of learning, charts, pictures, health and settings. It is one file
    that loads nothing from elsewhere.
    """
    refuse_unfit_stdout(as_json=as_json, print0=print0)
    path = _place(runs, output)
    from gentool.report.film import Frames
    from gentool.report.reading import read_run
    from gentool.report.writing import show, write_page

    views = [read_run(folder) for folder in runs]
    _check(path, runs, output, overwrite=overwrite)
    with StopFlag() as stop:
        shown = []
        for view in views:
            drawn = _draw(view, data, device, stop, quick=quick)
            shown.append(show(view, Frames(), drawn, len(views)))
        stop.poll("stopped; no report was written")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_page(path, shown)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    if as_json:
        states = {str(view.folder): view.state for view in views}
        emit_json({"report": str(path), "bytes": path.stat().st_size, "runs": states})
    else:
        emit(path, print0=print0)


def _place(runs: list[Path], output: Path | None) -> Path:
    """Return the file to write.

    Raises:
        UsageError: several runs and no file, too many runs, or a name that is not that of a page.
    """
    from gentool.core.atomic_files import REPORT_NAME

    if len(runs) > _MOST_RUNS:
        raise UsageError(f"{len(runs)} runs are given; a report shows at most {_MOST_RUNS}")
    if output is None:
        if len(runs) > 1:
            raise UsageError("name the page of several runs, for example with -o compare.html")
        return runs[0] / REPORT_NAME
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"-o {output}: the name of a report ends with .html")
    return output


def _check(path: Path, runs: list[Path], output: Path | None, *, overwrite: bool) -> None:
    """Check that the page may be written.

    Raises:
        UsageError: the file exists and is not a report, or it is the report of other runs.
    """
    from gentool.outputs.marks import REPORT
    from gentool.outputs.ownership import Guard
    from gentool.report.writing import recipe_of

    guard = Guard(overwrite=overwrite or output is None)
    guard.allow(path, REPORT)
    guard.allow_recipe(path, REPORT, recipe_of(runs))


def _draw(
    view: "RunView", data: str | None, device: str, stop: StopFlag, *, quick: bool
) -> "Drawn":
    """Return the pictures that the model draws; a run without a model has none."""
    from math import inf

    from gentool.checkpoint import load_model
    from gentool.core.devices import select_device
    from gentool.data import prepare
    from gentool.report.drawing import Deadline, Drawn, draw

    if quick or view.model is None:
        return Drawn()
    where = select_device(device)
    try:
        loaded = load_model(view.folder, where)
    except GentoolError as error:
        view.problems.append(f"The model cannot be used: {error}")
        return Drawn()
    dataset = None
    try:
        source = _source(view, data, stop)
        if source is not None:
            dataset = prepare(
                source, loaded.training_preprocessing, lambda done, total: stop.poll("stopped")
            )
    except GentoolError as error:
        stop.poll("stopped; no report was written")
        if data is not None:
            raise
        say(f"the images of {view.folder} cannot be read: {error}")
    return draw(loaded, dataset, Deadline(inf, lambda: stop.asked is not None))


def _source(view: "RunView", data: str | None, stop: StopFlag) -> "Source | None":
    """Return the images of a run: those that are given, or those that it was trained on."""
    from gentool.cli.opening import Opening, open_data

    specs = [data] if data is not None else view.setting("data").split()
    if not specs:
        return None
    with suppress(ValueError):
        labels = view.setting("labels") or None
        return open_data(specs, Opening(labels=labels), stop)
    return None
