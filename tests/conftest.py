"""Shared fixtures: a separate cache, small images, tiny trained models, and the command.

``gentool_command`` runs the command inside this process, which saves the import of torch.
``run_gentool`` starts a real process, for tests of exit codes, signals and imports.
"""

import contextlib
import io
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import promises
import pytest
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

import gentool.cli

if TYPE_CHECKING:
    from forkserver import ForkServer

# Tiny models gain nothing from more threads, and lose much where other work shares the cores; and
# all processes have as many, since bytes are compared.
os.environ["OMP_NUM_THREADS"] = "1"
# No process of the tests takes gentool from the folder that it happens to stand in.
os.environ["PYTHONSAFEPATH"] = "1"

Made = Callable[[Path], object]  # makes what a folder shall hold

ROOT = Path(__file__).parents[1]  # of the checkout
HELPERS = Path(__file__).with_name("helpers")
# Names of tests that take seconds each; a comment in the file says how they were chosen.
LONG = frozenset(Path(__file__).with_name("long_tests.txt").read_text("utf-8").splitlines())
PACKAGE = Path(gentool.cli.__file__).parents[1]  # what is tested: the installed one
IMAGES = 96
SIDE = 16
# Small enough that a model is trained in about a second, exact enough that files can be compared.
TINY = ["--size", SIDE, "--batch", 16, "--width", 4, "-o", "latent_size=8",
        "--precision", "float32", "--device", "cpu"]  # fmt: skip
# And by the model's name: one group of latents for each of its grids instead of three.
SMALL: dict[str, list[object]] = {"hvae": ["-o", "layers=4"]}


@dataclass(frozen=True)
class Finished:
    """A command that has ended: exit code, bytes on stdout, text on stderr."""

    code: int
    stdout: bytes
    err: str

    @property
    def out(self) -> str:
        """Stdout as text."""
        return self.stdout.decode()

    @property
    def lines(self) -> list[str]:
        """Stdout as lines."""
        return self.out.splitlines()


def words(text: str) -> str:
    """Text without box lines and line breaks, which depend on the width of the terminal."""
    return " ".join(text.translate(str.maketrans("│╭╮╰╯─", "      ")).split())


