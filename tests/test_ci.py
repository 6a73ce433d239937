"""What ``.ci/run`` runs: the command of the README, in a copy of the committed files."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

COMMAND = "Set up and pass the tests:\n\n```\n{}\n```\n\n```\nfalse\n```\n"
HEAD = "Set up, train and draw:\n\n```\npip install . && pytest nothing\n```\n\n"


def run_ci(folder: Path, readme: str) -> "subprocess.CompletedProcess[str]":
    """Run it in a checkout of nothing but a README, where every other program only prints."""
    checkout, programs = folder / "checkout", folder / "bin"
    (checkout / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", checkout / ".ci" / "run")
    (checkout / "README.md").write_text(readme)
    programs.mkdir()
    for name in ("pip", "pytest", "ruff", "mypy", "python"):
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@"\nexit ${{FAIL_{name}:-0}}\n')
        (programs / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
           "GIT_CEILING_DIRECTORIES": str(folder), "TMPDIR": str(folder),
           "PYTHONPATH": "somewhere"}  # fmt: skip
    return subprocess.run(
        [checkout / ".ci" / "run"], env=env, capture_output=True, text=True, check=False
    )


def test_it_runs_the_command_of_the_readme_in_a_copy(tmp_path: Path) -> None:
    line = "pip install '.[test]' && pytest -n 2 && pwd && echo \"path ${PYTHONPATH-unset}\""
    done = run_ci(tmp_path, HEAD + COMMAND.format(line))
    assert done.returncode == 0, done.stderr
    _, installed, tested, folder, path, *rest = done.stdout.splitlines()
    assert (installed, tested) == ("pip install .[test]", "pytest -n 2")
    assert Path(folder).parent.parent == tmp_path and Path(folder) != tmp_path / "checkout"
    assert path == "path unset"
    long, *checks = rest
    assert long == "pytest -n 2 --dist worksteal -m long"
    assert checks[:3] == ["ruff check .", "ruff format --check .", "mypy"]
    assert not Path(folder).parent.exists()  # nothing is left behind


@pytest.mark.parametrize(
    ("readme", "code", "told"),
    [
        (COMMAND.format("pip install . && FAIL_pytest=5 pytest"), 5, "pytest"),
        (COMMAND.format("FAIL_pip=4 pip install . && pytest"), 4, "pip install ."),
        (HEAD, 1, "no command below"),
        (COMMAND.format("echo nothing"), 1, "no command below"),
    ],
)
def test_what_fails_or_is_missing_ends_it(
    readme: str, code: int, told: str, tmp_path: Path
) -> None:
    done = run_ci(tmp_path, readme)
    assert done.returncode == code
    assert told in done.stdout + done.stderr
    assert "ruff" not in done.stdout


def test_the_readme_has_such_a_command() -> None:
    text = (ROOT / "README.md").read_text().partition("Set up and pass the tests:\n\n```\n")[2]
    command = text.partition("\n```")[0]
    assert command.startswith("python3 -m venv .venv && . .venv/bin/activate && pip install ")
    assert "&& pytest" in command and "\n" not in command
