"""Every frame of animated files as an image of its own, for ``--all-frames``."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from typing import overload

import numpy as np

from gentool.core.errors import UsageError
from gentool.core.messages import Progress
from gentool.data.encoded import ANIMATED, frame_numbers
from gentool.data.intake import Intake
from gentool.data.kinds import image_format
from gentool.data.preprocessing import open_image
from gentool.data.sources.base import Decoded, FileSource, Source, content_hash, source_hash

_CHUNK = 256  # files read between two calls of `progress`, which may raise to stop


class FramesSource(FileSource):
    """The frames of the files of another source, in order, with the label and weight of their file.

    Args:
        files: A source of files.
        progress: Called with (done, total) while the frames are counted; may raise to stop.

    Raises:
        UsageError: the images of the source are not files.
    """

    def __init__(self, files: Source, progress: Progress) -> None:
        if not isinstance(files, FileSource):
            raise UsageError(
                f"{files.name} does not consist of image files, so it has no frames. Leave "
                "--all-frames out"
            )
        self._files = files
        numbers = _frames(files, progress)
        counts = [len(found) for found in numbers]
        self._file = np.repeat(np.arange(len(files), dtype=np.int64), counts)
        self._frame = np.fromiter(chain.from_iterable(numbers), np.int32, len(self._file))
        self._first = np.array([found[0] for found in numbers], dtype=np.int32)
        self.name, self.classes, self.access = files.name, files.classes, files.access
        self.notes = files.notes
        self.paths = _FramePaths(files.paths, self._file, self._frame) if files.paths else ()
        self._last = (-1, b"")  # of a stream, which would begin again for each further frame
        self.labels = None if files.labels is None else files.labels[self._file]
        self.repeats = None if files.repeats is None else files.repeats[self._file]
        self.fingerprint = hashlib.sha256(f"frames|{files.fingerprint}".encode()).hexdigest()
        self.stamp = files.stamp

    @property
    def intake(self) -> Intake:
        """What was taken and passed over, of the files."""
        return replace(self._files.intake, taken=len(self))

    def __len__(self) -> int:
        return len(self._file)

    def describe(self, index: int) -> str:
        """Return the name of image ``index`` for messages."""
        file, frame = int(self._file[index]), int(self._frame[index])
        return _named(self._files.describe(file), frame)

    def read(self, index: int) -> bytes:
        """Return the bytes of the file that contains image ``index``."""
        file = int(self._file[index])
        if self.access != "sequential":
            return self._files.read(file)
        if self._last[0] != file:
            self._last = (file, self._files.read(file))
        return self._last[1]

    def open(self, index: int) -> Decoded:
        """Return image ``index``, not prepared."""
        content, frame = self.read(index), int(self._frame[index])
        image = open_image(content, frame)
        if frame == self._first[self._file[index]]:
            return Decoded(image, source_hash(content))
        return Decoded(image, _hash_of_frame(content, frame))

    def proof(self, index: int) -> int | None:
        """Return the content hash of image ``index``."""
        frame = int(self._frame[index])
        if frame == self._first[self._file[index]]:
            return super().proof(index)
        return _hash_of_frame(self.read(index), frame)

    def time(self, index: int) -> float | None:
        """Return when the file that contains image ``index`` was last written."""
        return self._files.time(int(self._file[index]))


def _hash_of_frame(content: bytes, frame: int) -> int:
    """Return the content hash of a frame after the first."""
    return content_hash(content + frame.to_bytes(4, "little"))


def _named(path: str, frame: int) -> str:
    return f"{path}#{frame}" if frame else path


class _FramePaths(Sequence[str]):
    """Names of frames such as ``cat.gif``, ``cat.gif#1``, ``cat.gif#2``, made on demand."""

    def __init__(self, paths: Sequence[str], file: np.ndarray, frame: np.ndarray) -> None:
        self._paths, self._file, self._frame = paths, file, frame

    def __len__(self) -> int:
        return len(self._file)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        path, frame = self._paths[int(self._file[index])], self._frame[index]
        return _named(path, int(frame))


def _frames(files: FileSource, progress: Progress) -> list[Sequence[int]]:
    """Return the numbers of the frames of every file.

    An unreadable file counts as one frame; the error is reported when it is prepared.
    """
    one = (0,)

    def frames(index: int) -> Sequence[int]:
        try:
            if image_format(files.head(index)) not in ANIMATED:
                return one
            found = frame_numbers(files.read(index))
        except Exception:  # whatever reading a file or member raises
            return one
        return found if found != [0] else one

    total, numbers = len(files), list[Sequence[int]]()
    workers = 1 if files.access == "sequential" else os.cpu_count()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for start in range(0, total, _CHUNK):
            progress(start, total)
            numbers += pool.map(frames, range(start, min(start + _CHUNK, total)))
    return numbers
