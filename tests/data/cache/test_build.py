"""Building the cache: in processes and threads, killed, resumed, with bad and crashing files."""

import contextlib
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import HELPERS, environment, run_python
from odd_sources import SIDE, Faults, Squares, squares

from gentool.core.errors import DataError, Stopped
from gentool.core.images import ImageShape
from gentool.data import Preprocessing, prepare
from gentool.data.cache.build import update_with_labels
from gentool.data.cache.store import DiskStore, MemoryStore
from gentool.data.cache.worker import Job, Slots
from gentool.data.cache.workers import ProcessCrew, ThreadCrew, make_crew

SHAPE = ImageShape(SIDE, SIDE, 3)
PREPROCESSING = Preprocessing(SHAPE)
MANY = 4000  # enough for worker processes


@pytest.fixture(autouse=True)
def _cache(own_cache: Path) -> None:
    """A cache of its own for each test."""


@pytest.fixture
def crews(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of crew that were made, as they are made."""
    made: list[str] = []
    for kind in (ProcessCrew, ThreadCrew):

        def noted(self: object, job: Job, size: int, real=kind.__init__) -> None:  # type: ignore[no-untyped-def]
            made.append(type(self).__name__)
            real(self, job, size)

        monkeypatch.setattr(kind, "__init__", noted)
    return made


def entry_of(cache: Path) -> Path:
    """The one entry in the cache."""
    (entry,) = (path for path in cache.iterdir() if path.name != ".locks")
    return entry


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(word) for word in (task / "children").read_text().split()]
    return found


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- who does it --------------------------------------------------------------------------------


def test_processes_prepare_what_threads_do(crews: list[str]) -> None:
    apart = prepare(Squares(MANY), PREPROCESSING)
    assert crews == ["ProcessCrew"]
    assert np.array_equal(apart.images[:], squares(list(range(MANY))))
    assert np.array_equal(apart.hashes, np.arange(MANY, dtype=np.uint64) * np.uint64(7919))
    together = prepare(Squares(MANY), PREPROCESSING, cache="ram")
    assert np.array_equal(together.images[:], apart.images[:])
    assert together.fingerprint == apart.fingerprint


def test_few_images_and_sources_that_ask_for_it_are_done_in_threads(crews: list[str]) -> None:
    prepare(Squares(100), PREPROCESSING)
    prepare(Squares(MANY, access="threads"), PREPROCESSING)
    assert crews == ["ThreadCrew"] * 2


def test_a_stream_is_read_in_order_by_one_thread(tmp_path: Path) -> None:
    source = Squares(700, Faults(log=tmp_path / "log"), access="sequential")
    data = prepare(source, PREPROCESSING)
    assert (tmp_path / "log").read_text().split() == [str(k) for k in range(700)]
    assert np.array_equal(data.images[:], squares(list(range(700))))


def test_workers_import_no_torch_and_not_the_main_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"  # without a guard: importing it again would run it again
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(HELPERS)!r})\n"
        "from odd_sources import Squares, SIDE\n"
        "from gentool.data import Preprocessing, prepare\n"
        "from gentool.core.images import ImageShape\n"
        "print('began')\n"
        f"data = prepare(Squares({MANY}), Preprocessing(ImageShape(SIDE, SIDE, 3)))\n"
        "assert 'torch' not in sys.modules\n"
        "print(len(data), [note for note in data.notes if 'threads' in note])\n"
    )
    done = run_python(script)
    assert done.out == f"began\n{MANY} []\n", done.err


def test_the_worker_imports_no_torch() -> None:
    done = run_python("-c", "import sys, gentool.data.cache.worker; print('torch' in sys.modules)")
    assert done.out == "False\n"


def test_a_source_that_cannot_be_pickled_is_prepared_in_threads(crews: list[str]) -> None:
    source = Squares(MANY)
    source.describe = lambda index: f"lambda {index}"  # type: ignore[method-assign]
    data = prepare(source, PREPROCESSING)
    assert crews == ["ProcessCrew", "ThreadCrew"]
    assert len(data) == MANY
    assert "prepared in threads" in data.notes[0]


def test_a_source_that_workers_cannot_import_is_prepared_in_threads(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(HELPERS)!r})\n"
        "from odd_sources import Squares, SIDE\n"
        "from gentool.data import Preprocessing, prepare\n"
        "from gentool.core.images import ImageShape\n"
        "class Own(Squares): pass\n"
        f"data = prepare(Own({MANY}), Preprocessing(ImageShape(SIDE, SIDE, 3)))\n"
        "print(len(data), data.notes)\n"
    )
    done = run_python(script)
    assert done.out.startswith(f"{MANY} "), done.err
    assert "in threads" in done.out
    assert "Own" in done.out


# --- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [600, MANY])
@pytest.mark.parametrize("cache", ["disk", "ram"])
def test_bad_images_leave_no_holes(count: int, cache: str) -> None:
    bad = frozenset({0, 1, 2, 77, 255, 256, 300, 511, count - 1})
    data = prepare(Squares(count, Faults(bad=bad)), PREPROCESSING, cache=cache, max_bad=0.1)  # type: ignore[arg-type]
    kept = [k for k in range(count) if k not in bad]
    assert np.array_equal(data.images[:], squares(kept))
    assert data.hashes.tolist() == [k * 7919 for k in kept]
    assert data.bad == tuple((f"square {k}", "told to be bad") for k in sorted(bad))


def test_the_fingerprint_tells_the_images_and_nothing_of_the_bad_ones(own_cache: Path) -> None:
    whole = prepare(Squares(50), PREPROCESSING)
    digest = hashlib.sha256(str(SHAPE).encode() + squares(list(range(50))).tobytes())
    digest.update(json.dumps([(), None]).encode())
    assert whole.fingerprint == digest.hexdigest()
    holed = prepare(Squares(52, Faults(bad=frozenset({50, 51}))), PREPROCESSING, max_bad=0.1)
    assert holed.fingerprint == whole.fingerprint


@pytest.mark.parametrize("count", [0, 1, 99_999, 100_000, 250_001])
def test_labels_enter_the_fingerprint_as_their_json(count: int) -> None:
    labels, classes = np.arange(count) % 3, ("a", 'b"', "ü")
    ours, naive = hashlib.sha256(), hashlib.sha256()
    update_with_labels(ours, classes, labels)
    naive.update(json.dumps([classes, labels.tolist()]).encode())
    assert ours.digest() == naive.digest()


def test_an_image_that_kills_its_worker_is_a_bad_file() -> None:
    data = prepare(Squares(MANY, Faults(deadly=frozenset({5, 1234}))), PREPROCESSING)
    reason = f"the process that decodes it crashes (signal {signal.SIGSEGV.value})"
    assert data.bad == (("square 5", reason), ("square 1234", reason))
    kept = [k for k in range(MANY) if k not in (5, 1234)]
    assert np.array_equal(data.images[:], squares(kept))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")
def test_an_error_ends_the_workers_even_while_it_is_looked_at() -> None:
    before = set(children(os.getpid()))
    with pytest.raises(DataError, match="square 5: told to be bad") as caught:
        prepare(Squares(MANY, Faults(bad=frozenset({5}))), PREPROCESSING, strict=True)
    assert not any(map(alive, set(children(os.getpid())) - before))
    assert caught.tb is not None  # which holds on to everything that was going on


@pytest.mark.parametrize("count", [100, MANY])
def test_an_error_of_the_whole_source_is_no_bad_file(count: int) -> None:
    with pytest.raises(DataError, match="the server is gone"):
        prepare(Squares(count, Faults(fatal=frozenset({50}))), PREPROCESSING)


def test_a_file_that_can_be_read_again_is_taken_in(tmp_path: Path) -> None:
    (tmp_path / "locked").touch()
    faults = Faults(unreadable=frozenset({3}), locked=tmp_path / "locked")
    data = prepare(Squares(200, faults), PREPROCESSING)
    assert data.bad == (("square 3", "it cannot be read: Permission denied"),)
    assert prepare(Squares(200, faults), PREPROCESSING).bad == data.bad
    (tmp_path / "locked").unlink()
    again = prepare(Squares(200, faults), PREPROCESSING)
    assert again.bad == ()
    assert np.array_equal(again.images[:], squares(list(range(200))))


def test_a_disk_that_is_full_is_a_clear_error(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300 * 1024, before[1]))
    try:
        with pytest.raises(DataError, match=r"cannot write the image cache .*Set GENTOOL_CACHE"):
            prepare(Squares(MANY), PREPROCESSING)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
@pytest.mark.parametrize("kind", [ThreadCrew, ProcessCrew])
def test_pixels_that_cannot_be_written_are_no_bad_files(
    kind: type[ThreadCrew] | type[ProcessCrew],
) -> None:
    full = Slots(Path("/dev/full"), Path("/dev/full"))
    crew = kind(Job(Squares(100), PREPROCESSING, (SIDE, SIDE, 3), full), 1)
    try:
        with pytest.raises(OSError, match="No space left"):
            crew.submit(0, 100, {}).result()
    finally:
        crew.close()


# --- stopped and killed -------------------------------------------------------------------------

SLOW = """
import sys
sys.path.insert(0, {here!r})
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's is ignored
from pathlib import Path
from odd_sources import Faults, Squares, SIDE
from gentool.data import Preprocessing, prepare
from gentool.core.images import ImageShape
source = Squares({count}, Faults(seconds={seconds}, log=Path({log!r}), bad=frozenset({bad})))
prepare(source, Preprocessing(ImageShape(SIDE, SIDE, 3)))
print("done")
"""


@contextlib.contextmanager
def slow_build(
    tmp_path: Path, count: int, seconds: float = 0.002, bad: tuple[int, ...] = ()
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that builds the entry of ``Squares(count)``, slowly."""
    code = SLOW.format(
        here=str(HELPERS),
        count=count,
        seconds=seconds,
        log=str(tmp_path / "log"),
        bad=bad,
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def journaled(cache: Path) -> int:
    """Lines in the journal of the one build that is going on."""
    return sum(path.read_text().count("\n") for path in cache.glob("*/journal"))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGINT, signal.SIGTERM)),
    ],
)
def test_a_killed_build_leaves_no_workers_and_goes_on_where_it_was(
    number: signal.Signals, tmp_path: Path, own_cache: Path
) -> None:
    bad = (7, 300)
    with slow_build(tmp_path, MANY, 0.006, bad) as process:
        wait_until(lambda: journaled(own_cache) > 5 or process.poll() is not None)
        workers = children(process.pid)
        assert workers
        process.send_signal(number)
        process.wait(30)
        wait_until(lambda: not any(map(alive, workers)), 5)
    lines = (entry_of(own_cache) / "journal").read_text().split("\n")[1:-1]
    done = {k for start, stop, *_ in map(json.loads, lines) for k in range(start, stop)}
    assert done
    log = tmp_path / "second"
    data = prepare(Squares(MANY, Faults(bad=frozenset(bad), log=log)), PREPROCESSING)
    assert set(map(int, log.read_text().split())) == set(range(MANY)) - done
    assert np.array_equal(data.images[:], squares([k for k in range(MANY) if k not in bad]))
    assert data.bad == tuple((f"square {k}", "told to be bad") for k in bad)
    whole = prepare(Squares(MANY, Faults(bad=frozenset(bad))), PREPROCESSING, cache="ram")
    assert data.fingerprint == whole.fingerprint
    assert not (entry_of(own_cache) / "journal").exists()


