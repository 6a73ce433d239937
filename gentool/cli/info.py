"""``gentool info``: what a model file holds."""

from pathlib import Path

import typer

from gentool.cli.console import emit, emit_json, emit_table


def command(
    model: Path = typer.Argument(help="Model file or run folder.", metavar="FILE", readable=False),
    verify: bool = typer.Option(
        False, "--verify", help="Read every file whole and compare it with its checksum."
    ),
    as_json: bool = typer.Option(False, "--json", help="Result as JSON on stdout."),
) -> None:
    """Show what a model file holds.

    gentool info model.safetensors

    gentool info runs/gan-faces --json

    gentool info runs/gan-faces --verify
    """
    if verify:
        _verify(model, as_json=as_json)
        return
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


def _verify(path: Path, *, as_json: bool) -> None:
    """Every gentool file at ``path``, one a line; the first that is not whole is an error."""
    from gentool.checkpoint import load_model, locate, verify

    files = [locate(path)]
    if path.is_dir():
        files = sorted({*files, *path.glob("*.safetensors")})
    found = []
    for file in files:
        header, table = verify(file)
        if header.get("kind") != "state":
            load_model(file)  # whole, and what it says of itself
        kind, digest = str(header.get("kind")), header["content_sha256"]
        found.append(
            {"file": str(file), "kind": kind, "tensors": len(table), "content_sha256": digest}
        )
        if not as_json:
            emit(f"{file}: whole ({kind}, {len(table)} tensors), sha256 of its content {digest}")
    if as_json:
        emit_json({"verified": found})
