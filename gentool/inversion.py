"""Inversion: latents of given images for a model without an encoder, by gradient descent.

Zhu et al. 2016 (arXiv:1609.03552), Eq. 4: minimise the distance between the decoded latents
and the image, over the latents. The distance is the mean squared error at full, half and
quarter resolution: the coarse ones pull while the fine one still sees only noise. From
several starts per image, the best after a quarter of the steps goes on.
"""

import torch
from torch.nn.functional import avg_pool2d, mse_loss

from gentool.blocks import prior_blocks
from gentool.errors import Stopped
from gentool.images import Pixels, to_unit
from gentool.models.base import Model
from gentool.signals import StopFlag

_STARTS = 8  # random starts per image
_LR = 0.05
_PRIOR_PULL = 1e-4  # weight of ||z||^2 / L: keeps latents where the decoder was trained
_BATCH = 16  # images refined together; bounds memory


def invert(model: Model, images: Pixels, steps: int, seed: int, stop: StopFlag) -> torch.Tensor:
    """Latents (N, ...) whose decoded images come near ``images``.

    Args:
        model: Any model with a prior and a differentiable decoder, in eval mode.
        images: uint8 (N, H, W, C).
        steps: Gradient steps in all, a quarter of them on all the random starts.
        seed: Where the starts come from.
        stop: Polled at every step.

    Raises:
        Stopped: asked to stop.
    """
    targets = to_unit(torch.from_numpy(images).to(model.device))
    found = [_invert_batch(model, part, steps, seed, stop) for part in torch.split(targets, _BATCH)]
    return torch.cat(found)


def distance(decoded: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum over three resolutions of the mean squared error per image, shape (B,)."""
    total = torch.zeros(len(targets), device=targets.device)
    for _ in range(3):
        total = total + mse_loss(decoded, targets, reduction="none").mean(dim=(1, 2, 3))
        decoded, targets = avg_pool2d(decoded, 2), avg_pool2d(targets, 2)
    return total


def _invert_batch(
    model: Model, targets: torch.Tensor, steps: int, seed: int, stop: StopFlag
) -> torch.Tensor:
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
    """Adam with a cosine schedule; the latents and the distance (B,) that they reached."""
    latents = latents.detach().clone().requires_grad_(True)
    optimiser = torch.optim.Adam([latents], lr=_LR, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1), _LR / 10)
    for _ in range(steps):
        if stop.asked is not None:
            raise Stopped("stopped while looking for latents", interrupted=stop.interrupted)
        errors = distance(model.decode(latents), targets)
        pull = latents.flatten(1).square().mean(dim=1)
        optimiser.zero_grad(set_to_none=True)
        (errors + _PRIOR_PULL * pull).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return latents.detach(), distance(model.decode(latents), targets)
