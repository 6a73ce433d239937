"""Bad files, which cannot become an image: how many are allowed, and the list ``bad_files.txt``.

``training.display`` and ``cli.data`` print them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gentool.core.atomic_files import replacing
from gentool.core.errors import DataError, UsageError
from gentool.core.escapes import printable

MAX_BAD = 0.01
BAD_FILES_NAME = "bad_files.txt"
_SURELY = 100  # before all images are read, fewer bad files than this never stop the work

BadFile = tuple[str, str]  # (path, reason)


@dataclass(frozen=True)
class Tolerance:
    """How many bad files are allowed.

    Args:
        max_bad: Fraction of the images that may be bad, 0 to 1.
        strict: Whether a single bad image is already an error.

    Raises:
        UsageError: ``max_bad`` is not from 0 to 1.
    """

    max_bad: float = MAX_BAD
    strict: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.max_bad <= 1:
            raise UsageError(
                f"max-bad is {self.max_bad:g}; allowed: a fraction from 0 to 1, such as {MAX_BAD:g}"
            )

    def check(self, bad: Sequence[BadFile], seen: int, total: int) -> None:
        """Check the bad files found among the first ``seen`` of ``total`` images.

        Raises:
            DataError: there are too many; the message names the first three and what to do.
        """
        if bad and self.strict:
            path, reason = bad[0]
            raise DataError(f"{path}: {reason}. Repair or remove it, or leave --strict out")
        if len(bad) <= self.max_bad * total or (seen < total and len(bad) < _SURELY):
            return
        named = "; ".join(f"{path}: {reason}" for path, reason in bad[:3])
        if len(bad) == seen:
            which = "none" if seen == total else f"none of the first {seen:,}"
            raise DataError(f"{which} of the {total:,} images can be read; the first: {named}")
        among = f"of {total:,}" if seen == total else f"of the first {seen:,} (of {total:,})"
        enough = min(math.ceil(100 * len(bad) / seen) / 100, 1)
        raise DataError(
            f"{len(bad):,} {among} images cannot be read, more than --max-bad {self.max_bad:g}: "
            f"{named}. Repair or remove them, or allow --max-bad {enough:g}"
        )


def write_bad_files(folder: Path, bad: Sequence[BadFile]) -> Path | None:
    """Write ``bad_files.txt`` into ``folder``, with one line "path TAB reason" per file.

    Path and reason are escaped by ``printable``, so that each file takes exactly one line. If
    ``bad`` is empty, an older list is removed and None is returned, else the path of the list.

    Raises:
        UsageError: the folder cannot be written.
    """
    path = folder / BAD_FILES_NAME
    try:
        if not bad:
            path.unlink(missing_ok=True)
            return None
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as out:
            for row in bad:
                out.write(("\t".join(map(printable, row)) + "\n").encode())
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    return path
