"""Text for people: in one line and unambiguous; commands that a shell can read back."""

import os
import random
import subprocess
import unicodedata

import pytest

from gentool.core.escapes import printable, shell_line

NAMES = (
    "plain.png", "ü ö.png", "a\nb", r"a\nb", "a\x1b[31m", r"a\x1b[31m", "a\\", "\\", r"\\", "",
    "x\udcff", "x\xff", "x\x85", "x\udc85", r"x\xff", "\u202egnp.exe", r"\u202egnp.exe", "\u202f",
    "\U000e0001", "\ud800", "a\tb", "it's", '"', "$(id)", "a b", "-x", "~",
)  # fmt: skip


def test_what_is_shown_is_visible_and_no_two_texts_look_alike() -> None:
    shown = [printable(name) for name in NAMES]
    assert len(set(shown)) == len(NAMES)
    for text in shown:
        assert all(unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in text)


def test_random_texts_look_alike_only_if_they_are() -> None:
    chance = random.Random(0)
    letters = ["\\", "x", "1", "b", "n", "u", "0", "\n", "\x1b", "\udc80", "\x80", "\u200b"]
    texts = {"".join(chance.choices(letters, k=6)) for _ in range(20_000)}
    assert len({printable(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\nb", r"a\nb"), (r"a\nb", r"a\\nb"), ("\x1b", r"\x1b"), ("\udcff", r"\xff"),
     ("\x85", r"\u0085"), ("\u202f", r"\u202f"), ("\U000e0001", r"\U000e0001"), ("ü", "ü")],
)  # fmt: skip
def test_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_shell_takes_a_command_apart_into_its_words() -> None:
    words = [name for name in NAMES if name != "\ud800"]  # no word of a command line
    line = shell_line(["printf", r"%s\0", *words])
    assert line.isprintable()
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in words]
