"""Inversion: find latents of given images by gradient descent.

The distance between the decoded latents and the image is minimised over the latents (Zhu et al.
2016, arXiv:1609.03552, Eq. 4) and then, if the user wants it, over the weights of the generator
(pivotal tuning, Roich et al. 2021, arXiv:2106.05744, section 3.1). The search starts at the latents
that the model's encoder gives. Without an encoder it starts from several random points, and after
a quarter of the steps only the best of them continues.

For models with styles the search is in w (Karras et al. 2020, arXiv:1912.04958, appendix D), with
one w for each layer (Abdal et al. 2019, arXiv:1904.03189): this also reaches images that no z
gives.
"""

import copy

import torch

from gentool.core.errors import Stopped
from gentool.core.images import Pixels, to_unit
from gentool.core.signals import StopFlag
from gentool.inference.blocks import prior_blocks, style_blocks
from gentool.inference.latents import Latents, images_at, to_styles
from gentool.metrics.pixels import pixel_distance
from gentool.models.base import Model

_STARTS = 8  # random starts per image
_LR = 0.3
_WEIGHTS_LR = 1e-3
# Weight of the penalty ||z||^2 / L, which keeps latents where the decoder was trained. With one w
# for each layer, many points give the same image: there a weight a hundred times larger does not
# raise the error, and it halves the distance to the mean of w.
_PULLS = {"z": 1e-4, "w": 1e-2}
_DRAWS = 1024  # draws from which the mean and deviation of w are estimated
_TINY = 1e-6
_LEAST_SHARE = 1e-4  # least class weight at the start: the gradient of a weight of 0 is 0
# Images that are searched together. The number is fixed and the last image is repeated to fill a
# block: another batch size rounds differently, long steps magnify this, and the latents of a photo
# must not depend on the other photos. A GPU computes more rows in the same time and takes larger
# blocks: 32 images at 64x64, 2 at 256x256.
_BLOCK, _GPU_BLOCK, _GPU_PIXELS = 4, 32, 2**17
_BATCH = 16  # images per step when weights are fitted; bounds memory


def invert(
    model: Model,
    images: Pixels,
    steps: int,
    seed: int,
    stop: StopFlag,
    start: Latents | None = None,
    space: str = "z",
) -> Latents:
    """Search for points whose decoded images are close to ``images``.

    Args:
        model: Any model with a prior and a differentiable decoder, in eval mode.
        images: uint8 (N, H, W, C).
        steps: Gradient steps for each image; without ``start``, every random point of an image
            gets the first quarter of them.
        seed: Seed of the random points.
        stop: Polled at every step.
        start: Where to begin, for example the output of an encoder; None for random points.
            Latents are accepted where ``space`` is ``w``.
        space: Space of the search: ``z`` or, for models with styles, ``w`` (one w per layer).

    Returns:
        N points in ``space``.

    Raises:
        Stopped: the user asked to stop.
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
    """Return a copy of the model whose decoder gives almost exactly the images at their latents.

    This is pivotal tuning, Roich et al. 2021 (arXiv:2106.05744), Eq. 3, with squared pixel errors
    in place of the perceptual distance, which needs a pretrained network, and without the
    regulariser.

    Args:
        model: In eval mode; it is not changed.
        latents: The N pivots.
        images: uint8 (N, H, W, C).
        steps: Gradient steps per 16 images.
        stop: Polled at every step.

    Raises:
        Stopped: the user asked to stop.
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
            raise Stopped("stopped while fitting the weights", interrupted=stop.interrupted)
        k = step % len(pivots)
        errors = pixel_distance(images_at(tuned, pivots[k], latents.space), targets[k])
        optimiser.zero_grad(set_to_none=True)
        errors.mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    tuned.requires_grad_(False)
    return tuned


class _Ground:
    """The coordinates of a search: over draws from the prior, each has mean 0 and variance 1.

    In space ``z`` they are z itself; the class weights, which are the last numbers of the latents,
    are the softmax of free logits, so that they stay positive with sum 1. In space ``w`` they are
    u = (w - mean) / deviation, with mean and deviation of each unit over draws. One step length
    then suits every unit, and the penalty that keeps z near draws of N(0, I) keeps w near its mean,
    least in the units that vary most.
    """

    def __init__(self, model: Model, space: str) -> None:
        self.model, self.space = model, space
        if space == "w":
            w = style_blocks(model, prior_blocks(model, [(0, k) for k in range(_DRAWS)]))[:, 0]
            self.mean, self.deviation = w.mean(dim=0), w.std(dim=0).clamp_min(_TINY)

    def starts(self, seed: int) -> torch.Tensor:
        """Return 8 random points (8, ...); in space ``w`` the first is the mean (Karras 2020)."""
        z = prior_blocks(self.model, [(seed, k) for k in range(_STARTS)])
        if self.space == "z":
            return z.clone()
        w = style_blocks(self.model, z).clone()
        w[0] = self.mean
        return w

    def free(self, start: torch.Tensor) -> list[torch.Tensor]:
        """Return the leaf tensors that the search optimises, initialised at ``start``.

        The penalty acts on the first of them only; a second one holds the logits of the classes.
        """
        if self.space == "w":
            return [((start - self.mean) / self.deviation).requires_grad_(True)]
        count = self.model.latent_classes
        z, shares = start.detach().tensor_split([start.shape[1] - count], dim=1)
        leaves = [z.clone().requires_grad_(True)]
        if count:
            leaves.append(shares.clamp_min(_LEAST_SHARE).log().requires_grad_(True))
        return leaves

    def values(self, free: list[torch.Tensor]) -> torch.Tensor:
        """Return the latents or styles (B, ...) for the tensors of ``free``."""
        if self.space == "w":
            return self.mean + self.deviation * free[0]
        return torch.cat([free[0], free[1].softmax(dim=1)], dim=1) if len(free) > 1 else free[0]

    def distance(self, values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the distance (B,) between the images of ``values`` and the targets."""
        return pixel_distance(images_at(self.model, values, self.space), targets)


def _search(
    ground: _Ground, targets: torch.Tensor, steps: int, seed: int, stop: StopFlag
) -> torch.Tensor:
    """Search from several random points; after a quarter of the steps only the best continues."""
    count = len(targets)
    starts = ground.starts(seed)
    latents = starts.repeat(count, *[1] * (starts.dim() - 1))  # the rows of one image are adjacent
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
    """Minimise the distance by Adam, with a large learning rate that falls to 0.

    beta2 is 0.9, a memory of about ten steps: near an image the gradients are far smaller than the
    first ones, by which Adam would otherwise still divide. On a GAN's own samples the mean PSNR was
    42.1 dB with 0.9, 40.1 with 0.95 and 34.8 with 0.99 (a generator with ``doubling=transposed``).
    An image for which the result is worse than the start keeps its start.

    Returns:
        The latents or styles (B, ...) and their distances (B,).
    """
    with torch.no_grad():
        begun = ground.distance(latents, targets)
    free = ground.free(latents)
    optimiser = torch.optim.Adam(free, lr=_LR, betas=(0.9, 0.9))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    for _ in range(steps):
        if stop.asked is not None:
            raise Stopped("stopped while searching for latents", interrupted=stop.interrupted)
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
