"""Reconstruction: image -> latents -> image, with the error of the result.

Models with an encoder use it (for a VAE, the mean of the posterior). If the encoder gives only a
first guess, as in a GAN, or if there is no encoder, a search finds the latents (``inversion``).
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gentool.checkpoint import LoadedModel, exported_tensors, write_result
from gentool.core.errors import NoEncoder, UsageError
from gentool.core.images import Pixels, mean_squared_error, psnr
from gentool.core.messages import WARNING
from gentool.core.sheets import Layout, grid
from gentool.core.signals import StopFlag
from gentool.data import BadImage, Preprocessing, Source, open_images
from gentool.data.deep_images import outside
from gentool.data.preprocessing import convert, open_image
from gentool.data.remarks import about_levels, unsuited_notes
from gentool.data.sources.base import Loaded
from gentool.inference.blocks import encode_blocks, posterior_blocks, prior_blocks
from gentool.inference.held_out import fitted_record
from gentool.inference.inversion import fit_weights, invert
from gentool.inference.latents import Latents, natural_space, of_images
from gentool.inference.latents import decode as decode_latents
from gentool.inference.result_names import result_names
from gentool.metrics.extractors import check_evaluating
from gentool.metrics.pixels import ssim
from gentool.models.capabilities import required_layers, required_posterior
from gentool.outputs.plan import NamedImage, Plan, Planned, recipe

FIT_STEPS = 300  # gradient steps per 16 images


@dataclass(frozen=True)
class Reconstruction:
    """One image and its reconstruction.

    Attributes:
        path: The image's file.
        original: The image in the model's shape, uint8 (H, W, C).
        image: The reconstruction, uint8 (H, W, C).
        mse: Mean squared error between the two uint8 images, on the [0, 1] scale.
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
    """An image to reconstruct: its name, and a function that reads it.

    Attributes:
        path: Its file; inside an archive, the archive's path with the member's name.
        load: Reads the image and returns it prepared; raises as ``Source.load``.
    """

    path: Path
    load: Callable[[Preprocessing], Loaded]


def find_images(paths: Sequence[Path]) -> list[FoundImage]:
    """Find the images at paths: files, all images in folders, and all images in archives.

    Folders are searched in the same way as for training. A file is not opened here: if it is
    missing, reading it fails.

    Raises:
        DataError: a folder or an archive has no images, or an archive is damaged.
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


def _read_file(path: Path, preprocessing: Preprocessing) -> Loaded:
    if path.exists() and not path.is_file():  # reading a pipe would block
        raise BadImage("it is not a regular file")
    image = open_image(path.read_bytes())
    return Loaded(convert(image, preprocessing), 0, outside(image, preprocessing.levels))


def _load(source: Source, index: int, preprocessing: Preprocessing) -> Loaded:
    return source.load(index, preprocessing)


def read_images(
    loaded: LoadedModel,
    wanted: Sequence[FoundImage],
    tell: Callable[[str], None] = lambda words: None,
) -> tuple[dict[Path, Pixels], dict[Path, str]]:
    """Read images and prepare them for a model.

    Args:
        loaded: The model.
        wanted: The images.
        tell: Called with a sentence if the levels of the model do not suit some of them.

    Returns:
        The images by path, uint8 (H, W, C) in the model's shape; and for every image that could
        not be read, the reason by path.
    """
    good: dict[Path, Pixels] = {}
    bad: dict[Path, str] = {}
    unsuited: list[Path] = []
    preprocessing = loaded.preprocessing
    for image in wanted:
        try:
            found = image.load(preprocessing)
            good[image.path] = found.pixels
            unsuited += [image.path] if found.unsuited else []
        except BadImage as error:
            bad[image.path] = str(error)
        except OSError as error:
            bad[image.path] = error.strerror or str(error)
    if unsuited:
        (told,) = unsuited_notes(
            [about_levels(len(unsuited), preprocessing.levels, str(unsuited[0]))]
        )
        tell(f"{WARNING}{told}. The model keeps the levels of its training images")
    return good, bad


def require_denoiser(loaded: LoadedModel) -> None:
    """Raise UsageError unless the model was trained to remove noise."""
    if not loaded.model.config.denoises:
        raise UsageError(
            "this model was not trained to remove noise. Train a vae or an autoencoder with "
            "-o denoise=0.3 (of noise, where white is 1)"
        )


@dataclass(frozen=True)
class Method:
    """How the latents of images are found, and which of them are kept.

    Attributes:
        steps: Gradient steps of the search; None for the model's default, 0 for no search.
        seed: Seed of the search and of all draws.
        drawn: Draw from the encoder's posterior instead of taking its mean.
        keep_top: Number of layers of latents that are kept, while all others are drawn from the
            prior; None keeps all.
        denoise: Whether the images are noisy, and the model shall remove the noise.
    """

    steps: int | None
    seed: int
    drawn: bool = False
    keep_top: int | None = None
    denoise: bool = False

    def check(self, loaded: LoadedModel) -> None:
        """Check that a model can do what is asked for.

        Raises:
            UsageError: it has not learned to remove noise, or has no posterior, or no layers.
        """
        if self.denoise:
            require_denoiser(loaded)
        if self.drawn:
            required_posterior(loaded.model.variational)
        if self.keep_top is not None:
            required_layers(loaded.model.layers).check(self.keep_top)

    def by_posterior(self, loaded: LoadedModel) -> bool:
        """Return whether the latents are means of posteriors or draws from them."""
        return loaded.model.variational is not None and not self.steps

    def told(self, loaded: LoadedModel) -> dict[str, object]:
        """Return the options that affect the result, for recipes and JSON.

        The seed is included only if the result may depend on it.
        """
        draw = self.drawn if self.by_posterior(loaded) else None
        given = {"draw": draw, "keep_top": self.keep_top, "steps": self.steps}
        told: dict[str, object] = {k: v for k, v in given.items() if v is not None}
        # a search may start at random points
        searched = loaded.model.search_steps if self.steps is None else self.steps
        fixed: tuple[dict[str, object], ...] = (
            {},
            {"draw": False},
            {"draw": False, "steps": 0},
            {"steps": 0},
        )
        return {**told, "seed": self.seed} if searched or told not in fixed else told

    def find(
        self,
        loaded: LoadedModel,
        images: dict[Path, Pixels],
        stop: StopFlag,
        tell: Callable[[str], None],
    ) -> Latents:
        """Find the latents of images; see ``find_latents`` and ``redraw_below``.

        Args:
            loaded: The model.
            images: The images by path.
            stop: Polled at every step of the search.
            tell: Called with a message if a search begins at random points.
        """
        pixels = np.stack(list(images.values()))
        latents = find_latents(
            loaded, pixels, self.steps, self.seed, stop, drawn=self.drawn, tell=tell
        )
        if self.keep_top is None:
            return latents
        return redraw_below(loaded, latents, self.keep_top, self.seed)


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
    """Find the latents or styles of images by the encoder, a search, or both.

    Args:
        loaded: The model.
        images: uint8 (N, H, W, C).
        steps: Gradient steps of the search; None for the model's default, 0 for no search.
        seed: Seed of the draws from the posterior, or of the random starts of a search without
            an encoder.
        stop: Polled at every step of the search.
        drawn: Draw from the encoder's posterior; there is no search then.
        space: Space of the search, ``z`` or ``w``; None for ``w`` (one w per layer) if the model
            has styles, since it can give more images than z (Abdal et al. 2019,
            arXiv:1904.03189), else ``z``.
        tell: Called with a message if a search begins at random points.

    Raises:
        UsageError: the model has no posterior to draw from, or ``steps`` is 0 and it has no
            encoder.
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
            raise UsageError(f"{error}, so --steps 0 is impossible. Leave --steps out") from error
        tell(f"{error}, so the search for latents starts at random points")
        return invert(model, images, steps, seed, stop, space=space)
    if not steps:
        return start
    found = invert(model, images, steps, seed, stop, start, space)
    return replace(found, means=start.means)


