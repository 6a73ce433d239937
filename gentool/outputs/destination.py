"""Parsing of ``-o``: a folder, one sheet or film, an archive of arrays, or a tar on stdout.

``parse_destination`` checks the option before a model is loaded. ``Destination.open`` then returns
the sink for the images that a command plans.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from gentool.core.errors import UsageError
from gentool.core.picture_files import SUFFIXES
from gentool.core.sheet_labels import SheetLabels
from gentool.core.video_files import VIDEO_SUFFIXES, require_video
from gentool.data import is_folder
from gentool.outputs.films import Film, FilmSink, VideoSink
from gentool.outputs.marks import ARRAYS, PICTURE, Recipe
from gentool.outputs.ownership import Guard
from gentool.outputs.plan import Plan
from gentool.outputs.writers import ArraySink, FolderSink, SheetSink, Sink, TarSink

FORMATS = tuple(s.removeprefix(".") for s in SUFFIXES)
Form = Literal["tar", "folder", "sheet", "film", "arrays"]


@dataclass(frozen=True)
class Destination:
    """The file or folder for results, checked as far as possible before the results are known.

    Attributes:
        form: Kind of output.
        path: The file or folder; not used for a tar, which goes to stdout.
        suffix: Of the single files in a folder or tar, such as ``.png``.
        guard: Decides which existing files may be replaced.
    """

    form: Form
    path: Path
    suffix: str
    guard: Guard

    def foresee(self, recipe: Recipe, name: str) -> None:
        """Check, before slow work starts, that no file of another recipe would be replaced.

        Args:
            recipe: The keys of the recipe that are known so far.
            name: Name of the first result, without its suffix.

        Raises:
            UsageError: A file exists and must be kept.
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
        film: Film | None = None,
        labels: SheetLabels | None = None,
    ) -> Sink:
        """Return the sink that writes the images of a plan.

        Args:
            plan: Names and recipes of the results.
            stdout: Stream for a tar.
            columns: Columns of a sheet; by default the sheet is nearly square.
            film: How the frames of a film are shown.
            labels: Labels of the rows and columns of a sheet.

        Raises:
            UsageError: A file exists and must be kept, or the results are too large for the
                format or the memory.
        """
        if self.form == "tar":
            return TarSink(stdout, self.suffix)
        if self.form == "folder":
            return FolderSink(self.path, self.suffix, plan, self.guard)
        if self.form == "arrays":
            return ArraySink(self.path, plan, self.guard)
        if self.form == "film":
            kind = VideoSink if self.path.suffix.lower() in VIDEO_SUFFIXES else FilmSink
            return kind(self.path, plan, self.guard, film or Film())
        return SheetSink(self.path, plan, self.guard, columns, labels)


def parse_destination(
    output: str, image_format: str | None, guard: Guard, films: Iterable[str] = ()
) -> Destination:
    """Return the destination that ``-o`` names.

    Args:
        output: ``-`` for a tar on stdout, a name that ends in .png, .jpg, .jpeg or .webp for one
            sheet, in .npz for arrays, a name without a suffix for a folder.
        image_format: Format of the single files in a folder or tar: png, jpg, jpeg or webp; None
            means png.
        guard: Decides which existing files may be replaced.
        films: Suffixes for which this command writes a film.

    Raises:
        UsageError: The command does not write this suffix, or may not write to this path; or a
            format is given, and the output is one file.
    """
    suffix, path = suffix_of(image_format or "png"), Path(output).expanduser()
    if output == "-":
        return Destination("tar", path, suffix, guard)
    kind = path.suffix.lower()
    if is_folder(path) or output.endswith(("/", os.sep)) or not kind:
        return Destination("folder", guard.allow_folder(path), suffix, guard)
    if image_format is not None:
        raise UsageError(
            f"--format {image_format} is for a folder or a tar, and -o {output} is one file, whose "
            "suffix is its format. Leave --format out, or give a folder: a name without a suffix"
        )
    if kind == ".npz":
        return Destination("arrays", guard.allow(path, ARRAYS), suffix, guard)
    if kind in films:
        if kind in VIDEO_SUFFIXES:
            require_video(kind)
        return Destination("film", guard.allow(path, PICTURE), suffix, guard)
    if kind in SUFFIXES:
        return Destination("sheet", guard.allow(path, PICTURE), suffix, guard)
    allowed = ", ".join(s for s in SUFFIXES if s not in films)
    *most, last = films or [""]
    film = f", films as {', '.join(most)} or {last}" if films else ""
    raise UsageError(
        f"-o {output}: this command writes one picture as {allowed}{film}, arrays as .npz, a tar "
        "archive to stdout with -o -, or one file per image into a folder (a name without a suffix)"
    )


def suffix_of(word: str) -> str:
    """Return the suffix of an image format: ``png`` -> ``.png``.

    Raises:
        UsageError: ``word`` is not an image format.
    """
    if word.lower() not in FORMATS:
        raise UsageError(f"there is no image format '{word}'. Choose from {', '.join(FORMATS)}")
    return f".{word.lower()}"
