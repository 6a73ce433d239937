"""Environment variables for all options: ``GENTOOL_BATCH=32`` has the effect of ``--batch 32``.

The same rule gives a variable to every option of every command. A flag has priority over the
environment, also over the variables of other options that the flag excludes. If a value of the
environment causes an error, the message names the variable.
"""

import contextlib
import difflib
import inspect
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand
from typer.models import OptionInfo

from gentool.cli.console import say
from gentool.core.errors import DataError, DeviceError, GentoolError, ModelFileError, UsageError

_PREFIX = "GENTOOL_"
_UNEXPECTED = re.compile(r"Got unexpected extra argument\(?s?\)? \((.*)\)", re.DOTALL)  # Typer's
_ENVIRONMENT, _FLAG = "ENVIRONMENT", "COMMANDLINE"  # names of Typer's sources of a value
# Variables that are read where they are used. As GENTOOL_CACHE is the cache folder, the option
# --cache of train has no variable.
_FOLDER = "GENTOOL_CACHE"
_OTHERS = (_FOLDER, "GENTOOL_CACHE_BYTES", "GENTOOL_DEBUG")
_CAUSED = (UsageError, DataError, ModelFileError, DeviceError)
# (command, option, value, other options): the option excludes the other options, and they exclude
# it. None as the command means all commands; None as the value means any value of the option.
_RIVALS: tuple[tuple[str | None, str, str | None, tuple[str, ...]], ...] = (
    ("sample", "latents", None, ("seed", "seeds", "class_name", "save_latents", "truncation",
                                 "temperature", "top_k", "top_p", "keep_top")),
    ("sample", "seeds", None, ("seed",)),
    ("traverse", "start", None, ("seed",)),
    ("interpolate", "mix", None, ("loop", "method", "space", "steps", "milliseconds",
                                   "fps", "seconds", "enlarge")),
    ("reconstruct", "denoise", None, ("steps", "fit_weights")),
    ("reconstruct", "draw", None, ("steps",)),
    ("reconstruct", "keep_top", None, ("fit_weights",)),
    ("interpolate", "fps", None, ("milliseconds",)),
    ("interpolate", "seconds", None, ("steps",)),
    (None, "output", "-", ("as_json", "print0")),
    (None, "per_image", "-", ("as_json", "per_unit")),
    (None, "per_unit", "-", ("as_json",)),
    (None, "as_json", None, ("print0",)),
)  # fmt: skip
# (command, option, values): from the environment, these values are ignored by the command, since
# they are for the option of the same name of another command.
_OF_OTHERS = (("gc", "keep", ("best", "last")),)
# (option, other option): from the environment, the option is ignored without the other one.
_NEEDS = (("crossover", "mix"), ("runtime", "page"), ("trust_runtime", "page"))


def _is_film(suffix: str) -> bool:
    return suffix in (".gif", ".webp", ".mp4", ".webm")


# From the environment, these options are ignored where the output is a file to which they do not
# apply: (option, whether it applies to a file with this suffix).
_OF_OUTPUTS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("image_format", lambda suffix: not suffix),
    *((option, _is_film) for option in ("milliseconds", "fps", "seconds", "enlarge")),
)


def verbs(app: typer.Typer) -> dict[str, Callable[..., Any]]:
    """Return the function of every command by the command's name, such as ``data pack``."""
    found = {}
    for info in app.registered_commands:
        assert info.callback is not None
        found[info.name or info.callback.__name__] = info.callback
    for group in app.registered_groups:
        assert group.typer_instance is not None
        inner = verbs(group.typer_instance)
        found |= {f"{group.name} {name}": function for name, function in inner.items()}
    return found


def heed(app: typer.Typer) -> None:
    """Give every option of every command an environment variable."""
    for function in verbs(app).values():
        for name, info, several in _options(function):
            flag = _long_flag(name, info)
            variable = _PREFIX + flag.removeprefix("--").upper().replace("-", "_")
            if variable == _FOLDER:
                continue
            info.envvar, info.show_envvar = variable, False  # the help of gentool has the rule
            if several:
                info.callback = _unsplit
    _make_verbs(app)


def _make_verbs(app: typer.Typer) -> None:
    for info in app.registered_commands:
        info.cls = _Verb
    for group in app.registered_groups:
        assert group.typer_instance is not None
        _make_verbs(group.typer_instance)


def _options(function: Callable[..., Any]) -> Iterator[tuple[str, OptionInfo, bool]]:
    """Yield for each option of a command: name, declaration, whether it takes several values."""
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        for info in (parameter.default, *notes):
            if isinstance(info, OptionInfo):
                yield name, info, get_origin(kind) is list


def _long_flag(name: str, info: OptionInfo) -> str:
    """Return the long flag of an option, such as ``--count``.

    Typer stores the first flag of an annotated option in ``default``, so that is searched too.
    """
    for word in (info.default, *(info.param_decls or ())):
        if isinstance(word, str) and word.startswith("--"):
            return word.partition("/")[0]
    return f"--{name.replace('_', '-')}"


