"""The scores of one target: samples, reconstructions, likelihood, and the sheet of neighbours."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gentool.checkpoint import LoadedModel
from gentool.core.errors import OutsideSupport
from gentool.core.images import Pixels, mean_squared_error, pad_rows, psnr, to_unit
from gentool.core.rng import Draw, derive_seed
from gentool.core.sheet_labels import SheetLabels, labelled
from gentool.data import Subset, coverage
from gentool.evaluation.latent_use import Scores, score_codes, score_units
from gentool.evaluation.reference import Reference
from gentool.inference.blocks import block_size, decode_blocks, encode_blocks, prior_blocks
from gentool.metrics.extractors import as_rgb, check_evaluating
from gentool.metrics.frechet import Folds, Moments, distance_between
from gentool.metrics.kernel import kernel_distance
from gentool.metrics.neighbours import memorisation, overlap, several_nearest
from gentool.metrics.pixels import ssim
from gentool.models.base import Model
from gentool.models.capabilities import required_likelihood

BATCH = 512  # samples that are drawn between two calls of ``poll``
_RECONSTRUCTED = 1000
_SHOWN, _NEIGHBOURS = 12, 3  # samples on the sheet, and images beside each
Poll = Callable[[], None]


class ImageScore(NamedTuple):
    """Errors of the reconstruction of one image.

    Attributes:
        name: Name of the image.
        mse: Mean squared error on the [0, 1] scale.
        psnr: Peak signal-to-noise ratio in dB.
        ssim: Structural similarity, 1 for equal images.
    """

    name: str
    mse: float
    psnr: float
    ssim: float


def sampled(loaded: LoadedModel, count: int, seed: int) -> Iterator[Pixels]:
    """Draw images 0 to ``count`` - 1 of a seed, in batches, uint8 (N, H, W, C).

    They are the images that ``gentool sample`` writes with its default options.
    """
    check_evaluating(loaded.model)
    for start in range(0, count, BATCH):
        draws = [(seed, k) for k in range(start, min(start + BATCH, count))]
        yield decode_blocks(loaded.model, prior_blocks(loaded.model, draws))


def score_samples(
    scores: Scores,
    batches: Iterator[Pixels],
    reference: Reference | None,
    metrics: tuple[str, ...],
    read_modes: Callable[[Pixels], NDArray[np.int64] | None],
    poll: Poll,
) -> Pixels:
    """Add the sample quality to ``scores`` and return the first 12 samples, or fewer.

    Args:
        scores: Receives values and notes.
        batches: The samples, uint8 (N, H, W, C), one batch or more.
        reference: The reference; if None, only modes are counted, which needs no features.
        metrics: Metrics to measure; others are ignored.
        read_modes: Returns the mode of each RGB image, int64 (N,), or None if the data has none.
        poll: Called once per batch; may raise to stop.
    """
    numbers: list[NDArray[np.int64]] = []
    gathered = Folds()
    kept: list[torch.Tensor] = []
    first: Pixels | None = None
    for pixels in batches:
        poll()
        first = pixels[:_SHOWN] if first is None else first
        if "modes" in metrics and (found_modes := read_modes(as_rgb(pixels))) is not None:
            numbers.append(found_modes)
        if reference is None and not numbers:
            break  # no metric needs the other samples
        if reference is None:
            continue
        features = reference.extractor.features(pixels)
        gathered.add(features.numpy())
        if set(metrics) - {"frechet"}:  # the Frechet distance needs only moments
            kept.append(features)
    assert first is not None
    if numbers:
        scores.values |= coverage(np.concatenate(numbers))
    if reference is None:
        return first
    all_features = torch.cat(kept) if kept else None
    if "frechet" in metrics:
        size = reference.features.shape[1]
        if min(gathered.count, len(reference.features)) <= size:
            scores.notes.append(
                f"there are fewer images than features ({size}), so the Frechet distance is far "
                "too large"
            )
        extractor = reference.extractor
        name, found = extractor.score, gathered.distance(reference.moments)
        scores.values[name], scores.values[f"{name} +-"] = found.value, found.standard_error
        scores.values[f"{name}-inf"] = found.extrapolated
    if all_features is not None:
        _score_features(scores, all_features, reference, metrics)
    return first


def _score_features(
    scores: Scores,
    samples: torch.Tensor,
    reference: Reference,
    metrics: tuple[str, ...],
) -> None:
    rng = np.random.default_rng(derive_seed(0, "evaluation"))
    array, values = samples.numpy(), scores.values
    if "kernel" in metrics:
        found = kernel_distance(array, reference.features.numpy(), rng)
        values["kernel"], values["kernel +-"] = found
    if "overlap" in metrics:
        shares = overlap(samples, reference.features)
        values |= vars(shares)
    if "memorisation" in metrics and reference.training is not None:
        values["memorisation"] = memorisation(samples, reference.training, reference.features)


def score_reconstruction(
    scores: Scores,
    loaded: LoadedModel,
    images: Subset,
    among: int | None = None,
) -> list[ImageScore]:
    """Measure MSE, PSNR and SSIM of reconstructions by the encoder, and the use of codes.

    ``scores`` receives the mean and the standard deviation over images.

    Args:
        scores: Receives values and notes.
        loaded: A model with an encoder.
        images: The images; at most 1,000 of them are used.
        among: Number of images that these were chosen from, for a note; None for all.

    Returns:
        The errors of each image that was used.
    """
    check_evaluating(loaded.model)
    chosen = images.some(_RECONSTRUCTED)
    originals = chosen.images[:]
    decoded = decode_blocks(loaded.model, encode_blocks(loaded.model, originals))
    errors = [mean_squared_error(a, b) for a, b in zip(originals, decoded, strict=True)]
    each = [
        ImageScore(name, error, psnr(error), float(similarity))
        for name, error, similarity in zip(
            chosen.names, errors, ssim(originals, decoded), strict=True
        )
    ]
    for name in ("mse", "psnr", "ssim"):
        values = [getattr(image, name) for image in each]
        scores.values[name] = float(np.mean(values))
        scores.values[f"{name} +-"] = float(np.std(values))
    what = "posterior mean" if loaded.model.variational else "encoder's answer"
    among = len(images) if among is None else among
    some = f"{len(each):,}" if len(each) == among else f"{len(each):,} of {among:,}"
    scores.notes.append(
        f"mse, psnr and ssim of the {what} are means over {some} images, +- the standard "
        "deviation between images"
    )
    if loaded.model.search_steps:
        scores.notes.append(
            "mse, psnr and ssim are those of the encoder alone, as with gentool reconstruct "
            "--steps 0; without --steps 0, reconstruct searches for better latents"
        )
    score_codes(scores, loaded.model, originals)
    return each


def score_gap(
    scores: Scores,
    loaded: LoadedModel,
    reference: Reference,
    poll: Poll,
) -> None:
    """Measure how much worse samples are than reconstructions, which is the error of the prior.

    ``scores`` receives the Frechet distance between the reconstructed and the original reference
    images, and the gap: the distance of the samples minus this distance. Nothing is added if the
    samples have no Frechet distance, or if the encoder gives only the first guess of a search.
    """
    extractor, images = reference.extractor, reference.images.images
    name = extractor.score
    if name not in scores.values or loaded.model.search_steps:  # only a first guess
        return
    check_evaluating(loaded.model)
    gathered = Moments()
    for start in range(0, len(images), BATCH):
        poll()
        codes = encode_blocks(loaded.model, images[start : start + BATCH])
        gathered.add(extractor.features(decode_blocks(loaded.model, codes)).numpy())
    found = distance_between(gathered, reference.moments)
    scores.values[f"{name} reconstructed"] = found
    scores.values["prior gap"] = scores.values[name] - found


@torch.inference_mode()
def score_likelihood(
    scores: Scores,
    loaded: LoadedModel,
    images: Subset,
    samples: int,
    seed: int,
    poll: Poll,
) -> None:
    """Measure the ELBO and the importance-weighted bound over images, and the use of the latents.

    ``scores`` receives the means of both bounds in nats per image with their standard errors, and
    bits per dimension from the importance-weighted bound.

    Args:
        scores: Receives values and notes; only a note if an image has pixels that the likelihood
            does not allow.
        loaded: A model with a likelihood.
        images: The images.
        samples: Importance samples per image.
        seed: Seed of these samples.
        poll: Called once per block; may raise to stop.
    """
    model = loaded.model
    variational = required_likelihood(model.variational)
    check_evaluating(model)
    size = block_size(model.shape)
    blocks = []
    try:
        for start in range(0, len(images), size):
            poll()
            pixels = images.images[start : start + size]
            blocks.append(_block_terms(model, pixels, start, samples, seed))
    except OutsideSupport as error:
        scores.notes.append(
            f"likelihood was not computed: the model allows only {error.support}, but some images "
            "have other pixels"
        )
        return
    bounds = torch.cat([terms.bounds for terms in blocks], dim=1)
    for name, each in zip(("elbo", f"iw-{samples}"), bounds, strict=True):
        scores.values[name] = float(each.mean())
        if len(each) > 1:
            scores.values[f"{name} +-"] = float(each.std() / math.sqrt(len(each)))
    scores.values["bits/dim"] = variational.bits_per_dim(float(bounds[1].mean()))
    scores.values["likelihood images"] = len(images)
    scores.notes.append(
        f"elbo and iw-{samples} are in nats per image, means over {len(images)} images, +- the "
        f"standard error; each is a log {variational.measure}"
    )
    units = torch.stack([terms.units for terms in blocks]).sum(dim=0)
    scores.units = score_units(scores, units / len(images), len(images), model)


class _BlockTerms(NamedTuple):
    """Likelihood terms of one block of B images, float64.

    Attributes:
        bounds: ELBO and importance-weighted bound of each image, in nats, (2, B).
        units: For each latent the sums over images of the KL, the posterior mean and its square,
            (3, L). Only sums are kept, since values per image would take too much memory.
    """

    bounds: torch.Tensor
    units: torch.Tensor


def _block_terms(model: Model, pixels: Pixels, start: int, samples: int, seed: int) -> _BlockTerms:
    """Compute the terms of uint8 images (B, H, W, C), padded to one block size; see ``blocks``."""
    count, size = len(pixels), block_size(model.shape)
    images = to_unit(torch.from_numpy(pad_rows(pixels, size)).to(model.device))
    draw = Draw(seed, "evaluation", np.arange(start, start + size), 0, model.device)
    variational = required_likelihood(model.variational)
    bounds = torch.stack([variational.log_prob_bound(images, draw, k) for k in (1, samples)])
    mean, kl = (term[:count].cpu().double() for term in variational.posterior_terms(images, draw))
    sums = torch.stack([kl, mean, mean.square()]).sum(dim=1)
    return _BlockTerms(bounds[:, :count].cpu().double(), sums)


def neighbour_sheet(samples: Pixels, reference: Reference) -> Pixels:
    """Make a sheet of samples, each beside its three nearest images, two samples per row.

    The neighbours are training images if ``reference`` has some, else reference images.
    """
    features, images = reference.features, reference.images.images
    if reference.training is not None:
        features, images = reference.training, reference.training_images.images
    own = reference.extractor.features(samples)
    found = several_nearest(own, features, min(_NEIGHBOURS, len(features)))
    lines: list[Pixels] = []
    for sample, numbers in zip(samples, found.numpy(), strict=True):
        lines += [sample, *images[numbers]]
    words = ("sample", *(f"nearest {k + 1}" for k in range(found.shape[1])))
    return labelled(np.stack(lines), 2 * len(words), SheetLabels(columns=2 * words))
