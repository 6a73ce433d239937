"""Messages for people, on stderr."""

import sys

from gentool.core.escapes import printable


def say(message: str) -> None:
    """Print one message on stderr, in one line."""
    sys.stderr.write(printable(message) + "\n")
    sys.stderr.flush()
