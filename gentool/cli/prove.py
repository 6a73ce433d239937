"""The command ``gentool prove``: draw the recipes in pictures again, and compare."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gentool.cli import options
from gentool.cli.console import emit, emit_json, say
from gentool.cli.keyframes import Wanted, find_keys
from gentool.core.errors import DataError, PartialSuccess
from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.inference.latents import Latents
    from gentool.inference.proving import Verdict
    from gentool.inference.redrawing import Keys


def command(
    pictures: list[Path] = typer.Argument(
        help="Pictures and films that gentool wrote.", metavar="PICTURE...", readable=False
    ),
    model: Path = typer.Argument(
        help="Model file or run folder.", metavar="MODEL", readable=False
    ),
    files: list[Path] = typer.Option(
        None, "--with", metavar="FILE", readable=False,
        help="Photos, originals or latents from which the pictures were made; can be repeated.",
    ),
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Draw the recipes in pictures again, and say for each picture whether it is the same.

    gentool prove grid.png runs/gan-faces

    gentool prove film.mp4 samples/*.png runs/gan-faces --json

    gentool prove out/me.png runs/vae-faces --with me.jpg

    identical: every pixel is the same, and in a film every time. near: the largest difference is so
    small that another processor or number of threads explains it. not: anything else, with the
    reason. The exit code is 0 if no picture is "not", 7 if some are and 3 if all are.
    """
    from gentool.checkpoint import load_model
    from gentool.core.devices import select_device
    from gentool.inference.proving import NOT, prove
    from gentool.inference.redrawing import Redrawer

    rows: list[dict[str, object]] = []
    with StopFlag() as stop:
        loaded = load_model(model, select_device(device))

        def keys_of(keys: "Keys") -> "Latents":
            wanted = Wanted(keys.files, keys.seeds, keys.class_name, keys.space, keys.draws)
            return find_keys(loaded, wanted, stop)

        redrawer = Redrawer(loaded, files or (), keys_of, stop, say)
        for picture in pictures:
            stop.poll(f"stopped after {len(rows)} pictures")
            found = prove(picture, redrawer)
            rows.append(_row(found))
            if not as_json:
                emit(found.result, picture, _in_words(found))
    if as_json:
        emit_json({"model": str(loaded.path), "model_sha256": loaded.sha256, "pictures": rows})
    wrong = sum(row["result"] == NOT for row in rows)
    if wrong:
        kind = PartialSuccess if wrong < len(rows) else DataError
        raise kind(f"{wrong} of {len(rows)} pictures are not what {loaded.path} makes")


def _in_words(found: "Verdict") -> str:
    """Return the largest difference and the reason."""
    largest = "" if not found.largest else f"largest difference {found.largest} of 255"
    return "; ".join(word for word in (largest, found.reason) if word)


def _row(found: "Verdict") -> dict[str, object]:
    """Return what ``--json`` says of a picture."""
    return {
        "picture": str(found.picture), "result": found.result,
        "largest_difference": found.largest, "reason": found.reason or None,
    }  # fmt: skip
