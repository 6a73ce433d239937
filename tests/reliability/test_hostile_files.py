"""Thousands of damaged and hostile files: each is refused in one line, quickly, in little memory.

With ``-m slow``: 10,000 mutated files and 5,000 intact ones with hostile settings, half of them
models and half states. By default a tenth of that. The results are printed (``-s``).
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import environment, gentool_command
from forged_files import Watch, gentool_header, join, memory_growth_below, split, start_watch
from mutations import DAMAGES, KINDS, hostile_settings, mutations
from promises import record

from gentool.checkpoint import LoadedModel, load_model, write_file
from gentool.core.errors import GentoolError, ModelFileError, UsageError
from gentool.core.signals import StopFlag
from gentool.data import open_dataset
from gentool.inference.blocks import decode_blocks, prior_blocks
from gentool.inference.latents import Latents, decode, read_latents, write_latents
from gentool.models import MODELS
from gentool.models.gan.model import GAN
from gentool.networks import PAIRS
from gentool.training.display import Display
from gentool.training.loop import Trainer
from gentool.training.settings import Settings
from gentool.training.setup import Setup

PROMISE = "files that lie: refused in a line or opened, soon, in little memory, nothing run"
MEMORY_BYTES = 300 * 2**20  # that a file may cost above the base
PROCESSOR_SECONDS = 1.0  # that opening it may take
TRIES = 3  # a file that is slow is slow each time; other work slows one of them
VERBS = ("info", "info --verify", "sample", "interpolate --seeds 0,1", "reconstruct IMAGE",
         "evaluate --data DATA", "average --length 0.1")  # fmt: skip


def several(by_default: int, whole: int) -> pytest.MarkDecorator:
    """How many files: few, or all of them under ``slow``."""
    slow = pytest.param(whole, marks=pytest.mark.slow)
    return pytest.mark.parametrize("count", [by_default, slow])


@pytest.fixture(scope="module")
def models(trained: Callable[[str], Path]) -> list[bytes]:
    """A whole model file of every kind."""
    return [(trained(name) / "model.safetensors").read_bytes() for name in MODELS]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    """The one file that may be opened, all modules that any file may need already imported."""
    for table in (MODELS, PAIRS):
        for name in table:
            table.get(name)
    return start_watch(tmp_path_factory.mktemp("attacked") / "hostile.safetensors")


def attack(
    count: int, make: Callable[[int], bytes], watch: Watch, attempt: Callable[[Path, int], object]
) -> dict[str, int]:
    """Open ``count`` files; how many were taken and how many refused."""
    tally = {"tried": count, "taken": 0, "refused": 0}
    slowest_seconds = 0.0
    with memory_growth_below(MEMORY_BYTES):
        for k in range(count):
            watch.allowed.write_bytes(make(k))
            for _ in range(TRIES):
                outcome = _open_once(watch, attempt, k)
                if watch.seconds < PROCESSOR_SECONDS:
                    break
            tally[outcome] += 1
            slowest_seconds = max(slowest_seconds, watch.seconds)
            record(PROMISE, watch.events == [] and watch.seconds < PROCESSOR_SECONDS)
    assert watch.events == []
    assert slowest_seconds < PROCESSOR_SECONDS
    print(f"\n{tally}, slowest {slowest_seconds:.3f} s of processor time")
    return tally


def _open_once(watch: Watch, attempt: Callable[[Path, int], object], k: int) -> str:
    """Whether file ``k`` is taken or refused."""
    try:
        with watch.look():
            attempt(watch.allowed, k)
    except (ModelFileError, UsageError) as error:
        assert len(str(error)) < 1000, k
        return "refused"
    except Exception as error:
        record(PROMISE, False)
        error.add_note(f"file {k}")
        raise
    return "taken"


@several(200, 5000)
def test_a_model_file_that_lies_is_refused(
    count: int, models: list[bytes], trained: Callable[[str], Path], attacked: Watch, tmp_path: Path
) -> None:
    sprung = tmp_path / "sprung"
    known = {said(load_model(trained(name) / "model.safetensors")) for name in MODELS}

    def attempt(path: Path, k: int) -> None:
        try:
            loaded = load_model(path)
        except UsageError as error:  # exit 2 would blame the command
            raise AssertionError(error) from error
        if (
            k % KINDS < DAMAGES
        ):  # was not sealed again: says what the whole file said, or is refused
            assert said(loaded) in known

    tally = attack(count, mutations(models, sprung), attacked, attempt)
    assert tally["refused"] > 0.9 * count
    assert not sprung.exists()


def said(loaded: LoadedModel) -> str:
    """All that a model file says, as a hash."""
    words = hashlib.sha256(json.dumps(loaded.header, sort_keys=True).encode())
    for name, tensor in sorted(loaded.model.state_dict().items()):
        words.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        words.update(tensor.numpy().tobytes())
    return words.hexdigest()


@several(150, 5000)
def test_whole_models_with_hostile_settings_are_refused_or_draw(
    count: int, models: list[bytes], attacked: Watch
) -> None:
    def attempt(path: Path, _: int) -> None:
        try:
            loaded = load_model(path)
            assert loaded.holdout >= 0
        except UsageError as error:
            raise AssertionError(error) from error
        images = decode_blocks(loaded.model, prior_blocks(loaded.model, [(0, 0)]))
        assert images.shape[1:3] == (loaded.model.shape.height, loaded.model.shape.width)

    tally = attack(count, hostile_settings(models), attacked, attempt)
    assert tally["refused"] > 0.4 * count
    assert tally["taken"] > 0


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Trainer:
    """A run of three steps, saved."""
    stop = StopFlag()
    settings = Settings(out=str(tmp_path_factory.mktemp("state") / "run"), size="16", mode="rgb",
                        images=48, batch=16, lr=1e-3, device="cpu",
                        precision="float32")  # fmt: skip
    setup = Setup("gan", GAN.Config(width=4, latent_size=8), settings, time.monotonic())
    images = open_dataset(str(image_folder), size="16").split(0)
    found = Trainer(images, setup, Display(stop, 48, quiet=True))
    found.run(stop)
    return found


def weights(trainer: Trainer) -> str:
    """All that a state fills, as a hash."""
    learner, words = trainer.learner(), hashlib.sha256()
    named = [learner.model.state_dict(), learner.average.state_dict(), learner.powers]
    for tensors in named:
        for tensor in tensors.values():
            words.update(tensor.numpy().tobytes())
    return words.hexdigest()


@several(200, 5000)
def test_a_state_that_lies_is_refused_and_fills_nothing(
    count: int, trainer: Trainer, attacked: Watch, tmp_path: Path
) -> None:
    path = trainer.setup.out / "state.safetensors"
    good, learner = path.read_bytes(), trainer.learner()

    before = weights(trainer)

    def attempt(path: Path, _: int) -> None:
        try:
            trainer.folder.read_state(learner, trainer.kept)
        except GentoolError:
            assert weights(trainer) == before
            raise
        path.write_bytes(good)
        trainer.folder.read_state(learner, trainer.kept)

    attacked.allowed, model_file = path, attacked.allowed
    try:
        tally = attack(count, mutations([good], tmp_path / "sprung"), attacked, attempt)
    finally:
        attacked.allowed = model_file
    assert tally["refused"] > 0.8 * count
    assert not (tmp_path / "sprung").exists()


@several(60, 1000)
def test_a_file_of_latents_that_lies_is_refused(
    count: int, gan: Path, attacked: Watch, tmp_path: Path
) -> None:
    loaded, kept = load_model(gan), tmp_path / "kept.safetensors"
    values = loaded.model.prior(np.arange(5), 0)
    write_latents(kept, loaded, Latents(values), {})

    def attempt(path: Path, k: int) -> None:
        found = read_latents(path, loaded)
        assert decode(loaded.model, found.latents).shape[1] == loaded.model.shape.height
        if k % KINDS < DAMAGES:
            assert torch.equal(found.latents.values, values)

    make = mutations([kept.read_bytes()], tmp_path / "sprung")
    tally = attack(count, make, attacked, attempt)
    assert tally["refused"] > 0.5 * count
    assert not (tmp_path / "sprung").exists()


@several(20, 400)
def test_every_verb_refuses_them_in_one_line_with_exit_code_4(
    count: int, models: list[bytes], tmp_path: Path, gan: Path, image_folder: Path
) -> None:
    make = mutations(models, tmp_path / "sprung")
    run = tmp_path / "run"
    run.mkdir()
    (run / "state.safetensors").write_bytes((gan / "state.safetensors").read_bytes())
    path = run / "model.safetensors"
    hostile = [data for k in range(2 * count) if not opens(data := make(k), path)]
    for k, data in enumerate(hostile[:count]):
        path.write_bytes(data)
        verb, *more = VERBS[k % len(VERBS)].split()
        places = {"IMAGE": image_folder / "bar" / "001.png", "DATA": image_folder}
        done = gentool_command(verb, run, *(places.get(word, word) for word in more), cwd=tmp_path)
        assert (done.code, done.stdout) == (4, b""), (k, done.err)
        assert done.err.startswith("error: ")
        assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "sprung").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def opens(data: bytes, path: Path) -> bool:
    """Whether the file is taken."""
    path.write_bytes(data)
    try:
        load_model(path)
    except ModelFileError:
        return False
    return True


def run_measured(path: Path) -> tuple[int, int, str]:
    """``gentool info`` as a process: exit code, peak bytes of memory, stderr."""
    with subprocess.Popen(
        [sys.executable, "-m", "gentool", "info", str(path)],
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        words = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return process.returncode, used.ru_maxrss * unit, words


@several(1, 30)
def test_the_real_program_ends_with_exit_code_4_in_little_memory(
    count: int, models: list[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "hostile.safetensors"
    make = mutations(models, tmp_path / "sprung")
    path.write_bytes(models[0])
    code, base_bytes, _ = run_measured(path)
    assert code == 0
    hostile = [data for k in range(4 * count) if not opens(data := make(k), path)]
    for k, data in enumerate(hostile[::3][:count]):
        path.write_bytes(data)
        code, peak, err = run_measured(path)
        assert code == 4, (k, code, signal.strsignal(-code) if code < 0 else err)
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1
        assert peak < base_bytes + MEMORY_BYTES
    assert not (tmp_path / "sprung").exists()


# --- the checksum -------------------------------------------------------------------------------


def test_info_verify_reads_every_file_of_a_run(gan: Path) -> None:
    done = gentool_command("info", gan, "--verify")
    assert done.code == 0, done.err
    names = [line.split(": intact")[0] for line in done.lines]
    assert names == [str(gan / "model.safetensors"), str(gan / "state.safetensors")]
    found = json.loads(gentool_command("info", gan, "--verify", "--json").out)["verified"]
    assert [row["kind"] for row in found] == ["model", "state"]
    assert all(row["content_sha256"] in done.out for row in found)


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors"])
def test_one_bit_of_any_tensor_is_found(name: str, gan: Path, tmp_path: Path) -> None:
    data = bytearray((gan / name).read_bytes())
    path = tmp_path / name
    for part in range(1, 21):
        at = len(data) - 1 - (len(data) * part // 64)
        data[at] ^= 1
        path.write_bytes(data)
        data[at] ^= 1
        done = gentool_command("info", path, "--verify")
        assert done.code == 4
        assert "is damaged" in done.err


def test_the_checksum_is_that_of_the_description(gan: Path) -> None:
    """Header and table as sorted JSON, then the tensors' bytes; computed here from the text."""
    data = (gan / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + length])
    header = json.loads(table.pop("__metadata__")["gentool"])
    given = header.pop("content_sha256")
    said = json.dumps([header, table], sort_keys=True).encode()
    assert given == hashlib.sha256(said + data[8 + length :]).hexdigest()


def test_a_file_without_a_checksum_is_refused(gan: Path, tmp_path: Path) -> None:
    table, tensors = split((gan / "model.safetensors").read_bytes())
    header = gentool_header(table)
    del header["content_sha256"]
    table["__metadata__"]["gentool"] = json.dumps(header)
    path = tmp_path / "old.safetensors"
    path.write_bytes(join(json.dumps(table).encode(), tensors))
    done = gentool_command("info", path)
    assert done.code == 4
    assert "no checksum" in done.err


def test_a_file_of_other_dtypes_under_the_names_of_averages_is_refused(
    gan: Path, tmp_path: Path
) -> None:
    """``gentool average`` takes weights out of a state, which may be a stranger's."""
    from gentool.checkpoint import read_file

    header, tensors = read_file(gan / "state.safetensors")
    lies = {k: v.long() if k.startswith("powers/") else v for k, v in tensors.items()}
    (tmp_path / "model.safetensors").write_bytes((gan / "model.safetensors").read_bytes())
    write_file(tmp_path / "state.safetensors", lies, header)
    done = gentool_command("average", tmp_path, "--length", 0.1)
    assert done.code == 4
    assert "does not contain the averages" in done.err
