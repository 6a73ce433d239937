"""What the page shows for a model: its controls follow from what the model can do."""

import hashlib
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from gentool.checkpoint import LoadedModel
from gentool.explore.session import model_name
from gentool.inference.blocks import block_size, has_encoder
from gentool.inference.traversal import has_directions

_MOST_CLASSES = 1000
_WIDEST = 2.0  # end of a slider whose option allows more
_WALL_PIXELS, _LEAST_WALL, _MOST_WALL = 24 * 64 * 64, 6, 24  # pictures that are drawn at first


def describe_model(loaded: LoadedModel, path: Path) -> dict[str, Any]:
    """Return the name of the model, its shape, and what its controls are, as JSON values.

    Args:
        loaded: The model.
        path: The model as the user named it.
    """
    model, shape = loaded.model, loaded.model.shape
    names = [str(name) for name in loaded.header["classes"]][: model.classes]
    encoder = has_encoder(model)
    pixels = shape.height * shape.width
    return {
        "name": model_name(loaded.path),
        "path": str(path),
        "key": _key(loaded.path),
        "model": str(loaded.header["model"]),
        "summary": f"{shape} images; {model.summary()}",
        "height": shape.height,
        "width": shape.width,
        "channels": shape.channels,
        "classes": names[:_MOST_CLASSES],
        "more_classes": max(0, len(names) - _MOST_CLASSES),
        "drawing": drawing_controls(model),
        "methods": ["principal", *model.directions()] if has_directions(model) else [],
        "encoder": encoder,
        "search": model.search_steps if encoder else 0,
        "wall": max(_LEAST_WALL, min(_MOST_WALL, _WALL_PIXELS // pixels)),
        "block": block_size(shape),
        "images": images_seen(loaded),
    }


def _key(path: Path) -> str:
    """Return a name for what the browser keeps of a model; it is the same after a new save."""
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]


def images_seen(loaded: LoadedModel) -> int | None:
    """Return how many images the model has seen in training, if its file says so."""
    seen = loaded.header["training"].get("images")
    return seen if type(seen) is int else None


def drawing_controls(model: Any) -> list[dict[str, Any]]:
    """Return one row for each option by which the model draws samples.

    A row has its name, its help, its bounds, its neutral value and whether it is a whole number.
    """
    hints = get_type_hints(model.Drawing)
    rows = []
    for declared in fields(model.Drawing):
        whole, high = hints[declared.name] is int, declared.metadata["high"]
        rows.append(
            {
                "name": declared.name,
                "help": declared.metadata["meaning"],
                "low": declared.metadata["low"],
                "high": high if whole else min(high, _WIDEST),
                "value": declared.default,
                "whole": whole,
            }
        )
    return rows
