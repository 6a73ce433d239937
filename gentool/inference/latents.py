"""Points that a model decodes, as latents or as styles: drawn from the prior or read from a file.

Space ``z`` holds the model's latents, which ``prior`` draws and ``encode`` finds. Space ``w`` holds
styles, for models that have them: truncation is defined there, and straight lines pass through
good images (Karras et al. 2019, arXiv:1812.04948). A file of latents holds one tensor ``latents``;
its header names the model. ``gentool sample MODEL --save-latents FILE`` writes one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gentool.checkpoint import Header, LoadedModel, read_checked, write_result
from gentool.core.atomic_files import open_regular
from gentool.core.errors import ModelFileError, NoStyles, UsageError
from gentool.core.images import Pixels
from gentool.core.safetensors_io import DTYPES, Table
from gentool.core.version import __version__
from gentool.inference.blocks import decode_blocks, prior_blocks, style_blocks, synthesise_blocks
from gentool.models.base import Model
from gentool.models.capabilities import required_styles

SPACES = ("z", "w")
_TENSOR, _KIND = "latents", "latents"
_MOST_NUMBERS = 2**28  # in one file: 1 GiB of float32


@dataclass(frozen=True)
class Latents:
    """Points that a model can decode.

    Attributes:
        values: Latents (N, ...) with the shape and dtype of the model's prior, or styles
            (N, layers, S), float32.
        space: ``z`` for latents, ``w`` for styles.
        means: For each point, whether it is the mean of a posterior and not a draw; empty if none
            is.
    """

    values: torch.Tensor
    space: str = "z"
    means: tuple[bool, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def is_mean(self, row: int) -> bool:
        """Whether the point in ``row`` is the mean of a posterior."""
        return bool(self.means) and self.means[row]

    def rows(self, which: range) -> "Latents":
        """Return the points in rows ``which``."""
        means = tuple(map(self.is_mean, which))
        return Latents(self.values[list(which)], self.space, means)


@dataclass(frozen=True)
class LatentsFile:
    """Latents that were read from a file.

    Attributes:
        latents: The points, on the model's device.
        sha256: SHA-256 of the file in hexadecimal, for recipes.
        warning: Why the images may differ from those of the original model; None if they are
            the same.
    """

    latents: Latents
    sha256: str
    warning: str | None


def draw(model: Model, draws: Iterable[tuple[int, int]], label: int | None = None) -> Latents:
    """Draw one point per (seed, index) pair, with the choices of ``model.drawing``.

    Each point is the same as if it were drawn alone. The points are styles if the choices can
    only be applied to styles, else latents.

    Args:
        model: Any model.
        draws: (seed, index) of each point.
        label: Class of all points, for a conditional model; None draws a class for each.
    """
    latents = prior_blocks(model, draws, label)
    if model.styles and model.styles.needed:
        return Latents(style_blocks(model, latents, drawn=True), "w")
    return Latents(latents)


def of_images(model: Model, values: torch.Tensor) -> Latents:
    """Wrap encoded images, latents (N, ...); they are means if the model has a posterior."""
    return Latents(values, means=(model.variational is not None,) * len(values))


def images_at(model: Model, values: torch.Tensor, space: str) -> torch.Tensor:
    """Return images (B, C, H, W) in [-1, 1] of latents or styles, with gradients."""
    if space == "w":
        return required_styles(model.styles).synthesise(values)
    return model.decode(values)


def decode(model: Model, latents: Latents) -> Pixels:
    """Decode points to images, uint8 (N, H, W, C)."""
    if latents.space == "w":
        return synthesise_blocks(model, latents.values)
    return decode_blocks(model, latents.values)


def to_styles(model: Model, latents: Latents) -> Latents:
    """Convert points to styles; points that are styles are returned unchanged.

    Raises:
        NoStyles: the model has no styles.
    """
    if latents.space == "w":
        return latents
    return Latents(style_blocks(model, latents.values), "w")


def natural_space(model: Model) -> str:
    """Return ``w`` for models that have styles, else ``z``."""
    return "w" if model.styles else "z"


def join(parts: Sequence[Latents]) -> Latents:
    """Concatenate points, which must all be of one space."""
    (space,) = {part.space for part in parts}
    means = tuple(part.is_mean(k) for part in parts for k in range(len(part)))
    return Latents(torch.cat([part.values for part in parts]), space, means)


def write_latents(
    path: Path, loaded: LoadedModel, latents: Latents, recipe: Mapping[str, object]
) -> None:
    """Write points to a file, with a recipe that describes how they were made.

    Raises:
        UsageError: there are too many points, or the file cannot be written.
    """
    if latents.values.numel() > _MOST_NUMBERS:
        raise UsageError(
            f"{len(latents):,} latents are too many for one file of at most {_MOST_NUMBERS:,} "
            "numbers. Save them in parts, with --start and -n"
        )
    header = {
        "kind": _KIND,
        "model": loaded.header["model"],
        "model_sha256": loaded.sha256,
        "shape": list(latents.values.shape),
        "space": latents.space,
        "means": all(map(latents.is_mean, range(len(latents)))),
        "classes": _classes(loaded),
        "recipe": dict(recipe),
        "gentool": __version__,
    }
    write_result(path, {_TENSOR: latents.values}, header)


def is_latents(path: Path) -> bool:
    """Whether a file's name or first bytes show that it holds latents and not an image."""
    if path.suffix.lower() == ".safetensors":
        return True
    try:
        with open_regular(path) as file:
            start = file.read(9)
        return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size
    except OSError:
        return False


