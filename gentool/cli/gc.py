"""The command ``gentool gc``: remove what runs do not need any more."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gentool.cli import options
from gentool.cli.console import emit, emit_json, refuse_unfit_stdout, say
from gentool.core.errors import PartialSuccess, UsageError
from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.training.clearing import Clearing, Removable


def command(
    folders: list[Path] = typer.Argument(
        help="Run folders, or folders of runs.", metavar="RUN...", readable=False
    ),
    keep: str = typer.Option(
        "1", "--keep", metavar="N",
        help="Number of the newest snapshots of each run that stay; or all.",
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Only list what would be removed."
    ),
    print0: options.Print0 = False,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Remove older snapshots of runs, and temporary files of commands that were killed.

    gentool gc runs --dry-run

    gentool gc runs/gan-faces --keep 3

    The model, the best model, the state, previews, logs and reports stay. So does everything that
    gentool did not write, everything behind a link, and every file of a run that is being trained.
    """
    refuse_unfit_stdout(as_json=as_json, print0=print0)
    newest = _newest(keep)
    rows: list[dict[str, object]] = []
    failed: list[tuple[Path, str]] = []
    total = 0
    with StopFlag() as stop:
        for run in _runs(folders):

            def removed(file: "Removable") -> None:
                if not as_json:
                    emit(file.path, print0=print0)

            plan, gone, unremoved = _clear(run, newest, stop, removed, dry_run=dry_run)
            failed += unremoved
            freed = sum(file.bytes for file in gone)
            total += freed
            rows.append(_row(plan, gone, freed))
            if not as_json:
                _tell(plan, len(gone), freed, dry_run=dry_run)
    for path, why in failed:
        say(f"error: {path}: {why}")
    if as_json:
        emit_json(
            {
                "dry_run": dry_run,
                "keep": keep if keep == "all" else int(newest),
                "bytes": total,
                "runs": rows,
            }
        )
    else:
        say(f"{total:,} bytes {'would be' if dry_run else 'were'} freed in {len(rows)} runs")
    if failed:
        raise PartialSuccess(f"{len(failed)} files could not be removed")


def _newest(keep: str) -> float:
    """Return how many snapshots of each run stay; infinity for all.

    Raises:
        UsageError: it is no such number; ``best`` and ``last`` are only for ``train``.
    """
    if keep == "all":
        return math.inf
    if keep.isdecimal() and len(keep) < 8:
        return int(keep)
    raise UsageError(
        f"--keep {keep:.40}: write the number of the newest snapshots that stay (0 or more), or "
        "all. The model and the best model stay in any case"
    )


def _clear(
    run: Path, keep: float, stop: StopFlag, removed: "Callable[[Removable], None]", *, dry_run: bool
) -> "tuple[Clearing, list[Removable], list[tuple[Path, str]]]":
    """Remove what a run does not need, or only find it.

    Returns:
        The plan, the files that are gone (or would be), and those that could not be removed.
    """
    from gentool.training.clearing import clear, plan_clearing

    plan = plan_clearing(run, keep)
    gone: list[Removable] = []

    def note(file: "Removable") -> None:
        gone.append(file)
        removed(file)

    def poll() -> None:
        stop.poll("stopped; the files that are listed above are gone, and all others are there")

    if dry_run:
        for file in plan.remove:
            note(file)
        return plan, gone, []
    try:
        failed = clear(run, keep, poll, note) if plan.remove else []
    except UsageError as error:  # a training has begun meanwhile
        return replace(plan, busy=str(error)), gone, []
    return plan, gone, failed


def _row(plan: "Clearing", gone: "Sequence[Removable]", freed: int) -> dict[str, object]:
    """Return what ``--json`` says of a run."""
    return {
        "run": str(plan.folder), "bytes": freed, "busy": plan.busy or None,
        "removed": [{**vars(file), "path": str(file.path)} for file in gone],
        "left": [{"path": str(path), "reason": why} for path, why in plan.left],
    }  # fmt: skip


def _runs(folders: Sequence[Path]) -> list[Path]:
    """Return the run folders at and under folders, each once.

    Raises:
        UsageError: there is none at or under one of them.
    """
    from gentool.report.listing import find_runs

    found: dict[str, Path] = {}
    for folder in folders:
        runs = list(find_runs(folder))
        if not runs:
            raise UsageError(f"{folder} is no run folder, and there is none under it")
        for run in runs:
            found.setdefault(str(run.resolve()), run)
    return list(found.values())


def _tell(plan: "Clearing", count: int, freed: int, *, dry_run: bool) -> None:
    """Print what happens to one run."""
    if plan.busy:
        say(f"{plan.folder}: nothing is removed: {plan.busy}")
        return
    for path, why in plan.left:
        say(f"note: {path} stays: {why}")
    verb = "would be removed" if dry_run else "removed"
    say(
        f"{plan.folder}: {count} {'file' if count == 1 else 'files'} {verb}, {freed:,} bytes; "
        f"{len(plan.kept)} {'snapshot stays' if len(plan.kept) == 1 else 'snapshots stay'}"
    )
