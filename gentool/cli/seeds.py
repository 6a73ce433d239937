"""``--seed``: a number, or ``random`` for one that is drawn, told and kept like any other."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gentool.cli.console import say
from gentool.core.errors import GentoolError
from gentool.training.settings import RANDOM, Setting

if TYPE_CHECKING:
    from gentool.core.distributed import Ranks

_DRAWN_BELOW = 2**32  # easy to type again
_LIMIT = 2**63


def seed_option(default: int | None, meaning: str) -> Any:
    """The option of a verb that needs its seed at once."""
    return typer.Option(
        default, "--seed", metavar="SEED", help=f"{meaning} random draws one.", parser=str,
        callback=_resolve,
    )  # fmt: skip


def _resolve(context: typer.Context, value: str | None) -> int | None:
    """The number that ``--seed`` says, or one that is drawn now and told."""
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


def draw_seed() -> int:
    """A seed that nobody could foresee."""
    return secrets.randbelow(_DRAWN_BELOW)


def settle_seed(setting: Setting, out: Path) -> Setting:
    """The seed of a training: a random one is that of the run in ``out``, or drawn for a new one.

    So the same command again goes on with the run that it began.
    """
    if setting.value != RANDOM:
        return setting
    seed = _seed_of_run(out)
    if seed is not None:
        return Setting(seed, f"that of the run in {out} ({setting.origin})")
    return Setting(draw_seed(), f"drawn ({setting.origin})")


def agree_on_seed(setting: Setting, ranks: "Ranks") -> int:
    """The first process's random seed, for all processes; it is told."""
    high, low = (ranks.agree(float(part)) for part in divmod(setting.value, 2**32))  # both exact
    seed = int(high) * 2**32 + int(low)
    say(f"seed {seed}, {setting.origin}")
    return seed


def _seed_of_run(out: Path) -> int | None:
    """The seed of the run in a folder; None where training will find none to go on with."""
    from gentool.checkpoint import STATE_NAME, read_header

    try:
        header, _ = read_header(out / STATE_NAME)
    except (GentoolError, OSError):
        return None
    identity = header.get("identity")
    seed = identity.get("--seed") if isinstance(identity, dict) else None
    return seed if type(seed) is int and 0 <= seed < _LIMIT else None
