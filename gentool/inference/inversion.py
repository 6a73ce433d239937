"""Inversion: latents of given images for a model without an encoder, by gradient descent.

Zhu et al. 2016 (arXiv:1609.03552), Eq. 4: minimise the distance between the decoded latents
and the image, over the latents; then, if asked, over the generator's weights as well (pivotal
tuning, Roich et al. 2021, arXiv:2106.05744, section 3.1). The search starts where the model's
encoder points to; without one, from several random places, of which the best after a quarter
of the steps goes on.

Where there are styles it goes on in w (Karras et al. 2020, arXiv:1912.04958, appendix D), with one
w for each layer (Abdal et al. 2019, arXiv:1904.03189): images that no z gives are then in reach.
"""

import copy

import torch

from gentool.core.errors import Stopped
from gentool.core.images import Pixels, to_unit
from gentool.core.signals import StopFlag
from gentool.inference.blocks import prior_blocks, style_blocks
from gentool.inference.latents import Latents, images_at, to_styles
from gentool.models.base import Model
from gentool.models.gan.latent_encoder import pixel_distance

_STARTS = 8  # random starts per image
_LR = 0.3
_WEIGHTS_LR = 1e-3
# Weight of ||z||^2 / L: keeps latents where the decoder was trained. One w for each layer has so
# many ways to the same image that a hundredfold costs nothing, and halves the way from the mean.
_PULLS = {"z": 1e-4, "w": 1e-2}
_DRAWS = 1024  # that the mean and deviation of w are measured on
_TINY = 1e-6
_LEAST_SHARE = 1e-4  # of a class at the start: at 0 no gradient reaches it
# Images searched together, always so many (the last ones are said again): long steps make much of
# the other rounding of another batch size, and a photo's latents shall be its own. A GPU, which
# has as many rows at once for nothing, takes more: 32 at 64x64, 2 at 256x256.
_BLOCK, _GPU_BLOCK, _GPU_PIXELS = 4, 32, 2**17
_BATCH = 16  # images that weights are fitted to together; bounds memory


