"""The command line: one file for each command, which imports what it needs when it runs.

``main`` prints each error of gentool as one line on stderr, with the documented exit code.
"""

import codecs
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import typer

from gentool.cli import (
    average,
    data,
    doctor,
    environment,
    evaluate,
    explore,
    export,
    gc,
    info,
    interpolate,
    listing,
    prove,
    reconstruct,
    report,
    runs,
    sample,
    score,
    train,
    traverse,
)
from gentool.cli.console import say, say_command, unwritable_stdout
from gentool.core.atomic_files import is_full
from gentool.core.errors import GentoolError, OutputClosed, Stopped, UsageError, exit_code_of
from gentool.core.escapes import escape
from gentool.core.version import __version__

app = typer.Typer(
    name="gentool",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.command)
app.command("sample")(sample.command)
app.command("reconstruct")(reconstruct.command)
app.command("interpolate")(interpolate.command)
app.command("traverse")(traverse.command)
app.command("explore")(explore.command)
app.command("evaluate")(evaluate.command)
app.command("score")(score.command)
app.command("report")(report.command)
app.command("runs")(runs.command)
app.command("prove")(prove.command)
app.command("gc")(gc.command)
app.command("average")(average.command)
app.command("export")(export.command)
app.add_typer(data.app, name="data")
app.command("info")(info.command)
app.command("list")(listing.command)
app.command("doctor")(doctor.command)
environment.heed(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gentool {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", help="Show the version and exit.", callback=_version, is_eager=True
    ),
    debug: bool = typer.Option(
        False, "--debug", envvar="GENTOOL_DEBUG", help="Show the traceback of an error."
    ),
) -> None:
    """Turn a folder of images into a generative model.

    gentool train gan --data ./faces

    gentool sample runs/gan-faces -n 64

    gentool interpolate runs/gan-faces --seeds 1,5-7 -o film.gif

    The environment variable GENTOOL_BATCH=32 has the same effect as --batch 32.
    Every option of every command has such a variable; 1 sets an option that
    takes no value. An option on the command line overrides its variable.
    GENTOOL_CACHE is the cache folder.

    Exit codes: 0 success, 1 unexpected error, 2 usage, 3 data, 4 model file,
    5 device, 6 diverged, 7 some inputs failed, 75 stopped but resumable,
    130 Ctrl-C, 141 stdout was closed.
    """
    if debug:
        os.environ["GENTOOL_DEBUG"] = "1"
    else:  # GENTOOL_DEBUG=0
        os.environ.pop("GENTOOL_DEBUG", None)
    environment.warn_of_strangers(app)


def main() -> None:
    """Run the command line and exit."""
    try:
        _run()
    except SystemExit as ended:
        ended.code = _flush(ended.code)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            _leave_ranks(ended.code)
        raise


def _flush(code: str | int | None) -> str | int | None:
    """Flush stdout and return the exit code, which reports a failure to write.

    Otherwise Python would flush again at its exit and print its own error.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        _leave_unsent()
        if isinstance(error, BrokenPipeError):
            return code or OutputClosed.exit_code
        if not code:
            say(f"error: {unwritable_stdout(error)}")
        return code or UsageError.exit_code
    return code


def _leave_unsent() -> None:
    """Redirect stdout to the null device, so that its buffered output is discarded."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave_ranks(code: str | int | None) -> NoReturn:
    """End one of several processes without finalising Python.

    A thread of gloo may need the lock of Python during finalisation, which sometimes aborts the
    process after its work is done; torchrun would treat this as a failure of all processes.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _run() -> None:
    _prepare_streams()
    _prepare_temporary_folder()
    try:
        app()
    except OutputClosed as error:
        _leave_unsent()  # before a tar that was cut short is closed
        sys.exit(exit_code_of(error))
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # help, into which typer wrote itself
            sys.exit(OutputClosed.exit_code)
        raise
    except GentoolError as error:
        if os.environ.get("GENTOOL_DEBUG"):
            raise
        _tell(error)
        sys.exit(exit_code_of(error))
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
    except Exception as error:
        if os.environ.get("GENTOOL_DEBUG"):
            raise
        if isinstance(error, OSError) and error.filename is None and is_full(error):
            _leave_unsent()
            say(f"error: {unwritable_stdout(error)}")  # of a tar, or help, which typer writes
            sys.exit(UsageError.exit_code)
        say(
            f"error: unexpected {type(error).__name__}: {error}. Run 'gentool --debug ...' for the "
            "traceback"
        )
        sys.exit(1)


def _tell(error: GentoolError) -> None:
    """Print an error in one line; a stop that the user asked for is printed without ``error:``."""
    message = " ".join([str(error), *(f"({note})" for note in getattr(error, "__notes__", ()))])
    if not (isinstance(error, Stopped) and error.wanted):
        message = f"error: {message}"
    if isinstance(error, Stopped) and error.again is not None:
        say_command(f"{message}. Continue with:", error.again, below=True)
    else:
        say(message)


def _prepare_streams() -> None:
    """Replace a closed stdout by a closed pipe, and escape letters that a stream cannot encode."""
    if sys.stdout is None:
        reader, writer = os.pipe()
        os.close(reader)
        sys.stdout = os.fdopen(writer, "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    codecs.register_error("gentool", _escape_what_no_stream_holds)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="gentool")


def _escape_what_no_stream_holds(error: UnicodeError) -> tuple[str, int]:
    """Return letters that the encoding of the stream lacks, escaped like unprintable letters."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(escape, error.object[error.start : error.end])), error.end


def _prepare_temporary_folder() -> None:
    """Where no folder takes a file, name one all the same.

    Importing torch asks for its name, also in commands that write nothing; what does write meets
    the real error there.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = str(Path.cwd())