def stopped_at(images: int, source: Squares) -> None:
    """Prepare a source until ``images`` are done."""

    def stop(done: int, total: int) -> None:
        if done >= images:
            raise Stopped("stopped", interrupted=True)

    with pytest.raises(Stopped):
        prepare(source, PREPROCESSING, stop)


@pytest.mark.parametrize("damage", ["pixels", "hashes", "line", "cut", "header", "size", "gone"])
def test_a_damaged_beginning_is_done_again(damage: str, tmp_path: Path, own_cache: Path) -> None:
    stopped_at(500, Squares(1000))
    entry = entry_of(own_cache)
    journal, images, hashes = (entry / n for n in ("journal", "images.u8", "hashes.u64"))
    if damage in ("pixels", "hashes"):
        with (images if damage == "pixels" else hashes).open("r+b") as file:
            file.seek(1000)
            file.write(b"damage")
    elif damage == "size":
        os.truncate(images, 1000)
    elif damage == "gone":
        hashes.unlink()
    else:
        text = journal.read_text()
        first, second = text.split("\n")[:2]
        journal.write_text({
            "line": text.replace(second, "[0, 0, 0, null]"),
            "cut": text[:-5],
            "header": text.replace(first, "{}"),
        }[damage])  # fmt: skip
    log = tmp_path / "log"
    data = prepare(Squares(1000, Faults(log=log)), PREPROCESSING)
    assert np.array_equal(data.images[:], squares(list(range(1000))))
    assert data.hashes.tolist() == [k * 7919 for k in range(1000)]
    again = set(map(int, log.read_text().split()))
    assert (len(again) < 600) == (damage in ("pixels", "hashes", "line", "cut"))


