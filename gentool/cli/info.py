"""The command ``gentool info``: show the content of a model file, or the recipe of a result."""

from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gentool.cli import options
from gentool.cli.console import emit, emit_json, emit_table

if TYPE_CHECKING:
    from gentool.outputs.marks import Mark

_SHOWN = 100  # most classes, and most entries of the training record, that are printed


def command(
    model: Path = typer.Argument(help="Model file or run folder.", metavar="FILE", readable=False),
    verify: bool = typer.Option(
        False, "--verify", help="Read every file and compare it with its checksum."
    ),
    as_json: options.Json = False,
) -> None:
    """Show what a model file contains, or the recipe in a picture, film, .npz or other result.

    gentool info model.safetensors

    gentool info runs/gan-faces --json

    gentool info samples/seed000000-000000.png

    gentool info runs/gan-faces --verify
    """
    if verify:
        _verify(model, as_json=as_json)
        return
    from gentool.checkpoint import load_model
    from gentool.data.intake import lines_of
    from gentool.inference.held_out import without_blobs
    from gentool.outputs.marks import MODEL, read_mark
    from gentool.training.run_data import notes_of

    mark = read_mark(model)
    if mark is not None and mark.kind != MODEL:
        _show_recipe(model, mark, as_json=as_json)
        return
    loaded = load_model(model)
    header, shape = without_blobs(loaded.header), loaded.model.shape
    weights = sum(p.numel() for p in loaded.model.parameters())
    size = loaded.path.stat().st_size
    notes = notes_of(loaded)
    if as_json:
        emit_json({"file": str(loaded.path), "bytes": size, "sha256": loaded.sha256,
                   "parameters": weights, **header,
                   "intake": None if notes is None else notes.as_json()})  # fmt: skip
        return
    training = dict(header["training"])
    data = training.pop("data", {})
    rows = [
        ("file", f"{loaded.path} ({size / 2**20:.1f} MiB)"),
        ("sha256", loaded.sha256),
        ("model", f"{header['model']}, {weights:,} parameters"),
        ("images", str(shape)),
        ("samples", loaded.model.summary()),
        ("classes", ", ".join(_some(header["classes"])) or "none"),
    ]
    if isinstance(data, dict):
        images, name = data.get("images", "?"), data.get("name", "?")
        rows.append(("trained on", f"{images!s:.20} images of {name!s:.80}"))
        if isinstance(kept := data.get("kept_out"), dict):
            rows.append(("kept out", f"{kept.get('images')!s:.20} images"))
    if notes is not None:
        rows += [("data", line) for line in lines_of(notes, brief=True)]
    some = islice(training.items(), _SHOWN)
    rows += [(f"training {k:.40}", f"{value!s:.200}") for k, value in some]
    rows += [(f"-o {k}", str(v)) for k, v in header["config"].items()]
    emit_table(rows, indent="")


def _show_recipe(path: Path, mark: "Mark", *, as_json: bool) -> None:
    """Print the recipe of a result."""
    if as_json:
        emit_json({"file": str(path), "kind": mark.kind, "recipe": dict(mark.recipe)})
        return
    rows = [("file", str(path)), ("kind", mark.kind)]
    emit_table([*rows, *((k, f"{v!s:.200}") for k, v in mark.recipe.items())], indent="")


def _some(words: Collection[str]) -> list[str]:
    """Return the first 100 texts, cut to 80 characters each; a file may have megabytes of them."""
    shown = [f"{word:.80}" for word in islice(words, _SHOWN)]
    more = len(words) - len(shown)
    return [*shown, f"({more:,} more; --json shows all)"] if more else shown


def _verify(path: Path, *, as_json: bool) -> None:
    """Verify every gentool file at ``path``, and print one line for each.

    Raises:
        ModelFileError: a file is damaged; the following files are not read.
    """
    from gentool.checkpoint import load_model, locate, verify

    files = [locate(path)]
    if path.is_dir():
        files = sorted({*files, *path.rglob("*.safetensors")})
    found = []
    for file in files:
        header, table = verify(file)
        if header.get("kind") != "state":
            load_model(file)  # also checks the header of a model
        kind, digest = str(header.get("kind")), header["content_sha256"]
        found.append(
            {"file": str(file), "kind": kind, "tensors": len(table), "content_sha256": digest}
        )
        if not as_json:
            emit(f"{file}: intact ({kind}, {len(table)} tensors), sha256 of its content {digest}")
    if as_json:
        emit_json({"verified": found})
