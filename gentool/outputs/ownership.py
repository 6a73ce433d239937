"""Rules for which existing files a command may replace: only files that gentool wrote.

``marks`` recognises the files that gentool wrote. A command asks a ``Guard`` before the work
starts, so that no work is lost.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gentool.core.atomic_files import (
    FACTS_NAME,
    FACTS_START,
    LOG_NAME,
    LOG_START,
    MODEL_NAME,
    REPORT_NAME,
    STATE_NAME,
    open_regular,
    require_writable,
)
from gentool.core.errors import UsageError
from gentool.core.picture_files import hash_of_value
from gentool.data import is_folder
from gentool.outputs.marks import (
    OUTCOMES,
    PICTURE,
    RECIPE_COLUMN,
    REPORT,
    Mark,
    Recipe,
    read_mark,
)
from gentool.outputs.places import free_name

OF_A_RUN = (MODEL_NAME, STATE_NAME, "best.safetensors")


@dataclass
class Guard:
    """Decides which files a command may replace, before the work starts.

    Attributes:
        inputs: Files and folders that the command reads.
        overwrite: Whether files that gentool wrote with another recipe may be replaced.
        may_mix: Whether a new image may be written into a folder that the command reads.
        tell: Called with a warning for the user about old files beside the new ones.
    """

    inputs: Iterable[Path] = ()
    overwrite: bool = False
    may_mix: bool = False
    tell: Callable[[str], object] = lambda _: None
    _taken: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        there = [path for path in self.inputs if os.path.lexists(path)]
        self._inputs = {os.path.realpath(path) for path in there}
        self._files = {found for path in there if (found := _identity(path)) is not None}

    def allow(self, path: Path, kind: str, option: str = "-o") -> Path:
        """Check a file that will be written, while only its path and kind are known.

        Args:
            path: The file; it need not exist.
            kind: Kind of file that will be written, such as ``PICTURE``.
            option: Command-line option that names the file; two options may not name one file.

        Returns:
            The path.

        Raises:
            UsageError: The file is an input or a model of a run, exists and was not written by
                gentool, or cannot be written.
        """
        if str(path) == "-":
            raise UsageError(f"{option} -: this output cannot go to stdout. Name a file")
        if self._taken.setdefault(os.path.realpath(path), option) != option:
            raise UsageError(
                f"two outputs of this command are named {path}. Choose another name for one of them"
            )
        self._check_kind(path, kind)
        if kind == PICTURE and not self.may_mix and self._lies_in_an_input(path):
            raise UsageError(
                f"{path} is in a folder that this command reads, so the next run would read it. "
                "Write it into another folder"
            )
        require_writable(path)
        return path

    def _check_kind(self, path: Path, kind: str) -> Mark | None:
        """Return the mark of a file that may be replaced, or None if it does not exist.

        Raises:
            UsageError: The file may not be replaced by a file of this kind.
        """
        if os.path.realpath(path) in self._inputs or _identity(path) in self._files:
            raise _refusal(path, "is an input of this command")
        if _is_of_a_run(path):
            raise _refusal(path, "belongs to a training run")
        if not os.path.exists(path):  # noqa: PTH110 - the target of a broken link is created
            return None
        mark = read_mark(path)
        if mark is None or mark.kind != kind:
            raise _refusal(path, f"already exists, and is not a {kind} that gentool wrote")
        return mark

    def allow_folder(self, folder: Path) -> Path:
        """Check a folder for results; it need not exist.

        Returns:
            The folder.

        Raises:
            UsageError: It is an input of the command or inside one, is a file, or cannot be
                written.
        """
        if os.path.realpath(folder) in self._inputs or self._lies_in_an_input(folder):
            raise UsageError(
                f"{folder} is, or is inside, a folder that this command reads, and results would "
                "mix with the images there. Write to another folder"
            )
        self._taken[os.path.realpath(folder)] = "-o"
        if os.path.lexists(folder) and not is_folder(folder):
            raise UsageError(f"{folder} is a file, not a folder. Write to {free_name(folder)}")
        require_writable(folder)
        return folder

    def names_taken(self, folder: Path) -> set[str]:
        """Return the paths, relative to a folder, of other outputs of the command inside it."""
        above = os.path.realpath(folder) + os.sep
        return {real.removeprefix(above) for real in self._taken if real.startswith(above)}

    def allow_recipe(self, path: Path, kind: str, recipe: Recipe, *, partly: bool = False) -> None:
        """Check a file again when the recipe of the new content is known.

        Args:
            path: The file.
            kind: As for ``allow``.
            recipe: How the new content will be made.
            partly: Whether ``recipe`` is incomplete, so that only its own keys are compared.

        Raises:
            UsageError: As for ``allow``; or the file was made with another recipe, and
                ``overwrite`` is not set.
        """
        mark = self._check_kind(path, kind)
        if mark is None:
            return
        before = {k: v for k, v in mark.recipe.items() if k in recipe or not partly}
        change = difference(before, recipe)
        if change is None:
            return
        if self._lies_in_an_input(path):
            raise _refusal(path, f"is in a folder that this command reads ({change})")
        if not self.overwrite:
            raise UsageError(
                f"gentool wrote {path} with other settings: {change}. Write to {free_name(path)}, "
                "or replace it with --overwrite"
            )

    def _lies_in_an_input(self, path: Path) -> bool:
        """Return whether a file is inside a folder that the command reads."""
        above = Path(os.path.realpath(path)).parents
        return any(str(folder) in self._inputs for folder in above)


class OptionalFile:
    """A file that a command writes beside its images, if an option names it.

    Args:
        path: The file; None if the option is not given, and then nothing is checked.
        kind: Kind of file that will be written, such as ``LATENTS``.
        option: The command-line option.
        guard: Decides which existing files may be replaced.

    Raises:
        UsageError: As for ``Guard.allow``.
    """

    def __init__(self, path: Path | None, kind: str, option: str, guard: Guard) -> None:
        self.path, self._kind, self._guard = path, kind, guard
        if path is not None:
            guard.allow(path, kind, option)

    def allow_recipe(self, recipe: Recipe) -> None:
        """Check the file when its recipe is known; see ``Guard.allow_recipe``.

        Call it before the work and again before the file is written, since it may exist by then.

        Raises:
            UsageError: As for ``Guard.allow_recipe``.
        """
        if self.path is not None:
            self._guard.allow_recipe(self.path, self._kind, recipe)


def _refusal(path: Path, why: str) -> UsageError:
    free = Path(path.name) if _is_of_a_run(path) else path  # suggest no name inside a run folder
    return UsageError(f"{path} {why}; it was not changed. Write to {free_name(free)}")


def refuse_foreign_run(folder: Path) -> None:
    """Check, before training, that a folder holds no file that training would wrongly replace.

    A folder with a state file is a run. Without one, a run may have been stopped before its first
    save, which leaves a log, previews, a list of bad files and a report.

    Raises:
        UsageError: Training would replace a file that gentool did not write, the folder holds a
            model without a state, or it is not a folder or cannot be written.
    """
    if str(folder) == "-":
        raise UsageError("--out -: a run cannot go to stdout. Name a folder")
    if os.path.lexists(folder) and not is_folder(folder):
        raise UsageError(f"{folder} is a file, not a folder. Use --out {free_name(folder)}")
    require_writable(folder)
    if not is_folder(folder) or (folder / STATE_NAME).is_file():
        return
    for path in (folder / MODEL_NAME, folder / "best.safetensors"):
        if path.exists():
            raise UsageError(
                f"{folder} holds a model but no state, so training cannot continue. Choose another "
                "--out"
            )
    numbered = [*folder.glob("samples/*.png"), *folder.glob("snapshots/*.safetensors")]
    foreign = [p for p in numbered if p.stem.partition("-")[0].isdecimal() and not read_mark(p)]
    log, bad = folder / LOG_NAME, folder / "bad_files.txt"
    begun = (folder / "samples").is_dir()  # a run creates it before the log and the list
    foreign += [log] * (log.exists() and not (begun and _lines_are(log, _is_record)))
    foreign += [bad] * (bad.exists() and not (begun and _lines_are(bad, _is_reason)))
    facts = folder / FACTS_NAME
    foreign += [facts] * (facts.exists() and not is_facts(facts))
    report = folder / REPORT_NAME
    if os.path.lexists(report) and not is_report(report):  # False for a name that is too long
        foreign.append(report)
    if foreign:
        raise UsageError(
            f"{foreign[0]} already exists, and no training run of gentool wrote it; it was not "
            f"changed. Use --out {free_name(folder)}"
        )


def is_report(path: Path) -> bool:
    """Return whether a file is a report that gentool wrote."""
    mark = read_mark(path)
    return mark is not None and mark.kind == REPORT


def is_facts(path: Path) -> bool:
    """Return whether a file is the ``run.json`` of a run."""
    try:
        with open_regular(path) as file:
            return file.read(len(FACTS_START)) == FACTS_START
    except OSError:
        return False


def _lines_are(path: Path, allowed: Callable[[str], bool]) -> bool:
    """Return whether ``allowed`` is true for every line of a file; False if it is unreadable."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return all(map(allowed, file))
    except OSError:
        return False


