"""What favourites become: a sheet, single pictures, and shell commands that make them again."""

import io
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from gentool.checkpoint import LoadedModel
from gentool.core.escapes import shell_line
from gentool.core.picture_files import encode, save
from gentool.core.sheets import Layout, Sheet
from gentool.inference.picks import Pick, SampleOf, draw_picks, plan_picks
from gentool.inference.sampling import EVERY_CLASS
from gentool.outputs.plan import merged_recipe

_FOLDER, RECIPE_NAME = "favourites", "recipe.toml"


def sheet_of(loaded: LoadedModel, picks: Sequence[Pick]) -> bytes:
    """Return a sheet as PNG, with the bytes that ``gentool sample --like`` writes for it."""
    plan = plan_picks(loaded, picks)
    layout = Layout.of(plan.count, plan.shape.height, plan.shape.width)
    sheet = Sheet.within_memory(layout, plan.shape.channels)
    for number, image in enumerate(draw_picks(loaded, picks)):
        sheet.place(number, image.pixels)
    out = io.BytesIO()
    save(sheet.image, out, ".png", merged_recipe(plan))
    return out.getvalue()


def picture_of(loaded: LoadedModel, pick: Pick) -> tuple[str, bytes]:
    """Return one picture as PNG with its recipe, and the name of its file."""
    (image,) = draw_picks(loaded, [pick])
    return f"{image.name.partition('-')[2]}.png", encode(image.pixels, ".png", image.recipe)


def commands(path: Path, picks: Sequence[Pick]) -> list[str]:
    """Return shell commands that make the pictures again.

    Samples need only their seeds and indices, unless their class has the name by which ``sample``
    means every class. If there are other pictures, the first command makes all of them from a file
    of recipes.

    Args:
        path: The model as the user named it.
        picks: The pictures.
    """
    words = ["gentool", "sample", str(path)]
    end = ["-o", _FOLDER]
    samples = [
        pick for pick in picks if isinstance(pick, SampleOf) and pick.class_name != EVERY_CLASS
    ]
    lines = []
    if len(samples) < len(picks):
        lines.append([*words, "--like", RECIPE_NAME, *end])
    lines += [[*words, *run, *end] for run in _runs(samples)]
    return [shell_line(line) for line in lines]


def _runs(samples: Sequence[SampleOf]) -> list[list[str]]:
    """Return the options that draw samples: one list for each run of indices of one seed."""
    found = []
    known = {(s.seed, s.class_name or "", s.class_name is None, _flags(s), s.index)
             for s in samples}  # fmt: skip
    rows = sorted(known)
    for (seed, name, drawn, flags), group in groupby(rows, key=lambda row: row[:4]):
        named = () if drawn else ("--class", name)
        indices = [row[4] for row in group]
        for start, count in _consecutive(indices):
            run = ["--seed", str(seed), "--start", str(start), "-n", str(count), *named, *flags]
            found.append(run)
    return found


def _flags(sample: SampleOf) -> tuple[str, ...]:
    """Return the options by which a sample is drawn, as flags of ``gentool sample``."""
    pairs = sorted(sample.drawing.items())
    return tuple(w for k, v in pairs for w in (f"--{k.replace('_', '-')}", str(v)))


def _consecutive(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return the runs in sorted numbers: the first number of each, and how many it has."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs
