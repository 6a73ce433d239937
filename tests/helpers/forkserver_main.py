"""A process that has imported gentool and torch, and forks a child for every requested command.

A child is a real process with its own signals and limits, but without the two seconds for the
import of torch. Each request is one JSON line on stdin, each answer one on stdout; see
``forkserver``.
"""

import contextlib
import errno
import importlib
import io
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from injected_faults import spoil

import gentool.__main__
import gentool.cli
from gentool.core import atomic_files as files

# What a training imports late, so that no child has to.
LATE = (
    "torch._dynamo",
    "gentool.cli.progress",
    "gentool.training.loop",
    "gentool.inference.sampling",
    "gentool.outputs.writers",
    "gentool.models.gan.model",
    "gentool.models.vae.model",
    "numpy.random",
    "PIL.PngImagePlugin",
    "PIL.GifImagePlugin",
    "gentool.networks.dcgan",
    "gentool.evaluation.evaluate",
)


class Saboteur:
    """Watches the steps of writing; at one of them it kills the process or fails the write."""

    def __init__(self, at: int, deed: str) -> None:
        self.left, self.deed = at, deed

    def __call__(self, step: str, path: Path) -> None:
        """One step is done."""
        self.left -= 1
        if self.left != 0:
            return
        if self.deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self.deed)
        raise OSError(number, os.strerror(number), str(path))


def become(job: dict[str, Any]) -> None:
    """Turn this fork into the command."""
    os.setpgid(0, 0)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(job["env"])
    if job["at"]:
        files.observers.append(Saboteur(job["at"], job["deed"]))
    if job["largest_file"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"],) * 2)
    if job["spoil"]:
        spoil(job["spoil"])
    gentool.cli.console.STARTED = time.monotonic()
    sys.argv = ["gentool", *job["arguments"]]
    gentool.__main__.main()


def rehearse() -> None:
    """Resolve a command, which imports what the command line imports late; no thread begins."""
    sys.argv = ["gentool", "train", "gan", "--data", "builtin:shapes:8", "--dry-run", "--json"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        gentool.cli.main()


def main() -> None:
    """Answer until stdin ends."""
    for name in LATE:
        importlib.import_module(name)
    torch.set_num_threads(1)
    rehearse()
    print("ready", flush=True)
    while line := sys.stdin.readline():
        job = json.loads(line)
        if "wait" in job:
            _, status = os.waitpid(job["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                become(job)
                return
        print(answer, flush=True)


if __name__ == "__main__":
    main()
