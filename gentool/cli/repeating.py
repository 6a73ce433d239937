"""The command line that continues a training that was stopped, to be shown to the user."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import typer

from gentool.core.escapes import shell_line

_LIMIT = "--stop-after"  # left out, since with it the next command would stop again


def command_to_go_on(context: typer.Context, words: Sequence[str]) -> str:
    """Return the current command for a shell, without ``--stop-after``.

    If ``--stop-after`` was set in the environment, the command unsets the variable.

    Args:
        context: The context of ``train``.
        words: The arguments after ``gentool``.
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
    """Yield ``words`` without ``--flag VALUE`` and ``--flag=VALUE``.

    Args:
        words: The arguments of a command line.
        flag: The option to leave out, which takes a value.
        valued: All options that take the next argument as their value.
    """
    rest = iter(words)
    for word in rest:
        if word == "--":  # no options follow
            yield word
            yield from rest
        elif word == flag:
            next(rest, None)
        elif not word.startswith(f"{flag}="):
            yield word
            if word in valued:
                yield from islice(rest, 1)