def _is_record(line: str) -> bool:
    """Return whether a line may be from the log of a run, or the start of one after a kill."""
    try:
        record = json.loads(line)
    except ValueError:
        return line.startswith(LOG_START.decode()) and not line.endswith("\n")
    return isinstance(record, dict) and type(record.get("images")) is int


def _is_reason(line: str) -> bool:
    """Return whether a line may be from a list of bad files."""
    return line.count("\t") == 1


def _is_of_a_run(path: Path) -> bool:
    """Return whether a path is that of a model or state in a run folder; it need not exist."""
    folder = Path(os.path.realpath(path)).parent
    if folder.name == "snapshots":
        return (folder.parent / STATE_NAME).is_file()
    return path.name in OF_A_RUN and (folder / STATE_NAME).is_file()


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode number of a file, which are equal for all its names; or None."""
    try:
        info = path.stat()
    except OSError:
        return None
    return (info.st_dev, info.st_ino) if info.st_ino and path.is_file() else None


def difference(before: Recipe, now: Recipe) -> str | None:
    """Return a text that names the first difference of two recipes; None if there is none."""
    told = json.loads(json.dumps(dict(now)))
    for key in sorted({*before, *told} - OUTCOMES):
        was, is_now = before.get(key), told.get(key)
        if key == RECIPE_COLUMN and was != is_now:
            return "the settings, the images or the model are others"
        if was != is_now and was != hash_of_value(is_now):
            return _change(key, was, is_now)
    return None


def _change(key: str, was: object, is_now: object) -> str:
    """Return a text that says how one value of a recipe changed; None is a missing value."""
    if was is None:
        return f"{key} was not set and is now {is_now!s:.60}"
    if is_now is None:
        return f"{key} was {was!s:.60} and is not set now"
    return f"{key} was {was!s:.60} and is now {is_now!s:.60}"