def redraw_below(loaded: LoadedModel, latents: Latents, layers: int, seed: int) -> Latents:
    """Keep the first ``layers`` layers of the latents and draw all others from the prior.

    Raises:
        UsageError: the model's latents have no layers, or fewer than ``layers``.
    """
    drawn = prior_blocks(loaded.model, [(seed, k) for k in range(len(latents))])
    own = required_layers(loaded.model.layers)
    return Latents(own.keep_top(latents.values, drawn, layers))


def fit(
    loaded: LoadedModel, images: dict[Path, Pixels], latents: Latents, stop: StopFlag
) -> LoadedModel:
    """Return the model with weights fitted to images at their latents; see ``fit_weights``."""
    originals = np.stack(list(images.values()))
    tuned = fit_weights(loaded.model, latents, originals, FIT_STEPS, stop)
    return replace(loaded, model=tuned)


def fitted_recipe(loaded: LoadedModel, plan: Plan) -> dict[str, object]:
    """Return the recipe of a model that is fitted to the images of a plan."""
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
    """Save a model that ``fit`` returned; the header records the images it was fitted to.

    Returns:
        The model with the header, hash and path of the new file.

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
    """Decode the latents of images and measure the errors, in the order of ``images``."""
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
    """Plan the pictures of reconstructions: the name and the recipe of each.

    Args:
        loaded: The model.
        images: The originals, by path.
        only: Each picture shows the reconstruction alone, and its name keeps the folders of the
            original; otherwise it shows the original beside the reconstruction.
        how: Other entries for the recipes.
    """
    shape = loaded.model.shape
    width = shape.width if only else Layout.of(2, shape.height, shape.width, 2).sheet[1]
    separator = "/" if only else "-"

    names = result_names(list(images), separator)
    digests = [hash_of_original(pixels) for pixels in images.values()]

    def planned() -> Iterator[Planned]:
        for name, path, digest in zip(names, images, digests, strict=True):
            what = {"original": path.name, "original_sha256": digest, "alone": only, **how}
            yield Planned(name, recipe(loaded, made_by="reconstruct", **what))

    return Plan(planned, len(images), replace(shape, width=width))


def hash_of_original(pixels: Pixels) -> str:
    """Return the hash (16 hex digits) of an original as the model gets it, for recipes."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


def named_pictures(
    plan: Plan, results: Sequence[Reconstruction], *, only: bool
) -> Iterator[NamedImage]:
    """Yield the pictures of a plan from ``plan_pictures``; their recipes also hold the PSNR."""
    for planned, result in zip(plan.results(), results, strict=True):
        told = {**planned.recipe, "psnr": round(result.psnr, 4)}
        yield NamedImage(planned.name, picture(result, only=only), told)


def picture(result: Reconstruction, *, only: bool) -> Pixels:
    """Return the reconstruction, uint8 (H, W, C), or a wider picture with the original at left."""
    return result.image if only else grid(np.stack([result.original, result.image]), columns=2)
