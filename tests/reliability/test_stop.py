"""Stop requests at random moments of every long command: quick, with the documented exit code.

Ctrl-C, SIGTERM, SIGHUP and the signals of batch systems are sent to real processes at the start,
while images are read and cached, while training, scoring, saving and sampling. Only complete files
remain, no process is left running, and a training continues to the same last bit.
"""

import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, run_python
from forkserver import Child, ForkServer
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from gentool.data.sources.index import Index
from gentool.report.facts import read_facts
from gentool.training.run_data import read_notes

PROMISE = "asked to stop: exit 75 or 130 soon, whole files, no orphan, same last bit"
BATCH_SYSTEMS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)  # warnings before the end
SIGNALS = {signal.SIGINT: 130, **dict.fromkeys((signal.SIGTERM, signal.SIGHUP, *BATCH_SYSTEMS), 75)}
SOON_SECONDS = 10.0
TRAINED = 16 * 30


def train(data: object, out: Path, *more: object) -> list[object]:
    """A tiny run that scores and saves often."""
    return ["train", "gan", "--data", data, "--out", out, *TINY, "--images", TRAINED,
            "--save-every", 160, "--score-every", 320, *more]  # fmt: skip


def asked(
    fork_server: ForkServer, arguments: Sequence[object], number: int,
    moment: Callable[[Child], None],
    **env: Any,
) -> tuple[int, list[str]]:  # fmt: skip
    """Start, wait for the moment, send; the exit code, and what was not as promised."""
    child = fork_server.start(*arguments, **env)
    moment(child)
    sent = time.monotonic()
    child.send(number)
    done = child.wait()
    seconds = time.monotonic() - sent
    wrong = []
    if done.code not in (0, SIGNALS[signal.Signals(number)]) or "Traceback" in done.err:
        wrong.append(f"exit {done.code}: {done.err}")  # 0: it had ended already
    if seconds > SOON_SECONDS:
        wrong.append(f"took {seconds:.1f} s")
    if left := child.orphans():
        wrong.append(f"orphans {left}")
    return done.code, wrong


def after(seconds: float) -> Callable[[Child], None]:
    """A moment so long after the start."""
    return lambda child: time.sleep(seconds)


def torn(folder: Path) -> list[str]:
    """Files that cannot be opened, and scratch files that were left."""
    found = []
    for path in (p for p in folder.rglob("*") if p.is_file()):
        try:
            if path.suffix == ".png":
                with Image.open(path) as image:
                    image.load()
            elif path.suffix == ".safetensors":
                load_file(path)
            elif path.name == "report.html":
                assert path.read_text(encoding="utf-8").endswith("</html>\n")
            elif path.name == "run.json":
                assert read_facts(folder) is not None
            elif path.name == "intake.json":
                assert read_notes(folder) is not None
            elif path.name == "images.index":
                assert Index.open(path).fingerprint
            elif path.name not in ("log.jsonl", ".lock"):
                found.append(path.name)
        except (OSError, SafetensorError) as error:
            found.append(f"{path.name}: {error}")
    return found