def test_a_build_killed_while_moving_images_together_begins_anew(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*arguments: object) -> None:
        raise KeyboardInterrupt

    source = Squares(600, Faults(bad=frozenset({0, 100})))
    monkeypatch.setattr("gentool.data.cache.store.move_bytes", cut)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, PREPROCESSING)
    monkeypatch.undo()
    os.environ["GENTOOL_CACHE"] = str(own_cache)
    data = prepare(source, PREPROCESSING)
    assert np.array_equal(data.images[:], squares([k for k in range(600) if k not in (0, 100)]))


def test_unreadable_files_of_an_unfinished_build_are_tried_again(tmp_path: Path) -> None:
    (tmp_path / "locked").touch()
    faults = Faults(unreadable=frozenset({3}), locked=tmp_path / "locked")
    stopped_at(500, Squares(1000, faults))
    (tmp_path / "locked").unlink()
    assert prepare(Squares(1000, faults), PREPROCESSING).bad == ()


def test_a_second_run_waits_for_the_first_and_tells_of_it(tmp_path: Path, own_cache: Path) -> None:
    log, seen = tmp_path / "own", list[int]()
    with slow_build(tmp_path, MANY, seconds=0.001) as process:
        wait_until(lambda: journaled(own_cache) > 2 or process.poll() is not None)
        faults = Faults(log=log)
        data = prepare(Squares(MANY, faults), PREPROCESSING, lambda done, total: seen.append(done))
        assert process.wait(60) == 0
    assert not log.exists()  # the first has done it all
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert np.array_equal(data.images[:], squares(list(range(MANY))))


