"""Bad files, which cannot become an image: how many are allowed, and the list ``bad_files.txt``.

``training.display`` and ``cli.data`` print them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gentool.core.atomic_files import replacing
from gentool.core.errors import DataError, UsageError
from gentool.core.escapes import printable
from gentool.data.intake import OWN, OWN_PICTURE, Intake, with_passed

MAX_BAD = 0.01
BAD_FILES_NAME = "bad_files.txt"
_SURELY = 100  # before all images are read, fewer bad files than this never stop the work

BadFile = tuple[str, str]  # (path, reason)


def without_own(bad: Iterable[BadFile]) -> list[BadFile]:
    """Return the bad files without pictures that gentool made, which are no fault of the data."""
    return [row for row in bad if row[1] != OWN_PICTURE]


def with_own(intake: Intake, bad: Iterable[BadFile]) -> Intake:
    """Return intake notes that also count pictures of gentool that were found by reading them."""
    return with_passed(intake, OWN, [path for path, reason in bad if reason == OWN_PICTURE])


def note_on_own(bad: Sequence[BadFile]) -> str:
    """Return a sentence on pictures of gentool among the bad files; empty if there are none."""
    own = [path for path, reason in bad if reason == OWN_PICTURE]
    return f"passed over {len(own):,} {OWN} ({own[0]:.80})" if own else ""


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
        bad = without_own(bad)
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

    Path and reason are escaped by ``printable``, so that each file takes exactly one line.
    Pictures that gentool made are not listed. If nothing is left, an older list is removed and
    None is returned, else the path of the list.

    Raises:
        UsageError: the folder cannot be written.
    """
    path, bad = folder / BAD_FILES_NAME, without_own(bad)
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
