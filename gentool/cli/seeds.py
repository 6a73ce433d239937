"""Seeds on the command line: ``--seed 7``, ``--seed random`` and ``--seeds 0,4-9``."""

import typer

from gentool.cli.console import say
from gentool.core.escapes import printable
from gentool.training.settings import RANDOM, draw_seed

_LIMIT = 2**63
_AS = "Write seeds as 0,4-9; random works only with --seed"


def parse_seed(context: typer.Context, value: str | None) -> int | None:
    """Return the number given as ``--seed``; draw and print one for ``random``.

    Raises:
        typer.BadParameter: it is not a seed.
    """
    if value is None or context.resilient_parsing:
        return None
    if value == RANDOM:
        seed = draw_seed()
        say(f"seed {seed}")
        return seed
    sign, digits = value[:1], value.removeprefix("-")
    if not digits.isdecimal() or not digits.isascii():
        raise typer.BadParameter(f"{value!a:.60} is not a seed. Write a whole number, or random")
    if sign == "-" or len(digits) > 40 or int(digits) >= _LIMIT:
        raise typer.BadParameter(f"{value:.60} is not in the range of seeds, 0 to 2^63 - 1")
    return int(digits)


def parse_seeds(words: str) -> list[int]:
    """Parse a list of seeds: ``0,4-9`` -> [0, 4, 5, 6, 7, 8, 9].

    Raises:
        typer.BadParameter: it is not a list of seeds, or a range is too long or too high.
    """
    seeds: list[int] = []
    for word in words.split(","):
        first, dash, last = word.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(word) > 40:
            raise typer.BadParameter(f"'{printable(word)}' is not a seed. {_AS}")
        start, end = int(first), int(last) if dash else int(first)
        if end < start or end - start >= 10**6 or end >= _LIMIT:
            raise typer.BadParameter(
                f"'{printable(word)}' is not a range of at most a million seeds below 2^63"
            )
        seeds += range(start, end + 1)
    return seeds
