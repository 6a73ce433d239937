"""Reconstruction: image -> latents -> image, with what was lost on the way.

Models with an encoder use it (the posterior mean, for a VAE); where that is only a first guess,
as for a GAN, and where there is none, a search finds the latents (``inversion``).
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gentool.checkpoint import LoadedModel, exported_tensors, write_result
from gentool.core.errors import NoEncoder, UsageError
from gentool.core.images import Layout, Pixels, grid, mean_squared_error, psnr
from gentool.core.signals import StopFlag
from gentool.data import BadImage, Policy, Source, decode, open_images
from gentool.inference.blocks import encode_blocks, posterior_blocks, prior_blocks
from gentool.inference.held_out import fitted_record
from gentool.inference.inversion import fit_weights, invert
from gentool.inference.latents import Latents, natural_space, of_images
from gentool.inference.latents import decode as decode_latents
from gentool.metrics.extractors import check_evaluating
from gentool.metrics.pixels import ssim
from gentool.outputs.writers import Plan, Planned, recipe

FIT_STEPS = 300  # per 16 images
_NAME_BYTES = 160
_CUT_LETTERS = "".join(chr(0xDC80 + k) for k in range(0x40))  # what is left of a letter cut in two


@dataclass(frozen=True)
class Reconstruction:
    """One image and what the model makes of it.

    Attributes:
        path: The image's file.
        original: The image as the model sees it, uint8 (H, W, C).
        image: The reconstruction, uint8 (H, W, C).
        mse: Mean squared error on the [0, 1] scale, of the rounded images.
        psnr: Peak signal-to-noise ratio in dB.
        ssim: Structural similarity, 1 for equal images.
    """

    path: Path
    original: Pixels
    image: Pixels
    mse: float
    psnr: float
    ssim: float


class FoundImage(NamedTuple):
    """An image that was asked for: its name, and how to read it.

    Attributes:
        path: Its file; inside an archive the archive's path and the member's name.
        load: Gives it prepared; raises as ``Source.load``.
    """

    path: Path
    load: Callable[[Policy], Pixels]


def find_images(paths: Sequence[Path]) -> list[FoundImage]:
    """Files as given; folders searched as they are for training; the images of an archive.

    Raises:
        DataError: a folder or an archive without images, or a damaged archive. (A file that is not
            there is found out on reading.)
    """
    found: list[FoundImage] = []
    for path in paths:
        source = open_images(path)
        if source is None:
            found.append(FoundImage(path, partial(_read_file, path)))
        else:
            found += [
                FoundImage(path / inside, partial(_load, source, k))
                for k, inside in enumerate(source.paths)
            ]
    return found


def _read_file(path: Path, policy: Policy) -> Pixels:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise BadImage("not a regular file")
    return decode(path.read_bytes(), policy)


def _load(source: Source, index: int, policy: Policy) -> Pixels:
    return source.load(index, policy).pixels


def read_images(
    loaded: LoadedModel, wanted: Sequence[FoundImage]
) -> tuple[dict[Path, Pixels], dict[Path, str]]:
    """Images in the model's shape, and for the others the reason why not."""
    good: dict[Path, Pixels] = {}
    bad: dict[Path, str] = {}
    policy = loaded.policy
    for image in wanted:
        try:
            good[image.path] = image.load(policy)
        except BadImage as error:
            bad[image.path] = str(error)
        except OSError as error:
            bad[image.path] = error.strerror or str(error)
    return good, bad


def require_denoiser(loaded: LoadedModel) -> None:
    """Raise UsageError for a model that never learned to take noise away."""
    if not loaded.model.denoises:
        raise UsageError(
            "this model has not learned to denoise. Train a vae or an autoencoder with "
            "-o denoise=0.3 (white is 1)"
        )


def find_latents(
    loaded: LoadedModel,
    images: Pixels,
    steps: int | None,
    seed: int,
    stop: StopFlag,
    *,
    drawn: bool = False,
    space: str | None = None,
    tell: Callable[[str], None] = lambda words: None,
) -> Latents:
    """Points of uint8 images (N, H, W, C), by the encoder, a search, or both.

    Args:
        loaded: The model.
        images: What to find.
        steps: Of the search; None for what suits the model, 0 for the encoder alone.
        seed: Of the search, where there is no encoder to begin at.
        stop: Polled.
        drawn: Draw from the encoder's posterior instead of taking its mean.
        space: That is searched; None for what suits the model: with styles, one w per layer,
            which can say more than z can (Abdal et al. 2019, arXiv:1904.03189).
        tell: Hears why a search begins at random places.

    Raises:
        UsageError: there is no posterior to draw from, or no encoder to be alone.
    """
    model = loaded.model
    if drawn:
        return Latents(posterior_blocks(model, images, seed))
    steps = model.search_steps if steps is None else steps
    space = space or natural_space(model)
    try:
        start = of_images(model, encode_blocks(model, images))
    except NoEncoder as error:
        if not steps:
            raise UsageError(f"{error}. --steps 0 is the encoder alone; leave it out") from error
        tell(f"{error}. The search begins at random places")
        return invert(model, images, steps, seed, stop, space=space)
    if not steps:
        return start
    found = invert(model, images, steps, seed, stop, start, space)
    return replace(found, means=start.means)


