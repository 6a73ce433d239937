"""Files of recipes: they give back what was written, and refuse everything else."""

import base64
from pathlib import Path

import pytest
import torch
from conftest import gentool_command

from gentool.checkpoint import LoadedModel, load_model
from gentool.core.errors import UsageError
from gentool.core.images import ImageShape
from gentool.inference.latents import Latents, draw
from gentool.inference.picks import Pick, Point, SampleOf
from gentool.inference.recipe_files import read_recipe_file, recipe_text
from gentool.outputs.plan import Plan, Planned, merged_recipe


@pytest.fixture(scope="module")
def loaded(gan: Path) -> LoadedModel:
    return load_model(gan)


def test_what_was_written_is_read_again(loaded: LoadedModel, tmp_path: Path) -> None:
    point = Latents(draw(loaded.model, [(4, 2)]).values + 0.25, "z", (True,))
    picks: list[Pick] = [
        SampleOf(2**63 - 1, 2**53, "disc", {"truncation": 0.1}), SampleOf(0, 0),
        Point(point, 'a "photo"\n\\ \x7f \u2028 \U0001f600'),
    ]  # fmt: skip
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text(loaded, picks), encoding="utf-8")
    file = read_recipe_file(path, loaded)
    assert file.warning is None
    assert file.picks[:2] == picks[:2]
    read = file.picks[2]
    assert isinstance(read, Point)
    assert read.made_from == picks[2].made_from  # type: ignore[union-attr]
    assert torch.equal(read.latents.values, point.values)
    assert read.latents.means == (True,)


def test_another_model_is_told(gan: Path, loaded: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    text = recipe_text(loaded, [SampleOf(0, 0)]).replace(loaded.sha256, "0" * 64)
    path.write_text(text)
    done = gentool_command("sample", gan, "--like", path, "-o", tmp_path / "out")
    assert done.code == 0
    assert "was written for another model (gan); the pictures may differ" in done.err
    assert [Path(line).name for line in done.lines] == ["000-seed000000-000000.png"]


HEAD = 'gentool = "1"\n[[image]]\n'
ZEROS = base64.b64encode(bytes(40)).decode()
NANS = base64.b64encode(b"\xff" * 40).decode()


@pytest.mark.parametrize("text", [
    "", "x", "[" * 5000, 'gentool = "1"', 'gentool = "1"\nimage = []', 'gentool = "1"\nimage = [3]',
    HEAD, f"{HEAD}seed = 0", f"{HEAD}seed = -1\nindex = 0", f"{HEAD}seed = true\nindex = 0",
    f"{HEAD}seed = 0.5\nindex = 0", f"{HEAD}seed = 9223372036854775808\nindex = 0",
    f"{HEAD}seed = 0\nindex = 0\nclass = 3", f'{HEAD}seed = 0\nindex = 0\nclass = "cat"',
    f"{HEAD}seed = 0\nindex = 0\ntruncation = 2", f"{HEAD}seed = 0\nindex = 0\nnonsense = 1",
    f"nonsense = 1\n{HEAD}seed = 0\nindex = 0", f'{HEAD}latents = "x"\nspace = "z"',
    f'{HEAD}latents = "!!!!"\nspace = "z"', f'{HEAD}latents = "{ZEROS}"', f"{HEAD}latents = 3",
    f'{HEAD}latents = "{ZEROS}"\nspace = "w"', f'{HEAD}latents = "{ZEROS}"\nspace = "z"\nmean = 1',
    f'{HEAD}latents = "{NANS}"\nspace = "z"', f'{HEAD}latents = "{ZEROS}"\nspace = "z"\nseed = 1',
    f'{HEAD}latents = "{ZEROS}{ZEROS}"\nspace = "z"',
])  # fmt: skip
def test_odd_files_are_refused(text: str, gan: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    done = gentool_command("sample", gan, "--like", path, "-o", tmp_path / "out")
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_of_zeros_is_drawn(gan: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'{HEAD}latents = "{ZEROS}"\nspace = "z"')
    done = gentool_command("sample", gan, "--like", path, "-o", tmp_path / "out")
    assert done.code == 0, done.err


@pytest.mark.parametrize("more", [["--seed", 1], ["-n", 2], ["--class", "bar"], ["--start", 1],
                                  ["--truncation", 0.5], ["--seeds", "1,2"]])  # fmt: skip
def test_nothing_else_chooses_the_images(gan: Path, more: list[object], tmp_path: Path) -> None:
    done = gentool_command("sample", gan, "--like", tmp_path / "recipe.toml", *more)
    assert done.code == 2
    assert "the file alone chooses the images" in done.err


def test_the_file_is_no_output(gan: Path, loaded: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "recipe.png"
    path.write_text(recipe_text(loaded, [SampleOf(0, 0)]))
    done = gentool_command("sample", gan, "--like", path, "-o", path)
    assert done.code == 2
    assert "is an input of this command" in done.err


def test_a_name_that_is_no_text_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(UsageError, match="is not valid text"):
        recipe_text(loaded, [SampleOf(0, 0, "\ud800")])


def test_recipes_with_other_keys_are_merged() -> None:
    rows: list[dict[str, object]] = [
        {"seed": 1, "index": 0},
        {"seed": 1, "index": 1, "class": "a"},
        {"point": "x"},
    ]
    planned = [Planned(str(k), row) for k, row in enumerate(rows)]
    assert merged_recipe(Plan(lambda: planned, 3, ImageShape(16, 16, 3))) == {
        "seed": [1, 1, None], "index": [0, 1, None], "class": [None, "a", None],
        "point": [None, None, "x"],
    }  # fmt: skip
