"""What is scored: model files, and images in a folder, an archive or a ``.npz``."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from PIL import ImageColor

from gentool.checkpoint import MODEL_NAME, LoadedModel, load_model
from gentool.core.errors import DataError, ModelFileError, UsageError
from gentool.core.safetensors_io import is_torch_pickle
from gentool.data import Policy, Source, is_folder, make_policy, open_images, resolve_shape

Target = LoadedModel | Source
_LARGEST_SIDE = 64  # of the shape chosen when neither a model nor the caller says one


def open_target(path: Path, device: torch.device | str) -> Target:
    """A model, or images.

    Raises:
        ModelFileError: nothing there, or a file of another kind.
        DataError: a folder or an archive without images.
    """
    if is_folder(path) and (path / MODEL_NAME).is_file():
        return load_model(path, device)
    if not is_folder(path) and not _is_there(path):
        raise ModelFileError(
            f"nothing at {path!s:.200}. Give a model file, a run folder, or images: a folder, an "
            "archive or a .npz of them"
        )
    try:
        source = open_images(path)
    except DataError as error:
        if path.is_file() and is_torch_pickle(path):
            return load_model(path, device)  # which says what it is
        if is_folder(path):
            raise DataError(f"{error}, and no {MODEL_NAME}") from error
        raise
    return load_model(path, device) if source is None else source


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file can have
        return False


def choose_policy(
    models: Mapping[Path, LoadedModel], source: Source, size: str | None, mode: str | None,
    fit: str | None, background: str | None,
) -> Policy:  # fmt: skip
    """How both sides are prepared: as the models' own images were, or else as ``train`` would.

    Args:
        models: Those that are scored.
        source: The images to compare with.
        size: As it was asked for, like the others; None for what suits.
        mode: ``grey``, ``rgb`` or ``rgba``.
        fit: ``crop``, ``pad`` or ``stretch``.
        background: A colour.

    Raises:
        UsageError: the models differ, or something else was asked for beside a model.
    """
    if not models:
        shape, _ = resolve_shape(source, size, mode, _LARGEST_SIDE)
        return make_policy(shape, fit or "crop", background or "white")
    policies = {_plain(loaded.policy): loaded.policy for loaded in models.values()}
    if len(policies) > 1:
        different = " and ".join(sorted(policy.words for policy in policies.values()))
        raise UsageError(
            f"the models make images of {different}; scores compare only at one shape and intake. "
            "Score them one by one"
        )
    (own,) = policies.values()
    asked_for, _ = resolve_shape(
        source,
        size or f"{own.shape.height}x{own.shape.width}",
        mode or own.shape.mode,
        own.shape.height,
    )
    asked = make_policy(asked_for, fit or own.fit, background or own.background)
    if _plain(asked) != _plain(own):
        path = next(iter(models))
        given = {"--size": size, "--mode": mode, "--fit": fit, "--background": background}
        words = " ".join(f"{name} {word}" for name, word in given.items() if word is not None)
        raise UsageError(
            f"{words:.200} asks for images of {asked.words}, but {path!s:.200} was trained on "
            f"images of {own.words}: both sides are prepared as the model's images were. Leave "
            "these options out"
        )
    return own


def _plain(policy: Policy) -> Policy:
    """The policy with its background as numbers, since a colour has several names."""
    red, green, blue, *_ = ImageColor.getrgb(policy.background)
    return replace(policy, background=f"#{red:02x}{green:02x}{blue:02x}")


def common_holdout(models: Iterable[LoadedModel]) -> float:
    """The share that every model kept out; 0 without models.

    Raises:
        UsageError: they differ.
    """
    shares = {loaded.holdout for loaded in models}
    if len(shares) > 1:
        raise UsageError(
            f"the models kept out different shares ({sorted(shares)}); score them one by one"
        )
    return shares.pop() if shares else 0.0
