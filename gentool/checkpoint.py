"""Model files and state files: writing, safe reading, and building a model from a file.

A gentool file holds tensors, a header and a checksum (``sealed_tensors``). There are two kinds: a
*model* (the averaged weights of the parts that commands other than ``train`` need) and a *state*
(everything that is needed to continue training).

Writing is atomic: a temporary file in the same folder is flushed to the disk and then renamed.
Reading depends on the content, not on the extension. It checks the header against bounds, and
against the names, shapes and dtypes of the model's tensors, before it loads any weight; it never
unpickles.
"""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from gentool.core.atomic_files import MODEL_NAME as MODEL_NAME
from gentool.core.atomic_files import STATE_NAME as STATE_NAME
from gentool.core.devices import select_device
from gentool.core.errors import ModelFileError, UsageError
from gentool.core.images import MODES, ImageShape, side_problem
from gentool.core.options import from_json, to_json
from gentool.core.registry import unknown_name
from gentool.core.safetensors_io import DTYPES, Table, load, opened
from gentool.core.sealed_tensors import check_rest, read_rest, read_start, write_sealed
from gentool.core.version import __version__
from gentool.data import Preprocessing, is_folder, make_preprocessing
from gentool.data.levels import FULL
from gentool.models import MODELS
from gentool.models.base import Model

FORMAT = 1  # increase when older versions of gentool cannot read the file
_MAX_CLASSES, _MAX_CLASSES_BYTES = 100_000, 4 * 2**20  # half of the bytes allowed for a header

Header = dict[str, Any]
Tensors = dict[str, torch.Tensor]


def locate(path: Path, name: str = MODEL_NAME) -> Path:
    """Return ``path`` if it is a file, or the file ``name`` inside it if it is a run folder.

    Raises:
        ModelFileError: There is no such file.
    """
    if is_folder(path):
        inside = path / name
        if not inside.is_file():
            raise ModelFileError(
                f"the folder {path} holds no {name}. Give a model file, or a run folder that "
                f"'gentool train' wrote{_runs_in(path, name)}"
            )
        return inside
    try:
        found = path.exists()
    except OSError:  # a name that no file can have, such as one too long
        found = False
    if not found:
        raise ModelFileError(f"there is no model file at {path!s:.200}. 'gentool train' writes one")
    return path


def _runs_in(folder: Path, name: str) -> str:
    """Return the first run folders inside a folder, in words; empty if there are none."""
    try:
        runs = sorted(str(found.parent) for found in folder.glob(f"*/{name}"))
    except OSError:
        return ""
    some = ", ".join(f"{run:.100}" for run in runs[:3])
    more = f" and {len(runs) - 3:,} more" if len(runs) > 3 else ""
    return f", such as {some}{more}" if runs else ""


def write_file(path: Path, tensors: Tensors, header: Header) -> None:
    """Write a gentool file atomically: an old file stays until the new one is complete.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    write_sealed(path, tensors, {**header, "format": FORMAT})


def write_result(path: Path, tensors: Tensors, header: Header) -> None:
    """Write a gentool file to a path that the user gave, and create its folder.

    Raises:
        UsageError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, tensors, header)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def _read_header(path: Path, file: BinaryIO) -> tuple[Header, Table]:
    """Return the gentool header and the table of tensors; leave the file at the first tensor.

    Raises:
        ModelFileError: There is no valid header, or its format is newer than this version.
    """
    header, table = read_start(path, file)
    version = header.get("format") if isinstance(header, dict) else None
    if type(version) is not int or version < 1:
        raise ModelFileError(f"the header of {path} is damaged. Copy or download the file again")
    if version > FORMAT:
        raise ModelFileError(
            f"{path} has format {version!s:.20}; gentool {__version__} reads up to {FORMAT}. "
            "Upgrade gentool"
        )
    return header, table


def read_header(path: Path) -> tuple[Header, Table]:
    """Return the gentool header and the table of tensors of a file, without the checksum test.

    Raises:
        ModelFileError: It is not a gentool file, or its format is newer than this version.
    """
    with opened(path) as file:
        return _read_header(path, file)


def verify(path: Path) -> tuple[Header, Table]:
    """Compare a gentool file with its checksum, in little memory; return header and table.

    Raises:
        ModelFileError: It is not a gentool file, its format is newer than this version, or it is
            damaged.
    """
    with opened(path) as file:
        header, table = _read_header(path, file)
        check_rest(path, file, header, table)
    return header, table


