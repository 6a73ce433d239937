"""``gentool runs``, and commands that are given a folder of runs."""

import json
import shutil
from pathlib import Path

from conftest import gentool_command


def test_runs_are_listed_with_their_states(vae: Path, gan: Path, tmp_path: Path) -> None:
    shutil.copytree(vae, tmp_path / "runs" / "a")
    shutil.copytree(gan, tmp_path / "runs" / "old" / "b")
    (tmp_path / "runs" / "photos" / "samples").mkdir(parents=True)
    (tmp_path / "runs" / "old" / "b" / "run.json").unlink()
    (tmp_path / "runs" / "old" / "b" / "model.safetensors").write_bytes(b"damaged")
    done = gentool_command("runs", tmp_path / "runs", "--json")
    a, b = json.loads(done.out)
    assert (a["folder"], a["state"], a["preset"]) == (str(tmp_path / "runs" / "a"), "done", "vae")
    assert a["images"] == b["images"] == 320
    assert b["folder"] == str(tmp_path / "runs" / "old" / "b")
    assert a["bytes"] > 10_000
    lines = gentool_command("runs", cwd=tmp_path).lines
    assert lines[0].split() == ["run", "state", "preset", "images", "score", "size", "age"]
    assert len(lines) == 3 and lines[1].startswith("runs/a ")


def test_a_folder_without_runs(tmp_path: Path) -> None:
    done = gentool_command("runs", tmp_path)
    assert (done.code, done.out) == (0, "") and "there are no runs" in done.err
    assert gentool_command("runs", tmp_path / "nothing").code == 2
    assert gentool_command("runs", tmp_path, "--json").out == "[]\n"


def test_commands_name_the_runs_in_a_folder(vae: Path, tmp_path: Path) -> None:
    for name in "dcba":
        shutil.copytree(vae, tmp_path / name)
    done = gentool_command("sample", tmp_path)
    assert done.code == 4
    names = ", ".join(str(tmp_path / name) for name in "abc")
    assert f"such as {names} and 1 more" in done.err
