"""Opening what ``--data`` names, for every verb that reads images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.data import Source


@dataclass(frozen=True)
class Opening:
    """How to open it.

    Attributes:
        labels: A file of labels, ``folders`` or ``none``; None for what is found.
        all_frames: Whether every frame of an animation is an image.
        download: Whether what is not here may be fetched.
        refresh: Whether every file of a huge folder is looked at again.
    """

    labels: str | None = None
    all_frames: bool = False
    download: bool = False
    refresh: bool = False


def open_data(specs: Sequence[str], how: Opening, stop: StopFlag) -> "Source":
    """The images that ``specs`` name, joined."""
    from gentool.data import open_joined

    return open_joined(specs, **vars(how), poll=stop.poll)
