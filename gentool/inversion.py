"""Inversion: latents of given images for a model without an encoder, by gradient descent.

Zhu et al. 2016 (arXiv:1609.03552), Eq. 4: minimise the distance between the decoded latents
and the image, over the latents; then, if asked, over the generator's weights as well (pivotal
tuning, Roich et al. 2021, arXiv:2106.05744, section 3.1). The search starts where the model's
encoder points to; without one, from several random places, of which the best after a quarter
of the steps goes on.
"""

import copy

import torch

from gentool.blocks import prior_blocks
from gentool.errors import Stopped
from gentool.images import Pixels, to_unit
from gentool.models.base import Model
from gentool.models.embedding import pixel_distance
from gentool.signals import StopFlag

_STARTS = 8  # random starts per image
_LR = 0.05
_WEIGHTS_LR = 1e-3
_PRIOR_PULL = 1e-4  # weight of ||z||^2 / L: keeps latents where the decoder was trained
_LEAST_SHARE = 1e-4  # of a class at the start: at 0 no gradient reaches it
_BATCH = 16  # images refined together; bounds memory


def invert(
    model: Model,
    images: Pixels,
    steps: int,
    seed: int,
    stop: StopFlag,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Latents (N, ...) whose decoded images come near ``images``.

    Args:
        model: Any model with a prior and a differentiable decoder, in eval mode.
        images: uint8 (N, H, W, C).
        steps: Gradient steps in all; without a start, a quarter of them on all random places.
        seed: Where the random places come from.
        stop: Polled at every step.
        start: Where to begin, (N, ...), for example what an encoder says.

    Raises:
        Stopped: asked to stop.
    """
    targets = to_unit(torch.from_numpy(images).to(model.device))
    if start is None:
        parts = torch.split(targets, _BATCH)
        found = [_search(model, part, steps, seed, stop) for part in parts]
    else:
        pairs = zip(torch.split(start, _BATCH), torch.split(targets, _BATCH), strict=True)
        found = [_descend(model, here, part, steps, stop)[0] for here, part in pairs]
    return torch.cat(found)


def fit_weights(
    model: Model, latents: torch.Tensor, images: Pixels, steps: int, stop: StopFlag
) -> Model:
    """A copy of the model whose decoder gives the images almost exactly at their latents.

    Pivotal tuning, Roich et al. 2021 (arXiv:2106.05744), Eq. 3, with squared pixels for its
    perceptual distance, which needs a pretrained network, and without its regulariser.

    Args:
        model: In eval mode; it is left as it is.
        latents: The pivots, (N, ...).
        images: uint8 (N, H, W, C).
        steps: Gradient steps per 16 images.
        stop: Polled at every step.

    Raises:
        Stopped: asked to stop.
    """
    tuned: Model = copy.deepcopy(model).requires_grad_(True)
    pivots = torch.split(latents.detach().clone(), _BATCH)
    targets = torch.split(to_unit(torch.from_numpy(images).to(model.device)), _BATCH)
    optimiser = torch.optim.Adam(tuned.parameters(), lr=_WEIGHTS_LR, betas=(0.9, 0.99))
    total = steps * len(pivots)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, max(total, 1), _WEIGHTS_LR / 50
    )
    for step in range(total):
        if stop.asked is not None:
            raise Stopped("stopped while fitting weights", interrupted=stop.interrupted)
        k = step % len(pivots)
        errors = pixel_distance(tuned.decode(pivots[k]), targets[k])
        optimiser.zero_grad(set_to_none=True)
        errors.mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    tuned.requires_grad_(False)
    return tuned


def _search(
    model: Model, targets: torch.Tensor, steps: int, seed: int, stop: StopFlag
) -> torch.Tensor:
    """From several random places, of which the best after a quarter of the steps goes on."""
    count = len(targets)
    starts = prior_blocks(model, [(seed, k) for k in range(_STARTS)]).clone()
    latents = starts.repeat(count, *[1] * (starts.dim() - 1))  # image-major: N * starts rows
    rough = max(1, steps // 4)
    latents, errors = _descend(
        model, latents, targets.repeat_interleave(_STARTS, dim=0), rough, stop
    )
    best = errors.view(count, _STARTS).argmin(dim=1)
    rows = torch.arange(count, device=best.device) * _STARTS + best
    return _descend(model, latents[rows], targets, steps - rough, stop)[0]


def _descend(
    model: Model, latents: torch.Tensor, targets: torch.Tensor, steps: int, stop: StopFlag
) -> tuple[torch.Tensor, torch.Tensor]:
    """Adam with a cosine schedule; the latents and the distance (B,) that they reached.

    Shares of classes, the last of the latents, are the softmax of what is searched, so that they
    stay shares.
    """
    count = model.latent_classes
    z, shares = latents.detach().tensor_split([latents.shape[1] - count], dim=1)
    free = [z.clone().requires_grad_(True)]
    if count:
        free.append(shares.clamp_min(_LEAST_SHARE).log().requires_grad_(True))

    def joined() -> torch.Tensor:
        return torch.cat([free[0], free[1].softmax(dim=1)], dim=1) if count else free[0]

    optimiser = torch.optim.Adam(free, lr=_LR, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1), _LR / 10)
    for _ in range(steps):
        if stop.asked is not None:
            raise Stopped("stopped while looking for latents", interrupted=stop.interrupted)
        errors = pixel_distance(model.decode(joined()), targets)
        pull = free[0].flatten(1).square().mean(dim=1)
        optimiser.zero_grad(set_to_none=True)
        (errors + _PRIOR_PULL * pull).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        found = joined().detach()
        return found, pixel_distance(model.decode(found), targets)
