"""Open the images that ``--data`` names, for all commands that read images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.data import Source


@dataclass(frozen=True)
class Opening:
    """Options for opening images.

    Attributes:
        labels: A file of labels, ``folders`` or ``none``; None for the labels that are found.
        all_frames: Whether every frame of an animation is an image.
        download: Whether missing data may be downloaded.
        refresh: Whether to ignore an existing index, and to compare all files with the cache.
        max_bad: Share of the images that may have no label; they are left out.
    """

    labels: str | None = None
    all_frames: bool = False
    download: bool = False
    refresh: bool = False
    max_bad: float = 0.01


def open_data(specs: Sequence[str], how: Opening, stop: StopFlag) -> "Source":
    """Return one source with the images of all ``specs``."""
    from gentool.data import open_joined

    return open_joined(specs, **vars(how), poll=stop.poll)
