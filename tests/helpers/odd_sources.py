"""Sources with chosen faults, for tests of the cache; worker processes import this file."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from gentool.core.errors import DataError
from gentool.core.images import Pixels
from gentool.data.encoded import BadImage
from gentool.data.preprocessing import Preprocessing
from gentool.data.sources.base import Decoded, Loaded, Source

Access = Literal["processes", "threads", "sequential"]

SIDE = 16


class Squares(Source):
    """Image k is one colour that tells k."""

    name = "squares"

    def __init__(
        self, count: int, faults: "Faults | None" = None, access: Access = "processes"
    ) -> None:
        self.count, self.faults, self.access = count, faults or Faults(), access
        self.fingerprint = f"squares-{count}"

    def __len__(self) -> int:
        return self.count

    def describe(self, index: int) -> str:
        """Its number."""
        return f"square {index}"

    def load(self, index: int, preprocessing: Preprocessing) -> Loaded:
        """Image ``index``, or the fault that was ordered."""
        self.faults.meet(index)
        return Loaded(square(index), index * 7919)

    def open(self, index: int) -> Decoded:
        """Image ``index``, or the fault that was ordered."""
        self.faults.meet(index)
        return Decoded(Image.fromarray(square(index)), index * 7919)


@dataclass(frozen=True)
class Faults:
    """What goes wrong.

    Attributes:
        bad: Images that are bad for good.
        unreadable: Images whose file cannot be read while ``locked`` exists.
        locked: See there.
        deadly: Images that end the process.
        fatal: Images that show that the whole source cannot be read.
        seconds: Time that each image takes while ``log`` exists.
        log: A file that every number that is loaded is appended to.
    """

    bad: frozenset[int] = frozenset()
    unreadable: frozenset[int] = frozenset()
    locked: Path | None = None
    deadly: frozenset[int] = frozenset()
    fatal: frozenset[int] = frozenset()
    seconds: float = 0.0
    log: Path | None = None

    def meet(self, index: int) -> None:
        """Have the fault of image ``index``."""
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{index}\n")
        time.sleep(self.seconds)
        if index in self.deadly:
            os.kill(os.getpid(), signal.SIGSEGV)
            time.sleep(60)
        if index in self.bad:
            raise BadImage("told to be bad")
        if index in self.unreadable and self.locked is not None and self.locked.exists():
            raise PermissionError(13, "Permission denied")
        if index in self.fatal:
            raise DataError("the server is gone")


def square(index: int) -> Pixels:
    """The pixels of image ``index``."""
    colour = (index % 256, index // 256 % 256, 255 - index % 256)
    return np.full((SIDE, SIDE, 3), colour, dtype=np.uint8)


def squares(numbers: list[int]) -> Pixels:
    """The pixels of several."""
    return np.stack([square(k) for k in numbers])
