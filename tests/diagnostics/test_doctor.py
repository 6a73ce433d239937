"""``doctor`` reports the machine correctly, sends nothing, and finds a wrong gradient."""

import json
import stat
from pathlib import Path

import pytest
import torch
from conftest import gentool_command, run_python
from torch import Tensor, nn

from gentool.diagnostics.device_check import TOLERANCE, compare, compare_networks, try_precision
from gentool.networks import PAIRS

CPU = torch.device("cpu")
# Refuses every use of a socket, then runs the command.
OFFLINE = """
import sys
def guard(event, arguments):
    if event.startswith("socket."):
        raise SystemExit(f"used the network: {event}")
sys.addaudithook(guard)
from gentool.cli import main
main()
"""


def test_every_network_is_right_on_the_cpu() -> None:
    found = {c.name: c for c in compare_networks(CPU)}
    assert {f"{n} {part}" for n in PAIRS for part in ("generator", "discriminator")} < set(found)
    assert [c for c in found.values() if not c.right] == []
    assert max(c.error for c in found.values()) > 0  # float32 against float64 never agrees wholly


class Wrong(torch.autograd.Function):
    """The identity, whose gradient is wrong by a factor that depends on the dtype."""

    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        """The values themselves."""
        return x.clone()

    @staticmethod
    def backward(context: object, slope: Tensor) -> Tensor:
        """The slope, one per cent too large in float32."""
        return slope if slope.dtype == torch.float64 else slope * 1.01


class Layer(nn.Module):
    """A linear layer behind ``Wrong``."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3) -> (B, 2)."""
        return Wrong.apply(self.linear(x))  # type: ignore[no-any-return]


def test_a_gradient_wrong_by_one_per_cent_is_seen() -> None:
    found = compare("layer", Layer(), (torch.randn(4, 3),), CPU, penalised=False)
    assert not found.right
    assert found.worst.startswith("gradient")
    assert TOLERANCE < found.error < 0.011


def test_numbers_that_are_not_finite_are_seen() -> None:
    class Burst(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * (1 if x.dtype == torch.float64 else torch.inf)

    found = compare("burst", Burst(3, 2), (torch.randn(4, 3),), CPU, penalised=False)
    assert not found.right


def test_a_device_that_refuses_is_quoted() -> None:
    found = compare("meta", Layer(), (torch.randn(4, 3),), torch.device("meta"), penalised=False)
    assert not found.right
    assert found.problem


def test_a_precision_that_fails_says_why() -> None:
    assert try_precision(CPU, torch.float32) is None
    assert try_precision(torch.device("meta"), torch.float32) is not None


def test_the_report_in_a_process_of_its_own_without_network(tmp_path: Path) -> None:
    done = run_python("-c", OFFLINE, "doctor", "--json", "--device", "cpu", cwd=tmp_path)
    assert done.code == 0, done.err
    report = json.loads(done.stdout)
    assert report["well"] is True
    assert report["versions"]["torch"]["value"] == torch.__version__.partition("+")[0] or (
        report["versions"]["torch"]["value"] == torch.__version__
    )
    assert set(report["precision"]) == {"auto chooses", "float32", "bfloat16", "float16"}
    assert report["device"]["under test"]["value"] == "cpu"
    assert len(report["self-check"]) >= 2 * len(PAIRS)
    assert list(tmp_path.iterdir()) == []  # leaves nothing behind


def test_text_and_json_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GENTOOL_CACHE", str(tmp_path / "secret" / "cache"))
    text = gentool_command("doctor", "--device", "cpu")
    found = json.loads(gentool_command("doctor", "--device", "cpu", "--json").out)
    assert text.code == 0, text.out
    assert text.lines[-1] == "no problems found"
    for topic in ("versions", "precision", "self-check"):
        for name in found[topic]:
            assert any(line.startswith(f"  {name}") for line in text.lines)
    assert found["cache"]["folder"]["value"].startswith("~/secret/cache")
    assert str(tmp_path) not in text.out


def test_a_cache_that_cannot_be_made_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    done = gentool_command("doctor", "--device", "cpu", env={"GENTOOL_CACHE": str(file)})
    assert done.code == 1
    assert any(line.startswith("X folder") for line in done.lines)
    assert "1 of" in done.err


def test_an_absent_device_is_the_documented_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    assert gentool_command("doctor", "--device", "cuda").code == 5


def test_a_file_that_was_there_stays(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "mine").write_text("kept")
    mode = stat.S_IMODE(runs.stat().st_mode)
    assert gentool_command("doctor", "--device", "cpu", "--runs", runs).code == 0
    assert [p.name for p in runs.iterdir()] == ["mine"]
    assert stat.S_IMODE(runs.stat().st_mode) == mode