def _unsplit(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    """Return the value of a variable as one item; Typer would split it at spaces."""
    if _source(context, str(parameter.name)) != _ENVIRONMENT:
        return value
    return [os.environ[str(parameter.envvar)]]


def _source(context: Any, name: str) -> str | None:
    """Return Typer's name for the source of a value, such as ``COMMANDLINE`` or ``ENVIRONMENT``."""
    source = context.get_parameter_source(name)
    return None if source is None else str(source.name)


class _Verb(TyperCommand):
    """A command in which flags have priority over variables, and errors name the variables."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read flags and environment; reset options of the environment that do not apply."""
        with _naming_variables(ctx), _naming_paths(ctx):
            rest = super().parse_args(ctx, args)
        for name in _idle(ctx):
            option = next(p for p in self.params if p.name == name)
            ctx.params[name] = option.get_default(ctx)
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _naming_variables(ctx):
            return super().invoke(ctx)


def _idle(context: Any) -> Iterator[str]:
    """Yield options of the environment that a flag excludes, or whose needed option is missing."""
    verb, values = context.info_name, context.params

    def given(name: str, source: str, value: str | None = None) -> bool:
        if name not in values or _source(context, name) != source:
            return False
        return values[name] not in (None, False, []) and value in (None, str(values[name]))

    for of, option, value, others in _RIVALS:
        if of not in (None, verb):
            continue
        if given(option, _FLAG, value):
            yield from (name for name in others if given(name, _ENVIRONMENT))
        if any(given(name, _FLAG) for name in others) and given(option, _ENVIRONMENT, value):
            yield option
    for of, option, foreign in _OF_OTHERS:
        if verb == of and any(given(option, _ENVIRONMENT, value) for value in foreign):
            yield option
    for option, needed in _NEEDS:
        if given(option, _ENVIRONMENT) and values.get(needed) is None:
            yield option
    for option, applies in _OF_OUTPUTS:
        if given(option, _ENVIRONMENT) and not applies(_suffix_of_output(values["output"])):
            yield option


def _suffix_of_output(output: str) -> str:
    """Return the suffix of one file, such as ``.png``; empty for a folder or a tar on stdout."""
    one_file = output != "-" and not output.endswith("/") and not Path(output).is_dir()
    return Path(output).suffix.lower() if one_file else ""


@contextlib.contextmanager
def _naming_paths(context: Any) -> Iterator[None]:
    """Say what to do if a shell has turned a pattern such as ``*.png`` into many arguments."""
    try:
        yield
    except Exception as error:  # Typer does not export its UsageError
        message = getattr(error, "message", "")
        found = _UNEXPECTED.fullmatch(message) if isinstance(message, str) else None
        reads_images = any(option.name in ("data", "spec") for option in context.command.params)
        if found and reads_images and os.path.lexists(found[1].partition(" ")[0]):
            vars(error)["message"] = (
                f"{message}. A pattern such as *.png becomes many paths. Give the folder instead, "
                "and --data once for each of several folders"
            )
        raise


@contextlib.contextmanager
def _naming_variables(context: Any) -> Iterator[None]:
    """Add the variable's name to errors about an option that was set in the environment."""
    try:
        yield
    except typer.BadParameter as error:
        culprits = _culprits(context, error.message, error.param)
        if culprits:
            error.message += f" (from the environment: {', '.join(culprits)})"
        raise
    except GentoolError as error:
        culprits = _culprits(context, str(error), None) if isinstance(error, _CAUSED) else []
        if culprits:
            error.add_note(f"from the environment: {', '.join(culprits)}")
        raise


def _culprits(context: Any, message: str, parameter: Any) -> list[str]:
    """Return the variables, as ``NAME=value``, that may have caused an error.

    Args:
        context: The command's context.
        message: The error message; options whose flag or value occurs in it are found.
        parameter: The option that is wrong; None if only the message is known.
    """
    found = []
    for option in context.command.params:
        if _source(context, option.name) != _ENVIRONMENT:
            continue
        if context.params.get(option.name) is False:  # for example GENTOOL_JSON=0: no effect
            continue
        value = os.environ[option.envvar]
        words = [*option.opts, *([] if option.is_flag else [value, value.partition("=")[0]])]
        told = any(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", message) for word in words)
        if option is parameter or (parameter is None and told):
            found.append(f"{option.envvar}={value:.60}")
    return found


def warn_of_strangers(app: typer.Typer) -> None:
    """Warn of unknown variables that begin with ``GENTOOL_`` or are similar to a known one."""
    if os.environ.get("RANK", "0") != "0":  # only the first rank prints
        return
    options = {i.envvar for f in verbs(app).values() for _, i, _ in _options(f) if i.envvar}
    known = sorted(map(str, {*options, *_OTHERS}))
    for name in sorted(os.environ):
        if name in known:
            continue
        near = _near(name, known)
        if near or name.startswith(_PREFIX):
            hint = f". Did you mean {near}?" if near else " (see gentool --help)"
            say(f"warning: the environment variable {name} is not a setting of gentool{hint}")


def _near(name: str, known: list[str]) -> str | None:
    """Return the known variable that is most similar to a misspelt one; None if none is similar."""
    first, _, rest = name.upper().partition("_")
    own = first == _PREFIX[:-1]
    if not own and not difflib.get_close_matches(first, [_PREFIX[:-1]], cutoff=0.8):
        return None
    rests = {word.removeprefix(_PREFIX): word for word in known}
    found = difflib.get_close_matches(rest, rests, n=1, cutoff=0.6 if own else 0.8)
    return rests[found[0]] if found else None