def read_file(path: Path) -> tuple[Header, Tensors]:
    """Return the header and the tensors (on the CPU) of a gentool file.

    Raises:
        ModelFileError: As in ``verify``.
    """
    header, tensors, _ = read_checked(path, lambda header, table: None)
    return header, tensors


def read_checked(path: Path, check: Callable[[Header, Table], None]) -> tuple[Header, Tensors, str]:
    """Return the header, the tensors on the CPU and the sha256 of the whole file.

    Args:
        path: The file.
        check: Called with the header and the table before any tensor is read; may raise.

    Raises:
        ModelFileError: As in ``verify``.
    """
    with opened(path) as file:
        header, table = _read_header(path, file)
        check(header, table)
        data = read_rest(path, file, header, table)
    return header, load(path, data), hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class LoadedModel:
    """A model from a file, with averaged weights and in eval mode.

    Attributes:
        model: The model, without the parts that the file does not hold.
        header: Header of the file; see ``model_header``.
        sha256: Hash of the whole file, for recipes.
        path: Path of the file.
    """

    model: Model
    header: Header
    sha256: str
    path: Path

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of the training images (without margin), to apply to new images.

        Raises:
            ModelFileError: The header has invalid settings.
        """
        data = self.header["training"].get("data")
        words = data if isinstance(data, dict) else {}
        fit, background = words.get("fit", "crop"), words.get("background", "white")
        levels = words.get("levels", FULL)  # a file of an older version says nothing
        try:
            return make_preprocessing(self.model.shape, fit, background, levels=levels)
        except (UsageError, TypeError, AttributeError) as error:
            raise ModelFileError(f"the header of {self.path} is damaged ({error!s:.80})") from error

    @property
    def training_preprocessing(self) -> Preprocessing:
        """``preprocessing`` with the margin from which training cut random windows.

        Raises:
            ModelFileError: The header has invalid settings.
        """
        data = self.header["training"].get("data")
        margin = data.get("margin", 0.0) if isinstance(data, dict) else 0.0
        preprocessing = self.preprocessing
        try:
            return replace(
                preprocessing, margin=make_preprocessing(self.model.shape, margin=margin).margin
            )
        except (UsageError, TypeError, ValueError) as error:
            raise ModelFileError(f"the header of {self.path} is damaged ({error!s:.80})") from error

    @property
    def holdout(self) -> float:
        """Fraction of the images that training held out; 0 if the header has no valid value."""
        data = self.header["training"].get("data")
        share = data.get("holdout") if isinstance(data, dict) else None
        return share if isinstance(share, float) and 0 <= share < 1 else 0.0

    def class_number(self, name: str) -> int:
        """Return the number of a class of a conditional model.

        Raises:
            UsageError: The model is not conditional, or has no such class.
        """
        classes: list[str] = self.header["classes"]
        if not self.model.classes:
            raise UsageError(
                f"{self.path} is not conditional: it has no classes. Leave --class out"
            )
        if name in classes:
            return classes.index(name)
        composed = [unicodedata.normalize("NFC", known) for known in classes]  # as typed or stored
        if composed.count(typed := unicodedata.normalize("NFC", name)) != 1:
            raise unknown_name("class", name, classes, f"gentool info {self.path}")
        return composed.index(typed)


def check_classes(names: tuple[str, ...]) -> None:
    """Check, before a run, that the names of the classes fit into the header of a model file.

    Raises:
        UsageError: There are too many names, or they are too long.
    """
    written = len(json.dumps(json.dumps(names)))  # a header is JSON inside JSON
    if len(names) > _MAX_CLASSES or written > _MAX_CLASSES_BYTES:
        raise UsageError(
            f"there are {len(names)} classes with {written} bytes of names; a model file holds at "
            f"most {_MAX_CLASSES} classes and {_MAX_CLASSES_BYTES} bytes. Use --labels none, or "
            "fewer classes"
        )


def model_header(
    name: str, model: Model, classes: tuple[str, ...], training: Mapping[str, object]
) -> Header:
    """Return the header of a model file: everything that is needed to build the model again.

    Args:
        name: Name of the model in the registry.
        model: The model.
        classes: Names of the classes.
        training: Record of the training run or fit, as JSON values.
    """
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
    """Return the tensors of a model file; a name is ``part.name``, as in a state dict."""
    parts = model.exported_parts().items()
    return {f"{part}.{k}": v for part, module in parts for k, v in module.state_dict().items()}


def build(header: Header, path: Path) -> Model:
    """Build the model of a header on the meta device, which allocates no memory.

    Raises:
        ModelFileError: The model is unknown, or the header or its settings are invalid.
    """
    try:
        image = header["image"]
        shape = ImageShape(image["height"], image["width"], image["channels"])
        sides = (shape.height, shape.width)
        whole = all(type(s) is int for s in (*sides, shape.channels))
        if not whole or any(map(side_problem, sides)) or shape.channels not in MODES.values():
            raise UsageError(
                f"images of {shape.height!s:.20}x{shape.width!s:.20}x{shape.channels!s:.20}"
            )
        if not isinstance(header["model"], str) or not isinstance(header["config"], dict):
            raise TypeError("model and config")
        model_class = MODELS.get(header["model"])
        options = header["config"]
        config = from_json(model_class.Config, {**model_class.Config.absent(options), **options})
        with torch.device("meta"):
            return model_class(config, shape, _classes(header))
    except (KeyError, TypeError) as error:
        raise ModelFileError(f"the header of {path} is damaged ({error!s:.80})") from error
    except UsageError as error:
        raise ModelFileError(
            f"{path} needs something that gentool {__version__} does not have: {error!s:.400}"
        ) from error


def _classes(header: Header) -> int:
    """Return the number of classes that the model is conditional on; 0 if it is not."""
    if type(header["conditional"]) is not bool or not isinstance(header["classes"], list):
        raise TypeError("classes")
    return len(header["classes"]) if header["conditional"] else 0


def load_model(path: str | Path, device: torch.device | str = "cpu") -> LoadedModel:
    """Load a model file, or the one in a run folder, for sampling and other uses.

    Args:
        path: The file or run folder.
        device: Device of the weights: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``auto`` for the
            first of cuda, mps and cpu that this machine has.

    Raises:
        ModelFileError: It is not a gentool model file, is damaged, or does not match its header.
        UsageError: ``device`` is not a kind of device.
        DeviceError: This machine does not have that device.
    """
    where = select_device(str(device))
    file = locate(Path(path))
    built: list[Model] = []

    def check(header: Header, table: Table) -> None:
        if header.get("kind") != "model":
            raise ModelFileError(
                f"{file} is a training state, not a model. Use {MODEL_NAME} in the same folder"
            )
        _check_header(file, header)
        built.append(build(header, file))
        compare(file, exported_tensors(built[0]), table)

    header, tensors, sha256 = read_checked(file, check)
    model = built[0]
    weights = {k: v.to(where) for k, v in tensors.items()}
    for name in [n for n, _ in model.named_children() if n not in model.exported]:
        delattr(model, name)  # for example the discriminator, which only the state file holds
    # assign instead of copy: to_empty and copy_ on the meta device import sympy, which takes 0.3 s
    model.load_state_dict(weights, assign=True)
    model.eval().requires_grad_(False)
    return LoadedModel(model, header, sha256, file)


def _check_header(path: Path, header: Header) -> None:
    """Check the types of the rest of the header: the class names and the training record.

    Raises:
        ModelFileError: A type is wrong, or there are too many classes.
    """
    classes, training = header.get("classes"), header.get("training")
    plain = isinstance(classes, list) and len(classes) <= _MAX_CLASSES
    if not plain or not all(isinstance(c, str) for c in cast("list[object]", classes)):
        raise ModelFileError(f"the header of {path} is damaged (classes)")
    if not isinstance(training, dict):
        raise ModelFileError(f"the header of {path} is damaged (training)")


def compare(path: Path, expected: Tensors, table: Mapping[str, Any]) -> None:
    """Compare the names, shapes and dtypes in the table of a file with those of ``expected``.

    Raises:
        ModelFileError: They differ.
    """
    wanted = {k: (list(t.shape), DTYPES[t.dtype]) for k, t in expected.items()}
    found = {k: (row["shape"], row["dtype"]) for k, row in table.items()}
    if wanted != found:
        differing = sorted(k for k in {*wanted, *found} if wanted.get(k) != found.get(k))
        raise ModelFileError(
            f"{path} does not hold the weights that its header describes: {len(differing)} tensors "
            f"differ, the first is {differing[0][:80]}"
        )
