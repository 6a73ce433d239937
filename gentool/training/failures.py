"""Errors of memory, disk and device during training, as errors of gentool with the next step.

A step that does not fit into memory is first tried with the batch in parts (``accumulation``).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from gentool.core.atomic_files import is_full, no_room
from gentool.core.errors import DeviceError, UsageError
from gentool.training.accumulation import is_out_of_memory
from gentool.training.setup import Setup


@dataclass
class Needs:
    """Bytes that a save needs; 0 until they are known."""

    bytes: int = 0


@contextlib.contextmanager
def explaining(setup: Setup) -> Iterator[Needs]:
    """Convert errors of memory, disk and device inside the block into gentool's errors.

    Yields:
        The bytes that a save needs, for the message about a full disk; the block may set them.

    Raises:
        DeviceError: out of memory, or an operation that ``deterministic`` forbids.
        Stopped: the disk is full.
        UsageError: the run folder cannot be written.
    """
    needs = Needs()
    try:
        yield needs
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise DeviceError(
                f"out of memory on {setup.device}, even with a split batch. "
                "Use a smaller --size or --width"
            ) from error
        if setup.settings.deterministic and "deterministic" in str(error):
            reason = str(error).partition(". ")[0]
            raise DeviceError(f"{reason}. Leave --deterministic out, or use the CPU") from error
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        if is_full(error):
            raise no_room(reason, setup.out, needs.bytes) from error
        raise UsageError(f"cannot write the run folder {setup.out}: {reason}") from error