def redraw_below(loaded: LoadedModel, latents: Latents, layers: int, seed: int) -> Latents:
    """Points whose first so many layers stay, and the rest is drawn anew.

    Raises:
        UsageError: the model's latents have no layers, or not so many.
    """
    drawn = prior_blocks(loaded.model, [(seed, k) for k in range(len(latents))])
    return Latents(loaded.model.keep_top(latents.values, drawn, layers))


def fit(
    loaded: LoadedModel, images: dict[Path, Pixels], latents: Latents, stop: StopFlag
) -> LoadedModel:
    """The model with its weights fitted to images at their latents; see ``inversion``."""
    originals = np.stack(list(images.values()))
    tuned = fit_weights(loaded.model, latents, originals, FIT_STEPS, stop)
    return replace(loaded, model=tuned)


def fitted_recipe(loaded: LoadedModel, plan: Plan) -> dict[str, object]:
    """How a model that is fitted to the images of a plan will come about."""
    recipes = [result.recipe for result in plan.results()]
    originals = "".join(str(recipe["original_sha256"]) for recipe in recipes)
    of_each = ("original", "original_sha256", "alone")
    return {
        **{k: v for k, v in recipes[0].items() if k not in of_each},
        "of": loaded.sha256,
        "originals": hashlib.sha256(originals.encode()).hexdigest()[:16],
    }


def write_fitted(
    fitted: LoadedModel, images: dict[Path, Pixels], path: Path, made_by: Mapping[str, object]
) -> LoadedModel:
    """Save a model that ``fit`` made, a file like any other; it says what it was fitted to.

    Returns:
        The model of that file.

    Raises:
        UsageError: the file cannot be written.
    """
    record = fitted_record(fitted, list(images.values()))
    training = {**fitted.header["training"], "fitted": record, "made_by": dict(made_by)}
    header = {**fitted.header, "training": training}
    write_result(path, exported_tensors(fitted.model), header)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return replace(fitted, header=header, sha256=sha256, path=path)


def reconstruct(
    loaded: LoadedModel, images: dict[Path, Pixels], latents: Latents
) -> list[Reconstruction]:
    """What the model makes of every image's latents, in order."""
    check_evaluating(loaded.model)
    originals = np.stack(list(images.values()))
    decoded = decode_latents(loaded.model, latents)
    similarities = ssim(originals, decoded)
    results = []
    for path, original, image, like in zip(images, originals, decoded, similarities, strict=True):
        mse = mean_squared_error(original, image)
        results.append(Reconstruction(path, original, image, mse, psnr(mse), float(like)))
    return results


def plan_pictures(
    loaded: LoadedModel, images: dict[Path, Pixels], *, only: bool, **how: object
) -> Plan:
    """What the pictures of a reconstruction will be called, and how they will come about.

    Args:
        loaded: The model.
        images: The originals, by path.
        only: Whether each picture is the reconstruction alone, under the original's name in a
            folder of the same name; otherwise the original stands beside it.
        how: What was chosen beside the images.
    """
    shape = loaded.model.shape
    width = shape.width if only else Layout.of(2, shape.height, shape.width, 2).sheet[1]
    separator = "/" if only else "-"

    names = result_names(list(images), separator)
    digests = [hashlib.sha256(pixels.tobytes()).hexdigest()[:16] for pixels in images.values()]

    def planned() -> Iterator[Planned]:
        for name, path, digest in zip(names, images, digests, strict=True):
            what = {"original": path.name, "original_sha256": digest, "alone": only, **how}
            yield Planned(name, recipe(loaded, made_by="reconstruct", **what))

    return Plan(planned, len(images), replace(shape, width=width))


def picture(result: Reconstruction, *, only: bool) -> Pixels:
    """The reconstruction alone, or the original beside it, uint8 (H, W, C)."""
    return result.image if only else grid(np.stack([result.original, result.image]), columns=2)


def result_names(paths: Sequence[Path], separator: str) -> list[str]:
    """A name for the result of each file, from its whole path, so that no two files share one.

    A file below the working directory is named by its path from there, others by their folder,
    whose place is told by a hash. The suffix stays where it is not ``.png``. What is too long keeps
    its end behind a hash; in one list a name that comes twice is numbered.

    Args:
        paths: Of the sources.
        separator: What stands between folders: ``/`` makes folders.
    """
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        parts = list(_from_here(path).parts)
        parts[-1] = path.stem if path.suffix.lower() == ".png" else path.name
        parts = [f"_{part}" if part.startswith(".") else part for part in parts]
        if separator == "/":
            name = "/".join(map(shortened, parts))
        else:
            name = shortened(separator.join(parts))
        found, number = name, 1
        while found.casefold() in taken:
            number += 1
            found = f"{name}~{number}"
        taken.add(found.casefold())
        names.append(found)
    return names


def _from_here(path: Path) -> Path:
    """A path from the working directory; of one elsewhere, the folder's name with a hash."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
    try:
        return whole.relative_to(Path.cwd())
    except ValueError:
        digest = hashlib.sha256(os.fsencode(whole.parent)).hexdigest()[:6]
        return Path(f"{whole.parent.name or 'root'}-{digest}") / whole.name


def shortened(name: str) -> str:
    """A part of a file name of at most ``_NAME_BYTES``, which leaves room for a suffix."""
    data = os.fsencode(name)
    if len(data) <= _NAME_BYTES:
        return name
    digest = hashlib.sha256(data).hexdigest()[:8]
    return f"{digest}-{os.fsdecode(data[-_NAME_BYTES:]).lstrip(_CUT_LETTERS)}"
