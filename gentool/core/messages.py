"""Messages for people, on stderr."""

import sys
from collections.abc import Callable

from gentool.core.escapes import printable

WARNING = "warning: "  # the start of a message that is printed even if little is printed
Progress = Callable[[int, int], None]  # shows progress: items that are done, items in all


def say(message: str) -> None:
    """Print one message on stderr, in one line."""
    sys.stderr.write(printable(message) + "\n")
    sys.stderr.flush()
