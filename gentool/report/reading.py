"""Reading a run folder for its report; whatever is missing or damaged becomes a sentence."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from gentool.checkpoint import MODEL_NAME, STATE_NAME, build, read_header
from gentool.core.atomic_files import LOG_NAME, PREVIEWS_NAME
from gentool.core.errors import GentoolError, ModelFileError
from gentool.data import is_folder
from gentool.models.base import Model
from gentool.report.facts import DONE, STOPPED, TRAINING, Facts, read_facts
from gentool.report.film import Preview, find_previews
from gentool.report.thinning import SPEED, ThinLog, read_log
from gentool.training.run_folder import BEST_NAME
from gentool.training.run_lock import is_locked

_MOST_TITLE = 200


@dataclass
class RunView:
    """Everything that a report shows of one run, without pictures that a model has to draw.

    Attributes:
        folder: The run folder.
        title: Name of the run for people.
        facts: What the command wrote; empty facts if there are none.
        header: Header of the model file; empty if there is none.
        log: The log, thinned.
        samples: Sheets of samples, oldest first.
        reconstructions: Sheets of reconstructions, oldest first.
        model: The model without weights, for its advice and its summary; None if it is not known.
        summary: What samples of the model are, in words; empty if it is not known.
        has_best: Whether there is a file with the best model.
        state: A word of ``facts``.
        problems: What could not be read, in sentences.
    """

    folder: Path
    title: str
    facts: Facts
    header: dict[str, Any]
    log: ThinLog
    samples: list[Preview]
    reconstructions: list[Preview]
    model: Model | None = None
    summary: str = ""
    has_best: bool = False
    state: str = STOPPED
    problems: list[str] = field(default_factory=list)

    @property
    def training(self) -> dict[str, Any]:
        """The record of the training in the model file."""
        found = self.header.get("training")
        return found if isinstance(found, dict) else {}

    @property
    def data(self) -> dict[str, Any]:
        """The record of the images in the model file."""
        found = self.training.get("data")
        return found if isinstance(found, dict) else {}

    @property
    def images(self) -> int:
        """Images seen, by the log and the model file."""
        told = [self.log.last.get("images"), self.training.get("images")]
        return max((n for n in told if type(n) is int), default=0)

    @property
    def share(self) -> float:
        """Fraction of the budget that was spent, by the log; 0 if it is not known."""
        return number(self.log.last, "share")

    @property
    def seconds(self) -> float:
        """Seconds that the run has taken, by the log."""
        return number(self.log.last, "seconds")

    @property
    def speed(self) -> float:
        """Images per second in the middle of all lines of the log; 0 if it is not known."""
        found = [b.mean(SPEED) for b in self.log.lines.buckets if SPEED in b.series]
        return median(found) if found else 0.0

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        found = self.header.get("classes")
        return [str(name) for name in found] if isinstance(found, list) else []

    def setting(self, name: str) -> str:
        """Return the value of a setting in words; empty if it is not known."""
        return next((value for key, value, _ in self.facts.settings if key == name), "")


def number(record: dict[str, Any], name: str) -> float:
    """Return a finite number of a record; 0 if there is none."""
    value = record.get(name)
    good = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if good else 0.0  # type: ignore[arg-type]


def read_run(folder: Path) -> RunView:
    """Read a run folder.

    Raises:
        ModelFileError: it is not the folder of a run.
    """
    if not is_run(folder):
        raise ModelFileError(
            f"{folder!s:.200} is not a run folder: it has neither {LOG_NAME} nor {MODEL_NAME}. "
            "Give a folder that 'gentool train' wrote"
        )
    problems: list[str] = []
    log = _log(folder, problems)
    header, model = _model(folder, problems)
    facts = read_facts(folder)
    if facts is None:
        problems.append(
            "This run has no file run.json, because an older version of gentool trained it or the "
            "file was removed. Therefore the origins of its settings are not known."
        )
    samples, reconstructions = find_previews(folder)
    training = header.get("training")
    name = training.get("name") if isinstance(training, dict) else None
    title = name if isinstance(name, str) and name.strip() else folder.absolute().name
    view = RunView(
        folder, title[:_MOST_TITLE], facts or Facts(state=""), header, log, samples,
        reconstructions, model, _summary(model), (folder / BEST_NAME).is_file(), problems=problems,
    )  # fmt: skip
    view.state = _state(view)
    return view


def is_run(folder: Path) -> bool:
    """Return whether a folder is that of a run."""
    if not is_folder(folder):
        return False
    begun = (folder / LOG_NAME).is_file() and (folder / PREVIEWS_NAME).is_dir()
    return begun or (folder / STATE_NAME).is_file() or (folder / MODEL_NAME).is_file()


def _log(folder: Path, problems: list[str]) -> ThinLog:
    try:
        log = read_log(folder / LOG_NAME)
    except OSError:
        problems.append(f"There is no {LOG_NAME} yet, so there are no charts.")
        return ThinLog()
    if log.broken:
        problems.append(f"{log.broken:,} lines of {LOG_NAME} are damaged and left out.")
    if log.left_out:
        problems.append(f"{len(log.left_out):,} series of {LOG_NAME} are left out.")
    return log


def _model(folder: Path, problems: list[str]) -> tuple[dict[str, Any], Model | None]:
    """Return the header of the model file and the model without weights."""
    path = folder / MODEL_NAME
    if not path.is_file():
        problems.append(f"There is no {MODEL_NAME} yet: the run was not saved before it ended.")
        return {}, None
    try:
        header, _ = read_header(path)
    except (GentoolError, OSError) as error:
        problems.append(f"{MODEL_NAME} cannot be read: {error}")
        return {}, None
    try:
        return header, build(header, path)
    except (GentoolError, ValueError, TypeError, AttributeError) as error:
        problems.append(f"{MODEL_NAME} cannot be used: {error}")
        return header, None


def _summary(model: Model | None) -> str:
    """Return what samples are, in words, if the model can tell it without its weights."""
    try:
        return "" if model is None else model.summary()
    except (RuntimeError, NotImplementedError):  # it counts values of tensors, which have no data
        return ""


def _state(view: RunView) -> str:
    """Return whether a run is being trained, or how it ended."""
    if is_locked(view.folder):
        return TRAINING
    if view.facts.state not in ("", TRAINING):
        return view.facts.state
    return DONE if view.share >= 1 else STOPPED
