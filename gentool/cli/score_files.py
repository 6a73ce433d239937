"""Files that ``gentool evaluate`` writes in addition to its table: sheets of neighbours, CSVs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from gentool.cli.console import csv_bytes, emit_csv, say
from gentool.core.errors import UsageError

if TYPE_CHECKING:
    from gentool.evaluation.request import Evaluation, Request

STDOUT = "-"  # file name that means stdout
_NO_MATTER = {"targets", "data", "labels", "weights", "download", "device", "files", "pictures"}


@dataclass(frozen=True)
class ScoreFiles:
    """Files that may be written, as ``check_files`` has found.

    Attributes:
        neighbours: Picture of samples and their nearest images, for the first target; the files
            of other targets get a number. None if not wanted, as for the other files.
        per_image: CSV of the scores of every image.
        per_unit: CSV of the values of every latent.
        made: Recipe of the files.
    """

    neighbours: Path | None
    per_image: Path | None
    per_unit: Path | None
    made: dict[str, object]

    def write(self, found: "Evaluation") -> None:
        """Write the wanted files, and print their paths on stderr."""
        if self.neighbours is not None:
            self._write_sheets(found, self.neighbours)
        if self.per_image is not None:
            names = ("target", "image", "mse", "psnr", "ssim")
            where = self._write_rows(self.per_image, names, found.images)
            say(f"{len(found.images)} reconstructions, one per line: {where}")
        if self.per_unit is not None:
            rows = [(s.name, *unit) for s in found.table for unit in s.units]
            columns = ("target", "unit", "layer", "kl", "mean_variance", "active")
            where = self._write_rows(self.per_unit, columns, rows)
            say(f"{len(rows)} latents, one per line: {where}")

    def _write_sheets(self, found: "Evaluation", path: Path) -> None:
        """Write one picture per target."""
        from gentool.core.atomic_files import write_bytes
        from gentool.core.picture_files import encode

        for number, sheet in enumerate(found.sheets):
            data = encode(sheet, path.suffix.lower(), {**self.made, "target": number})
            written = write_bytes(_sheet_path(path, number), data)
            say(f"samples beside their nearest images: {written}")

    def _write_rows(
        self, path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> str:
        """Write a CSV whose last column is a hash of the recipe; return its place for messages."""
        from gentool.core.atomic_files import write_bytes
        from gentool.outputs.marks import RECIPE_COLUMN, hash_of_recipe

        digest = hash_of_recipe(self.made)
        table = [(*names, RECIPE_COLUMN), *((*row, digest) for row in rows)]
        if str(path) == STDOUT:
            emit_csv(table)
            return "on stdout"
        return str(write_bytes(path, csv_bytes(table)))


def check_files(
    request: "Request", neighbours: Path | None, per_image: Path | None, per_unit: Path | None,
    *, overwrite: bool,
) -> ScoreFiles:  # fmt: skip
    """Check, before the evaluation starts, that every file may be written.

    Raises:
        UsageError: a file is an input, was not made by gentool, or was made with another recipe;
            or ``neighbours`` is not the name of a picture.
    """
    from gentool.checkpoint import MODEL_NAME
    from gentool.core.picture_files import SUFFIXES
    from gentool.outputs.marks import PICTURE, RECIPE_COLUMN, TABLE, hash_of_recipe
    from gentool.outputs.ownership import Guard
    from gentool.outputs.places import place_of

    if neighbours is not None and neighbours.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--neighbours {neighbours}: the suffix must be {', '.join(SUFFIXES)}")
    own = [target / MODEL_NAME for target in request.targets]
    files = [o if o.is_file() else t for o, t in zip(own, request.targets, strict=True)]
    read = [*files, *map(place_of, request.data), *filter(None, [request.weights])]
    some = any(path is not None for path in (neighbours, per_image, per_unit))
    made, guard = _recipe(request, files) if some else {}, Guard(read, overwrite)
    for path, option in ((per_image, "--per-image"), (per_unit, "--per-unit")):
        if path is not None and str(path) != STDOUT:
            guard.allow(path, TABLE, option)
            guard.allow_recipe(path, TABLE, {RECIPE_COLUMN: hash_of_recipe(made)})
    for number in range(len(files) if neighbours else 0):
        sheet = _sheet_path(neighbours or Path(), number)
        guard.allow(sheet, PICTURE, f"--neighbours of target {number + 1}")
        guard.allow_recipe(sheet, PICTURE, {**made, "target": number})
    return ScoreFiles(neighbours, per_image, per_unit, made)


def _recipe(request: "Request", files: Sequence[Path]) -> dict[str, object]:
    """Return the recipe of the files: the settings of the request, and hashes of its inputs."""
    from gentool.core.version import __version__
    from gentool.outputs.marks import hash_of_files
    from gentool.outputs.places import hash_of_place

    chosen = {f.name: getattr(request, f.name) for f in fields(request)}
    return {
        "gentool": __version__,
        "made_by": "evaluate",
        **{name: value for name, value in chosen.items() if name not in _NO_MATTER},
        "targets": hash_of_files(files),
        "data": [hash_of_place(spec) for spec in request.data],
        "labels": None if request.labels is None else hash_of_place(request.labels),
        "weights": None if request.weights is None else hash_of_files([request.weights]),
    }


def _sheet_path(path: Path, number: int) -> Path:
    """Return the path of a target's sheet: near.png for the first, near-2.png for the second."""
    return path if number == 0 else path.with_name(f"{path.stem}-{number + 1}{path.suffix}")
