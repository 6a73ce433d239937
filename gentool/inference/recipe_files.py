"""Files of recipes (``recipe.toml``), with which ``sample --like`` draws chosen images again.

A sample is written as its seed and its index. Other images, such as one that was changed along a
direction, are written as their latents, in base64. The file is not trusted: every value is checked.
"""

import base64
import binascii
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gentool.checkpoint import LoadedModel
from gentool.core.atomic_files import open_regular
from gentool.core.errors import UsageError
from gentool.core.options import Scalar
from gentool.core.rng import MAX_SEED
from gentool.core.version import __version__
from gentool.inference.latents import SPACES, Latents, to_styles
from gentool.inference.picks import Pick, Point, SampleOf, bytes_of_point, drawing
from gentool.models.base import Model

_MOST_BYTES = 64 * 2**20
MOST_IMAGES = 10_000
_HEAD = ("gentool", "model", "model_sha256", "image")
_SAMPLE = ("seed", "index", "class")
_POINT = ("latents", "space", "mean", "made_from")


@dataclass(frozen=True)
class RecipeFile:
    """The images in a file of recipes.

    Attributes:
        picks: The images.
        warning: Why they may differ from those that were chosen; None if they are the same.
    """

    picks: list[Pick]
    warning: str | None


def recipe_text(loaded: LoadedModel, picks: Sequence[Pick]) -> str:
    """Return the content of a file of recipes.

    Raises:
        UsageError: the name of a class is not valid text.
    """
    head = {
        "gentool": __version__,
        "model": str(loaded.header["model"]),
        "model_sha256": loaded.sha256,
    }
    lines = ["# Draw these images again: gentool sample MODEL --like recipe.toml", *_lines(head)]
    for pick in picks:
        lines += ["", "[[image]]", *_lines(_entries(pick))]
    return "\n".join(lines) + "\n"


def _entries(pick: Pick) -> dict[str, Scalar]:
    """Return the keys and values of one image."""
    if isinstance(pick, SampleOf):
        named: dict[str, Scalar] = {} if pick.class_name is None else {"class": pick.class_name}
        return {"seed": pick.seed, "index": pick.index, **named, **pick.drawing}
    told: dict[str, Scalar] = {"made_from": pick.made_from} if pick.made_from else {}
    numbers = base64.b64encode(bytes_of_point(pick.latents)).decode()
    mean = pick.latents.is_mean(0)
    return {**told, "space": pick.latents.space, "mean": mean, "latents": numbers}


def _lines(values: Mapping[str, Scalar]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in values.items()]


def _toml(value: Scalar) -> str:
    """Return a value as TOML; the escapes of JSON strings are valid there, except for DEL.

    Raises:
        UsageError: a text is not valid Unicode.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"{value!a:.80} is not valid text, so no recipe can hold it"
            ) from error
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)


def read_recipe_file(path: Path, loaded: LoadedModel) -> RecipeFile:
    """Read a file of recipes for a model.

    Raises:
        UsageError: the file cannot be read, is not such a file, or does not fit the model.
    """
    told = _parse(path)
    if not isinstance(told.get("gentool"), str) or not isinstance(told.get("image"), list):
        raise UsageError(f"{path} is no file of recipes. 'gentool explore' writes one")
    _refuse_unknown(path, told, _HEAD)
    rows = told["image"]
    if not 1 <= len(rows) <= MOST_IMAGES:
        raise UsageError(f"{path} has {len(rows):,} images; allowed: 1 to {MOST_IMAGES:,}")
    like: list[Latents] = []

    def example(space: str) -> Latents:
        if not any(one.space == space for one in like):
            like.append(_example(loaded.model, space))
        return next(one for one in like if one.space == space)

    picks = [_pick(f"image {k + 1} in {path}", row, loaded, example) for k, row in enumerate(rows)]
    warning = None
    if told.get("model_sha256") != loaded.sha256:
        warning = (
            f"{path} was written for another model ({told.get('model')!s:.40}); the pictures may "
            "differ"
        )
    return RecipeFile(picks, warning)


def _parse(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        UsageError: it cannot be read, is too large or is not TOML.
    """
    try:
        with open_regular(path) as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path!s:.200}: {error.strerror or error}") from error
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{path} is larger than {_MOST_BYTES // 2**20} MiB, so it is no recipe")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is not TOML: {error!s:.100}. Give a recipe.toml of 'gentool explore'"
        ) from error


def _refuse_unknown(where: object, row: Mapping[str, object], known: Sequence[str]) -> None:
    """Check the keys of a table.

    Raises:
        UsageError: a key is unknown.
    """
    for key in row:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r:.60}; known: {', '.join(known)}")


def _pick(where: str, row: object, loaded: LoadedModel, example: Callable[[str], Latents]) -> Pick:
    """Return one image of a file.

    Raises:
        UsageError: it has no valid values, or the model cannot draw it.
    """
    if not isinstance(row, dict):
        raise UsageError(f"{where} is no table. Write it as [[image]]")
    if "latents" in row:
        _refuse_unknown(where, row, _POINT)
        return Point(_latents(where, row, example), str(row.get("made_from", ""))[:1000])
    for key, most in (("seed", MAX_SEED), ("index", 2**53)):
        if type(row.get(key)) is not int or not 0 <= row[key] <= most:
            raise UsageError(f"{where}: {key} is {row.get(key)!s:.40}; allowed: 0 to {most:,}")
    name = row.get("class")
    if name is not None and not isinstance(name, str):
        raise UsageError(f"{where}: the class is {name!s:.40}, and not the name of a class")
    if name is not None:
        loaded.class_number(name)
    options = {key: value for key, value in row.items() if key not in _SAMPLE}
    try:
        drawing(loaded, options)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    return SampleOf(row["seed"], row["index"], name, options)


def _latents(where: str, row: Mapping[str, object], example: Callable[[str], Latents]) -> Latents:
    """Return the latents of one image of a file.

    Raises:
        UsageError: they do not fit the model.
    """
    space, mean, words = row.get("space"), row.get("mean", False), row["latents"]
    if space not in SPACES or type(mean) is not bool or not isinstance(words, str):
        raise UsageError(f"{where}: latents are base64, space is z or w, and mean is true or false")
    like = example(str(space)).values
    try:
        data = base64.b64decode(words, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"{where}: the latents are not base64") from error
    kind = like.cpu().numpy().dtype
    if len(data) != like.numel() * kind.itemsize:
        raise UsageError(
            f"{where} has latents of {len(data):,} bytes; this model needs "
            f"{like.numel() * kind.itemsize:,}"
        )
    numbers = np.frombuffer(data, kind.newbyteorder("<")).astype(kind)
    values = torch.from_numpy(numbers).view(like.shape).to(like.device)
    if not torch.isfinite(values).all():
        raise UsageError(f"{where}: the latents hold numbers that are not finite")
    return Latents(values, str(space), (mean,))


@torch.inference_mode()
def _example(model: Model, space: str) -> Latents:
    """Return a point of the model, whose shape and type the points in a file must have.

    Raises:
        UsageError: the model has no styles, and ``space`` is ``w``.
    """
    latents = Latents(model.prior(np.zeros(1, dtype=np.int64), 0))
    return to_styles(model, latents) if space == "w" else latents