def read_latents(path: Path, loaded: LoadedModel) -> LatentsFile:
    """Read points from a file and check that they suit a model.

    Raises:
        ModelFileError: the file is missing, damaged or no file of latents, or its latents do not
            fit the model.
    """
    if not path.is_file():
        raise ModelFileError(
            f"there is no file of latents at {path!s:.200}. --save-latents writes one"
        )

    def check(header: Header, table: Table) -> None:
        if header.get("kind") != _KIND or set(table) != {_TENSOR}:
            raise ModelFileError(
                f"{path} holds no latents. Write them with 'gentool sample --save-latents'"
            )
        if header.get("space") not in SPACES:
            raise ModelFileError(f"the header of {path} is damaged (space)")
        _compare(path, loaded, table[_TENSOR], header["space"])
        if header.get("classes") != _classes(loaded):
            raise ModelFileError(
                f"the latents in {path} are from a model whose classes differ from {loaded.path}"
            )

    header, tensors, digest = read_checked(path, check)
    values = tensors[_TENSOR]
    if not torch.isfinite(values).all():
        raise ModelFileError(f"{path} holds numbers that are not finite")
    warning = None
    if header.get("model_sha256") != loaded.sha256:
        warning = (
            f"the latents in {path} were made with another model ({header.get('model')!s:.40}); "
            "the pictures may differ"
        )
    means = (header.get("means") is True,) * len(values)  # older files lack this entry
    latents = Latents(values.to(loaded.model.device), header["space"], means)
    return LatentsFile(latents, digest, warning)


def _classes(loaded: LoadedModel) -> list[str]:
    """Return the names of the classes that the model is conditional on; empty if there are none."""
    return list(loaded.header["classes"]) if loaded.model.classes else []


@torch.inference_mode()
def _compare(path: Path, loaded: LoadedModel, row: dict[str, object], space: str) -> None:
    """Compare the shape and dtype of a file's tensor with those that the model draws.

    Raises:
        ModelFileError: they differ, there are too many latents, or the file holds styles and the
            model has none.
    """
    like = loaded.model.prior(torch.zeros(1, dtype=torch.int64).numpy(), 0)
    if space == "w":
        try:
            like = required_styles(loaded.model.styles).of(like)
        except NoStyles as error:
            raise ModelFileError(f"{path} holds styles, but {loaded.path}: {error}") from error
    shape = row["shape"]
    assert isinstance(shape, list)
    if shape[1:] != list(like.shape[1:]) or row["dtype"] != DTYPES[like.dtype]:
        raise ModelFileError(
            f"each latent in {path} has {_times(shape[1:])} numbers of {row['dtype']!s:.20}; "
            f"{loaded.path} needs {_times(like.shape[1:])} of {DTYPES[like.dtype]}"
        )
    if not 1 <= shape[0] <= _MOST_NUMBERS // max(1, like[0].numel()):
        raise ModelFileError(
            f"{path} holds {shape[0]:,} latents; allowed: at least 1, and at most 1 GiB"
        )


def _times(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))[:80] or "()"
