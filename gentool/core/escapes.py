r"""Text from files and users, shown to people: always in one line, and never ambiguous.

Names of files hold any byte and any character. They are kept as they are everywhere inside
gentool, in its errors too, and are escaped once, where they leave it for people's eyes.
"""

import os
import shlex
from collections.abc import Iterable

_SHORT = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    r"""``text`` in one line of visible characters, from which it can be told exactly.

    A backslash is always doubled, so that a single one begins an escape: ``\n``, ``\r``, ``\t``,
    ``\x1b`` for another control character of ASCII, ``\xff`` for a byte that is no text,
    ``\u202e`` or ``\U000e0001`` for any other character that cannot be seen.
    """
    if "\\" not in text and text.isprintable():
        return text
    return "".join(c if c.isprintable() and c != "\\" else escape(c) for c in text)


def escape(letter: str) -> str:
    """The escape of one character, as ``printable`` writes it."""
    if letter in _SHORT:
        return _SHORT[letter]
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # what os.fsdecode makes of a byte that is no text
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shell_line(words: Iterable[str]) -> str:
    """A command that a shell takes apart into ``words`` again, in one line of visible characters.

    Words that cannot be seen are written as ``$'...'``, which bash, zsh and POSIX of 2024 read.
    """
    return " ".join(shlex.quote(word) if word.isprintable() else _quoted(word) for word in words)


def _quoted(word: str) -> str:
    parts = []
    for letter in word:
        if letter.isprintable():
            parts.append(f"\\{letter}" if letter in "\\'" else letter)
        else:
            parts += [f"\\{byte:03o}" for byte in os.fsencode(letter)]
    return f"$'{''.join(parts)}'"
