"""Files of ``torch.export`` (.pt2), which torch alone opens, without gentool.

``torch.export.load(path).module()`` returns the part as a module.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from gentool.core.atomic_files import write_bytes
from gentool.core.errors import GentoolError
from gentool.export.graphs import BATCHES, Part
from gentool.export.onnx_files import MOST_DIFFERENCE
from gentool.outputs.marks import PROGRAM_RECIPE


def write_program(path: Path, part: Part, recipe: Mapping[str, object]) -> float:
    """Write a part as a program of torch, and return its largest difference from the model.

    Raises:
        GentoolError: the difference is above ``MOST_DIFFERENCE``; nothing is written.
        UsageError: the file cannot be written.
    """
    buffer = io.BytesIO()
    told = json.dumps({**recipe, "part": part.name}, sort_keys=True)
    torch.export.save(part.program(), buffer, extra_files={PROGRAM_RECIPE: told})
    buffer.seek(0)
    found = _difference(buffer, part)
    if not found <= MOST_DIFFERENCE:
        raise GentoolError(
            f"the program of the {part.name} differs from the model by {found:.2g}, more than "
            f"{MOST_DIFFERENCE:g}; it was not written"
        )
    write_bytes(path, buffer.getvalue())
    return found


def _difference(buffer: io.BytesIO, part: Part) -> float:
    """Return the largest difference between a saved program and the model."""
    module = torch.export.load(buffer).module()
    with torch.no_grad():
        return max(
            float((module(*part.example(count)) - part.wanted(count)).abs().max())
            for count in BATCHES
        )
