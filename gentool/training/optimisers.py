"""Optimisers by the name that a phase asks for, and gradients too long to be followed.

Adam and Adamax (Kingma and Ba 2015, arXiv:1412.6980, algorithms 1 and 2). Leaving out a step whose
gradient is far longer than usual keeps hierarchical VAEs alive (Child 2021, arXiv:2011.10650,
section 4); what is usual is a running median here, so that nothing has to be tuned.
"""

import statistics
from collections.abc import Sequence

import torch

from gentool.models.base import Phase

Optimiser = torch.optim.Adam | torch.optim.Adamax
# What each keeps per parameter, beside its count of steps.
MOMENTS = {"adam": ("exp_avg", "exp_avg_sq"), "adamax": ("exp_avg", "exp_inf")}
WINDOW = 100  # steps that the median is over, and the share of those left out
_ENOUGH = 20  # of them, before anything is left out
_LONGEST = 1e30  # a length that JSON can say


def open_optimiser(phase: Phase, lr: float) -> Optimiser:
    """The optimiser of a phase's module."""
    parameters = list(phase.module.parameters())
    if phase.optimiser == "adamax":
        return torch.optim.Adamax(parameters, lr=lr, betas=phase.betas)
    return torch.optim.Adam(parameters, lr=lr, betas=phase.betas, fused=True)


def step_device(phase: Phase, parameter: torch.Tensor) -> torch.device:
    """Where the optimiser of a phase keeps its count of steps: fused ones beside the parameter."""
    return parameter.device if phase.optimiser == "adam" else torch.device("cpu")


def is_spike(length: float, before: Sequence[float], factor: float) -> bool:
    """Whether a gradient is more than ``factor`` times as long as the median of those before."""
    return len(before) >= _ENOUGH and length > factor * statistics.median(before)


def is_left_out(
    phase: Phase, length: torch.Tensor,
    lengths: dict[str, tuple[float, ...]], skips: dict[str, tuple[bool, ...]],
) -> bool:  # fmt: skip
    """Whether a step is left out for the length of its gradient; what is remembered is updated.

    Args:
        phase: Whose step; many leave none out, and the length is not looked at.
        length: Of the gradient, a scalar.
        lengths: Of the gradients before, by phase.
        skips: Which of the steps before were left out, likewise.
    """
    if not phase.skip_over:
        return False
    before, now = lengths.get(phase.name, ()), length.item()
    spike = is_spike(now, before, phase.skip_over)
    lengths[phase.name] = remembered(before, now)
    skips[phase.name] = (*skips.get(phase.name, ()), spike)[-WINDOW:]
    return spike


def skipped_share(skips: Sequence[bool]) -> float:
    """Share of the last steps that were left out; 0 while there are too few to tell a storm."""
    return sum(skips) / len(skips) if len(skips) >= WINDOW // 2 else 0.0


def remembered(before: Sequence[float], length: float) -> tuple[float, ...]:
    """The lengths that the next gradient is compared with.

    Those of steps left out count, or a run that has come into steeper country would never go on.
    """
    return (*before, min(length, _LONGEST))[-WINDOW:]
