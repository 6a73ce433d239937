"""What a VAE maximises: weights of the KL over a run, free bits, and the importance-weighted bound.

Pure functions, one value per image. The bounds are Kingma and Welling 2014 (arXiv:1312.6114) and
Burda et al. 2016 (arXiv:1509.00519); the gradient of the latter with respect to the encoder is
that of Tucker et al. 2018 (arXiv:1810.04152), whose signal does not vanish with more samples.
"""

import math
from functools import partial

import torch

from gentool.core.distributed import batch_mean, batch_moments

ACTIVE_VARIANCE = 0.01  # of a unit's posterior mean over images, above which it is active
_CAPACITY_SHARE = 0.5  # of the run, in which the capacity rises to its final value
_CYCLE_RISE = 0.5  # of a cycle, in which the weight rises (Fu et al. 2019: R)


def kl_weight(beta: float, warm_up: float, cycles: int, share: float) -> float:
    """The weight of the KL at a share of the run.

    Args:
        beta: The weight at the end (Higgins et al. 2017).
        warm_up: Share of the run in which it rises from 0, linearly (Bowman et al. 2016,
            arXiv:1511.06349; Sonderby et al. 2016, arXiv:1602.02282). With cycles, share of each
            cycle; 0 then means half.
        cycles: How often the rise is repeated (Fu et al. 2019, arXiv:1903.10145, Eq. 6); 0 and 1
            are once.
        share: From 0 to 1.
    """
    if cycles > 0:
        share = share * cycles % 1.0 if share < 1 else 1.0
        warm_up = warm_up or _CYCLE_RISE
    return beta * min(share / warm_up, 1.0) if warm_up > 0 else beta


def capacity_now(capacity: float, share: float) -> float:
    """C in nats: from 0 to ``capacity`` in the first half of the run.

    Burgess et al. 2018 (arXiv:1804.03599), section 5; the loss is beta |KL - C|, Eq. 8.
    """
    return capacity * min(share / _CAPACITY_SHARE, 1.0)


def free_bits(kl: torch.Tensor, floor: float) -> torch.Tensor:
    """KL per image with at least ``floor`` nats free in every unit (Kingma et al. 2016, Eq. 15).

    A unit whose mean over the batch is below the floor counts as the floor and has no gradient,
    so that the mean of the result is sum_j max(floor, mean KL_j).

    Args:
        kl: (B, L), nats.
        floor: Nats per unit; 0 changes nothing.

    Returns:
        Shape (B,).
    """
    if floor == 0:
        return kl.sum(dim=1)
    enough = batch_mean(kl.detach()) > floor
    return torch.where(enough, kl, torch.full_like(kl, floor)).sum(dim=1)


def importance_bound(log_weights: torch.Tensor) -> torch.Tensor:
    """Log 1/K sum_k w_k per image (Burda et al. 2016, Eq. 8), (K, B) -> (B,)."""
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def doubly_reparameterised(log_weights: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """The same value, with the gradient of Tucker et al. 2018 (Eq. 8).

    Weights normalised over the samples, w~, weigh the gradient of log w that parameters of p have,
    and w~^2 the one that reaches the encoder through z. ``log_weights`` must have been made with
    the parameters of q detached in log q(z|x), so that z alone leads to the encoder. With one
    sample w~ is 1: the path gradient of the ELBO (Roeder et al. 2017).

    Args:
        log_weights: Log p(x|z) p(z) / q(z|x), (K, B).
        latents: The z they were made of, (K, B, L), with their graph.
    """
    shares = log_weights.detach().softmax(dim=0)
    if latents.requires_grad:
        weigh = partial(torch.mul, shares[:, :, None])
        latents.register_hook(weigh)  # type: ignore[no-untyped-call]
    surrogate = (shares * log_weights).sum(dim=0)
    value = importance_bound(log_weights.detach())
    return surrogate + (value - surrogate.detach())


def active_units(means: torch.Tensor) -> torch.Tensor:
    """How many units are in use, a float: by ``ACTIVE_VARIANCE`` (Burda et al. 2016, section 5.2).

    Not a number where one image is all there is: nothing varies over it.

    Args:
        means: Posterior means of a batch, (B, L), or of this process's share of it.
    """
    _, variances, count = batch_moments(means.detach(), (0,))
    active = (variances > ACTIVE_VARIANCE).sum().float()
    return active if count > 1 else torch.full_like(active, math.nan)
