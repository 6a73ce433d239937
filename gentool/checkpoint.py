"""The waist: one safe file that every verb needs alone.

A gentool file is a safetensors file with ONE metadata key, ``gentool``, that holds sorted
JSON: safetensors writes several keys in random order, one key keeps files byte-stable. Two
kinds share the form: a *model* (the averaged weights of what the verbs need) and a *state*
(everything needed to go on training).

Writing is atomic: a temporary file in the same folder, flushed to the disk, then renamed.
Reading decides by content, never by extension, checks the header against bounds and against
the model's own names, shapes and dtypes before any weight is loaded, and never unpickles.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch

from gentool import __version__
from gentool.config import from_json, to_json
from gentool.data import Policy, is_folder, make_policy
from gentool.errors import ModelFileError, UsageError
from gentool.files import put
from gentool.images import MODES, ImageShape, side_problem
from gentool.models import MODELS
from gentool.models.base import Model
from gentool.registry import unknown_name

FORMAT = 1  # raise when an older gentool could not read the file
MODEL_NAME, STATE_NAME = "model.safetensors", "state.safetensors"
_KEY = "gentool"
_MAX_HEADER_BYTES = 16 * 2**20
_MAX_CLASSES = 100_000
_DTYPES = {torch.float32: "F32", torch.int64: "I64"}
_SIZES = {"F32": 4, "I64": 8}

Header = dict[str, Any]
Tensors = dict[str, torch.Tensor]


def locate(path: Path, name: str = MODEL_NAME) -> Path:
    """The file meant by ``path``: itself, or ``name`` inside it when it is a run folder.

    Raises:
        ModelFileError: there is none.
    """
    if is_folder(path):
        inside = path / name
        if not inside.is_file():
            raise ModelFileError(
                f"the folder {path} holds no {name}. Give a model file, or a run folder that "
                "'gentool train' made"
            )
        return inside
    try:
        found = path.exists()
    except OSError:  # a name that no file can have, such as one too long
        found = False
    if not found:
        raise ModelFileError(f"no model file at {path!s:.200}. 'gentool train' makes one")
    return path


def write_file(path: Path, tensors: Tensors, header: Header) -> None:
    """Write a gentool file atomically; the old file stays whole until the new one is.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    words = json.dumps({**header, "format": FORMAT}, sort_keys=True, allow_nan=False)
    plain = {k: tensors[k].detach().to("cpu").contiguous() for k in sorted(tensors)}
    put(path, safetensors.torch.save(plain, {_KEY: words}), sync=True)


