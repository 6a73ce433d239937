"""Writing reports: beside a run while it trains, and by ``gentool report``."""

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from gentool.checkpoint import load_model
from gentool.core.atomic_files import REPORT_NAME, put
from gentool.core.errors import Diverged, GentoolError, Stopped
from gentool.core.signals import StopFlag
from gentool.core.version import __version__
from gentool.data import Dataset
from gentool.data.intake import lines_of
from gentool.outputs.ownership import is_report
from gentool.outputs.places import hash_of_place
from gentool.report.drawing import Deadline, Drawn, draw
from gentool.report.facts import (
    DIVERGED,
    DONE,
    FAILED,
    STOPPED,
    TRAINING,
    Facts,
    command_of,
    read_facts,
    write_facts,
)
from gentool.report.film import MOST_FRAMES, Frames, choose
from gentool.report.page import render
from gentool.report.reading import RunView, is_run, read_run
from gentool.report.sections import Shown

if TYPE_CHECKING:
    from gentool.evaluation.quick_score import Score
    from gentool.training.plan import Plan
    from gentool.training.run import Observer

_FILM_BYTES = 1_300_000  # of all sheets on a page, before they become text
COST = 100.0  # time between two reports, in multiples of the time that the last one took
_LONG_RUN = 30.0  # seconds from which a run ends with pictures that the model draws
_PICTURES_SHARE, _LEAST_SECONDS, _MOST_SECONDS = 0.05, 2.0, 15.0


