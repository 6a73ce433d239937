"""The command ``gentool export``: write a model for programs outside gentool."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gentool.cli import options
from gentool.cli.console import emit, emit_json, refuse_unfit_stdout, say
from gentool.cli.pages import Page, PageOptions, Runtime, TrustRuntime
from gentool.core.errors import UsageError

if TYPE_CHECKING:
    from gentool.checkpoint import LoadedModel
    from gentool.export.graphs import Part


def command(
    model: options.Model,
    onnx: Path = typer.Option(
        None, "--onnx", metavar="FILE",
        help="Write the decoder as FILE (.onnx), and the prior and the encoder beside it.",
    ),
    torch: Path = typer.Option(
        None, "--torch", metavar="FILE",
        help="The same as programs of torch.export (.pt2), which torch opens without gentool.",
    ),
    hub: Path = typer.Option(
        None, "--hub", metavar="FOLDER",
        help="Write a folder for a model hub: the model file, its description, samples and a card.",
    ),
    page: Page = None,
    runtime: Runtime = None,
    trust_runtime: TrustRuntime = False,
    push: str = typer.Option(
        None, "--push", metavar="USER/NAME",
        help="Also upload that folder to the hub of huggingface; nothing is uploaded unasked.",
    ),
    overwrite: options.Overwrite = False,
    print0: options.Print0 = False,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Write a model for other programs: ONNX, programs of torch, a model hub, or a web browser.

    gentool export runs/vae-faces --onnx faces.onnx

    gentool export runs/gan-faces --torch faces.pt2

    gentool export runs/gan-faces --hub faces-gan

    gentool export runs/gan-faces --page faces.html --runtime onnxruntime-web-1.30.0.tgz

    Each part is compared with the model at batches of 1, 2 and 7 before it is written. The decoder
    maps latents to images in [-1, 1], the prior noise from N(0, 1) and numbers from [0, 1) to
    latents, and the encoder images to latents. A part that a model does not have is left out.
    """
    refuse_unfit_stdout(as_json=as_json, print0=print0)
    browser = PageOptions(page, runtime, trust_runtime)
    browser.check()
    _check_names(onnx, torch, hub, push, page)
    from gentool.checkpoint import load_model, locate
    from gentool.export.graphs import parts_of
    from gentool.export.hub_folder import push as upload
    from gentool.export.hub_folder import write_folder
    from gentool.export.onnx_files import require_onnx, write_onnx
    from gentool.export.torch_programs import write_program
    from gentool.outputs.marks import EXPORTED, HUB
    from gentool.outputs.ownership import Guard

    for option, wanted in (("--onnx", onnx), ("--page", page)):
        if wanted is not None:
            require_onnx(option)
    web = browser.read_runtime()
    guard = Guard([locate(model), *browser.inputs], overwrite, tell=say)
    loaded = load_model(model)
    parts = parts_of(loaded.model) if onnx is not None or torch is not None else []
    if hub is not None:
        guard.allow(hub, HUB, "--hub")
        guard.allow_recipe(hub, HUB, {"content_sha256": loaded.header["content_sha256"]})
    browser.allow(loaded, web, guard)
    files = [
        (_file_of(target, part), part, write)
        for target, write in ((onnx, write_onnx), (torch, write_program)) if target is not None
        for part in parts
    ]  # fmt: skip
    for path, part, _ in files:
        guard.allow(path, EXPORTED)
        guard.allow_recipe(path, EXPORTED, _recipe(loaded, part))
    rows = []
    for path, part, write in files:
        found = write(path, part, _recipe(loaded, part))
        rows.append(_row(path, part, found))
        if not as_json:
            emit(path, print0=print0)
            say(_in_words(part, found))
    written = None if web is None else browser.write(loaded, web, guard)
    if page is not None and written is not None and not as_json:
        emit(page, print0=print0)
        browser.tell(written)
    folder = [] if hub is None else write_folder(hub, loaded)
    for path in folder if not as_json else ():
        emit(path, print0=print0)
    address = upload(hub, push) if hub is not None and push is not None else None
    if address is not None:
        say(f"uploaded to {address}")
    if as_json:
        told = {"hub": [str(path) for path in folder], "address": address, "page": written}
        emit_json({"model": str(loaded.path), "files": rows, **told})
    if parts and all(part.name != "prior" for part in parts):
        say("note: the samples of this model are drawn code by code, which no file here can do: "
            "draw latents with gentool sample --save-latents")  # fmt: skip


def _check_names(
    onnx: Path | None, torch: Path | None, hub: Path | None, push: str | None, page: Path | None
) -> None:
    """Check that an output is named, with the right suffix.

    Raises:
        UsageError: it is not.
    """
    if onnx is None and torch is None and hub is None and page is None:
        raise UsageError(
            "export needs --onnx FILE.onnx, --torch FILE.pt2, --hub FOLDER or --page FILE.html"
        )
    if push is not None and hub is None:
        raise UsageError("--push uploads the folder of --hub. Give --hub FOLDER, too")
    for option, path, suffix in (("--onnx", onnx, ".onnx"), ("--torch", torch, ".pt2")):
        if path is not None and path.suffix.lower() != suffix:
            raise UsageError(f"{option} {path}: the name must end with {suffix}")


def _file_of(target: Path, part: "Part") -> Path:
    """Return the file of a part: that of the decoder is ``target`` itself."""
    if part.name == "decoder":
        return target
    return target.with_name(f"{target.stem}.{part.name}{target.suffix}")


def _in_words(part: "Part", difference: float) -> str:
    """Return what is printed of a file."""
    return (
        f"  {part.name}: {' and '.join(part.inputs)} to {part.output}, largest difference from the "
        f"model {difference:.2g}"
    )


def _row(path: Path, part: "Part", difference: float) -> dict[str, object]:
    """Return what ``--json`` says of a file."""
    return {
        "file": str(path), "part": part.name, "inputs": list(part.inputs), "output": part.output,
        "largest_difference": difference,
    }  # fmt: skip


def _recipe(loaded: "LoadedModel", part: "Part") -> dict[str, object]:
    """Return the recipe of a file: the model, its images and classes, and the part."""
    from gentool.outputs.plan import recipe

    shape = loaded.model.shape
    return recipe(
        loaded, made_by="export", part=part.name, height=shape.height, width=shape.width,
        channels=shape.channels, classes=list(loaded.header["classes"]),
    )  # fmt: skip