@pytest.fixture(scope="module")
def alone(
    fork_server: ForkServer, image_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[bytes, float]:
    """The model of a run that nobody disturbs, and how many seconds it took."""
    out, began = tmp_path_factory.mktemp("alone") / "run", time.monotonic()
    done = fork_server.run(*train(image_folder, out))
    assert done.code == 0, done.err
    return (out / "model.safetensors").read_bytes(), time.monotonic() - began


def moments(seed: int, count: int) -> list[tuple[signal.Signals, float]]:
    """(signal, share of an undisturbed run), at random."""
    chance = random.Random(seed)
    return [(chance.choice(list(SIGNALS)), chance.random()) for _ in range(count)]


def stopped_training(
    fork_server: ForkServer,
    data: Path,
    out: Path,
    alone: tuple[bytes, float],
    number: int,
    share: float,
) -> list[str]:
    """Stop a training somewhere, look at what is there, and let it go on to the end."""
    code, wrong = asked(fork_server, train(data, out), number, after(share * alone[1]))
    wrong += torn(out)
    if code:
        done = fork_server.run(*train(data, out))
        assert done.code == 0, done.err
    if (out / "model.safetensors").read_bytes() != alone[0]:
        wrong.append("another model")
    return wrong


@pytest.mark.promise(PROMISE)
@pytest.mark.parametrize(
    ("number", "share"), [moments(0, 2)[0], pytest.param(*moments(0, 2)[1], marks=pytest.mark.slow)]
)
def test_a_training_at_a_random_moment(
    number: int, share: float,
    fork_server: ForkServer, image_folder: Path, alone: tuple[bytes, float], tmp_path: Path,
) -> None:  # fmt: skip
    assert stopped_training(fork_server, image_folder, tmp_path / "run", alone, number, share) == []


@pytest.mark.promise(PROMISE)
@pytest.mark.slow
@pytest.mark.parametrize(("number", "share"), moments(1, 50))
def test_a_training_at_fifty_random_moments(
    number: int, share: float,
    fork_server: ForkServer, image_folder: Path, alone: tuple[bytes, float], tmp_path: Path,
) -> None:  # fmt: skip
    assert stopped_training(fork_server, image_folder, tmp_path / "run", alone, number, share) == []


@pytest.mark.promise(PROMISE)
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))]
)
def test_while_images_are_read_for_the_first_time(
    number: int, fork_server: ForkServer, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"

    def reading(child: Child) -> None:
        while not list(cache.glob("*/journal")):
            time.sleep(0.005)

    arguments = train("builtin:digits:200000", tmp_path / "run")
    code, wrong = asked(fork_server, arguments, number, reading, GENTOOL_CACHE=str(cache))
    assert code == SIGNALS[signal.Signals(number)]
    assert wrong == [] and not (tmp_path / "run").exists(), wrong


@pytest.mark.promise(PROMISE)
@pytest.mark.parametrize(
    "number",
    [BATCH_SYSTEMS[-1], *(pytest.param(n, marks=pytest.mark.slow) for n in BATCH_SYSTEMS[:-1])],
)
def test_a_warning_of_a_batch_system_saves_once_however_often_it_comes(
    number: int, fork_server: ForkServer, image_folder: Path, tmp_path: Path
) -> None:
    """The kernel sends SIGXCPU every second until the hard limit."""
    arguments = train(image_folder, tmp_path / "run", "--images", 10**6)
    child = fork_server.start(*arguments)
    while not (tmp_path / "run" / "samples").exists():
        time.sleep(0.005)
    for _ in range(5):
        child.send(number)
        time.sleep(0.02)
    done = child.wait()
    assert done.code == 75, done.err
    *_, told, again = done.err.splitlines()
    assert told.startswith("stopped at ") and told.endswith("Continue with:")
    assert again.startswith("  gentool train gan --data")
    assert torn(tmp_path / "run") == []


EARLY = """
import os, signal, sys
if sys.argv[2] == "ignored":
    signal.signal(int(sys.argv[1]), signal.SIG_IGN)
from gentool.core.signals import StopFlag, leave_when_asked
leave_when_asked()
with StopFlag() as stop:
    pass
os.kill(os.getpid(), int(sys.argv[1]))
"""


@pytest.mark.parametrize(
    "number",
    [BATCH_SYSTEMS[-1], *(pytest.param(n, marks=pytest.mark.slow) for n in BATCH_SYSTEMS[:-1])],
)
def test_a_warning_where_nothing_is_to_be_saved_ends_at_once(number: int) -> None:
    done = run_python("-c", EARLY, int(number), "heeded")
    assert (done.code, done.err) == (75, "stopped\n")


@pytest.mark.parametrize("number", [*BATCH_SYSTEMS, signal.SIGHUP])
def test_a_signal_that_the_shell_ignores_stays_ignored(number: int) -> None:
    done = run_python("-c", EARLY, int(number), "ignored")
    assert (done.code, done.err) == (0, "")


MORE = {
    "sample": ("sample", "{run}", "-n", 5000, "-o", "{out}"),
    "interpolate": ("interpolate", "{run}", "--seeds", "0-99", "--steps", 40, "-o", "{out}"),
    "reconstruct": ("reconstruct", "{run}", "{data}", "--steps", 3000, "-o", "{out}"),
    "evaluate": ("evaluate", "{run}", "--data", "{data}", "-n", 20000, "--features", "random"),
}


@pytest.mark.promise(PROMISE)
@pytest.mark.parametrize("command", MORE)
@pytest.mark.parametrize(
    "number", [signal.SIGINT, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 15))]
)
def test_other_commands(
    command: str,
    number: int,
    fork_server: ForkServer,
    gan: Path,
    image_folder: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    places = {"run": gan, "out": out, "data": image_folder}
    arguments = [str(word).format(**places) for word in MORE[command]]
    chance = random.Random(f"{command} {number}")
    code, wrong = asked(fork_server, arguments, number, after(chance.uniform(0.2, 2)))
    assert code != 0, "over before it was asked"
    wrong += torn(out)
    assert wrong == [], wrong
