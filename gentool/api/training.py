"""``gentool.train``: the command ``gentool train`` as a function."""

import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gentool.api.model import Model, load
from gentool.core.atomic_files import LOG_NAME
from gentool.core.distributed import joined
from gentool.core.errors import Stopped, UsageError
from gentool.core.messages import WARNING, say
from gentool.core.options import Scalar
from gentool.core.registry import unknown_name
from gentool.core.signals import StopFlag
from gentool.core.strict_json import parse_json
from gentool.data import Dataset, Source, open_joined
from gentool.data.badfiles import without_own
from gentool.evaluation.quick_score import Score
from gentool.report.writing import reporting
from gentool.training.display import Display
from gentool.training.ending import ending_of
from gentool.training.layers import Layers, Setting, collect
from gentool.training.plan import Plan, make_plan
from gentool.training.run import Observer, execute
from gentool.training.settings import DECLARED, kind_of
from gentool.training.tracking import tracking

Progress = Callable[[int, float], object]


@dataclass(frozen=True)
class Run:
    """A run that has been trained.

    Attributes:
        model_path: The model file.
        images: Number of images seen.
        seed: The seed of the run.
        already_complete: Whether the run was complete before this call.
        bad_files: The list of files that could not be read; None if there are none.
    """

    model_path: Path
    images: int
    seed: int
    already_complete: bool
    bad_files: Path | None

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.model_path.parent

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the log: images seen, losses, scores."""
        lines = (self.folder / LOG_NAME).read_text(encoding="utf-8").splitlines()
        return [parse_json(line.encode()) for line in lines]

    def load(self, device: str = "auto") -> Model:
        """Open the model."""
        return load(self.model_path, device)


def train(
    model: str,
    data: str | Path | Sequence[str | Path],
    *,
    options: Mapping[str, Scalar] | None = None,
    config: str | Path | None = None,
    progress: bool | Progress | None = None,
    strict: bool = False,
    download: bool = False,
    refresh: bool = False,
    override: bool = False,
    stop_after: int | None = None,
    **settings: Any,
) -> Run:
    """Train a model on images, or continue the run in ``out``.

    It writes the same files, byte for byte, as ``gentool train`` with the same settings. The same
    call again continues the run.

    Args:
        model: Name of a preset, such as ``gan`` or ``vae``.
        data: A folder, an archive, or ``builtin:``, ``torchvision:``, ``hub:`` or ``shards:NAME``;
            several are joined.
        options: Options of the model, as ``-o`` takes them.
        config: A TOML file of settings.
        progress: True for a display on stderr; False for none; a function, which is called with
            the images seen and the finished fraction of the run after every step; or None for a
            display if stderr is a terminal.
        strict: Stop at the first file that cannot be read.
        download: Fetch what ``data`` names if it is not here.
        refresh: Look at every file of a huge folder again.
        override: Continue a run though its settings differ.
        stop_after: Stop after so many images, so that the run can be continued.
        settings: The other settings of a run, by name; they are listed below.

    Returns:
        The run.

    Raises:
        UsageError: a setting that does not exist or is not allowed, or another run in the folder.
        DataError: images that cannot be used.
        DeviceError: a device that is not here, or too little memory.
        Diverged: numbers are not finite, again and again.
        Stopped: a signal other than Ctrl-C, or ``stop_after``; the run can be continued.
        KeyboardInterrupt: Ctrl-C; the state was saved, and the run can be continued.
    """
    started = time.monotonic()
    if stop_after is not None and (type(stop_after) is not int or stop_after < 1):
        raise UsageError(f"stop_after is {stop_after!r:.40}; allowed: whole numbers, 1 or more")
    layers = _layers(model, data, settings, options or {}, config)
    max_bad = 0.0 if strict else layers.get("max_bad")
    with StopFlag() as stop:
        opened = _opener(layers, stop, max_bad=max_bad, download=download, refresh=refresh)
        try:
            plan = make_plan(layers, opened, started, stop_after=stop_after, override=override)
            return _executed(plan, progress, stop, strict=strict)
        except Stopped as error:
            if error.interrupted:
                raise KeyboardInterrupt(str(error)) from error
            raise


def _opener(
    layers: Layers, stop: StopFlag, *, max_bad: float, download: bool, refresh: bool
) -> Callable[[], Source]:
    """Return a function that opens the images."""
    return lambda: open_joined(
        layers.get("data"), labels=layers.get("labels"), all_frames=layers.get("all_frames"),
        download=download, refresh=refresh, max_bad=max_bad, poll=stop.poll,
    )  # fmt: skip


def _executed(plan: Plan, progress: bool | Progress | None, stop: StopFlag, *, strict: bool) -> Run:
    """Train as planned, in one of several processes or alone."""
    with joined(plan.setup.device) as ranks, ranks.only_first_speaks():
        shown = progress if ranks.first else False
        with (
            _observer(shown, stop, plan.setup.settings.images) as told,
            reporting(told, plan, stop, first=ranks.first) as reported,
            tracking(reported, plan, first=ranks.first) as observer,
        ):
            result, bad = execute(plan, observer, stop, ranks, strict=strict)
        if isinstance(told, Display):
            for line in ending_of(plan, result.images, python=True).words:
                say(line)
    return Run(result.model_path, result.images, result.seed, result.already_complete, bad)


def _settings_in_words() -> str:
    """Return one line of documentation for every setting of a run."""
    return "\n".join(
        f"        {name} ({kind_of(name).__name__}): {declared.metadata['meaning']}"
        for name, declared in DECLARED.items()
        if name != "data"
    )


train.__doc__ = f"{train.__doc__}\n    Settings:\n{_settings_in_words()}\n"


def _layers(
    model: str,
    data: str | Path | Sequence[str | Path],
    settings: Mapping[str, Any],
    options: Mapping[str, Scalar],
    config: str | Path | None,
) -> Layers:
    """Return the arguments of ``train`` as layers of settings.

    Raises:
        UsageError: a setting that does not exist, a wrong type, or a value out of bounds.
    """
    several = [data] if isinstance(data, str | Path) else list(data if data is not None else ())
    given = {**settings, "data": [str(spec) for spec in several]}
    for name in given:
        if name not in DECLARED:
            raise unknown_name("setting", name, list(DECLARED), "help(gentool.train)")
    if not all(spec.strip() for spec in given["data"] or [""]):
        raise UsageError("train needs images: set data to a folder, an archive or builtin:shapes")
    flags = {
        name: Setting(_plain(value), f"argument {name}")
        for name, value in given.items()
        if value is not None
    }
    chosen = {name: Setting(_plain(value), "argument options") for name, value in options.items()}
    return collect(model, flags, chosen, None if config is None else Path(config))


def _plain(value: Any) -> Any:
    """Return a value as a config file would give it: paths as text, numpy's numbers as Python's."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple) and len(value) == 2:  # a size, height first
        return "x".join(str(_plain(side)) for side in value)
    return value