def invert(
    model: Model,
    images: Pixels,
    steps: int,
    seed: int,
    stop: StopFlag,
    start: Latents | None = None,
    space: str = "z",
) -> Latents:
    """Points whose decoded images come near ``images``.

    Args:
        model: Any model with a prior and a differentiable decoder, in eval mode.
        images: uint8 (N, H, W, C).
        steps: Gradient steps in all; without a start, a quarter of them on all random places.
        seed: Where the random places come from.
        stop: Polled at every step.
        start: Where to begin, in any space, for example what an encoder says.
        space: ``z`` or, for models with styles, ``w``: one w for each layer.

    Raises:
        Stopped: asked to stop.
    """
    targets = to_unit(torch.from_numpy(images).to(model.device))
    ground = _Ground(model, space)
    if start is not None and space == "w":
        start = to_styles(model, start)
    found = []
    block = _BLOCK
    if model.device.type != "cpu":
        block = max(1, min(_GPU_BLOCK, _GPU_PIXELS // (model.shape.height * model.shape.width)))
    for first in range(0, len(targets), block):
        rows = torch.arange(first, first + block).clamp(max=len(targets) - 1)
        if start is None:
            values = _search(ground, targets[rows], steps, seed, stop)
        else:
            values = _descend(ground, start.values[rows], targets[rows], steps, stop)[0]
        found.append(values[: len(targets) - first])
    return Latents(torch.cat(found), space)


def fit_weights(
    model: Model, latents: Latents, images: Pixels, steps: int, stop: StopFlag
) -> Model:
    """A copy of the model whose decoder gives the images almost exactly at their latents.

    Pivotal tuning, Roich et al. 2021 (arXiv:2106.05744), Eq. 3, with squared pixels for its
    perceptual distance, which needs a pretrained network, and without its regulariser.

    Args:
        model: In eval mode; it is left as it is.
        latents: The pivots, N.
        images: uint8 (N, H, W, C).
        steps: Gradient steps per 16 images.
        stop: Polled at every step.

    Raises:
        Stopped: asked to stop.
    """
    tuned: Model = copy.deepcopy(model).requires_grad_(True)
    pivots = torch.split(latents.values.detach().clone(), _BATCH)
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
        errors = pixel_distance(images_at(tuned, pivots[k], latents.space), targets[k])
        optimiser.zero_grad(set_to_none=True)
        errors.mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    tuned.requires_grad_(False)
    return tuned


class _Ground:
    """Where a search goes on, and in which coordinates: of mean 0 and variance 1 each, as drawn.

    Those of latents are z itself; the classes, their last numbers, are searched as the softmax of
    what is free, so that they stay shares. Those of styles are u = (w - mean) / deviation with the
    mean and deviation of each unit over draws: one step length then suits every unit, and the same
    pull that keeps z among draws of N(0, I) keeps w near its mean, least where w varies most.
    """

    def __init__(self, model: Model, space: str) -> None:
        self.model, self.space = model, space
        if space == "w":
            w = style_blocks(model, prior_blocks(model, [(0, k) for k in range(_DRAWS)]))[:, 0]
            self.mean, self.deviation = w.mean(dim=0), w.std(dim=0).clamp_min(_TINY)

    def starts(self, seed: int) -> torch.Tensor:
        """Random places (S, ...); of styles the first is their mean (Karras 2020)."""
        z = prior_blocks(self.model, [(seed, k) for k in range(_STARTS)])
        if self.space == "z":
            return z.clone()
        w = style_blocks(self.model, z).clone()
        w[0] = self.mean
        return w

    def free(self, start: torch.Tensor) -> list[torch.Tensor]:
        """What is searched, leaves, beginning at ``start``; the first is pulled towards 0."""
        if self.space == "w":
            return [((start - self.mean) / self.deviation).requires_grad_(True)]
        count = self.model.latent_classes
        z, shares = start.detach().tensor_split([start.shape[1] - count], dim=1)
        leaves = [z.clone().requires_grad_(True)]
        if count:
            leaves.append(shares.clamp_min(_LEAST_SHARE).log().requires_grad_(True))
        return leaves

    def values(self, free: list[torch.Tensor]) -> torch.Tensor:
        """The latents or styles (B, ...) that ``free`` stands for."""
        if self.space == "w":
            return self.mean + self.deviation * free[0]
        return torch.cat([free[0], free[1].softmax(dim=1)], dim=1) if len(free) > 1 else free[0]

    def distance(self, values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Of the images of ``values`` to the targets, (B,)."""
        return pixel_distance(images_at(self.model, values, self.space), targets)


def _search(
    ground: _Ground, targets: torch.Tensor, steps: int, seed: int, stop: StopFlag
) -> torch.Tensor:
    """From several random places, of which the best after a quarter of the steps goes on."""
    count = len(targets)
    starts = ground.starts(seed)
    latents = starts.repeat(count, *[1] * (starts.dim() - 1))  # image-major: N * starts rows
    rough = max(1, steps // 4)
    latents, errors = _descend(
        ground, latents, targets.repeat_interleave(_STARTS, dim=0), rough, stop
    )
    best = errors.view(count, _STARTS).argmin(dim=1)
    rows = torch.arange(count, device=best.device) * _STARTS + best
    return _descend(ground, latents[rows], targets, steps - rough, stop)[0]


def _descend(
    ground: _Ground, latents: torch.Tensor, targets: torch.Tensor, steps: int, stop: StopFlag
) -> tuple[torch.Tensor, torch.Tensor]:
    """Adam with long steps that shrink to nothing; what it reached and the distance (B,) there.

    The second moment forgets within ten steps: near an image gradients are far smaller than the
    first ones, which would otherwise still be divided by. On a GAN's own samples 0.9 gave 42.1 dB
    in the mean, 0.95 40.1 and 0.99 34.8 (a generator with ``doubling=transposed``). Where so long
    steps are too few to come back, the beginning stays.
    """
    with torch.no_grad():
        begun = ground.distance(latents, targets)
    free = ground.free(latents)
    optimiser = torch.optim.Adam(free, lr=_LR, betas=(0.9, 0.9))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    for _ in range(steps):
        if stop.asked is not None:
            raise Stopped("stopped while looking for latents", interrupted=stop.interrupted)
        errors = ground.distance(ground.values(free), targets)
        pull = free[0].flatten(1).square().mean(dim=1)
        optimiser.zero_grad(set_to_none=True)
        (errors + _PULLS[ground.space] * pull).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        found = ground.values(free).detach()
        reached = ground.distance(found, targets)
        nearer = (reached <= begun).view(-1, *[1] * (found.dim() - 1))
        return torch.where(nearer, found, latents), torch.minimum(reached, begun)
