"""The targets of an evaluation: model files, and images in a folder, an archive or a ``.npz``."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from PIL import ImageColor

from gentool.checkpoint import MODEL_NAME, LoadedModel, load_model
from gentool.core.errors import DataError, ModelFileError, UsageError
from gentool.core.safetensors_io import is_torch_pickle
from gentool.data import (
    Preprocessing,
    Sample,
    Source,
    is_folder,
    make_preprocessing,
    open_images,
    resolve_levels,
    resolve_shape,
)
from gentool.data.levels import AUTO, FULL

Target = LoadedModel | Source
_LARGEST_SIDE = 64  # largest side of the images if neither a model nor the caller chooses a size


def open_target(path: Path, device: torch.device | str) -> Target:
    """Open a target: a model file, a run folder, or images.

    Raises:
        ModelFileError: the path does not exist, or is a file of another kind.
        DataError: a folder or an archive has no images.
    """
    if is_folder(path) and (path / MODEL_NAME).is_file():
        return load_model(path, device)
    if not is_folder(path) and not _is_there(path):
        raise ModelFileError(
            f"there is nothing at {path!s:.200}. Give a model file, a run folder, or images: a "
            "folder, an archive or a .npz"
        )
    try:
        source = open_images(path)
    except DataError as error:
        if path.is_file() and is_torch_pickle(path):
            return load_model(path, device)  # raises an error that names the kind of file
        if is_folder(path):
            raise DataError(f"{error}, and there is no {MODEL_NAME}") from error
        raise
    return load_model(path, device) if source is None else source


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file can have
        return False


def choose_preprocessing(
    models: Mapping[Path, LoadedModel], sample: Sample, size: str | None, mode: str | None,
    fit: str | None, background: str | None, levels: str | None,
) -> Preprocessing:  # fmt: skip
    """Choose how targets and reference images are prepared: as the training images of the models.

    Without models the choice is made as for ``train``.

    Args:
        models: The models that are scored.
        sample: A sample of the reference images.
        size: Size that the user chose; None, here and below, for the default.
        mode: ``grey``, ``rgb`` or ``rgba``.
        fit: ``crop``, ``pad`` or ``stretch``.
        background: A colour.
        levels: ``auto``, ``full`` or LOW:HIGH.

    Raises:
        UsageError: the models differ, or the user chose other values than those of the model.
    """
    if not models:
        shape, _ = resolve_shape(sample, size, mode, _LARGEST_SIDE)
        chosen, _ = resolve_levels(sample, levels)
        return make_preprocessing(shape, fit or "crop", background or "white", levels=chosen)
    found = {_plain(loaded.preprocessing): loaded.preprocessing for loaded in models.values()}
    if len(found) > 1:
        different = " and ".join(sorted(preprocessing.words for preprocessing in found.values()))
        raise UsageError(
            f"the models make images of {different}; their scores are comparable only if "
            "all images are prepared in the same way. Score them one by one"
        )
    (own,) = found.values()
    asked_for, _ = resolve_shape(
        sample,
        size or f"{own.shape.height}x{own.shape.width}",
        mode or own.shape.mode,
        own.shape.height,
    )
    own_levels = str(own.levels or FULL)
    asked = make_preprocessing(
        asked_for, fit or own.fit, background or own.background,
        levels=own_levels if levels in (None, AUTO) else levels,
    )  # fmt: skip
    if _plain(asked) != _plain(own):
        path = next(iter(models))
        given = {
            "--size": size, "--mode": mode, "--fit": fit, "--background": background,
            "--levels": levels,
        }  # fmt: skip
        words = " ".join(f"{name} {word}" for name, word in given.items() if word is not None)
        raise UsageError(
            f"{words:.200} asks for images of {asked.words}, but {path!s:.200} was trained on "
            f"images of {own.words}, and all images are prepared like those of the model. Leave "
            "these options out"
        )
    return own


def _plain(preprocessing: Preprocessing) -> Preprocessing:
    """Return ``preprocessing`` with its background as #rrggbb, since a colour has several names."""
    red, green, blue, *_ = ImageColor.getrgb(preprocessing.background)
    return replace(preprocessing, background=f"#{red:02x}{green:02x}{blue:02x}")


def common_holdout(models: Iterable[LoadedModel]) -> float:
    """Return the fraction of images that every model kept out of training; 0 without models.

    Raises:
        UsageError: the models kept out different fractions.
    """
    shares = {loaded.holdout for loaded in models}
    if len(shares) > 1:
        raise UsageError(
            f"the models have different --holdout ({sorted(shares)}). Score them one by one"
        )
    return shares.pop() if shares else 0.0
