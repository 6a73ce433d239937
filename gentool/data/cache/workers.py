"""Who prepares the images: threads of this process, or worker processes that it starts.

Threads share the interpreter's lock, which does not matter for a few or for large images;
processes use every core for many small ones. Both answer chunks of images by futures.
"""

import contextlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from gentool.core.signals import unheard_by_children
from gentool.data.cache.worker import READY, Chunk, Job

_FEWEST_FOR_PROCESSES = 3000  # images; below, starting workers costs more than they save
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
_START += "from gentool.data.cache.worker import main; main()"


class WorkersFailed(Exception):
    """Worker processes cannot do this job; the text says why."""


class Crew(Protocol):
    """Prepares chunks. ``size`` is how many at once."""

    size: int

    def submit(self, start: int, stop: int) -> "Future[list[Chunk]]":
        """Have images ``start`` to ``stop`` prepared."""

    def close(self) -> None:
        """Stop, dropping what is not done."""


def cores() -> int:
    """How many processors this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def make_crew(job: Job, left: int) -> Crew:
    """The crew for a job with ``left`` images to do.

    Raises:
        WorkersFailed: worker processes are called for, but the source does not pickle.
    """
    access = getattr(job.source, "access", "processes")
    if access == "sequential":
        return ThreadCrew(job, 1)
    if access == "threads" or left < _FEWEST_FOR_PROCESSES or not _can_start():
        return ThreadCrew(job, cores())
    return ProcessCrew(job, cores())


def _can_start() -> bool:
    """Whether there is an interpreter to start, which an embedded or frozen Python lacks."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


class ThreadCrew:
    """Threads of this process."""

    def __init__(self, job: Job, size: int) -> None:
        self.size = size
        self._job = job
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="intake")

    def submit(self, start: int, stop: int) -> "Future[list[Chunk]]":
        """Have images ``start`` to ``stop`` prepared."""
        return self._pool.submit(lambda: [self._job.run(start, stop)])

    def close(self) -> None:
        """Stop, dropping what has not begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class ProcessCrew:
    """Worker processes, each with a thread here that talks to it.

    A worker that dies (a decoder that crashes, the system short of memory) is replaced, and its
    chunk halved until the image that does it is found.

    Raises:
        WorkersFailed: the source does not pickle; from ``submit``'s future also if workers
            cannot unpickle it.
    """

    def __init__(self, job: Job, size: int) -> None:
        self.size = size
        self._job = job
        try:
            self._pickled = pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise WorkersFailed(f"{type(error).__name__}: {error}") from error
        self._own = threading.local()
        self._workers: list[_Worker] = []
        self._closing = threading.Lock()
        self._closed = False
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="intake")

    def submit(self, start: int, stop: int) -> "Future[list[Chunk]]":
        """Have images ``start`` to ``stop`` prepared."""
        return self._pool.submit(self._run, start, stop)

    def close(self) -> None:
        """End the workers, whatever they are at."""
        with self._closing:
            self._closed = True
            for worker in self._workers:
                worker.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.clean()

    def _run(self, start: int, stop: int) -> list[Chunk]:
        worker: _Worker | None = getattr(self._own, "worker", None)
        if worker is None:
            worker = self._own.worker = self._start()
        try:
            return [worker.ask(start, stop)]
        except (EOFError, OSError, pickle.UnpicklingError):
            if self._closed or worker.alive():  # else the error is the job's own
                raise
            self._own.worker = None
            worker.clean()
        if stop - start == 1:
            return [self._job.give_up(start, f"decoding it ends the process ({worker.ended()})")]
        middle = (start + stop) // 2
        return self._run(start, middle) + self._run(middle, stop)

    def _start(self) -> "_Worker":
        with self._closing:
            if self._closed:
                raise WorkersFailed("closed")
            worker = _Worker()
            self._workers.append(worker)
        worker.begin(self._pickled)
        return worker


class _Worker:
    """One process: its job, then questions and answers, over pipes that end with either side."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by clean
        command = [sys.executable, "-c", _START, json.dumps(sys.path)]
        # In a group of its own Ctrl-C goes to the parent alone, which decides.
        try:
            with unheard_by_children():
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    process_group=None if sys.platform == "win32" else 0,
                )
        except OSError as error:
            self._errors.close()
            raise WorkersFailed(f"{sys.executable}: {error.strerror or error}") from error

    def begin(self, pickled: bytes) -> None:
        """Hand the job over and wait until it is understood."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(pickled)
            self._process.stdin.flush()
            answer = self._receive()
        except (EOFError, OSError, pickle.UnpicklingError):
            answer = f"{self.ended()}: {self._said()}"
        if answer != READY:
            raise WorkersFailed(str(answer))

    def ask(self, start: int, stop: int) -> Chunk:
        """Images ``start`` to ``stop``; raises what the worker raised, EOFError if it died."""
        assert self._process.stdin is not None
        pickle.dump((start, stop), self._process.stdin)
        self._process.stdin.flush()
        answer = self._receive()
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Chunk)
        return answer

    def _receive(self) -> object:
        assert self._process.stdout is not None
        return pickle.load(self._process.stdout)

    def alive(self) -> bool:
        """Whether it still runs; a moment is given to one that has closed its pipes."""
        try:
            self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            return True
        return False

    def ended(self) -> str:
        """How it ended, in words."""
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _said(self) -> str:
        """The last line that it wrote on stderr."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no reason given"

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def clean(self) -> None:
        """Close what belonged to it."""
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # bytes left for a process that is no more
                pipe.close()
        self._errors.close()
