"""A run that is stopped anywhere and continued gives the same result to the last bit."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, TINY, Finished, gentool_command, run_gentool, start_gentool
from forkserver import KILLED, Child, ForkServer
from safetensors.torch import load_file

from gentool.checkpoint import read_file, write_file
from gentool.models import MODELS
from gentool.models.priors import PRIORS

BUDGET, BATCH = 320, 16
MANY_STEPS = (1, 2, 3, 5, 7, 8, 11, 12, 13, 16, 19)  # and half of all
STEPS = [10, *(pytest.param(k, marks=pytest.mark.slow) for k in MANY_STEPS)]


def command(model: str, data: Path, out: Path, *more: object) -> list[object]:
    """Arguments of a tiny run."""
    small = [*TINY, *SMALL.get(model, [])]
    return ["train", model, "--data", data, "--out", out, "--images", BUDGET, *small, *more]


def same_tensors(a: Path, b: Path) -> None:
    """Every tensor of two files is equal to the last bit."""
    first, second = load_file(a), load_file(b)
    assert first.keys() == second.keys()
    assert [k for k in first if not torch.equal(first[k], second[k])] == []
    assert {k: v.dtype for k, v in first.items()} == {k: v.dtype for k, v in second.items()}


def same_run(a: Path, b: Path) -> None:
    """Same state, byte-identical model file, same previews at the same moments.

    On a slow machine the clock makes one run save more often than the other.
    """
    same_tensors(a / "state.safetensors", b / "state.safetensors")
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    first, second = ({p.name: p for p in (run / "samples").iterdir()} for run in (a, b))
    both = first.keys() & second.keys()
    assert max(first) in both and max(second) in both
    assert all(first[name].read_bytes() == second[name].read_bytes() for name in both)


def logged(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.promise("resumed after k of N steps: the same last bit")
def test_a_run_stopped_anywhere_and_repeated_is_the_same_run(
    model: str, step: int, trained: Callable[[str], Path], image_folder: Path, tmp_path: Path
) -> None:
    out, images = tmp_path / "run", step * BATCH
    stopped = gentool_command(*command(model, image_folder, out, "--stop-after", images))
    assert stopped.code == 75
    assert stopped.out == ""
    header, _ = read_file(out / "state.safetensors")
    assert header["images"] == images
    done = gentool_command(*command(model, image_folder, out))
    assert done.code == 0, done.err
    assert f"continuing at {images} images" in done.err
    same_run(trained(model), out)


LEARNED = ("vamp", "latent-flow")  # with the model, or after it: in the last 40 % of a run


@pytest.mark.parametrize(
    "prior", [p if p in LEARNED else pytest.param(p, marks=pytest.mark.slow) for p in PRIORS]
)
def test_every_prior_resumes_exactly(prior: str, image_folder: Path, tmp_path: Path) -> None:
    middle = 0.75 * BUDGET if prior == "latent-flow" else 0.5 * BUDGET
    stop = ("--stop-after", str(round(middle)))
    for out, stops in ((tmp_path / "straight", ()), (tmp_path / "halves", stop)):
        arguments = command("vae", image_folder, out, "-o", f"prior={prior}")
        if stops:
            assert gentool_command(*arguments, *stops).code == 75
        done = gentool_command(*arguments)
        assert done.code == 0, done.err
    same_run(tmp_path / "straight", tmp_path / "halves")


def test_a_run_stopped_after_every_step_is_the_same_run(image_folder: Path, tmp_path: Path) -> None:
    out, straight, steps = tmp_path / "run", tmp_path / "straight", 10
    budget = ("--images", steps * BATCH)
    assert gentool_command(*command("gan", image_folder, straight), *budget).code == 0
    arguments = command("gan", image_folder, out, "--stop-after", BATCH, *budget)
    codes = [gentool_command(*arguments).code for _ in range(steps)]
    assert codes == [75] * (steps - 1) + [0]
    same_run(straight, out)


def test_half_precision_resumes_exactly_too(image_folder: Path, tmp_path: Path) -> None:
    """bfloat16 autocast and a data set that is passed more than twice."""
    for out, stops in ((tmp_path / "straight", ()), (tmp_path / "halves", ("--stop-after", 112))):
        arguments = command("gan", image_folder, out, "--precision", "bfloat16", "--images", 208)
        if stops:
            assert gentool_command(*arguments, *stops).code == 75
        assert gentool_command(*arguments).code == 0
    same_run(tmp_path / "straight", tmp_path / "halves")


def test_a_stop_prints_the_command_to_go_on(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "my run"
    done = gentool_command(*command("vae", image_folder, out, "--stop-after", 32))
    *_, error, again = done.err.splitlines()
    assert error == f"stopped at 32 images; the run is saved in {out}. Continue with:"
    assert again.startswith(f"  gentool train vae --data {image_folder} --out '{out}'")
    assert "Traceback" not in done.err


def test_stopping_after_more_than_the_budget_is_no_stop(image_folder: Path, tmp_path: Path) -> None:
    done = gentool_command(*command("vae", image_folder, tmp_path, "--stop-after", 10**6))
    assert done.code == 0


def test_another_seed_gives_another_model(vae: Path, image_folder: Path, tmp_path: Path) -> None:
    gentool_command(*command("vae", image_folder, tmp_path, "--seed", 1))
    assert (tmp_path / "model.safetensors").read_bytes() != (vae / "model.safetensors").read_bytes()


def test_processes_with_other_hash_seeds_give_the_same_bytes(
    gan: Path, image_folder: Path, tmp_path: Path
) -> None:
    """One process and this one; test_determinism compares five."""
    out, salt = tmp_path / "run", "0" if os.environ.get("PYTHONHASHSEED") == "4321" else "4321"
    done = run_gentool(*command("gan", image_folder, out), env={"PYTHONHASHSEED": salt})
    assert done.code == 0, done.err
    same_run(gan, out)


def test_a_cache_built_anew_changes_nothing(
    gan: Path, image_folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    assert gentool_command(*command("gan", image_folder, tmp_path / "run")).code == 0
    assert own_cache.is_dir()
    same_run(gan, tmp_path / "run")


# --- signals ------------------------------------------------------------------------------------

LONG = 2_400


def wait_for_steps(child: Child, out: Path) -> None:
    """Wait until a training process has begun its steps."""
    deadline = time.monotonic() + 60
    while not (out / "samples").exists():  # made right before the first step
        assert time.monotonic() < deadline, child.err
        time.sleep(0.01)
    time.sleep(0.1)


def interrupted(
    fork_server: ForkServer, arguments: list[object], out: Path, number: int
) -> Finished:
    """Start a real process, wait until it has begun its steps, send it a signal."""
    child = fork_server.start(*arguments)
    wait_for_steps(child, out)
    child.send(number)
    return child.wait()


def test_signals_stop_a_run_that_then_goes_on_to_the_same_end(
    fork_server: ForkServer, image_folder: Path, tmp_path: Path
) -> None:
    """Ctrl-C, then SIGTERM, then to the end: the same as a run that nobody disturbed."""
    out = tmp_path / "disturbed"
    arguments = [*command("gan", image_folder, out), "--images", LONG]
    seen = [0]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 75)):
        done = interrupted(fork_server, arguments, out, number)
        assert done.code == code, done.err
        assert done.out == ""
        assert "Traceback" not in done.err
        header, _ = read_file(out / "state.safetensors")
        seen.append(header["images"])
        told = f"stopped at {seen[-1]:,} images; the run is saved in {out}. Continue with:"
        assert told in done.err.splitlines()
        assert done.err.splitlines()[-1].startswith("  gentool train gan --data ")
        assert done.err.splitlines()[-1].endswith(f"--images {LONG}")
        shutil.rmtree(out / "samples")  # its return tells that steps have begun
    assert seen == sorted(set(seen))
    assert seen[-1] < LONG
    assert gentool_command(*arguments).code == 0
    straight = tmp_path / "straight"
    assert gentool_command(*command("gan", image_folder, straight), "--images", LONG).code == 0
    same_tensors(straight / "state.safetensors", out / "state.safetensors")
    assert (straight / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    images = [line["images"] for line in logged(out)]
    assert images == sorted(set(images))
    assert images[-1] == LONG


def test_a_killed_run_goes_on_from_its_last_save(
    fork_server: ForkServer, gan: Path, image_folder: Path, tmp_path: Path
) -> None:
    """SIGKILL leaves no chance to save: what was saved before is whole and is enough."""
    out = tmp_path / "run"
    assert gentool_command(*command("gan", image_folder, out, "--stop-after", 64)).code == 75
    before = (out / "state.safetensors").read_bytes()
    shutil.rmtree(out / "samples")
    arguments = [*command("gan", image_folder, out), "--images", LONG]
    assert interrupted(fork_server, arguments, out, signal.SIGKILL).code == KILLED
    assert (out / "state.safetensors").read_bytes() == before
    assert gentool_command(*command("gan", image_folder, out)).code == 0
    same_run(gan, out)


def test_a_signal_while_images_are_prepared_leaves_no_run(tmp_path: Path, own_cache: Path) -> None:
    arguments = ["train", "gan", "--data", "builtin:digits:200000", "--out", tmp_path / "run"]
    with start_gentool(*arguments) as process:
        deadline = time.monotonic() + 120
        while not list(own_cache.glob("*/journal")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "stopped while preparing images; the prepared images are kept" in err.decode()
    assert not list(own_cache.glob("*/meta.json"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_sampling_leaves_whole_files(
    number: signal.Signals, fork_server: ForkServer, gan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "samples"
    child = fork_server.start("sample", gan, "-n", 10**6, "-o", out, "--device", "cpu")
    deadline = time.monotonic() + 60
    while "\n" not in child.out:
        assert time.monotonic() < deadline, child.err
        time.sleep(0.01)
    child.send(number)
    done = child.wait()
    assert done.code == (130 if number == signal.SIGINT else 75)
    assert "every written file is complete" in done.err
    assert sorted(map(str, out.iterdir())) == sorted(done.lines)


# --- other settings, damage, log ----------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder stopped halfway, not to be written to."""
    out = tmp_path_factory.mktemp("stopped") / "half"
    done = gentool_command(*command("autoencoder", image_folder, out, "--stop-after", BUDGET // 2))
    assert done.code == 75
    return out


@pytest.fixture
def half(stopped: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(stopped, tmp_path / "half"))


@pytest.mark.parametrize("options", [("-o", "doubling=transposed"), ("-o", "network=fast")])
def test_a_run_from_before_an_option_goes_on_as_what_it_is(
    options: tuple[str, ...], image_folder: Path, tmp_path: Path
) -> None:
    """Neither its state nor its model names ``doubling``: grids were grown by transposition."""
    out = tmp_path / "old"
    options = (*options, "--images", "64")
    half = command("gan", image_folder, out, *options, "--stop-after", 32)
    assert gentool_command(*half).code == 75
    for name in ("state.safetensors", "model.safetensors"):
        header, tensors = read_file(out / name)
        part, key = ("identity", "-o doubling") if name[0] == "s" else ("config", "doubling")
        assert header[part].pop(key) in ("transposed", "repeated")
        write_file(out / name, tensors, header)
    assert gentool_command("sample", out, "-n", 2, "-o", tmp_path / "drawn").code == 0
    done = gentool_command(*command("gan", image_folder, out, *options))
    assert done.code == 0, done.err


CHANGES: dict[str, tuple[tuple[object, ...], str]] = {
    "seed": (("--seed", 3), "--seed was 0 and is 3"),
    "batch": (("--batch", 8), "--batch was 16 and is 8"),
    "learning rate": (("--lr", 0.5), "--lr was 0.001 and is 0.5"),
    "precision": (("--precision", "bfloat16"), "--precision was float32 and is bfloat16"),
    "width": (("--width", 8), "-o width was 4 and is 8"),
    "option": (("-o", "ema_images=5"), "-o ema_images was 10000 and is 5"),
    "mode": (("--mode", "grey"), "--mode was rgb and is grey"),
    "size": (("--size", 20), "--size was 16x16 and is 20x20"),
}


@pytest.mark.parametrize(("more", "difference"), CHANGES.values(), ids=CHANGES)
def test_changed_settings_are_refused_and_named(
    more: tuple[object, ...], difference: str, half: Path, image_folder: Path
) -> None:
    before = {p: p.read_bytes() for p in half.glob("*.*")}
    done = gentool_command(*command("autoencoder", image_folder, half, *more))
    assert done.code == 2
    assert f"{half} holds a run with other settings: " in done.err
    assert difference in done.err
    assert done.err.count(" was ") == 1
    assert "preparing" not in done.err  # nor any other work before the refusal
    assert {p: p.read_bytes() for p in half.glob("*.*")} == before


def cut(path: Path) -> None:
    """The second half lost."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without(prefix: str) -> Callable[[Path], None]:
    """Tensors with this prefix lost."""

    def damage(path: Path) -> None:
        header, tensors = read_file(path)
        assert any(name.startswith(prefix) for name in tensors)
        write_file(path, {k: v for k, v in tensors.items() if not k.startswith(prefix)}, header)

    return damage


def reshape(path: Path) -> None:
    """A weight of another shape."""
    header, tensors = read_file(path)
    name = "live/decoder.stem.weight"
    write_file(path, {**tensors, name: tensors[name].flatten()[:7].clone()}, header)


def shrink(path: Path) -> None:
    """A weight that torch would broadcast into place."""
    header, tensors = read_file(path)
    name = "live/decoder.stem.weight"
    write_file(path, {**tensors, name: torch.ones(1)}, header)


def header_with(key: str, value: object) -> Callable[[Path], None]:
    """One entry of the header replaced, or removed if the value is ``...``."""

    def damage(path: Path) -> None:
        header, tensors = read_file(path)
        rest = {k: v for k, v in header.items() if k != key}
        write_file(path, tensors, rest if value is ... else {**rest, key: value})

    return damage


def foreign(path: Path) -> None:
    """The model file in its place."""
    path.write_bytes((path.parent / "model.safetensors").read_bytes())


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut short": cut,
    "empty": lambda p: p.write_bytes(b""),
    "no safetensors": lambda p: p.write_text("words"),
    "a model": foreign,
    "weights lost": without("live/decoder"),
    "averages lost": without("average/decoder"),
    "moments lost": without("optimiser/autoencoder/decoder.stem.weight/exp_avg"),
    "weight of another shape": reshape,
    "weight of one number": shrink,
    **{f"{key} {value}": header_with(key, value)
       for key in ("images", "step", "seconds") for value in (..., None, "x", [1], -1)},
    "identity a list": header_with("identity", [1]),
    "identity lost": header_with("identity", ...),
    "kind unknown": header_with("kind", "other"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_state_is_a_clear_error(
    damage: Callable[[Path], object], half: Path, image_folder: Path
) -> None:
    damage(half / "state.safetensors")
    model = (half / "model.safetensors").read_bytes()
    done = gentool_command(*command("autoencoder", image_folder, half))
    assert done.code == 4, done.err
    last = done.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert str(half / "state.safetensors") in last
    assert (half / "model.safetensors").read_bytes() == model


def test_a_lost_model_file_is_made_again_from_the_state(
    autoencoder: Path, tmp_path: Path, image_folder: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(autoencoder, out)
    (out / "model.safetensors").unlink()
    done = gentool_command(*command("autoencoder", image_folder, out))
    assert done.code == 0, done.err
    same_run(autoencoder, out)


def test_log_lines_beyond_the_state_and_half_lines_are_dropped(
    half: Path, image_folder: Path
) -> None:
    """What a kill between a line of the log and a save leaves behind."""
    with (half / "log.jsonl").open("a") as log:
        for images in (BUDGET // 2, BUDGET // 2 + 16, BUDGET - 16):
            log.write(json.dumps({"images": images, "seconds": 1.0, "mse": 0.5}) + "\n")
        log.write('{"images": 9')
    assert gentool_command(*command("autoencoder", image_folder, half)).code == 0
    assert [line["images"] for line in logged(half)] == [BUDGET // 2, BUDGET]


def test_a_repeated_run_logs_in_order_without_repeats(image_folder: Path, tmp_path: Path) -> None:
    for budget in (64, 64, 128, 96, 192):
        gentool_command(*command("autoencoder", image_folder, tmp_path), "--images", budget)
    assert [line["images"] for line in logged(tmp_path)] == [64, 128, 192]
    assert [line["share"] for line in logged(tmp_path)] == [1, 1, 1]


def test_training_leaves_the_generators_of_the_caller_alone(
    image_folder: Path, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    gentool_command(*command("gan", image_folder, tmp_path, "--stop-after", 32))
    assert torch.equal(torch.rand(4), wanted)


def test_handlers_of_signals_are_put_back(image_folder: Path, tmp_path: Path) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    gentool_command(*command("vae", image_folder, tmp_path, "--stop-after", 16))
    after = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert after == before


def test_a_second_ctrl_c_ends_at_once_and_the_run_can_still_go_on(
    fork_server: ForkServer, image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = command("gan", image_folder, out)
    child = fork_server.start(*arguments, "--images", 10**5)
    wait_for_steps(child, out)
    for _ in range(500):
        child.send(signal.SIGINT)
        time.sleep(0.001)  # the second comes before the first has saved
    assert child.wait().code == -signal.SIGINT
    assert gentool_command(*arguments, "--images", 10**6, "--stop-after", 16).code == 75
