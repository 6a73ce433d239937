"""What is told at the end of a run: how far it came, its scores in words, and what to do next."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gentool.core.atomic_files import LOG_NAME, REPORT_NAME
from gentool.core.escapes import shell_line
from gentool.training.log import RunLog
from gentool.training.outlook import Measured, length_words, read_measured, score_words
from gentool.training.plan import Plan


@dataclass(frozen=True)
class Ending:
    """What is told at the end of a run.

    Attributes:
        words: Sentences for people.
        commands: Commands for a shell, to go on with.
        usual: Images that such a run usually sees.
        measured: What the log says in the end.
    """

    words: list[str]
    commands: list[str]
    usual: int
    measured: Measured


def ending_of(plan: Plan, images: int, *, python: bool = False) -> Ending:
    """Return what is told at the end of a run.

    Args:
        plan: The plan of the run.
        images: Images seen.
        python: Whether the run was started from Python.
    """
    setup, settings = plan.setup, plan.setup.settings
    measured = read_measured(RunLog(setup.out / LOG_NAME).records())
    usual, preset = plan.usual_images, setup.preset or setup.model
    in_minutes = settings.minutes is not None
    words = [length_words(preset, images, usual, measured, in_minutes=in_minutes, python=python)]
    words += score_words(measured)
    report = setup.out / REPORT_NAME
    if report.is_file():
        words.append(f"report: {report}")
    commands = [line for line, _ in next_commands(setup.out, settings.data, settings.labels)]
    return Ending(words, commands, usual, measured)


def next_commands(
    folder: Path, data: Sequence[str], labels: str | None = None
) -> list[tuple[str, str]]:
    """Return the commands that are useful after a run, for a shell, and what each does.

    Args:
        folder: The run folder.
        data: The images of the run, as ``--data`` takes them.
        labels: The labels of the run, as ``--labels`` takes them; None for none.
    """
    run = str(folder)
    images = [word for spec in data for word in ("--data", spec)]
    images += ["--labels", labels] if labels else []
    listed = (
        (["sample", run, "-n", "64"], "Draw 64 samples"),
        (["interpolate", run, "--seeds", "0-4", "-o", "film.gif"],
         "Make a film between five samples"),
        (["evaluate", run, *images], "Compute all scores"),
    )  # fmt: skip
    return [(shell_line(["gentool", *words]), meaning) for words, meaning in listed]
