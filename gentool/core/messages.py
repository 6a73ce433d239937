"""Messages for people, on stderr."""

import sys

from gentool.core.escapes import printable

WARNING = "warning: "  # the start of a message that is printed even if little is printed


def say(message: str) -> None:
    """Print one message on stderr, in one line."""
    sys.stderr.write(printable(message) + "\n")
    sys.stderr.flush()
