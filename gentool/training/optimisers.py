"""The optimiser of each phase, and the rule that leaves out steps with very long gradients.

The optimisers are Adam and Adamax (Kingma and Ba 2015, arXiv:1412.6980, algorithms 1 and 2). To
leave out a step whose gradient norm is far larger than usual keeps the training of hierarchical
VAEs stable (Child 2021, arXiv:2011.10650, section 4). Here the usual norm is a running median, so
that no threshold has to be tuned.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

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


def remembered(before: Sequence[float], length: float) -> tuple[float, ...]:
    """Return the gradient norms that the next one is compared with, 100 at most.

    Norms of steps that were left out are included. Otherwise a run whose gradients stay longer
    than before would leave out all further steps.
    """
    return (*before, min(length, _LONGEST))[-WINDOW:]


class StepFilter:
    """The steps of a run that are left out because their gradients are too long, by phase."""

    def __init__(self) -> None:
        self._lengths: dict[str, tuple[float, ...]] = {}
        self._skips: dict[str, tuple[bool, ...]] = {}

    def leaves_out(self, phase: Phase, length: torch.Tensor) -> bool:
        """Return whether a step is left out, and remember it.

        Args:
            phase: Phase of the step. If its ``skip_over`` is 0, no step is left out and
                ``length`` is not read, so the device is not waited for.
            length: Norm of the gradient, a scalar.
        """
        if not phase.skip_over:
            return False
        before, now = self._lengths.get(phase.name, ()), length.item()
        spike = is_spike(now, before, phase.skip_over)
        self._lengths[phase.name] = remembered(before, now)
        self._skips[phase.name] = (*self._skips.get(phase.name, ()), spike)[-WINDOW:]
        return spike

    def share(self, phase: Phase) -> float:
        """Return the fraction of the last steps left out; 0 if fewer than 50 are known."""
        skips = self._skips.get(phase.name, ())
        return sum(skips) / len(skips) if len(skips) >= WINDOW // 2 else 0.0

    def state(self) -> dict[str, Any]:
        """Return what the state file keeps."""
        return {
            "lengths": {name: list(some) for name, some in self._lengths.items()},
            "skips": {name: list(some) for name, some in self._skips.items()},
        }

    def load(self, header: Mapping[str, Any]) -> None:
        """Restore what ``state`` returned.

        Raises:
            ValueError: values that no run can have.
        """
        lengths = {str(k): _read_lengths(v) for k, v in header.get("lengths", {}).items()}
        skips = {str(k): _read_skips(v) for k, v in header.get("skips", {}).items()}
        self._lengths, self._skips = lengths, skips


def _read_lengths(values: Sequence[object]) -> tuple[float, ...]:
    lengths = tuple(float(str(value)) for value in values)
    if len(lengths) > WINDOW or not all(0 <= length < math.inf for length in lengths):
        raise ValueError("lengths")
    return lengths


def _read_skips(values: Sequence[object]) -> tuple[bool, ...]:
    if len(values) > WINDOW or not all(type(value) is bool for value in values):
        raise ValueError("skips")
    return tuple(map(bool, values))
