"""The figures of one target: samples, reconstructions, likelihood, and the picture."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gentool.blocks import block_size, decode_blocks, encode_blocks, prior_blocks
from gentool.checkpoint import LoadedModel
from gentool.data import Dataset, coverage
from gentool.errors import NoEncoder, NoLikelihood
from gentool.evaluation.reference import Reference, some_rows
from gentool.images import Pixels, grid, mean_squared_error, psnr, to_unit
from gentool.metrics.extractors import Extractor
from gentool.metrics.frechet import Folds
from gentool.metrics.kernel import kernel_distance
from gentool.metrics.neighbours import memorisation, nearest, overlap
from gentool.metrics.pixels import ssim
from gentool.models.objectives import ACTIVE_VARIANCE
from gentool.rng import Draw, derive_seed

BATCH = 512  # samples drawn between two looks at the stop flag
_RECONSTRUCTED, _LIKELIHOOD_IMAGES = 1000, 256
_SHOWN = 12  # samples in the picture of neighbours
Poll = Callable[[], None]


@dataclass
class Scores:
    """What was measured of one target, and what to know when reading it."""

    name: str
    values: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class ImageScore(NamedTuple):
    """How well one image of the prepared set is reconstructed."""

    row: int
    mse: float
    psnr: float
    ssim: float


def sampled(loaded: LoadedModel, count: int, seed: int) -> Iterator[Pixels]:
    """Images 0 ... count of a seed, in batches, as ``sample`` would write them."""
    for start in range(0, count, BATCH):
        draws = [(seed, k) for k in range(start, min(start + BATCH, count))]
        yield decode_blocks(loaded.model, prior_blocks(loaded.model, draws))


def score_samples(
    scores: Scores,
    batches: Iterator[Pixels],
    extractor: Extractor,
    reference: Reference,
    metrics: tuple[str, ...],
    read_modes: Callable[[Pixels], NDArray[np.int64] | None],
    poll: Poll,
) -> Pixels:
    """Sample quality into ``scores``; returns the first few samples, for the picture."""
    numbers: list[NDArray[np.int64]] = []
    gathered = Folds()
    kept: list[torch.Tensor] = []
    first: Pixels | None = None
    for pixels in batches:
        poll()
        first = pixels[:_SHOWN] if first is None else first
        features = extractor.features(pixels)
        gathered.add(features.numpy())
        if "modes" in metrics and (found_modes := read_modes(pixels)) is not None:
            numbers.append(found_modes)
        if set(metrics) - {"frechet"}:  # the Frechet distance alone needs no sample twice
            kept.append(features)
    assert first is not None
    size = reference.features.shape[1]
    if min(gathered.count, len(reference.features)) <= size:
        scores.notes.append(
            f"fewer images than the {size} features: the Frechet distance is far too large"
        )
    if numbers:
        scores.values |= coverage(np.concatenate(numbers))
    all_features = torch.cat(kept) if kept else None
    if "frechet" in metrics:
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
    scores: Scores, loaded: LoadedModel, dataset: Dataset, rows: NDArray[np.int64]
) -> list[ImageScore]:
    """MSE, PSNR and SSIM: of each of (at most 1,000) images ``rows``, and the mean and spread."""
    chosen = some_rows(rows, _RECONSTRUCTED)
    originals = dataset.images[chosen]
    try:
        codes = encode_blocks(loaded.model, originals)
    except NoEncoder:
        return []
    decoded = decode_blocks(loaded.model, codes)
    errors = [mean_squared_error(a, b) for a, b in zip(originals, decoded, strict=True)]
    each = [
        ImageScore(int(row), error, psnr(error), float(similarity))
        for row, error, similarity in zip(chosen, errors, ssim(originals, decoded), strict=True)
    ]
    for name in ("mse", "psnr", "ssim"):
        values = [getattr(image, name) for image in each]
        scores.values[name] = float(np.mean(values))
        scores.values[f"{name} +-"] = float(np.std(values))
    scores.notes.append(
        f"mse, psnr and ssim in the mean over {len(each)} images, +- the deviation between them"
    )
    return each


def score_gap(
    scores: Scores,
    loaded: LoadedModel,
    dataset: Dataset,
    extractor: Extractor,
    reference: Reference,
    poll: Poll,
) -> None:
    """How much worse samples are than reconstructions: what the prior costs, not the decoder.

    The Frechet distance of the reference's reconstructions to the reference itself, and the
    distance of the samples less that.
    """
    name, rows = extractor.score, reference.rows
    if name not in scores.values or loaded.model.search_steps:  # no encoder of its own
        return
    gathered = Folds()
    for start in range(0, len(rows), BATCH):
        poll()
        try:
            codes = encode_blocks(loaded.model, dataset.images[rows[start : start + BATCH]])
        except NoEncoder:
            return
        gathered.add(extractor.features(decode_blocks(loaded.model, codes)).numpy())
    found = gathered.distance(reference.moments).value
    scores.values[f"{name} reconstructed"] = found
    scores.values["prior gap"] = scores.values[name] - found


@torch.inference_mode()
def score_likelihood(
    scores: Scores,
    loaded: LoadedModel,
    dataset: Dataset,
    rows: NDArray[np.int64],
    samples: int,
    seed: int,
) -> None:
    """ELBO, the importance-weighted bound, and how many latents are in use."""
    model = loaded.model
    chosen = some_rows(rows, _LIKELIHOOD_IMAGES)
    size = block_size(model.shape)
    elbo, bound, means, kls = [], [], [], []
    for start in range(0, len(chosen) - len(chosen) % size or len(chosen), size):
        part = chosen[start : start + size]
        images = to_unit(torch.from_numpy(dataset.images[part])).to(model.device)
        indices = np.arange(start, start + len(part))
        draw = Draw(seed, "evaluation", indices, 0, model.device)
        try:
            elbo.append(model.log_prob_bound(images, draw, 1))
        except NoLikelihood:
            return
        bound.append(model.log_prob_bound(images, draw, samples))
        mean, kl = model.posterior_terms(images, draw)
        means.append(mean)
        kls.append(kl)
    nats = float(torch.cat(elbo).mean()), float(torch.cat(bound).mean())
    scores.values["elbo"], scores.values[f"iw-{samples}"] = nats
    scores.values["bits/dim"] = model.bits_per_dim(nats[1])
    kind = "mass" if model.discrete else "density; bits/dim are per 8-bit grey level"
    scores.notes.append(f"elbo and iw-{samples} in nats per image, a log {kind}")
    scores.values["kl"] = float(torch.cat(kls).sum(dim=1).mean())
    active = int((torch.cat(means).var(dim=0) > ACTIVE_VARIANCE).sum())
    scores.values["active units"] = active
    if active == 0:
        scores.notes.append("posterior collapse: no latent is used; try a smaller -o beta")


def neighbour_sheet(
    samples: Pixels, extractor: Extractor, dataset: Dataset, reference: Reference
) -> Pixels:
    """Each sample beside its three nearest training images (or reference images)."""
    features, rows = reference.features, reference.rows
    if reference.training is not None:
        features, rows = reference.training, reference.training_rows
    own = extractor.features(samples)
    lines = []
    left = features.clone()
    columns = [samples]
    for _ in range(3):
        _, found = nearest(own, left)
        columns.append(dataset.images[rows[found.numpy()]])
        left[found] = math.inf  # the next nearest is another image
    for line in zip(*columns, strict=True):
        lines += list(line)
    return grid(np.stack(lines), columns=4 * 2)
