"""Every command with every kind of stream: escape codes only on a terminal, valid JSON, exit codes.

Each case is a real process. By default only the pairs that can fail are run; ``-m slow`` runs all.
"""

import errno
import json
import os
import pty
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import Finished, environment

ESCAPE = b"\x1b"
TIMEOUT_SECONDS = 120

COMMANDS: dict[str, tuple[str, ...]] = {
    "help": ("--help",),
    "help of train": ("train", "--help"),
    "list": ("list",),
    "list json": ("list", "--json"),
    "info": ("info", "RUN"),
    "info json": ("info", "RUN", "--json"),
    "sample": ("sample", "RUN", "-n", "2", "--output", "OUT"),
    "sample json": ("sample", "RUN", "-n", "2", "--output", "OUT", "--json"),
    "interpolate": ("interpolate", "RUN", "--seeds", "1,2", "--output", "OUT/strip.png"),
    "reconstruct": ("reconstruct", "RUN", "IMAGES/bar/001.png", "--output", "OUT"),
    "evaluate json": ("evaluate", "RUN", "--data", "IMAGES", "-n", "20", "--metrics", "frechet",
                      "--features", "random", "--json"),
    "train json": ("train", "vae", "--data", "IMAGES", "--out", "OUT/run", "--images", "16",
                   "--batch", "16", "--size", "16", "--width", "4", "--json"),
    "dry run": ("train", "vae", "--data", "IMAGES", "--size", "16", "--dry-run", "--json"),
    "check": ("data", "check", "IMAGES"),
    "cache": ("data", "cache", "--json"),
    "doctor": ("doctor", "--device", "cpu", "--json"),
    "usage error": ("sample", "RUN", "-n", "0"),
    "no model": ("info", "OUT/nothing"),
}  # fmt: skip
EXPECTED = {"usage error": 2, "no model": 4}
WRITING = ("sample", "sample json", "interpolate", "reconstruct", "train json")


def _no_file_may_grow() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _close_stdout() -> None:
    os.close(1)


@dataclass(frozen=True)
class Condition:
    """How a process is started: variables (None takes one away), folder, last words before it."""

    env: dict[str, str | None] = field(default_factory=dict)
    cwd: Path | None = None
    before: Callable[[], None] | None = None


CONDITIONS = {
    "pipe": Condition(),
    "terminal": Condition({"TERM": "xterm-256color"}),
    "terminal without colour": Condition({"TERM": "xterm-256color", "NO_COLOR": "1"}),
    "dumb terminal": Condition({"TERM": "dumb"}),
    "40 columns": Condition({"COLUMNS": "40", "TERMINAL_WIDTH": "40"}),
    "stdout closed": Condition(before=_close_stdout),
    "reader gone": Condition(),
    "full": Condition(),
    "no home": Condition({"HOME": None, "XDG_CACHE_HOME": None, "GENTOOL_CACHE": None}),
    "read-only folder": Condition(cwd=Path("/proc")),
    "no space": Condition(before=_no_file_may_grow),
    "latin letters": Condition({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
                                "PYTHONIOENCODING": "ascii:strict"}),
}  # fmt: skip
# The cheapest command on every stream; most of the others cost the import of torch.
CHEAP = [("help of train", k) for k in CONDITIONS] + [
    ("help", "40 columns"), ("usage error", "full"), ("usage error", "latin letters"),
    ("sample", "latin letters"), ("sample json", "reader gone"), ("list", "full"),
]  # fmt: skip
PAIRS = [
    pytest.param(c, k, marks=[] if (c, k) in CHEAP else pytest.mark.slow, id=f"{c}, {k}")
    for c in COMMANDS
    for k in CONDITIONS
]


def run(arguments: list[str], name: str) -> Finished:
    """Run the program under a condition; a terminal's output counts as stdout."""
    condition = CONDITIONS[name]
    env = environment({k: v for k, v in condition.env.items() if v is not None})
    for key in [k for k, v in condition.env.items() if v is None]:
        env.pop(key, None)
    command = [sys.executable, "-m", "gentool", *arguments]
    out: int = subprocess.PIPE
    if name == "reader gone":
        reader, out = os.pipe()
        os.close(reader)
    if name == "full":
        if not Path("/dev/full").exists():
            pytest.skip("this system has no device that is always full")
        out = os.open("/dev/full", os.O_WRONLY)
    if "terminal" in name:
        return _run_on_terminal(command, env)
    try:
        done = subprocess.run(
            command, env=env, cwd=condition.cwd, preexec_fn=condition.before,
            stdout=out, stderr=subprocess.PIPE, timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
    finally:
        if out != subprocess.PIPE:
            os.close(out)
    return Finished(done.returncode, done.stdout or b"", done.stderr.decode())


def _run_on_terminal(command: list[str], env: dict[str, str]) -> Finished:
    mine, theirs = pty.openpty()
    process = subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(mine, 65536)
        except OSError as error:  # Linux's end of file of a terminal
            assert error.errno == errno.EIO
            break
        if not piece:
            break
        seen += piece
    os.close(mine)
    return Finished(process.wait(TIMEOUT_SECONDS), seen.replace(b"\r\n", b"\n"), "")


@pytest.mark.promise("every command on every stream: plain text, valid JSON, known exit codes")
@pytest.mark.parametrize(("command", "condition"), PAIRS)
def test_every_command_on_every_stream(
    command: str, condition: str, vae: Path, image_folder: Path, tmp_path: Path
) -> None:
    places = {"RUN": vae, "OUT": tmp_path, "IMAGES": image_folder}
    arguments = list(COMMANDS[command])
    for mark, path in places.items():
        arguments = [str(path) + a.removeprefix(mark) if a.startswith(mark) else a
                     for a in arguments]  # fmt: skip
    done = run(arguments, condition)
    everything = done.stdout + done.err.encode()
    assert b"Traceback" not in everything
    assert "unexpected" not in done.err
    assert done.code in _codes(command, condition), everything.decode(errors="replace")
    if condition not in ("terminal", "terminal without colour"):
        assert ESCAPE not in everything
    if done.code == 0 and "--json" in arguments and "terminal" not in condition:
        json.loads(done.stdout)
    if condition == "40 columns" and command.startswith("help"):
        assert max(map(len, done.lines)) <= 40


def _codes(command: str, condition: str) -> set[int]:
    """The exit codes that the documentation allows."""
    expected = EXPECTED.get(command, 0)
    if expected == 0 and condition in ("reader gone", "stdout closed"):
        return {141}
    if condition == "full":  # an error needs no stdout
        return {expected or 2}
    if condition == "no space" and command in WRITING:
        return {2, 75}  # 75 where a run can go on
    if condition == "no space" and command == "doctor":
        return {1}  # it tells
    if condition == "no space" and command == "check":
        return {0, 2}
    if condition == "read-only folder" and command == "doctor":
        return {1}
    return {expected}
