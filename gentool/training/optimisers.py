"""The optimiser of each phase, and the rule that leaves out steps with very long gradients.

The optimisers are Adam and Adamax (Kingma and Ba 2015, arXiv:1412.6980, algorithms 1 and 2). To
leave out a step whose gradient norm is far larger than usual keeps the training of hierarchical
VAEs stable (Child 2021, arXiv:2011.10650, section 4). Here the usual norm is a running median, so
that no threshold has to be tuned.
"""

import statistics
from collections.abc import Sequence

import torch

from gentool.models.base import Phase

Optimiser = torch.optim.Adam | torch.optim.Adamax
# Tensors that each optimiser keeps per parameter, in addition to its count of steps.
MOMENTS = {"adam": ("exp_avg", "exp_avg_sq"), "adamax": ("exp_avg", "exp_inf")}
WINDOW = 100  # number of last steps for the median, and for the fraction of steps left out
_ENOUGH = 20  # steps that must be known before one is left out
_LONGEST = 1e30  # norms are clipped to this value, as JSON cannot store infinity


def open_optimiser(phase: Phase, lr: float) -> Optimiser:
    """Return the optimiser of a phase for its module, with base learning rate ``lr``."""
    parameters = list(phase.module.parameters())
    if phase.optimiser == "adamax":
        return torch.optim.Adamax(parameters, lr=lr, betas=phase.betas)
    return torch.optim.Adam(parameters, lr=lr, betas=phase.betas, fused=True)


def step_device(phase: Phase, parameter: torch.Tensor) -> torch.device:
    """Return the device of an optimiser's count of steps: the parameter's device if it is fused."""
    return parameter.device if phase.optimiser == "adam" else torch.device("cpu")


def is_spike(length: float, before: Sequence[float], factor: float) -> bool:
    """Return whether a gradient norm is more than ``factor`` times the median of the last ones.

    It is always False if fewer than 20 norms are known.
    """
    return len(before) >= _ENOUGH and length > factor * statistics.median(before)


def is_left_out(
    phase: Phase, length: torch.Tensor,
    lengths: dict[str, tuple[float, ...]], skips: dict[str, tuple[bool, ...]],
) -> bool:  # fmt: skip
    """Return whether a step is left out because its gradient is too long; update the records.

    Args:
        phase: Phase of the step. If its ``skip_over`` is 0, no step is left out and ``length``
            is not read, so the device is not waited for.
        length: Norm of the gradient, a scalar.
        lengths: Norms of the last gradients, by phase; updated in place.
        skips: Which of the last steps were left out, by phase; updated in place.
    """
    if not phase.skip_over:
        return False
    before, now = lengths.get(phase.name, ()), length.item()
    spike = is_spike(now, before, phase.skip_over)
    lengths[phase.name] = remembered(before, now)
    skips[phase.name] = (*skips.get(phase.name, ()), spike)[-WINDOW:]
    return spike


def skipped_share(skips: Sequence[bool]) -> float:
    """Return the fraction of the last steps that were left out; 0 if fewer than 50 are known."""
    return sum(skips) / len(skips) if len(skips) >= WINDOW // 2 else 0.0


def remembered(before: Sequence[float], length: float) -> tuple[float, ...]:
    """Return the gradient norms that the next one is compared with, 100 at most.

    Norms of steps that were left out are included. Otherwise a run whose gradients stay longer
    than before would leave out all further steps.
    """
    return (*before, min(length, _LONGEST))[-WINDOW:]
