"""Writers of results: a folder, one sheet, an archive of arrays, or a tar on stdout.

A command first makes a ``Plan`` with the names and recipes of its results (``plan``). The sink
checks the plan, so that a path which may not be written is refused before the work starts. Then the
command passes the images to the sink one by one. Files are written under a temporary name and
renamed, so that a stop never leaves half a file.
"""

import contextlib
import io
import json
import math
import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gentool.core.atomic_files import is_bad_name, write_bytes, writing
from gentool.core.errors import OutputClosed, UsageError
from gentool.core.free_memory import require_memory
from gentool.core.images import MODES, Pixels
from gentool.core.picture_files import check_sides, encode, save
from gentool.core.sheet_labels import SheetLabels, make_room, write_labels
from gentool.core.sheets import Layout, Sheet
from gentool.data import is_folder
from gentool.outputs.marks import ARRAYS, PICTURE, RECIPE_KEY, Recipe, read_mark
from gentool.outputs.ownership import Guard
from gentool.outputs.places import free_name
from gentool.outputs.plan import NamedImage, Plan, merged_recipe

_LOOKED_AT_NAMES = 10_000
_LOOKED_AT = 1000  # about this many files of a folder are checked for the model that made them


class Sink(ABC):
    """A writer that takes images one by one; ``close`` writes what needs all of them.

    Attributes:
        failed: (path, reason) of files that could not be written because of their names.
    """

    def __init__(self) -> None:
        self.failed: list[tuple[Path, str]] = []

    @abstractmethod
    def add(self, image: NamedImage) -> list[Path]:
        """Take one image; return the files that are now complete."""

    def close(self) -> list[Path]:
        """Finish the output; return the files that are now complete."""
        return []

    def abandon(self, error: BaseException) -> None:  # noqa: B027 (most sinks began nothing)
        """Remove what was begun, because of an error, which may be a stop."""


