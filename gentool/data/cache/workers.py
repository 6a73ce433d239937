"""Pools of workers that prepare images: threads of this process, or worker processes.

Threads share the interpreter lock, which does not matter for few or for large images. Processes
use every core for many small images. Both return chunks of images as futures.
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
from gentool.data.reading import Known

_FEWEST_FOR_PROCESSES = 3000  # images; for fewer, starting processes costs more than it saves
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
_START += "from gentool.data.cache.worker import main; main()"


class WorkersFailed(Exception):
    """Worker processes cannot do this job; the message says why."""


class Crew(Protocol):
    """A pool of workers that prepares chunks.

    Attributes:
        size: Number of chunks prepared at the same time.
    """

    size: int

    def submit(self, start: int, stop: int, known: Known) -> "Future[list[Chunk]]":
        """Start to prepare images ``start`` to ``stop`` (exclusive); see ``Job.run``."""

    def close(self) -> None:
        """Stop, and drop the chunks that are not finished."""


def cores() -> int:
    """Return the number of processors that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def make_crew(job: Job, left: int) -> Crew:
    """Return the pool of workers for a job with ``left`` images still to prepare.

    Raises:
        WorkersFailed: worker processes are needed, but the source cannot be pickled.
    """
    access = getattr(job.source, "access", "processes")
    if access == "sequential":
        return ThreadCrew(job, 1)
    if access == "threads" or left < _FEWEST_FOR_PROCESSES or not _can_start():
        return ThreadCrew(job, cores())
    return ProcessCrew(job, cores())


def _can_start() -> bool:
    """Return whether an interpreter can be started; embedded and frozen Pythons have none."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


class ThreadCrew:
    """A pool of threads of this process."""

    def __init__(self, job: Job, size: int) -> None:
        self.size = size
        self._job = job
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="intake")

    def submit(self, start: int, stop: int, known: Known) -> "Future[list[Chunk]]":
        """Start to prepare images ``start`` to ``stop`` (exclusive); see ``Job.run``."""
        return self._pool.submit(lambda: [self._job.run(start, stop, known)])

    def close(self) -> None:
        """Finish the chunks that were begun, and drop the others."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class ProcessCrew:
    """A pool of worker processes, each served by a thread of this process.

    A worker that dies (because a decoder crashes or memory runs out) is replaced. Its chunk is
    halved repeatedly until the image that causes it is found.

    Raises:
        WorkersFailed: the source cannot be pickled. The future from ``submit`` also raises it if
            workers cannot unpickle the source.
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

    def submit(self, start: int, stop: int, known: Known) -> "Future[list[Chunk]]":
        """Start to prepare images ``start`` to ``stop`` (exclusive); see ``Job.run``."""
        return self._pool.submit(self._run, start, stop, known)

    def close(self) -> None:
        """Kill the workers at once, and drop the chunks that are not finished."""
        with self._closing:
            self._closed = True
            for worker in self._workers:
                worker.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.clean()

    def _run(self, start: int, stop: int, known: Known) -> list[Chunk]:
        worker: _Worker | None = getattr(self._own, "worker", None)
        if worker is None:
            worker = self._own.worker = self._start()
        try:
            return [worker.ask(start, stop, known)]
        except (EOFError, OSError, pickle.UnpicklingError):
            if self._closed or worker.alive():  # an error of the job, not the death of the worker
                raise
            self._own.worker = None
            worker.clean()
        if stop - start == 1:
            return [
                self._job.give_up(start, f"the process that decodes it crashes ({worker.ended()})")
            ]
        middle = (start + stop) // 2
        return self._run(start, middle, known) + self._run(middle, stop, known)

    def _start(self) -> "_Worker":
        with self._closing:
            if self._closed:
                raise WorkersFailed("closed")
            worker = _Worker()
            self._workers.append(worker)
        worker.begin(self._pickled)
        return worker


class _Worker:
    """One worker process, with pipes for its job, requests and replies."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by clean
        command = [sys.executable, "-c", _START, json.dumps(sys.path)]
        # The worker has its own process group, so that Ctrl-C reaches only the parent.
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
        """Send the job and wait until the worker has read it.

        Raises:
            WorkersFailed: the worker cannot read the job.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(pickled)
            self._process.stdin.flush()
            answer = self._receive()
        except (EOFError, OSError, pickle.UnpicklingError):
            answer = f"{self.ended()}: {self._said()}"
        if answer != READY:
            raise WorkersFailed(str(answer))

    def ask(self, start: int, stop: int, known: Known) -> Chunk:
        """Have images ``start`` to ``stop`` (exclusive) prepared; see ``Job.run``.

        Raises:
            EOFError: the worker died.
            Exception: whatever the worker raised.
        """
        assert self._process.stdin is not None
        pickle.dump((start, stop, known), self._process.stdin)
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
        """Return whether the process still runs, after waiting up to 0.5 s for it to end."""
        try:
            self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            return True
        return False

    def ended(self) -> str:
        """Wait for the end of the process; return ``signal N`` or ``exit code N``."""
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _said(self) -> str:
        """Return the last line that the process wrote to stderr."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it gave no reason"

    def kill(self) -> None:
        """Kill the process at once."""
        self._process.kill()

    def clean(self) -> None:
        """Close the pipes and the file of stderr."""
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # bytes may be left for a process that has ended
                pipe.close()
        self._errors.close()
