"""Parts of the VAE's objective: the KL weight over a run, free bits, and the importance bound.

The bounds are Kingma and Welling 2014 (arXiv:1312.6114) and Burda et al. 2016 (arXiv:1509.00519).
The encoder's gradient of the importance bound follows Tucker et al. 2018 (arXiv:1810.04152). Unlike
the plain gradient, it does not vanish as samples are added. Every function here is pure. The KL
itself is ``unit_kl`` in ``model.py``, and its formula is in ``models/priors/base.py``.
"""

import math
from functools import partial

import torch

from gentool.core.distributed import batch_mean, batch_moments
from gentool.models.capabilities import ACTIVE_VARIANCE

_CAPACITY_SHARE = 0.5  # fraction of the run in which the capacity rises to its final value
_CYCLE_RISE = 0.5  # fraction of a cycle in which the weight rises (Fu et al. 2019: R)


def kl_weight(beta: float, warm_up: float, cycles: int, share: float) -> float:
    """Return the weight of the KL at a point of the run.

    Args:
        beta: The weight at the end (Higgins et al. 2017).
        warm_up: Fraction of the run in which the weight rises linearly from 0 (Bowman et al. 2016,
            arXiv:1511.06349; Sonderby et al. 2016, arXiv:1602.02282). With cycles, the fraction of
            each cycle, where 0 means half.
        cycles: How often the rise is repeated (Fu et al. 2019, arXiv:1903.10145, Eq. 6); 0 and 1
            mean once.
        share: Fraction of the run that is over, from 0 to 1.
    """
    if cycles > 0:
        share = share * cycles % 1.0 if share < 1 else 1.0
        warm_up = warm_up or _CYCLE_RISE
    return beta * min(share / warm_up, 1.0) if warm_up > 0 else beta


def capacity_now(capacity: float, share: float) -> float:
    """Return the capacity C in nats at a point of the run.

    It rises linearly from 0 to ``capacity`` in the first half of the run. Burgess et al. 2018
    (arXiv:1804.03599), section 5; the loss is beta |KL - C|, Eq. 8.

    Args:
        capacity: The final value in nats.
        share: Fraction of the run that is over, from 0 to 1.
    """
    return capacity * min(share / _CAPACITY_SHARE, 1.0)


def free_bits(kl: torch.Tensor, floor: float) -> torch.Tensor:
    """Return the KL per image with ``floor`` nats free in every unit (Kingma et al. 2016, Eq. 15).

    A unit whose mean over the batch is below the floor counts as the floor and has no gradient, so
    the mean of the result is sum_j max(floor, mean KL_j).

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
    """Return log 1/K sum_k w_k per image (Burda et al. 2016, Eq. 8), (K, B) -> (B,)."""
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def doubly_reparameterised(log_weights: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """Return ``importance_bound``, (B,), with the gradient of Tucker et al. 2018 (Eq. 8).

    With the weights w~, normalised over the samples, the gradient of log w with respect to the
    parameters of p is weighted by w~, and that which reaches the encoder through z by w~^2.
    ``log_weights`` must be computed with the parameters of q detached in log q(z|x), so that
    gradients reach the encoder through z only. With one sample w~ is 1, which gives the path
    gradient of the ELBO (Roeder et al. 2017).

    Args:
        log_weights: Log p(x|z) p(z) / q(z|x), (K, B).
        latents: The z that they were computed from, (K, B, L), with graph.
    """
    shares = log_weights.detach().softmax(dim=0)
    if latents.requires_grad:
        weigh = partial(torch.mul, shares[:, :, None])
        latents.register_hook(weigh)  # type: ignore[no-untyped-call]
    surrogate = (shares * log_weights).sum(dim=0)
    value = importance_bound(log_weights.detach())
    return surrogate + (value - surrogate.detach())


def active_units(means: torch.Tensor) -> torch.Tensor:
    """Return the number of active units, a float scalar (Burda et al. 2016, section 5.2).

    A unit is active if its variance over the batch, in all processes, is above ``ACTIVE_VARIANCE``.
    The result is NaN for a batch of one image, which has no variance.

    Args:
        means: Posterior means of the batch, or of this process's part of it, (B, L).
    """
    _, variances, count = batch_moments(means.detach(), (0,))
    active = (variances > ACTIVE_VARIANCE).sum().float()
    return active if count > 1 else torch.full_like(active, math.nan)
