"""The command that goes on with a training that was stopped."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import typer

from gentool.core.escapes import shell_line

_LIMIT = "--stop-after"  # of one command; the next one would stop again


def command_to_go_on(context: typer.Context, words: Sequence[str]) -> str:
    """This command for a shell, without the limit that stopped it.

    Args:
        context: Of ``train``.
        words: What stood after ``gentool``.
    """
    options: list[Any] = context.command.params
    (limit,) = (option for option in options if _LIMIT in option.opts)
    takers = [option for option in options if not getattr(option, "is_flag", True)]
    valued = {flag for option in takers for flag in option.opts}
    source = context.get_parameter_source(limit.name)
    in_environment = source is not None and source.name == "ENVIRONMENT"
    begin = ["env", "-u", limit.envvar] if in_environment else []
    return shell_line([*begin, "gentool", *without(words, _LIMIT, valued)])


def without(words: Sequence[str], flag: str, valued: set[str]) -> Iterator[str]:
    """``words`` without ``--flag VALUE`` and ``--flag=VALUE``.

    Args:
        words: Of a command line.
        flag: The option to leave out, which takes a value.
        valued: All options whose value is the next word, whatever it looks like.
    """
    rest = iter(words)
    for word in rest:
        if word == "--":  # no options after it
            yield word
            yield from rest
        elif word == flag:
            next(rest, None)
        elif not word.startswith(f"{flag}="):
            yield word
            if word in valued:
                yield from islice(rest, 1)
