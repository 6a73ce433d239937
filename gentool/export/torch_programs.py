"""Files of ``torch.export`` (.pt2), which torch alone opens, without gentool.

``torch.export.load(path).module()`` returns the part as a module.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from gentool.core.atomic_files import write_bytes
from gentool.export.graphs import Part
from gentool.outputs.marks import PROGRAM_RECIPE


def write_program(path: Path, part: Part, recipe: Mapping[str, object]) -> float:
    """Write a part as a program of torch, and return its largest difference from the model.

    Raises:
        GentoolError: the difference is too large; nothing is written.
        UsageError: the file cannot be written.
    """
    buffer = io.BytesIO()
    told = json.dumps({**recipe, "part": part.name}, sort_keys=True)
    torch.export.save(part.program(), buffer, extra_files={PROGRAM_RECIPE: told})
    buffer.seek(0)
    found = part.difference(torch.export.load(buffer).module())
    write_bytes(path, buffer.getvalue())
    return found
