"""The command ``gentool doctor``: check this machine and print a report for bug reports."""

from itertools import groupby
from pathlib import Path

import typer

from gentool.cli import options
from gentool.cli.console import emit, emit_json, emit_table, say
from gentool.core.signals import StopFlag

_MARKS = {"ok": "  ", "warning": "! ", "problem": "X "}


def command(
    device: options.Device = "auto",
    runs: Path = typer.Option(
        Path("runs"), "--runs", metavar="FOLDER", help="Folder of runs, to check its free space.",
        readable=False,
    ),
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Inspect this machine, and check that it computes the networks of gentool correctly.

    gentool doctor

    gentool doctor --device cuda --json

    Outputs and gradients of every network on the device are compared with float64 on the CPU.
    No data leaves this machine. The exit code is 1 if something does not work.
    """
    from gentool.core.devices import select_device
    from gentool.diagnostics.doctor import examine

    with StopFlag() as stop:
        found = examine(select_device(device), stop.poll, runs.expanduser())
    problems = sum(f.verdict == "problem" for f in found)
    if as_json:
        topics: dict[str, dict[str, dict[str, str]]] = {}
        for f in found:
            entry = {"value": f.value, "verdict": f.verdict}
            topics.setdefault(f.topic, {})[f.name] = entry
        emit_json({"well": not problems, **topics})
    else:
        for topic, findings in groupby(found, key=lambda f: f.topic):
            emit(topic)
            emit_table(((_MARKS[f.verdict] + f.name, f.value) for f in findings), indent="")
        emit(f"{problems} problems, marked X" if problems else "no problems found")
    if problems:
        say(f"{problems} of {len(found)} checks failed")
        raise typer.Exit(1)