def gentool_command(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Finished:
    """Run the command in this process, exactly as ``gentool.cli.main`` does."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    before = dict(os.environ)
    code: object = 0
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["gentool", *map(str, arguments)])
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setattr(gentool.cli.console, "STARTED", time.monotonic())
            if cwd is not None:
                patch.chdir(cwd)
            os.environ.update(env or {})
            gentool.cli.main()
    except SystemExit as ended:
        code = ended.code or 0
    finally:  # --debug leaves a mark in the environment
        os.environ.clear()
        os.environ.update(before)
    assert isinstance(code, int)
    return Finished(code, _written(out), _written(err).decode())


def _written(stream: io.TextIOWrapper) -> bytes:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue()


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a process that imports the gentool that this process has imported.

    A ``PYTHONPATH`` in ``env`` stands before it.
    """
    more = dict(env or {})
    paths = [more.pop("PYTHONPATH", None), str(PACKAGE.parent), os.environ.get("PYTHONPATH")]
    return {**os.environ, **more, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def run_python(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Finished:
    """Run this Python as a process of its own."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd, env=environment(env), capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout, done.stderr.decode())


def run_gentool(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Finished:
    """Run ``python -m gentool`` as a process of its own."""
    return run_python("-m", "gentool", *arguments, cwd=cwd, env=env)


def start_gentool(*arguments: object) -> "subprocess.Popen[bytes]":
    """Start ``python -m gentool`` without waiting for it."""
    return subprocess.Popen(
        [sys.executable, "-m", "gentool", *map(str, arguments)],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip


def draw(number: int, side: int = SIDE) -> NDArray[np.uint8]:
    """A disc (even numbers, warm) or a bar (odd, cool) on a shaded ground, uint8 (H, W, 3)."""
    y, x = np.mgrid[:side, :side] / side
    shift = 0.2 * np.sin(number)
    if number % 2:
        inside = np.abs(x - 0.5 - shift) < 0.15
        colour = (40, 90 + number % 60, 220)
    else:
        inside = np.hypot(x - 0.5 - shift, y - 0.5) < 0.3
        colour = (220, 60 + number % 60, 40)
    ground = np.stack([60 + 50 * y, 70 + 40 * x, 60 + 30 * y], axis=-1)
    return np.where(inside[..., None], colour, ground).astype(np.uint8)


def write_images(folder: Path, count: int, side: int = SIDE) -> Path:
    """``count`` PNG files in the class folders ``bar`` and ``disc``."""
    for number in range(count):
        path = folder / ("bar" if number % 2 else "disc") / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(number, side)).save(path)
    return folder


def write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    """The format of MNIST (LeCun): magic, sizes, bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">{1 + values.ndim}I", 0x800 + values.ndim, *values.shape)
    path.write_bytes(head + values.tobytes())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that ``long_tests.txt`` lists."""
    for item in items:
        if item.nodeid in LONG:
            item.add_marker(pytest.mark.long)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Count what is marked as an attack on a promise."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]
    marker = item.get_closest_marker("promise")
    if marker and report.when == "call" and not report.skipped:
        promises.record(marker.args[0], report.passed)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what a worker of pytest-xdist tried to the process that prints."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["ledger"] = promises.rows()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # a class of pytest-xdist, which is not needed
    """Take it."""
    promises.add(getattr(node, "workeroutput", {}).get("ledger", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was tried against the promises."""
    if lines := list(promises.table()):
        terminalreporter.section("promises under attack")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of the tests' own, and none of the caller's settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("GENTOOL_")]:
            patch.delenv(name)
        patch.setenv("GENTOOL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["ForkServer"]:
    """Starts commands as real processes, cheaply."""
    from forkserver import ForkServer

    with ForkServer(tmp_path_factory.mktemp("fork_server")) as made:
        yield made


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Made], Path]:
    """Returns a folder that one of the processes of pytest-xdist makes for all; nobody changes it.

    The function takes the name of the folder, and a function that makes its content.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    shared.mkdir(exist_ok=True)

    def folder(name: str, make: Made) -> Path:
        path, finished = shared / name, shared / f"{name}.finished"
        with FileLock(shared / f"{name}.lock"):
            if not finished.exists():
                make(path)
                finished.touch()
        return path

    return folder


@pytest.fixture(scope="session")
def image_folder(made_once: Callable[[str, Made], Path]) -> Path:
    """96 images of 16x16 RGB in two class folders."""
    return made_once("images", lambda path: write_images(path / "toys", IMAGES)) / "toys"


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    folder = tmp_path / "own-cache"
    monkeypatch.setenv("GENTOOL_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def trained(made_once: Callable[[str, Made], Path], image_folder: Path) -> Callable[[str], Path]:
    """Run folder of a tiny model by the model's name; trained once, not to be written to."""

    def run_folder(name: str) -> Path:
        def train(path: Path) -> None:
            done = gentool_command(
                "train", name, "--data", image_folder, "--out", path, "--images", 320, *TINY,
                *SMALL.get(name, []),
            )  # fmt: skip
            assert done.code == 0, done.err

        return made_once(f"trained-{name}", train)

    return run_folder


@pytest.fixture(scope="session")
def gan(trained: Callable[[str], Path]) -> Path:
    """Run folder of a tiny GAN."""
    return trained("gan")


@pytest.fixture(scope="session")
def vae(trained: Callable[[str], Path]) -> Path:
    """Run folder of a tiny VAE."""
    return trained("vae")


@pytest.fixture(scope="session")
def autoencoder(trained: Callable[[str], Path]) -> Path:
    """Run folder of a tiny autoencoder."""
    return trained("autoencoder")


@contextlib.contextmanager
def took_less_than(seconds: float) -> Iterator[None]:
    """Assert that the block ends in time."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds
