"""The command ``gentool explore``: a page on this machine, to look at a model and to steer it."""

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from gentool.cli import options
from gentool.cli.console import emit, say
from gentool.core.errors import UsageError
from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.explore.guarding import Keys


def command(
    model: options.Model,
    port: int = typer.Option(
        0, "--port", min=0, max=65535, metavar="PORT", help="Port of the page; 0: a free one.",
        show_default=False,
    ),
    open_page: bool = typer.Option(
        None, "--open/--no-open",
        help="Open the page in the browser; default: on a machine with a screen.",
    ),
    device: options.Device = "auto",
) -> None:  # fmt: skip
    """Open a page on this machine, to look at a model and to steer its images.

    gentool explore runs/gan-faces

    gentool explore runs/vae-faces --port 8000 --no-open

    The page shows samples, and sliders for directions that change them.

    It takes photos, goes from picture to picture, and keeps favourites.

    It follows a run in training. Only this machine can open it, with the
    address that is printed. Ctrl-C ends it.
    """
    _require_server()
    from gentool.core.devices import select_device
    from gentool.explore.serving import listen, serve

    where = str(select_device(device))
    person = sys.stderr.isatty()
    opened = (
        _is_at_a_screen(os.environ, sys.platform) and person if open_page is None else open_page
    )

    def ready(keys: "Keys") -> None:
        emit(keys.address(keys.token))
        say("the page is open to this machine alone; Ctrl-C ends it")
        if opened and keys.once is not None:
            _open(keys.address(keys.once))

    with StopFlag() as stop:
        serve(model, where, listen(port), stop, ready)
        stop.poll("the page has ended")


def _require_server() -> None:
    """Check that the libraries of the server are installed.

    Raises:
        UsageError: they are not.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "explore needs the libraries starlette and uvicorn. Run pip install 'gentool[explore]'"
        ) from error


def _is_at_a_screen(environment: Mapping[str, str], platform: str) -> bool:
    """Return whether a browser with windows can be opened here."""
    if platform in ("darwin", "win32"):
        return "SSH_CONNECTION" not in environment
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def _open(address: str) -> None:
    """Open the page in the browser of the user, and say so if there is none."""
    import webbrowser

    if not webbrowser.open(address):
        say("no browser could be opened; open the address above")