class FolderSink(Sink):
    """A folder with one file per image; a file with a name that the disk refuses is left out.

    Raises:
        UsageError: One of the files may not be replaced, or the folder holds images of another
            model.
    """

    def __init__(self, folder: Path, suffix: str, plan: Plan, guard: Guard) -> None:
        super().__init__()
        self.folder, self.suffix, self.guard = folder, suffix, guard
        self._check(plan)

    def _check(self, plan: Plan) -> None:
        """Compare the files in the folder with those that will be written.

        Raises:
            UsageError: One of them is in the way; see the class.
        """
        here = self._files_here()
        taken = self.guard.names_taken(self.folder)
        first = next(iter(plan.results()), None)
        some = islice(plan.results(), _LOOKED_AT_NAMES)
        if any("/" in result.name for result in some):  # only reconstruct --only has folders
            self._refuse_file_in_the_way(plan)
        for result in plan.results() if here or taken else ():
            name = result.name + self.suffix
            if name in taken:
                raise UsageError(f"two outputs of this command are named {self.folder / name}")
            if name in here:
                self.guard.allow_recipe(self.folder / name, PICTURE, result.recipe)
                here.discard(name)
            elif "/" in name:
                _check_folders(self.folder, name)
        if here and first is not None:
            self._look_for_a_mixture(sorted(here), first.recipe)

    def _refuse_file_in_the_way(self, plan: Plan) -> None:
        """Refuse a plan in which a file and a folder would have the same name."""
        names = {result.name + self.suffix for result in plan.results()}
        folders = {str(above) for name in names for above in Path(name).parents}
        if both := sorted(names & folders):
            raise UsageError(
                f"{self.folder / both[0]} would be a file and also a folder, because of the names "
                "of the originals. Leave --only out"
            )

    def _files_here(self) -> set[str]:
        """Return the paths of all files inside the folder, relative to it."""
        if not is_folder(self.folder):
            return set()
        return {
            os.path.relpath(os.path.join(where, name), self.folder)  # noqa: PTH118
            for where, _, names in os.walk(self.folder)
            for name in names
        }

    def _look_for_a_mixture(self, others: list[str], ours: Recipe) -> None:
        """Refuse a folder with images of another model or command; only a sample is checked.

        With ``--overwrite``, warn about old images of gentool beside the new ones instead.
        """
        for name in others[:: max(1, len(others) // _LOOKED_AT)]:
            mark = read_mark(self.folder / name)
            if mark is None or "model_sha256" not in mark.recipe:
                continue
            if self.guard.overwrite:
                self.guard.tell(
                    f"warning: {self.folder} also holds earlier pictures of gentool, such as "
                    f"{name:.80}; a program that reads the folder will read all of them"
                )
                return
            if kind := _other_kind(mark.recipe, ours):
                raise UsageError(
                    f"{self.folder} holds {kind}, such as {name:.80}; scores would not "
                    f"separate them. Write to {free_name(self.folder)}, or mix them with "
                    "--overwrite"
                )

    def add(self, image: NamedImage) -> list[Path]:
        """Write one file."""
        path = self.folder / f"{image.name}{self.suffix}"
        self.guard.allow_recipe(path, PICTURE, image.recipe)  # again: the file may exist now
        try:
            return [write_bytes(path, encode(image.pixels, self.suffix, image.recipe))]
        except UsageError as error:
            if not (isinstance(error.__cause__, OSError) and is_bad_name(error.__cause__)):
                raise
            self.failed.append((path, error.__cause__.strerror or "its name is not allowed"))
            return []


def _other_kind(theirs: Recipe, ours: Recipe) -> str | None:
    """Return a text for images that may not be mixed with the new ones; None if they may be."""
    if theirs["model_sha256"] != ours.get("model_sha256"):
        return "images of another model"
    if theirs.get("made_by") != ours.get("made_by"):
        return f"results of gentool {theirs.get('made_by')!s:.40}"
    return None


def _check_folders(top: Path, name: str) -> None:
    """Check that no file exists where the result ``name`` needs a folder.

    Raises:
        UsageError: There is such a file.
    """
    for folder in list(Path(name).parents)[:-1]:
        if (top / folder).is_file():
            raise UsageError(
                f"{top / folder} is a file, but a folder of that name is needed. Write to "
                f"{free_name(top)}"
            )


class SheetSink(Sink):
    """One image file with all images as tiles; see ``merged_recipe`` for its recipe.

    Raises:
        UsageError: The file may not be replaced, or the sheet is too large for its format or for
            the memory.
    """

    def __init__(
        self, path: Path, plan: Plan, guard: Guard, columns: int | None = None,
        labels: SheetLabels | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.path, self.guard, self.labels = path, guard, labels or SheetLabels()
        shape = plan.shape
        layout = Layout.of(plan.count, shape.height, shape.width, columns)
        layout = make_room(layout, self.labels)
        height, width = layout.sheet
        check_sides(path.suffix.lower(), width, height)
        flat = path.suffix.lower() in (".jpg", ".jpeg") and shape.channels == MODES["rgba"]
        channels = MODES["rgb"] if flat else shape.channels  # a JPEG has no alpha
        # This comes before the recipe, which takes time, since the sheet may be too large.
        self._sheet = Sheet.within_memory(layout, channels, path.suffix.lower())
        self._recipe = merged_recipe(plan)
        guard.allow_recipe(path, PICTURE, self._recipe)
        self._count = 0

    def add(self, image: NamedImage) -> list[Path]:
        """Put the image into the next tile."""
        self._sheet.place(self._count, image.pixels)
        self._count += 1
        return []

    def close(self) -> list[Path]:
        """Write the sheet."""
        write_labels(self._sheet.image, self._sheet.layout, self.labels)
        self.guard.allow_recipe(self.path, PICTURE, self._recipe)  # again: the file may exist now
        with writing(self.path) as out:
            save(self._sheet.image, out, self.path.suffix.lower(), self._recipe)
        return [self.path]


class ArraySink(Sink):
    """A .npz file with ``images`` uint8 (N, H, W, C) and, if known, ``seed`` and ``index``.

    ``seed`` and ``index`` are int64 (N,). The array ``gentool`` holds the recipe as JSON text.

    Raises:
        UsageError: The file may not be replaced, or there is too little memory.
    """

    def __init__(self, path: Path, plan: Plan, guard: Guard) -> None:
        super().__init__()
        self.path, self.guard = path, guard
        shape = (plan.count, plan.shape.height, plan.shape.width, plan.shape.channels)
        require_memory(math.prod(shape), f"{path} with {plan.count:,} images")
        try:
            self._images: Pixels = np.empty(shape, np.uint8)
        except (MemoryError, ValueError) as error:
            raise UsageError(
                f"there is not enough memory for {plan.count:,} images in {path}"
            ) from error
        self._recipe = merged_recipe(plan)
        guard.allow_recipe(path, ARRAYS, self._recipe)
        self._extra: dict[str, Any] = {
            key: np.fromiter((int(str(r.recipe[key])) for r in plan.results()), np.int64)
            for key in ("seed", "index")
            if all(key in r.recipe for r in plan.results())
        }
        self._count = 0

    def add(self, image: NamedImage) -> list[Path]:
        """Copy the image into the next row of the array."""
        self._images[self._count] = image.pixels
        self._count += 1
        return []

    def close(self) -> list[Path]:
        """Write the archive."""
        words = np.array(json.dumps(self._recipe, sort_keys=True))
        arrays: dict[str, Any] = {"images": self._images, **self._extra, RECIPE_KEY: words}
        self.guard.allow_recipe(self.path, ARRAYS, self._recipe)
        with writing(self.path) as out:
            np.savez_compressed(out, **arrays)
        return [self.path]


class TarSink(Sink):
    """A tar of image files, written one by one; times are 0, so that bytes are reproducible."""

    def __init__(self, stream: BinaryIO, suffix: str) -> None:
        super().__init__()
        self.suffix = suffix
        self._stream = stream
        self._tar = tarfile.open(fileobj=stream, mode="w|")  # noqa: SIM115 (closed in close)

    def add(self, image: NamedImage) -> list[Path]:
        """Append one member."""
        data = encode(image.pixels, self.suffix, image.recipe)
        member = tarfile.TarInfo(f"{image.name}{self.suffix}")
        member.size, member.mode = len(data), 0o644
        with _reader():
            self._tar.addfile(member, io.BytesIO(data))
        return []

    def close(self) -> list[Path]:
        """Write the end of the archive."""
        with _reader():
            self._tar.close()
            self._stream.flush()
        return []


@contextlib.contextmanager
def _reader() -> Iterator[None]:
    """Convert a broken pipe.

    Raises:
        OutputClosed: The reader of stdout has closed it.
    """
    try:
        yield
    except BrokenPipeError as error:
        raise OutputClosed("the reader of stdout has closed it") from error


def into(sink: Sink, images: Iterable[NamedImage]) -> Iterator[list[Path]]:
    """Put all images into a sink and close it; yield the files that each step completes."""
    try:
        for image in images:
            yield sink.add(image)
    except BaseException as error:
        sink.abandon(error)
        raise
    yield sink.close()
