"""``gentool info``: what a model file holds."""

from pathlib import Path

import typer

from gentool.cli.console import emit_json, emit_table


def command(
    model: Path = typer.Argument(help="Model file or run folder.", metavar="FILE", readable=False),
    as_json: bool = typer.Option(False, "--json", help="Result as JSON on stdout."),
) -> None:
    """Show what a model file holds.

    gentool info model.safetensors

    gentool info runs/gan-faces --json
    """
    from gentool.checkpoint import load_model

    loaded = load_model(model)
    header, shape = loaded.header, loaded.model.shape
    weights = sum(p.numel() for p in loaded.model.parameters())
    size = loaded.path.stat().st_size
    if as_json:
        emit_json({"file": str(loaded.path), "bytes": size, "sha256": loaded.sha256,
                   "parameters": weights, **header})  # fmt: skip
        return
    training = dict(header["training"])
    data = training.pop("data", {})
    rows = [
        ("file", f"{loaded.path} ({size / 2**20:.1f} MiB)"),
        ("sha256", loaded.sha256),
        ("model", f"{header['model']}, {weights:,} parameters"),
        ("images", str(shape)),
        ("samples", loaded.model.summary()),
        ("classes", ", ".join(header["classes"]) or "none"),
    ]
    if isinstance(data, dict):
        rows.append(("trained on", f"{data.get('images', '?')} images of {data.get('name', '?')}"))
    rows += [(f"training {k}", str(v)) for k, v in training.items()]
    rows += [(f"-o {k}", str(v)) for k, v in header["config"].items()]
    emit_table(rows, indent="")