def show(run: RunView, frames: Frames, drawn: Drawn, runs: int = 1) -> Shown:
    """Return a run with its pictures, made small enough for a page of so many runs."""
    chosen = choose(run.samples, max(2, MOST_FRAMES // min(runs, 4)))
    newest = run.reconstructions[-1:]
    most_bytes = _FILM_BYTES // (runs * max(len(chosen) + len(newest), 8))
    made = frames.of([*chosen, *newest], most_bytes)
    film = [pair for pair in made if pair[0] not in newest]
    run.summary = drawn.summary or run.summary
    rebuilt = next((pair for pair in made if pair[0] in newest), None)
    return Shown(run, film, rebuilt, drawn)


def write_page(path: Path, runs: Sequence[Shown]) -> None:
    """Write the report of one or several runs.

    Raises:
        OSError: the file cannot be written.
    """
    recipe = recipe_of([shown.run.folder for shown in runs])
    put(path, render(runs, recipe).encode("utf-8", "replace"))


def recipe_of(folders: Sequence[Path]) -> dict[str, object]:
    """Return the recipe of the report of these runs, by which it may be replaced later."""
    runs = [hash_of_place(str(folder)) for folder in folders]
    return {"gentool": __version__, "made_by": "report", "runs": runs}


@contextmanager
def reporting(
    observer: "Observer", plan: "Plan", stop: StopFlag, *, first: bool
) -> Iterator["Observer"]:
    """Return an observer that also writes the report of the run.

    A report that cannot be written is a warning and never ends the training.

    Args:
        observer: Is informed of everything.
        plan: The plan of the run.
        stop: When it is set, no pictures are drawn at the end.
        first: Whether this process writes; the other processes of a run do not.
    """
    if not first:
        yield observer
        return
    writer = ReportWriter(observer, plan, stop)
    try:
        yield writer
    except BaseException as error:
        writer.ended(_state_of(error), str(error))
        raise
    writer.ended(DONE, "")


def _state_of(error: BaseException) -> str:
    if isinstance(error, Stopped | KeyboardInterrupt):
        return STOPPED
    return DIVERGED if isinstance(error, Diverged) else FAILED


class ReportWriter:
    """An observer that passes everything on and writes the report after saves.

    Args:
        observer: Is informed of everything.
        plan: The plan of the run.
        stop: When it is set, no pictures are drawn at the end.
    """

    def __init__(self, observer: "Observer", plan: "Plan", stop: StopFlag) -> None:
        self._inner, self._stop, self._folder = observer, stop, plan.setup.out
        self._began, self._next = time.monotonic(), -math.inf
        self._frames, self._dataset = Frames(), None  # type: tuple[Frames, Dataset | None]
        self._facts, self._images = _facts_of(plan), 0
        self._known = self._failed = False
        self._saved = False

    def planned(self, plan: "Plan") -> None:
        """Pass the plan on to the inner reporter, and keep it: its seed may be a new one."""
        self._facts = _facts_of(plan)
        self._inner.planned(plan)

    def intake(self, done: int, total: int) -> None:
        """Pass this on to the inner reporter."""
        self._inner.intake(done, total)

    def prepared(self, dataset: Dataset, total: int) -> None:
        """Remember the images, and count those of each class."""
        self._dataset = dataset
        self._facts.data += dataset.notes
        self._inner.prepared(dataset, total)

    def note(self, message: str) -> None:
        """Remember a choice."""
        self._facts.notes.append(message)
        self._inner.note(message)

    def resumed(self, images: int) -> None:
        """Keep the warnings of the run up to here."""
        self._begin(images)
        self._inner.resumed(images)

    def progress(self, images: int, share: float) -> None:
        """Count the images."""
        self._images = images
        self._inner.progress(images, share)

    def logged(self, record: dict[str, float]) -> None:
        """Pass this on to the inner reporter."""
        self._inner.logged(record)

    def scored(self, images: int, score: "Score") -> None:
        """Remember what the score warns of."""
        for message in score.warnings.values():
            self._facts.warn(images, message)
        self._inner.scored(images, score)

    def warned(self, message: str) -> None:
        """Remember a warning."""
        self._facts.warn(self._images, message)
        self._inner.warned(message)

    def saved(self, images: int) -> None:
        """Write the report, unless the last one has cost too much of the time."""
        self._images, self._saved = images, True
        self._begin(images)
        if time.monotonic() >= self._next:
            self._write(Drawn())
        self._inner.saved(images)

    def ended(self, state: str, why: str) -> None:
        """Write the last report of the command, at the end of a run with pictures."""
        if not self._is_due(state):
            return
        self._begin(self._images)
        self._facts.state, self._facts.ended = state, why
        seconds = time.monotonic() - self._began
        long = state == DONE and (seconds >= _LONG_RUN or not self._saved)
        self._write(self._draw(seconds) if long else self._left_out(state))

    def _is_due(self, state: str) -> bool:
        """Return whether to write the last report: there is a run, and this command trained it."""
        trained = self._saved or self._images > 0  # else another process may train there
        try:
            whole = (self._folder / REPORT_NAME).is_file()
            return is_run(self._folder) and (trained or not (whole or state != DONE))
        except OSError:  # an impossible name, which ended the command
            return False

    def _begin(self, images: int) -> None:
        """Take over the warnings of earlier commands, once."""
        if self._known:
            return
        self._known = True
        before = read_facts(self._folder)
        for warned in before.warnings if before is not None else ():
            if warned.images <= images:
                self._facts.warn(warned.images, warned.message)

    def _draw(self, seconds: float) -> Drawn:
        """Return the pictures that the model draws in a few per cent of the time of the run."""
        most = min(max(_PICTURES_SHARE * seconds, _LEAST_SECONDS), _MOST_SECONDS)
        try:
            dataset = self._dataset
            if dataset is not None and dataset.streamed:
                dataset = None
            deadline = Deadline(most, lambda: self._stop.asked is not None)
            return draw(load_model(self._folder, self._facts.device or "cpu"), dataset, deadline)
        except Exception as error:  # the report is written without these pictures
            return Drawn(
                notes={"reconstructions": f"the pictures could not be drawn: {error!s:.200}"}
            )

    def _left_out(self, state: str) -> Drawn:
        """Return no pictures, and how to draw them."""
        if state != DONE:
            return Drawn()
        return Drawn(notes={"traversal": "left out of a short run; gentool report RUN draws it"})

    def _write(self, drawn: Drawn) -> None:
        """Write the facts and the report; a failure is told once."""
        began = time.monotonic()
        try:
            self._count_classes()
            write_facts(self._folder, self._facts)
            path = self._folder / REPORT_NAME
            if os.path.lexists(path) and not is_report(path):
                raise GentoolError(f"{path} exists and gentool did not write it")
            run = read_run(self._folder)
            run.state = self._facts.state
            write_page(path, [show(run, self._frames, drawn)])
        except Exception as error:  # a report must never end a training
            if not self._failed:
                self._failed = True
                self._inner.warned(f"the report cannot be written: {error!s:.200}")
        now = time.monotonic()
        self._next = now + COST * (now - began)

    def _count_classes(self) -> None:
        """Count the images of each class, once they are known."""
        dataset = self._dataset
        if dataset is None or dataset.labels is None or self._facts.class_count:
            return
        counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
        self._facts.count(dataset.classes, counts.tolist())


def _facts_of(plan: "Plan") -> Facts:
    """Return what the plan says of the run."""
    setup, shown = plan.setup, plan.shown()
    kind, preset = setup.device.type, setup.preset or setup.model
    return Facts(
        preset=preset,
        settings=[(k, str(s.value), s.origin) for k, s in shown.items() if s.value is not None],
        notes=list(plan.notes),
        data=lines_of(plan.source.intake),
        trained=plan.training_images,
        usual=plan.usual_images,
        device=kind,
        threads=torch.get_num_threads(),
        command=command_of(preset, shown),
        longer=command_of(preset, shown, longer=2),
        state=TRAINING,
    )
