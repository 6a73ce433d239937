"""Moving averages of the weights, which all commands use instead of the last weights.

The main average is exponential, and its half-life is counted in images (Karras et al. 2018,
arXiv:1710.10196). The half-life is at most a tenth of the images that the phase has seen, so that
an early average forgets the initial weights. Buffers, such as running statistics, are copied,
except those that only ``Model.finish`` writes.

In addition there are power-function averages of several lengths (``power_ema``). After the run,
``gentool average`` combines them into an average of another length.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gentool.models.base import Model, Phase, moving_buffers
from gentool.training.power_ema import KEPT, step_weight

_POWER_EVERY = 8  # steps per update of the power averages, which costs memory bandwidth
_RAMP = 0.1  # the half-life is at most this fraction of the images that the phase has seen


@dataclass(frozen=True)
class _Weights:
    """Weights of one phase that the model file holds, and their averages."""

    live: list[torch.Tensor]
    averaged: list[torch.Tensor]
    powers: tuple[list[torch.Tensor], ...]


class Averaging:
    """Updates the moving averages of the weights, separately for each phase.

    Args:
        live: The model that is trained.
        average: The copy of its exported parts; see ``averaged_copy``.
        phases: Phases of ``live``. A weight belongs to the first phase that trains it.
    """

    def __init__(self, live: Model, average: Model, phases: tuple[Phase, ...]) -> None:
        self._live, self._average, self._phases = live, average, phases
        self._settled: tuple[str, ...] = ()  # names of the phases that have ended
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
        """Return the trained weights of the named phases, without those that are not averaged."""
        return [tensor for name in names for tensor in self._weights[name].live]

    @torch.no_grad()
    def update(self, ages: Mapping[str, int], images: int, half_life_images: int) -> None:
        """Update the averages of the active phases from the trained weights.

        Args:
            ages: Images since each active phase began, by name.
            images: Images of this step.
            half_life_images: Half-life of the average in images, once the phase is old enough.
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
    def settle(self, share: float) -> bool:
        """Replace the live weights of phases that have ended by their averages.

        Args:
            share: Fraction of the run that is finished.

        Returns:
            Whether a phase has ended since the last call.
        """
        ended = tuple(p.name for p in self._phases if share >= p.span[1])
        for name in ended:
            weights = self._weights[name]
            if name not in self._settled and weights.live:
                torch._foreach_copy_(weights.live, weights.averaged)
        is_new, self._settled = ended != self._settled, ended
        return is_new

    def state(self) -> dict[str, Any]:
        """Return what the state file keeps besides tensors: the phases that have ended."""
        return {"settled": list(self._settled)}

    def load(self, header: Mapping[str, Any]) -> None:
        """Restore what ``state`` returned."""
        self._settled = tuple(str(name) for name in header.get("settled", ()))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the power averages by name ``length/part.parameter``, to save or to load them."""
        return {
            f"{length}/{name}": tensor
            for phase, weights in self._weights.items()
            for length, group in zip(KEPT, weights.powers, strict=True)
            for name, tensor in zip(self._names[phase], group, strict=True)
        }


def averaged_copy(model: Model) -> Model:
    """Return a copy of a model's exported parts for the averages, in eval mode, no gradients."""
    average = copy.deepcopy(model)
    for name in [n for n, _ in average.named_children() if n not in average.exported]:
        delattr(average, name)
    return average.eval().requires_grad_(False)
