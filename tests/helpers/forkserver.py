"""Client of ``forkserver_main.py``, which starts commands as real processes quickly."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import Finished, environment

FORKS = Path(__file__).with_name("forkserver_main.py")


class Child:
    """One command that runs.

    Attributes:
        pid: Of the process, which leads a group of its own.
        mark: In the environment of all that it starts.
    """

    def __init__(
        self, fork_server: "ForkServer", pid: int, mark: str, stdout: Path, stderr: Path
    ) -> None:
        self._server, self.pid, self.mark = fork_server, pid, mark
        self._stdout, self._stderr = stdout, stderr

    def send(self, number: int) -> None:
        """Send a signal; the process may have ended, but was not waited for, so is still it."""
        os.kill(self.pid, number)

    def wait(self) -> Finished:
        """Wait until it has ended; a negative code is the signal that killed it."""
        code = self._server.ask({"wait": self.pid})
        return Finished(code, self._stdout.read_bytes(), self._stderr.read_text())

    @property
    def err(self) -> str:
        """Stderr so far."""
        return self._stderr.read_text()

    @property
    def out(self) -> str:
        """Stdout so far."""
        return self._stdout.read_text()

    def orphans(self) -> list[int]:
        """Processes that it started and that still run, by the mark in their environment."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if self.mark.encode() in entry.read_bytes():
                    found.append(int(entry.parent.name))
        return found


class ForkServer:
    """Starts commands; a context manager.

    Args:
        folder: For what the commands print.
        env: Added to the environment of all commands, where they need it from their very start.
    """

    def __init__(self, folder: Path, **env: str) -> None:
        self._folder, self._numbers = folder, itertools.count()
        self._process = subprocess.Popen(
            [sys.executable, str(FORKS)],
            env=environment({"OMP_NUM_THREADS": "1", "PYTHONPATH": str(FORKS.parent)} | env),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()
        assert self._process.returncode == 0

    def ask(self, job: dict[str, Any]) -> int:
        """One question, one number."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(
        self, *arguments: object, at: int = 0, deed: str = "kill", largest_file: int = 0,
        spoil: dict[str, Any] | None = None, **env: str,
    ) -> Child:  # fmt: skip
        """Start a command.

        Args:
            arguments: After ``gentool``.
            at: The step of writing files at which something happens; 0 for never.
            deed: ``kill`` for SIGKILL, or the name of an error that the step raises.
            largest_file: RLIMIT_FSIZE in bytes; 0 for none.
            spoil: What goes wrong in training; see ``poison``.
            env: Added to the environment.
        """
        number = next(self._numbers)
        stdout, stderr = self._folder / f"{number}.out", self._folder / f"{number}.err"
        stdout.touch()  # a process that is killed at once opens none of them
        stderr.touch()
        mark = f"CHILD_OF_TESTS={os.getpid()}-{number}"
        name, value = mark.split("=")
        pid = self.ask({
            "arguments": [str(a) for a in arguments], "at": at,
            "env": {"GENTOOL_CACHE": os.environ["GENTOOL_CACHE"], **env, name: value},
            "deed": deed, "largest_file": largest_file, "spoil": spoil, "stdout": str(stdout),
            "stderr": str(stderr),
        })  # fmt: skip
        return Child(self, pid, mark, stdout, stderr)

    def run(self, *arguments: object, **faults: Any) -> Finished:
        """Start a command and wait for its end."""
        return self.start(*arguments, **faults).wait()


KILLED = -signal.SIGKILL
