"""What ``-o`` means: a folder, one sheet or film, an archive of arrays, or a tar on stdout.

It is parsed before a model is opened and the work begins, and then opened for what a verb plans.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from gentool.core.errors import UsageError
from gentool.core.images import SUFFIXES
from gentool.core.sheet_labels import SheetLabels
from gentool.data import is_folder
from gentool.outputs.ownership import ARRAYS, PICTURE, Guard, Recipe
from gentool.outputs.writers import ArraySink, FilmSink, FolderSink, Plan, SheetSink, Sink, TarSink

FORMATS = tuple(s.removeprefix(".") for s in SUFFIXES)
Form = Literal["tar", "folder", "sheet", "film", "arrays"]


@dataclass(frozen=True)
class Destination:
    """A place for results, checked as far as it can be before anything is known of them.

    Attributes:
        form: What will be written.
        path: The file or folder; of no use for a tar, which goes to stdout.
        suffix: Of the single files in a folder or tar.
        guard: Says what may be written over.
    """

    form: Form
    path: Path
    suffix: str
    guard: Guard

    def foresee(self, recipe: Recipe, name: str) -> None:
        """Refuse, before latents are looked for, what is known to be of another recipe.

        Args:
            recipe: What is known of how the results will come about.
            name: Of the first result, without its suffix.

        Raises:
            UsageError: what stands there is to be kept.
        """
        if self.form == "folder":
            first = self.path / f"{name}{self.suffix}"
            self.guard.allow_recipe(first, PICTURE, recipe, partly=True)
        elif self.form != "tar":
            kind = ARRAYS if self.form == "arrays" else PICTURE
            self.guard.allow_recipe(self.path, kind, recipe, partly=True)

    def open(
        self,
        plan: Plan,
        stdout: BinaryIO,
        columns: int | None = None,
        milliseconds: int = 60,
        labels: SheetLabels | None = None,
    ) -> Sink:
        """The sink that takes the images of a plan.

        Args:
            plan: What will be made.
            stdout: Where a tar goes.
            columns: Columns of a sheet; nearly square by default.
            milliseconds: Time per frame of a film.
            labels: Of the rows and columns of a sheet.

        Raises:
            UsageError: something there is to be kept, or the format or memory is too small.
        """
        if self.form == "tar":
            return TarSink(stdout, self.suffix)
        if self.form == "folder":
            return FolderSink(self.path, self.suffix, plan, self.guard)
        if self.form == "arrays":
            return ArraySink(self.path, plan, self.guard)
        if self.form == "film":
            return FilmSink(self.path, plan, self.guard, milliseconds)
        return SheetSink(self.path, plan, self.guard, columns, labels)


def parse_destination(
    output: str, image_format: str, guard: Guard, films: Iterable[str] = ()
) -> Destination:
    """The destination that ``-o`` names.

    Args:
        output: ``-`` for a tar on stdout, a name that ends in .png, .jpg, .jpeg or .webp for one
            sheet, in .npz for arrays, a name without a suffix for a folder.
        image_format: Format of the single files: png, jpg, jpeg or webp.
        guard: Says what may be written over.
        films: Suffixes that mean a film to this verb.

    Raises:
        UsageError: a suffix that the verb does not write, or a place that it may not write to.
    """
    suffix, path = suffix_of(image_format), Path(output).expanduser()
    if output == "-":
        return Destination("tar", path, suffix, guard)
    kind = path.suffix.lower()
    if is_folder(path) or output.endswith(("/", os.sep)) or not kind:
        return Destination("folder", guard.allow_folder(path), suffix, guard)
    if kind == ".npz":
        return Destination("arrays", guard.allow(path, ARRAYS), suffix, guard)
    if kind in films:
        return Destination("film", guard.allow(path, PICTURE), suffix, guard)
    if kind in SUFFIXES:
        return Destination("sheet", guard.allow(path, PICTURE), suffix, guard)
    allowed = ", ".join(s for s in SUFFIXES if s not in films)
    film = f", a film as {' or '.join(films)}" if films else ""
    raise UsageError(
        f"-o {output}: this command writes one picture as {allowed}{film}, arrays as .npz, a tar "
        "on stdout as -, or single files into a folder (a name without a suffix)"
    )


def suffix_of(word: str) -> str:
    """``png`` -> ``.png``.

    Raises:
        UsageError: no such image format.
    """
    if word.lower() not in FORMATS:
        raise UsageError(f"no image format '{word}'. Formats: {', '.join(FORMATS)}")
    return f".{word.lower()}"