def read_header(path: Path) -> tuple[Header, dict[str, Any]]:
    """The gentool header of a file and its table of tensors, with no tensor loaded.

    Raises:
        ModelFileError: anything but a whole gentool file of a format this version knows.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(64)
            foreign = _foreign(start, size)
            length = int.from_bytes(start[:8], "little") if len(start) >= 8 else 0
            if foreign or not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
                raise ModelFileError(
                    f"{path} is {foreign or 'not a gentool model file, or cut short'}"
                )
            file.seek(8)
            table = json.loads(file.read(length))
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: its header is damaged. Copy or download it again") from error
    if not isinstance(table, dict) or not isinstance(meta := table.pop("__metadata__", None), dict):
        raise ModelFileError(f"{path} is a safetensors file, but not one of gentool's")
    return _parse_meta(path, meta), _check_table(path, table, size - 8 - length)


def _foreign(start: bytes, size: int) -> str | None:
    """What a file is when it plainly is no safetensors file."""
    if size == 0:
        return "empty"
    if start[8:9] == b"{":  # first: the length before it may begin with any byte at all
        return None
    lowered = start.lstrip().lower()
    if start.startswith(b"PK\x03\x04") or start[:1] == b"\x80":
        return (
            "a pickle (PyTorch's own format), which can run code when opened. gentool opens only "
            "its own safetensors files"
        )
    if lowered.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not a model file. Download the file itself"
    if lowered.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself. Run 'git lfs pull'"
    return "not a gentool model file"


def _parse_meta(path: Path, meta: Mapping[str, Any]) -> Header:
    """The gentool header inside safetensors metadata."""
    words = meta.get(_KEY)
    if not isinstance(words, str):
        raise ModelFileError(f"{path} is a safetensors file, but not one of gentool's")
    try:
        header: Header = json.loads(words)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: its header is damaged. Copy or download it again") from error
    version = header.get("format") if isinstance(header, dict) else None
    if type(version) is not int or version < 1:
        raise ModelFileError(f"{path}: its header is damaged. Copy or download it again")
    if version > FORMAT:
        raise ModelFileError(
            f"{path} has format {version!s:.20}; gentool {__version__} reads up to {FORMAT}. "
            "Upgrade gentool"
        )
    return header


def _check_table(path: Path, table: Mapping[str, Any], room: int) -> dict[str, Any]:
    """Every tensor within the file, nothing overlapping, no holes."""
    spans = []
    try:
        for name, row in table.items():
            begin, end = row["data_offsets"]
            shape = row["shape"]
            whole = all(type(n) is int and n >= 0 for n in [*shape, begin, end])
            if not whole or end - begin != _SIZES[row["dtype"]] * math.prod(shape):
                raise ValueError(name)
            spans.append((begin, end))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: its table of tensors is damaged") from error
    spans.sort()
    ends = [0, *(end for _, end in spans)]
    if [begin for begin, _ in spans] != ends[:-1] or ends[-1] != room:
        raise ModelFileError(f"{path} is cut short or has been changed. Copy or download it again")
    return dict(table)


def read_file(path: Path) -> tuple[Header, Tensors]:
    """A whole gentool file: header and tensors on the CPU.

    Raises:
        ModelFileError: as in ``read_header``.
    """
    header, _ = read_header(path)
    return header, _parse_tensors(path, path.read_bytes())


def _parse_tensors(path: Path, data: bytes) -> Tensors:
    """The tensors in the bytes of a file whose header was found good."""
    try:
        return safetensors.torch.load(data)
    except (ValueError, safetensors.SafetensorError) as error:
        raise ModelFileError(f"cannot read {path}: {error}") from error


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for use: averaged weights, eval mode.

    Attributes:
        model: The model; parts that the file does not hold are left out.
        header: What the file says of itself.
        sha256: Hash of the file, for recipes.
        path: Where it was read from.
    """

    model: Model
    header: Header
    sha256: str
    path: Path

    @property
    def policy(self) -> Policy:
        """What intake did to the images it was trained on, for images to come.

        Raises:
            ModelFileError: the file says something impossible.
        """
        data = self.header["training"].get("data")
        words = data if isinstance(data, dict) else {}
        fit, background = words.get("fit", "crop"), words.get("background", "white")
        try:
            return make_policy(self.model.shape, fit, background)
        except (UsageError, TypeError) as error:
            raise ModelFileError(f"{self.path}: its header is damaged ({error})") from error

    def class_number(self, name: str) -> int:
        """The number of a class of a conditional model.

        Raises:
            UsageError: the model is not conditional, or has no such class.
        """
        classes: list[str] = self.header["classes"]
        if not self.model.classes:
            raise UsageError(f"{self.path} is not conditional: it has no classes to choose from")
        if name not in classes:
            raise unknown_name("class", name, classes, f"gentool info {self.path}")
        return classes.index(name)


def model_header(
    name: str, model: Model, classes: tuple[str, ...], training: Mapping[str, object]
) -> Header:
    """The header of a model file: all that is needed to build the model again."""
    shape = model.shape
    return {
        "kind": "model",
        "model": name,
        "config": to_json(model.config),
        "image": {"height": shape.height, "width": shape.width, "channels": shape.channels},
        "classes": list(classes),
        "conditional": bool(model.classes),
        "training": dict(training),
        "gentool": __version__,
    }


