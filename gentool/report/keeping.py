"""The pictures that a model drew for a report, kept in the cache, so that they are drawn only once.

They depend on the model file and the images alone. What was drawn at the end of a run is therefore
used again by ``gentool report``.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gentool.checkpoint import LoadedModel
from gentool.core.atomic_files import put
from gentool.core.strict_json import parse_json
from gentool.core.version import __version__
from gentool.data import Dataset, cache_folder
from gentool.report.film import Frame

_VERSION = 1  # of what is drawn
_MOST_BYTES = 16 * 2**20
_URI = "data:image/webp;base64,"


@dataclass(frozen=True)
class Picture:
    """One picture for the page.

    Attributes:
        frame: The picture.
        alt: What it shows, for those who cannot see it.
        label: A short text beside it, such as the name of a class; may be empty.
    """

    frame: Frame
    alt: str
    label: str = ""


@dataclass(frozen=True)
class Part:
    """The pictures of one section.

    Attributes:
        pictures: The pictures; there may be none.
        note: What is told about them, or why there are none; may be empty.
    """

    pictures: list[Picture]
    note: str


def place_of(loaded: LoadedModel, dataset: Dataset | None) -> Path:
    """Return the file in the cache for the pictures of a model beside these images."""
    images = "none" if dataset is None else dataset.version
    words = f"{_VERSION}|{__version__}|{loaded.sha256}|{loaded.model.device.type}|{images}"
    return cache_folder() / f"drawn-{hashlib.sha256(words.encode()).hexdigest()[:16]}"


def read_parts(place: Path) -> dict[str, Part]:
    """Return the sections in a file, by name; none if the file is missing or damaged."""
    try:
        with place.open("rb") as file:
            told = parse_json(file.read(_MOST_BYTES))
        return {str(name): _part(value) for name, value in told.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _part(value: Mapping[str, Any]) -> Part:
    """Return a section from its JSON.

    Raises:
        ValueError, KeyError, TypeError: it is damaged.
    """
    pictures = []
    for row in value["pictures"]:
        frame = Frame(str(row["frame"]["uri"]), int(row["frame"]["width"]),
                      int(row["frame"]["height"]))  # fmt: skip
        if not frame.uri.startswith(_URI):
            raise ValueError("uri")
        pictures.append(Picture(frame, str(row["alt"]), str(row["label"])))
    return Part(pictures, str(value["note"]))


def write_parts(place: Path, parts: Mapping[str, Part]) -> None:
    """Keep sections in a file; nothing happens if the cache cannot be written."""
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        put(place, json.dumps({name: asdict(part) for name, part in parts.items()}).encode())
