"""ONNX files of the parts of a model, compared with the model before they count as written.

Needs ``pip install 'gentool[onnx]'``. The file's metadata say what goes in and comes out, and of
which model it was made.
"""

import io
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gentool.core.atomic_files import write_bytes
from gentool.core.errors import UsageError
from gentool.export.graphs import Part

_NEEDED = ("onnx", "onnxruntime", "onnxscript")


def require_onnx(option: str) -> None:
    """Check that ONNX files can be written here, as ``option`` needs them.

    Raises:
        UsageError: a library is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{option} needs the libraries {', '.join(_NEEDED)}. Run pip install 'gentool[onnx]'"
        ) from error


def onnx_bytes(part: Part, recipe: Mapping[str, object]) -> bytes:
    """Return a part as the bytes of an ONNX file."""
    import onnx
    import torch

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the exporter reports what it optimises
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                part.program(), dynamo=True, input_names=list(part.inputs),
                output_names=[part.output], verbose=False,
            )  # fmt: skip
    finally:
        logging.disable(before)
    assert program is not None
    model: Any = program.model_proto
    told = {"gentool": json.dumps(dict(recipe), sort_keys=True), "part": part.name}
    onnx.helper.set_model_props(model, told)
    buffer = io.BytesIO()
    onnx.save_model(model, buffer)
    return buffer.getvalue()


def difference(data: bytes, part: Part) -> float:
    """Return the largest difference between an ONNX file and the model; see ``Part.difference``."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(*inputs: torch.Tensor) -> torch.Tensor:
        feeds = dict(zip(part.inputs, (t.numpy() for t in inputs), strict=True))
        (found,) = session.run(None, feeds)
        return torch.from_numpy(found)

    return part.difference(run)


def write_onnx(path: Path, part: Part, recipe: Mapping[str, object]) -> float:
    """Write a part as an ONNX file, and return its largest difference from the model.

    Raises:
        GentoolError: the difference is too large; nothing is written.
        UsageError: the file cannot be written.
    """
    data = onnx_bytes(part, recipe)
    found = difference(data, part)
    write_bytes(path, data)
    return found
