"""Where results go: a folder, one grid, an archive of arrays, or a tar on stdout.

The verbs hand over named images; the suffix of ``-o`` decides the rest. Files are written
under another name first and renamed, so that a stop never leaves half an image.
"""

import contextlib
import io
import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gentool import __version__
from gentool.checkpoint import LoadedModel
from gentool.config import to_json
from gentool.data import is_folder
from gentool.errors import OutputClosed, UsageError
from gentool.files import write_bytes
from gentool.images import SUFFIXES, Pixels, encode, encode_animation, grid

FORMATS = tuple(s.removeprefix(".") for s in SUFFIXES)


@dataclass(frozen=True)
class NamedImage:
    """One result: file name without suffix, uint8 (H, W, C), and how it came about."""

    name: str
    pixels: Pixels
    recipe: Mapping[str, object]


def recipe(loaded: LoadedModel, **what: object) -> dict[str, object]:
    """How an image came about, for its PNG; names no path of this machine.

    What ``draw_with`` asked for is told unless it is neutral.
    """
    chosen, neutral = to_json(loaded.model.drawing), to_json(loaded.model.Drawing())
    return {
        "gentool": __version__,
        "model": str(loaded.header["model"]),
        "model_sha256": loaded.sha256,
        **{k: v for k, v in chosen.items() if v != neutral[k]},
        **what,
    }


class Sink(ABC):
    """Takes images one by one; ``close`` finishes what needs all of them."""

    @abstractmethod
    def add(self, image: NamedImage) -> list[Path]:
        """Take one image; the files that are now complete."""

    def close(self) -> list[Path]:
        """Finish; the files that are now complete."""
        return []


class FolderSink(Sink):
    """One file per image."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder, self.suffix = folder, suffix

    def add(self, image: NamedImage) -> list[Path]:
        """Write one file."""
        data = encode(image.pixels, self.suffix, image.recipe)
        return [write_bytes(self.folder / f"{image.name}{self.suffix}", data)]


class GridSink(Sink):
    """All images in one; the recipe keeps what they share and lists what they do not."""

    def __init__(self, path: Path, columns: int | None = None) -> None:
        self.path, self.columns = path, columns
        self.images: list[NamedImage] = []

    def add(self, image: NamedImage) -> list[Path]:
        """Keep the image for later."""
        self.images.append(image)
        return []

    def close(self) -> list[Path]:
        """Write the grid."""
        if not self.images:
            return []
        sheet = grid(np.stack([i.pixels for i in self.images]), self.columns)
        merged = merge_recipes([i.recipe for i in self.images])
        return [write_bytes(self.path, encode(sheet, self.path.suffix.lower(), merged))]


class ArraySink(Sink):
    """A .npz with ``images`` uint8 (N, H, W, C) and, where known, ``seed`` and ``index`` (N,)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images: list[NamedImage] = []

    def add(self, image: NamedImage) -> list[Path]:
        """Keep the image for later."""
        self.images.append(image)
        return []

    def close(self) -> list[Path]:
        """Write the archive."""
        keys = ("seed", "index")
        extra = {
            key: np.array([i.recipe[key] for i in self.images])
            for key in keys
            if all(key in i.recipe for i in self.images)
        }
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {"images": np.stack([i.pixels for i in self.images]), **extra}
        np.savez_compressed(buffer, **arrays)
        return [write_bytes(self.path, buffer.getvalue())]


class AnimationSink(Sink):
    """All images as the frames of one endless .gif or .webp."""

    def __init__(self, path: Path, milliseconds: int) -> None:
        self.path, self.milliseconds = path, milliseconds
        self.frames: list[Pixels] = []

    def add(self, image: NamedImage) -> list[Path]:
        """Keep the frame for later."""
        self.frames.append(image.pixels)
        return []

    def close(self) -> list[Path]:
        """Write the animation."""
        suffix = self.path.suffix.lower()
        data = encode_animation(np.stack(self.frames), suffix, self.milliseconds)
        return [write_bytes(self.path, data)]


class TarSink(Sink):
    """A tar of image files written as they come; times are zero, so bytes are reproducible."""

    def __init__(self, stream: BinaryIO, suffix: str) -> None:
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
    """Turn a broken pipe into gentool's own error."""
    try:
        yield
    except BrokenPipeError as error:
        raise OutputClosed("the reader of stdout has gone") from error


def merge_recipes(recipes: list[Mapping[str, object]]) -> dict[str, object]:
    """What all recipes share as it is, what varies as a list."""
    merged: dict[str, object] = {}
    for key in recipes[0]:
        values = [r[key] for r in recipes]
        merged[key] = values[0] if all(v == values[0] for v in values) else values
    return merged


def suffix_of(word: str) -> str:
    """``png`` -> ``.png``.

    Raises:
        UsageError: no such image format.
    """
    if word.lower() not in FORMATS:
        raise UsageError(f"no image format '{word}'. Formats: {', '.join(FORMATS)}")
    return f".{word.lower()}"


def open_sink(output: str, image_format: str, stdout: BinaryIO, columns: int | None = None) -> Sink:
    """The sink that ``-o`` means.

    Args:
        output: ``-`` for a tar on stdout, a name ending in .png, .jpg, .jpeg or .webp for one
            grid, .npz for arrays, anything else for a folder.
        image_format: Format of the single files: png, jpg, jpeg or webp.
        stdout: Where a tar goes.
        columns: Columns of a grid; nearly square by default.

    Raises:
        UsageError: a suffix that gentool does not write.
    """
    suffix = suffix_of(image_format)
    if output == "-":
        return TarSink(stdout, suffix)
    path = Path(output).expanduser()
    kind = path.suffix.lower()
    if is_folder(path) or output.endswith(("/", os.sep)) or not kind:
        return FolderSink(path, suffix)
    if kind in SUFFIXES:
        return GridSink(path, columns)
    if kind == ".npz":
        return ArraySink(path)
    raise UsageError(
        f"-o {output}: gentool writes {', '.join(SUFFIXES)}, .npz, - (a tar on stdout), or into a "
        "folder (a name without a suffix)"
    )
