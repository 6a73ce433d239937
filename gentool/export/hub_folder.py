"""A folder for a model hub: the model file, its description as JSON, samples, and a model card.

The card is Markdown whose first lines are YAML, as hubs read it. Nothing in it comes from a path of
this machine. ``push`` uploads the folder and needs ``pip install 'gentool[hub]'``.
"""

import json
import re
from pathlib import Path
from typing import Any

from gentool.checkpoint import LoadedModel
from gentool.core.atomic_files import write_bytes
from gentool.core.errors import GentoolError, UsageError
from gentool.core.escapes import printable
from gentool.core.images import Pixels
from gentool.core.picture_files import encode
from gentool.core.sheets import grid
from gentool.inference.held_out import without_blobs
from gentool.inference.sampling import sample_images
from gentool.outputs.marks import HUB_FILES
from gentool.outputs.plan import recipe

_SIGNS = re.compile(r"[\\`*_{}\[\]<>#|!&~]")  # what Markdown or HTML reads as more than text
_SAMPLES = 64


def write_folder(folder: Path, loaded: LoadedModel) -> list[Path]:
    """Write all files of the folder, and return their paths.

    Raises:
        UsageError: a file cannot be written.
    """
    header = without_blobs(loaded.header)
    how = recipe(loaded, made_by="export", seed=0, index=f"0-{_SAMPLES - 1}")
    sheet: Pixels = grid(sample_images(loaded, _SAMPLES))
    contents = {
        "model.safetensors": loaded.path.read_bytes(),
        "config.json": (json.dumps(header, indent=2, sort_keys=True) + "\n").encode(),
        "samples.png": encode(sheet, ".png", how),
        "README.md": model_card(loaded, header).encode(),
    }
    return [write_bytes(folder / name, contents[name]) for name in HUB_FILES]


def model_card(loaded: LoadedModel, header: dict[str, Any]) -> str:
    """Return the model card: what the model is, how it was made, and how to use it."""
    training = header["training"]
    data = training.get("data") if isinstance(training.get("data"), dict) else {}
    title = training.get("name") or f"{header['model']} of {data.get('name', 'images')}"
    front = ["---", "library_name: gentool", "pipeline_tag: unconditional-image-generation",
             f"tags: [gentool, {json.dumps(str(header['model']))}]", "---"]  # fmt: skip
    rows = [
        ("Model", header["model"]),
        ("Parameters", f"{sum(p.numel() for p in loaded.model.parameters()):,}"),
        ("Images", str(loaded.model.shape)),
        ("Classes", ", ".join(map(str, header["classes"][:50])) or "none"),
        ("Trained on", f"{data.get('images', '?')} images of {data.get('name', '?')}"),
        ("Images seen", training.get("images", "?")),
        ("Score", json.dumps(training["score"]) if training.get("score") else "not stored"),
        ("SHA-256", loaded.sha256),
    ]
    table = ["| | |", "| --- | --- |", *(f"| {name} | {_cell(value)} |" for name, value in rows)]
    use = ["```", "pip install gentool", "gentool sample model.safetensors -n 64",
           "gentool info model.safetensors", "```"]  # fmt: skip
    parts = [
        "\n".join(front),
        f"# {_cell(title)}",
        "![64 samples](samples.png)",
        f"How samples are made: {_cell(loaded.model.summary())}.",
        "\n".join(table),
        "## Use",
        "\n".join(use),
        "## Data and licence",
        "The author has not stated the licence of the model, nor that of the images. Write both "
        "here, and what the images show, before you publish the model.",
    ]
    return "\n\n".join(parts) + "\n"


def _cell(value: object) -> str:
    """Return a value as text that no Markdown or HTML is read from."""
    return _SIGNS.sub(lambda sign: f"&#{ord(sign[0])};", printable(str(value)[:2000]))


def push(folder: Path, name: str) -> str:
    """Upload the folder to the hub of huggingface as ``user/name``; return its address.

    Raises:
        UsageError: the library is missing.
        GentoolError: the hub refuses, or cannot be reached.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise UsageError(
            "--push needs the library huggingface_hub. Run pip install 'gentool[hub]'"
        ) from error
    hub = HfApi()
    try:
        address = hub.create_repo(name, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, allow_patterns=list(HUB_FILES))
    except Exception as error:  # the library raises errors of several others
        line = str(error).strip().splitlines()
        raise GentoolError(
            f"the model was written to {folder}, but not uploaded: {line[0] if line else error!r}"
        ) from error
    return str(address)
