"""Output of the commands: results on stdout, everything else on stderr.

Text from files (class names, paths) may contain control characters, so all text is escaped in this
module. The exception is a path on a stdout that is not a terminal: it is written unchanged, for the
program that reads it.
"""

import io
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import PurePath

import typer

from gentool.core.errors import OutputClosed, UsageError
from gentool.core.escapes import printable
from gentool.core.messages import say as say

STARTED = time.monotonic()  # --minutes counts from here, shortly after the start of the command


def say_command(message: str, line: str, *, below: bool = False) -> None:
    """Print a message and a command to copy on stderr.

    Args:
        message: The message; it is escaped.
        line: The command, from ``escapes.shell_line``.
        below: Whether the command goes on a line of its own.
    """
    typer.echo(printable(message) + ("\n  " if below else " ") + line, err=True)


def emit(*cells: str | PurePath, print0: bool = False) -> None:
    """Print one line of results on stdout, with tabs between the cells, and flush it.

    Text is escaped. A path is escaped on a terminal; otherwise its bytes are those of the file
    system, whatever the locale is.

    Args:
        cells: Texts and paths.
        print0: Whether the line ends with a zero byte instead of a newline.

    Raises:
        OutputClosed: the program that reads stdout has ended.
        UsageError: stdout cannot be written.
    """
    end = "\0" if print0 else "\n"
    if sys.stdout.isatty() or not any(isinstance(cell, PurePath) for cell in cells):
        _write("\t".join(printable(str(cell)) for cell in cells) + end)
    else:
        _write(b"\t".join(map(_as_bytes, cells)) + end.encode())


def _as_bytes(cell: str | PurePath) -> bytes:
    return os.fsencode(cell) if isinstance(cell, PurePath) else printable(cell).encode()


def _write(text: str | bytes) -> None:
    try:
        typer.echo(text, nl=False)
        sys.stdout.flush()
    except BrokenPipeError as error:  # otherwise typer would exit with code 1
        raise OutputClosed("the reader of stdout has closed it") from error
    except OSError as error:
        raise unwritable_stdout(error) from error


def unwritable_stdout(error: OSError) -> UsageError:
    """Return the error for a stdout that cannot be written, such as a file on a full disk."""
    return UsageError(f"cannot write to stdout: {error.strerror or error}")


def emit_json(value: object) -> None:
    """Print results as JSON on stdout; characters that are not ASCII are escaped."""
    _write(json.dumps(value, indent=2) + "\n")


def emit_csv(rows: Sequence[Sequence[object]]) -> None:
    """Print rows as CSV on stdout; on a terminal the cells are escaped."""
    if sys.stdout.isatty():
        rows = [[printable(str(cell)) for cell in row] for row in rows]
    _write(csv_bytes(rows))


def csv_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    """Return rows as CSV in UTF-8; bytes of file names that are not valid text are kept."""
    import csv  # not at module level: --help needs none

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def emit_table(rows: Iterable[tuple[str, ...]], indent: str = "  ", *, aside: bool = False) -> None:
    """Print rows of text in aligned columns on stdout, or on stderr if ``aside``."""
    listed = [tuple(printable(cell) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*listed, strict=True)]
    for row in listed:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = (indent + "  ".join(cells)).rstrip() + "\n"
        if aside:
            typer.echo(line, nl=False, err=True)
        else:
            _write(line)


def refuse_unfit_stdout(output: str = "", *, as_json: bool, print0: bool = False) -> None:
    """Check that stdout is used for one kind of output, and that no tar goes to a terminal.

    Args:
        output: Value of ``-o``, for the commands that can write a tar to stdout.
        as_json: Whether ``--json`` is given.
        print0: Whether ``--print0`` is given.

    Raises:
        UsageError: the options ask for two kinds of output on stdout, or for a tar on a terminal,
            which would become unusable.
    """
    if output == "-" and (as_json or print0):
        other = "--json" if as_json else "--print0"
        raise UsageError(f"-o - and {other} both write to stdout. Leave one of them out")
    if as_json and print0:
        raise UsageError("--json and --print0 exclude each other. Leave one of them out")
    if output == "-" and sys.stdout.isatty():
        raise UsageError(
            "-o - writes a tar archive to stdout, which is a terminal here. Use a pipe, such as "
            "-o - | tar x, or name a folder"
        )
