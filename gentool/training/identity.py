"""The identity of a run: what two commands must share to be the same run, and how they differ.

The state of a run records its identity. ``continuing`` takes the settings that a command does not
give from it, before the images are prepared; ``RunFolder`` compares all of it, afterwards.
"""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from gentool.checkpoint import STATE_NAME, Header, read_header
from gentool.core.errors import GentoolError, UsageError
from gentool.models.base import BaseConfig
from gentool.training.settings import default_identity

IMAGES = "--data (its images)"  # the beginning of the fingerprint of the images
OPTION = "-o "
SPLIT = "keeps classes"  # how the hold-out is chosen; older states do not say it
_SHOWN = 20  # most settings that are listed
Differing = Mapping[str, tuple[object, object]]  # (value in the run, value now) by setting


def state_of(folder: Path) -> Header | None:
    """Return the header of the state in a folder; None where no run began, or it is damaged."""
    try:
        return read_header(folder / STATE_NAME)[0]
    except (GentoolError, OSError):
        return None


def options_of(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's options in an identity, by name without ``-o``."""
    return {k.removeprefix(OPTION): v for k, v in identity.items() if k.startswith(OPTION)}


def completed(identity: Mapping[str, Any], config: type[BaseConfig]) -> dict[str, Any]:
    """Return the identity in a state with the settings and options that were added later.

    Args:
        identity: The identity in the state.
        config: The options of the model.
    """
    unsaid = {OPTION + k: v for k, v in config.absent(options_of(identity)).items()}
    return {**default_identity(), **unsaid, **identity}


def in_words(differing: Differing, images: str = "") -> str:
    """Return what differs, as text; 20 settings at most, and no options of another model.

    Args:
        differing: The settings that differ.
        images: How the images differ, to be said instead of their fingerprints.
    """
    shown = [k for k in differing if not ("model" in differing and k.startswith(OPTION))]
    return "; ".join(
        images if k == IMAGES and images else f"{k:.60} was {was!s:.60} and is {now!s:.60}"
        for k, (was, now) in ((k, differing[k]) for k in islice(shown, _SHOWN))
    )


def other_settings(path: Path, differing: Differing, images: str = "") -> UsageError:
    """Return the error for a folder whose run has other settings or images.

    Args:
        path: The run folder.
        differing: The settings that differ.
        images: As for ``in_words``.
    """
    if images and differing.keys() == {IMAGES}:
        return UsageError(
            f"the run in {path} began with other images: {images}. --override goes on with them; "
            "another --out begins a new run"
        )
    return UsageError(
        f"{path} holds a run with other settings: {in_words(differing, images)}. Choose another "
        "--out, or use --override to continue with the new settings"
    )