def _observer(
    progress: bool | Progress | None, stop: StopFlag, images: int | None
) -> AbstractContextManager[Observer]:
    """Return what is informed of the training."""
    if progress is True or (progress is None and sys.stderr.isatty()):
        return Display(stop, images, quiet=False)
    return nullcontext(_Quiet(stop, progress if callable(progress) else None))


class _Quiet:
    """An observer that prints nothing, calls a function, and turns warnings into Python's."""

    def __init__(self, stop: StopFlag, call: Progress | None) -> None:
        self._stop, self._call = stop, call

    def planned(self, plan: Plan) -> None:
        """Warn of what is suspicious about the images."""
        for note in plan.notes:
            if note.startswith(WARNING):
                self.warned(note.removeprefix(WARNING))

    def intake(self, done: int, total: int) -> None:
        """Stop if asked to."""
        self._stop.poll("stopped while preparing images; the prepared images are kept")

    def prepared(self, dataset: Dataset, total: int) -> None:
        """Warn of files that cannot be read."""
        if bad := without_own(dataset.bad):
            path, reason = bad[0]
            self.warned(
                f"{len(bad):,} of {total:,} images cannot be read; the first: {path}: {reason}"
            )

    def note(self, message: str) -> None:
        """Ignore."""

    def resumed(self, images: int) -> None:
        """Ignore."""

    def progress(self, images: int, share: float) -> None:
        """Pass the images seen and the finished fraction to the function."""
        if self._call is not None:
            self._call(images, share)

    def logged(self, record: dict[str, float]) -> None:
        """Ignore."""

    def scored(self, images: int, score: Score) -> None:
        """Warn of what the score shows."""
        for message in score.warnings.values():
            self.warned(message)

    def saved(self, images: int) -> None:
        """Ignore."""

    def warned(self, message: str) -> None:
        """Pass a warning to Python."""
        warnings.warn(message, stacklevel=2)