def test_a_run_that_waits_can_be_stopped(tmp_path: Path, own_cache: Path) -> None:
    with slow_build(tmp_path, MANY) as process:
        wait_until(lambda: journaled(own_cache) > 2 or process.poll() is not None)
        stopped_at(0, Squares(MANY))
        assert process.poll() is None


# --- parts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_moving_images_together_keeps_all_but_the_bad(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gentool.data.cache.store.MOVED_AT_ONCE", 7)  # many pieces that overlap
    random = np.random.default_rng(seed)
    total = int(random.integers(1, 60))
    bad = np.flatnonzero(random.random(total) < random.random())
    values = random.integers(0, 256, (total, 2, 2, 1)).astype(np.uint8)
    wanted = np.delete(values, bad, axis=0)
    memory = MemoryStore(total, (2, 2, 1))
    memory.pixels[:] = values
    memory.hashes[:] = np.arange(total)
    pixels, hashes = memory.keep(bad)
    assert np.array_equal(pixels, wanted)
    assert np.array_equal(hashes, np.delete(np.arange(total), bad))
    disk = DiskStore(tmp_path / "entry", "key", total, (2, 2, 1))
    disk.slots.images.write_bytes(values.tobytes())
    disk.keep(bad)
    disk.close()
    assert disk.slots.images.read_bytes() == wanted.tobytes()


def test_a_set_larger_than_memory_is_not_tried() -> None:
    with pytest.raises(DataError, match="more than the memory of this machine"):
        MemoryStore(10**12, (64, 64, 3))


ASKING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")


def test_a_worker_hears_no_signal_that_asks_to_stop() -> None:
    """Batch systems send them to all processes of a job; no image is bad because of that."""
    crew = ProcessCrew(Job(Squares(MANY), PREPROCESSING, (SIDE, SIDE, 3), None), 1)
    try:
        crew.submit(0, 1, {}).result()
        workers = children(os.getpid())
        for pid in workers:
            for name in ASKING:
                os.kill(pid, getattr(signal, name))
        (chunk,) = crew.submit(1, 3, {}).result()
        assert chunk.bad == ()
        assert children(os.getpid()) == workers
    finally:
        crew.close()


def test_a_job_pickles_small() -> None:
    job = Job(Squares(MANY), PREPROCESSING, (SIDE, SIDE, 3), None)
    assert len(pickle.dumps(job)) < 2000


def test_an_embedded_python_starts_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    crew = make_crew(Job(Squares(MANY), PREPROCESSING, (SIDE, SIDE, 3), None), MANY)
    crew.close()
    assert isinstance(crew, ThreadCrew)
