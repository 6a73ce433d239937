"""Key frames that the user gives as seeds, photos or files of latents.

A key frame is a point in a model's latent space. A folder or a file of latents may give several.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gentool.cli.console import say
from gentool.core.errors import DataError, UsageError
from gentool.core.options import Scalar
from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.checkpoint import LoadedModel
    from gentool.inference.latents import Latents


@dataclass(frozen=True)
class Wanted:
    """The key frames that the user asked for.

    Attributes:
        files: Photos, folders of photos, and files of latents; they precede the seeds.
        seeds: Seeds; image 0 of each is a key frame.
        class_name: One class for all key frames; None for no choice.
        space: ``z`` (latents) or ``w`` (styles); None for ``w`` if the model has styles, else
            ``z``.
        draws: Options for drawing from the seeds, for ``Model.draw_with``.
    """

    files: list[Path]
    seeds: list[int]
    class_name: str | None
    space: str | None
    draws: dict[str, Scalar]

    @property
    def recipe(self) -> dict[str, object]:
        """The recipe: seeds, class, and names (without folders) and hashes of the files."""
        from gentool.outputs.marks import hash_of_files

        told: dict[str, object] = {"seeds": self.seeds} if self.seeds else {}
        if self.class_name is not None:
            told["class"] = f"{self.class_name:.200}"
        if self.files:
            told["key_files"] = [f.name for f in self.files]
            told["key_sha256"] = hash_of_files(self.files)
        return told

    @property
    def name(self) -> str:
        """The start of the names of result files, such as ``photo-seed3-seed5``."""
        from gentool.inference.result_names import shortened

        words = [f.stem.lstrip(".") for f in self.files] + [f"seed{seed}" for seed in self.seeds]
        return shortened("-".join(words))


def find_keys(loaded: "LoadedModel", wanted: Wanted, stop: StopFlag) -> "Latents":
    """Return the key frames, all in one space.

    The latents of photos are found by the model's encoder, a search, or both.

    Raises:
        UsageError: a key frame is in ``w`` although ``z`` is wanted, or cannot have the class.
        DataError: a photo cannot be read.
        ModelFileError: a file of latents does not belong to this model.
    """
    from gentool.inference.latents import draw, join, natural_space, to_styles

    label = None if wanted.class_name is None else loaded.class_number(wanted.class_name)
    searched = "z" if label is not None else wanted.space  # the class of styles cannot be changed
    parts = [_of_class(loaded, _of_file(loaded, f, searched, stop), label) for f in wanted.files]
    loaded.model.draw_with(**wanted.draws)  # only after photos and files, which are not drawn
    if wanted.seeds:
        parts.append(draw(loaded.model, [(seed, 0) for seed in wanted.seeds], label))
    space = wanted.space or natural_space(loaded.model)
    if space == "w":
        return join([to_styles(loaded.model, part) for part in parts])
    if any(part.space == "w" for part in parts):
        raise UsageError(
            "styles from a file, and truncation of this model, are in w. Leave --space z out"
        )
    return join(parts)


def _of_file(loaded: "LoadedModel", path: Path, space: str | None, stop: StopFlag) -> "Latents":
    """Return the latents in a file, or find those of a photo or of all photos in a folder.

    Args:
        loaded: The model.
        path: A file of latents, a photo, or a folder of photos.
        space: Space in which the latents of photos are searched; None for the default.
        stop: Checked during the search.
    """
    import numpy as np

    from gentool.inference.latents import is_latents, read_latents
    from gentool.inference.reconstruction import find_images, find_latents, read_images

    if is_latents(path):
        file = read_latents(path, loaded)
        if file.warning:
            say(f"warning: {file.warning}")
        return file.latents
    good, bad = read_images(loaded, find_images([path]), say)
    for photo, reason in bad.items():
        raise DataError(f"{photo}: {reason}. Give an image or a file of latents")
    images = np.stack(list(good.values()))
    return find_latents(loaded, images, None, 0, stop, space=space, tell=say)


def _of_class(loaded: "LoadedModel", latents: "Latents", label: int | None) -> "Latents":
    """Return the points with their class replaced by ``label``; unchanged if it is None.

    Raises:
        UsageError: the points are styles, or the model's latents contain no class.
    """
    if label is None:
        return latents
    if latents.space == "w":
        raise UsageError("styles from a file already have a class. Leave --class out")
    classes = loaded.model.latent_classes
    if not classes:
        raise UsageError(
            "photos and latents of this model have no class; only samples from seeds have one. "
            "Leave --class out"
        )
    values = latents.values.clone()
    values[:, -classes:] = 0
    values[:, label - classes] = 1
    return replace(latents, values=values)
