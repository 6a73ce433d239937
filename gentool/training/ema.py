"""Averages of the weights over training, which the verbs use instead of the last weights.

An exponential average whose half-life is counted in images (Karras et al. 2018,
arXiv:1710.10196), at most a tenth of what its phase has seen: young averages forget. Buffers,
such as running statistics, are copied, but for those that only the end of training writes.

Beside it stand power-function averages of several lengths (``powers``), out of which
``gentool average`` makes one of any length when the run is over.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from gentool.models.base import Model, Phase, moving_buffers
from gentool.training.power_ema import KEPT, step_weight

_POWER_EVERY = 8  # updates between two of the power averages, which cost memory traffic
_RAMP = 0.1  # the half-life is at most this share of the images that the phase has seen


@dataclass(frozen=True)
class _Weights:
    """Weights of one phase that the verbs need."""

    live: list[torch.Tensor]
    averaged: list[torch.Tensor]
    powers: tuple[list[torch.Tensor], ...]


class Averaging:
    """Keeps ``average`` up with ``live``, phase by phase.

    Args:
        live: The model that learns.
        average: The copy of its exported parts; see ``averaged_copy``.
        phases: Of the live model. A weight belongs to the first that trains it.
    """

    def __init__(self, live: Model, average: Model, phases: tuple[Phase, ...]) -> None:
        self._live, self._average, self._phases = live, average, phases
        parts, copies = live.exported_parts(), average.exported_parts()
        twins: dict[torch.Tensor, torch.Tensor] = {
            weight: twin
            for name, part in parts.items()
            for weight, twin in zip(part.parameters(), copies[name].parameters(), strict=True)
        }
        self._weights: dict[str, _Weights] = {}
        for phase in phases:
            own: list[torch.Tensor] = [p for p in phase.module.parameters() if p in twins]
            powers = tuple([p.detach().clone() for p in own] for _ in KEPT)
            self._weights[phase.name] = _Weights(own, [twins.pop(p) for p in own], powers)
        names: dict[torch.Tensor, str] = {
            p: f"{k}.{n}" for k, m in parts.items() for n, p in m.named_parameters()
        }
        self._buffers, self._average_buffers = list[torch.Tensor](), list[torch.Tensor]()
        for name, part in parts.items():
            theirs = dict(copies[name].named_buffers())
            for key, buffer in moving_buffers(part).items():
                self._buffers.append(buffer)
                self._average_buffers.append(theirs[key])
        self._names = {phase: [names[p] for p in w.live] for phase, w in self._weights.items()}

    def live(self, names: Iterable[str]) -> list[torch.Tensor]:
        """The live weights of some phases that are averaged."""
        return [tensor for name in names for tensor in self._weights[name].live]

    @torch.no_grad()
    def update(self, ages: Mapping[str, int], images: int, half_life_images: int) -> None:
        """Move the averages of some phases towards the live weights.

        Args:
            ages: Images since each active phase began, by name.
            images: Images of this step.
            half_life_images: Of the average, once it is old enough.
        """
        for name, age in ages.items():
            half_life = min(half_life_images, _RAMP * age)
            weights = self._weights[name]
            if weights.live:
                weight = 1 - 0.5 ** (images / half_life)
                torch._foreach_lerp_(weights.averaged, weights.live, weight)
                if age // images % _POWER_EVERY == 0:
                    for length, tensors in zip(KEPT, weights.powers, strict=True):
                        moved = step_weight(length, age, images * _POWER_EVERY)
                        torch._foreach_lerp_(tensors, weights.live, moved)
        if self._buffers:
            torch._foreach_copy_(self._average_buffers, self._buffers)

    @torch.no_grad()
    def settle(self, share: float, settled: tuple[str, ...]) -> tuple[str, ...]:
        """Put the averages of phases that are over in the place of their live weights.

        Args:
            share: How much of the run is over.
            settled: Names of those that were over before.

        Returns:
            The new ``settled``.
        """
        over = tuple(p.name for p in self._phases if share >= p.span[1])
        for name in over:
            weights = self._weights[name]
            if name not in settled and weights.live:
                torch._foreach_copy_(weights.live, weights.averaged)
        return over

    def tensors(self) -> dict[str, torch.Tensor]:
        """The power averages by ``length/part.parameter``, to be saved and filled again."""
        return {
            f"{length}/{name}": tensor
            for phase, weights in self._weights.items()
            for length, group in zip(KEPT, weights.powers, strict=True)
            for name, tensor in zip(self._names[phase], group, strict=True)
        }


def averaged_copy(model: Model) -> Model:
    """A copy of the exported parts for the averages: eval mode, no gradients."""
    average = copy.deepcopy(model)
    for name in [n for n, _ in average.named_children() if n not in average.exported]:
        delattr(average, name)
    return average.eval().requires_grad_(False)
