"""Labels through the command line: what is counted and refused, and where it is reported."""

import json
from pathlib import Path

import pytest
from conftest import draw, gentool_command
from PIL import Image

ROWS = [f"{number:03}.png;{number % 2}.0" for number in range(20)]


@pytest.fixture
def twenty(tmp_path: Path) -> Path:
    """20 images in a folder, without labels."""
    folder = tmp_path / "set" / "images"
    folder.mkdir(parents=True)
    for number in range(20):
        Image.fromarray(draw(number)).save(folder / f"{number:03}.png")
    return folder


def test_data_check_tells_where_labels_come_from_and_what_is_left_out(twenty: Path) -> None:
    table = twenty / "attributes.csv"
    table.write_text("\n".join(["name;tall", *ROWS[:-1], "99.png;1"]))
    unasked = json.loads(gentool_command("data", "check", twenty, "--json").out)
    assert unasked["classes"] == {}
    assert unasked["notes"] == [
        f"attributes.csv is not used for labels. To use it: --labels {table}"
    ]
    refused = gentool_command("data", "check", twenty, "--labels", f"{table}:tall")
    assert refused.code == 3
    assert "no label for 1 of 20 images; the first is 019.png" in refused.err
    asked = gentool_command(
        "data", "check", twenty, "--labels", f"{table}:tall", "--max-bad", 0.05, "--json"
    )
    found = json.loads(asked.out)
    assert found["images"] == 19
    assert found["classes"] == {"0": 10, "1": 9}
    assert "2 classes from attributes.csv, column tall" in found["notes"]
    assert "names 1 image that does not exist; the first is 99.png (row 21)" in found["notes"][2]
    shown = gentool_command("data", "check", twenty, "--labels", "attributes.csv", "--max-bad", 1)
    assert all(note in shown.out for note in found["notes"])


def test_train_reports_labels_before_it_trains(twenty: Path) -> None:
    (twenty / "labels.csv").write_text("\n".join(ROWS[:-1]))
    command = ("train", "vae", "--data", twenty, "--dry-run")
    refused = gentool_command(*command)
    assert refused.code == 3
    assert "leave them out with --max-bad 0.05" in refused.err
    assert gentool_command(*command, "--max-bad", 0.05, "--strict").code == 3
    planned = gentool_command(*command, "--max-bad", 0.05)
    assert planned.code == 0
    assert "2 classes from labels.csv, column 2" in planned.err
    assert "1 of 20 images is left out" in planned.err
    assert "conditional on 2 classes" in planned.err
    assert "left out" not in gentool_command(*command, "--max-bad", 0.05, "--quiet").err


def test_a_wish_that_cannot_be_met_is_refused_with_the_reason(twenty: Path) -> None:
    for command in (("data", "check", twenty), ("train", "vae", "--dry-run", "--data", twenty)):
        refused = gentool_command(*command, "--labels", "folders")
        assert refused.code == 3
        assert "--labels folders: all images are in one folder" in refused.err
    one = gentool_command("data", "check", twenty.parent, "--labels", "folders")
    assert one.code == 3
    assert "all images are in one folder" in one.err


def test_pack_keeps_the_classes_of_a_label_file(twenty: Path, tmp_path: Path) -> None:
    (twenty / "labels.csv").write_text("\n".join(ROWS))
    packed = gentool_command("data", "pack", twenty, tmp_path / "x.zip")
    assert packed.code == 0
    assert "2 classes from labels.csv" in packed.err
    found = json.loads(gentool_command("data", "check", tmp_path / "x.zip", "--json").out)
    assert found["classes"] == {"0": 10, "1": 10}
