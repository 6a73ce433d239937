r"""Escapes for text from files and users, so that it prints in one line and without ambiguity.

Names of files may hold any byte and any character. Inside gentool, and in the messages of its
errors, they are not changed; they are escaped once, where they are printed.
"""

import os
import shlex
from collections.abc import Iterable

_SHORT = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    r"""Return ``text`` in one line of visible characters, without loss of information.

    A backslash is always doubled, so that a single one starts an escape: ``\n``, ``\r``, ``\t``,
    ``\x1b`` for another control character of ASCII, ``\xff`` for a byte that is not valid text,
    ``\u202e`` or ``\U000e0001`` for any other invisible character.
    """
    if "\\" not in text and text.isprintable():
        return text
    return "".join(c if c.isprintable() and c != "\\" else escape(c) for c in text)


def escape(letter: str) -> str:
    """Return the escape of one character; see ``printable``."""
    if letter in _SHORT:
        return _SHORT[letter]
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode gives these for bytes that are not valid text
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shell_line(words: Iterable[str]) -> str:
    """Return a shell command, one line of visible characters, with ``words`` as its arguments.

    An argument with invisible characters is written as ``$'...'``, which bash, zsh and POSIX 2024
    understand.
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
