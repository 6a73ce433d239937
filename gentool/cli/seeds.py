"""``--seed``: a number, or ``random`` for a seed that is drawn, printed and recorded."""

from typing import Any

import typer

from gentool.cli.console import say
from gentool.training.settings import RANDOM, draw_seed

_LIMIT = 2**63


def seed_option(default: int | None, meaning: str) -> Any:
    """The option of a verb that needs its seed at once."""
    return typer.Option(
        default, "--seed", metavar="SEED", help=f"{meaning} random draws one.", parser=str,
        callback=_resolve,
    )  # fmt: skip


def _resolve(context: typer.Context, value: str | None) -> int | None:
    """Return the number given as ``--seed``; draw and print one for ``random``."""
    if value is None or context.resilient_parsing:
        return None
    if value == RANDOM:
        seed = draw_seed()
        say(f"seed {seed}")
        return seed
    sign, digits = value[:1], value.removeprefix("-")
    if not digits.isdecimal() or not digits.isascii():
        raise typer.BadParameter(f"{value!a:.60} is no seed. Write a whole number, or random")
    if sign == "-" or len(digits) > 40 or int(digits) >= _LIMIT:
        raise typer.BadParameter(f"{value:.60} is not in the range of seeds, 0 to 2^63 - 1")
    return int(digits)