def exported_tensors(model: Model) -> Tensors:
    """The tensors that a model file holds, by prefixed name."""
    parts = model.exported_parts().items()
    return {f"{part}.{k}": v for part, module in parts for k, v in module.state_dict().items()}


def build(header: Header, path: Path) -> Model:
    """The model that a header describes, on the meta device (no memory yet).

    Raises:
        ModelFileError: an unknown model, or settings that it does not have or allow.
    """
    try:
        image = header["image"]
        shape = ImageShape(image["height"], image["width"], image["channels"])
        sides_fit = all(type(s) is int and not side_problem(s) for s in (shape.height, shape.width))
        if not sides_fit or shape.channels not in MODES.values():
            raise UsageError(f"images of {shape.height}x{shape.width}x{shape.channels}")
        if not isinstance(header["model"], str) or not isinstance(header["config"], dict):
            raise TypeError("model and config")
        model_class = MODELS.get(header["model"])
        config = from_json(model_class.Config, header["config"])
        with torch.device("meta"):
            return model_class(config, shape, _classes(header))
    except (KeyError, TypeError) as error:
        raise ModelFileError(f"{path}: its header is damaged ({error})") from error
    except UsageError as error:
        raise ModelFileError(
            f"{path} asks for what gentool {__version__} does not have: {error}"
        ) from error


def _classes(header: Header) -> int:
    """How many classes the model is conditional on."""
    if type(header["conditional"]) is not bool or not isinstance(header["classes"], list):
        raise TypeError("classes")
    return len(header["classes"]) if header["conditional"] else 0


def load_model(path: str | Path, device: torch.device | str = "cpu") -> LoadedModel:
    """Open a model file, or the one in a run folder, for sampling and the other verbs.

    Args:
        path: The file or run folder.
        device: Where the weights go.

    Raises:
        ModelFileError: not a gentool model file, damaged, or not what its header says.
    """
    file = locate(Path(path))
    header, table = read_header(file)
    if header.get("kind") != "model":
        raise ModelFileError(f"{file} is a training state, not a model. Use {MODEL_NAME} beside it")
    _check_header(file, header)
    model = build(header, file)
    expected = exported_tensors(model)
    _compare(file, expected, table)
    data = file.read_bytes()
    weights = {k: v.to(device) for k, v in _parse_tensors(file, data).items()}
    for name in [n for n, _ in model.named_children() if n not in model.exported]:
        delattr(model, name)  # the discriminator, for one, stays in the state file
    # assign, not copy: to_empty and copy_ on the meta device import sympy, 0.3 s of every start
    model.load_state_dict(weights, assign=True)
    model.eval().requires_grad_(False)
    return LoadedModel(model, header, hashlib.sha256(data).hexdigest(), file)


def _check_header(path: Path, header: Header) -> None:
    """The rest of the header: class names and the training record, as plain as they should be."""
    classes, training = header.get("classes"), header.get("training")
    plain = isinstance(classes, list) and len(classes) <= _MAX_CLASSES
    if not plain or not all(isinstance(c, str) for c in cast("list[object]", classes)):
        raise ModelFileError(f"{path}: its header is damaged (classes)")
    if not isinstance(training, dict):
        raise ModelFileError(f"{path}: its header is damaged (training)")


def _compare(path: Path, expected: Tensors, table: Mapping[str, Any]) -> None:
    """Names, shapes and dtypes of the file against those of the model that it claims to be."""
    wanted = {k: (list(t.shape), _DTYPES[t.dtype]) for k, t in expected.items()}
    found = {k: (row["shape"], row["dtype"]) for k, row in table.items()}
    if wanted != found:
        differing = sorted(k for k in {*wanted, *found} if wanted.get(k) != found.get(k))
        raise ModelFileError(
            f"{path} does not hold the weights that its header describes: {len(differing)} differ, "
            f"the first is {differing[0][:80]}"
        )
