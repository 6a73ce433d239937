"""The training state as plain tensors: weights, averages and optimisers by parameter name.

Nothing but these tensors and the counters in the header is needed to go on: order, noise and
schedules are functions of the counter.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from gentool.checkpoint import Tensors, exported_tensors
from gentool.models.base import Model, Phase
from gentool.training.optimisers import MOMENTS, Optimiser, step_device

Optimisers = Mapping[str, Optimiser]
POWERS = "powers/"


def pack(
    model: Model,
    average: Model,
    phases: tuple[Phase, ...],
    optimisers: Optimisers,
    powers: Tensors,
) -> Tensors:
    """All tensors of a run, by prefixed name; ``powers`` are averages of other lengths."""
    tensors = {f"live/{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average/{k}": v for k, v in exported_tensors(average).items()}
    tensors |= {POWERS + k: v for k, v in powers.items()}
    for prefix, parameter, phase in _parameters(phases):
        optimiser = optimisers[phase.name]
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[prefix + key] = value
    return tensors


def expected(
    names: Collection[str], model: Model, average: Model, phases: tuple[Phase, ...],
    powers: Tensors,
) -> Tensors:  # fmt: skip
    """Tensors of the shapes and dtypes that a state with these names has to hold.

    The names decide one thing only: which parameters have had their first turn.
    """
    found = {f"live/{k}": v for k, v in model.state_dict().items()}
    found |= {f"average/{k}": v for k, v in exported_tensors(average).items()}
    found |= {POWERS + k: v for k, v in powers.items()}
    for prefix, parameter, phase in _parameters(phases):
        if f"{prefix}step" in names:
            found |= {prefix + k: parameter for k in MOMENTS[phase.optimiser]}
            found[f"{prefix}step"] = torch.zeros(())
    return found


@torch.no_grad()
def unpack(
    tensors: Tensors,
    model: Model,
    average: Model,
    phases: tuple[Phase, ...],
    optimisers: Optimisers,
    powers: Tensors,
) -> None:
    """Put the tensors of ``pack`` back in place.

    Raises:
        KeyError: a tensor is missing.
        RuntimeError: one has another shape.
    """
    for name, target in model.state_dict().items():
        _fill(target, tensors[f"live/{name}"])
    for name, target in exported_tensors(average).items():
        _fill(target, tensors[f"average/{name}"])
    for name, target in powers.items():
        _fill(target, tensors[POWERS + name])
    for prefix, parameter, phase in _parameters(phases):
        if f"{prefix}step" in tensors:  # else the phase has not had its first turn
            # empty_like keeps the parameter's memory format, which fused Adam relies on
            state = {
                k: _fill(torch.empty_like(parameter), tensors[prefix + k])
                for k in MOMENTS[phase.optimiser]
            }
            steps = torch.zeros((), device=step_device(phase, parameter))
            state["step"] = _fill(steps, tensors[f"{prefix}step"])
            optimisers[phase.name].state[parameter] = state


def tensor_bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    """Bytes that tensors take."""
    return sum(tensor.nbytes for tensor in tensors.values())


def _fill(target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Copy ``source`` into ``target``; unlike ``copy_`` alone, without broadcasting."""
    if target.shape != source.shape:
        raise RuntimeError(
            f"a tensor has shape {list(source.shape)} instead of {list(target.shape)}"
        )
    return target.copy_(source)


def _parameters(
    phases: tuple[Phase, ...],
) -> Iterator[tuple[str, torch.nn.Parameter, Phase]]:
    """(tensor prefix, parameter, its phase) of every phase."""
    for phase in phases:
        for name, parameter in phase.module.named_parameters():
            yield f"optimiser/{phase.name}/{name}/", parameter, phase


class HasState(Protocol):
    """A part of a run that the state file keeps, besides tensors."""

    def state(self) -> dict[str, Any]:
        """Return JSON values for the header of the state file."""

    def load(self, header: Mapping[str, Any]) -> None:
        """Restore what ``state`` returned; keys that are absent give the state of a new run.

        Raises:
            ValueError, TypeError, AttributeError: values that no run can have.
        """


@dataclass
class Counters:
    """The counters of a run.

    Attributes:
        images: Images seen; data order, noise and schedules are functions of it.
        step: Steps taken.
        seconds: Wall-clock seconds of all commands before this one.
    """

    images: int = 0
    step: int = 0
    seconds: float = 0.0

    def state(self) -> dict[str, Any]:
        """Return what the state file keeps."""
        return {"images": self.images, "step": self.step, "seconds": self.seconds}

    def load(self, header: Mapping[str, Any]) -> None:
        """Restore what ``state`` returned.

        Raises:
            ValueError: a count that no run can have.
        """
        seconds = float(header.get("seconds", 0.0))
        if not 0 <= seconds < math.inf:
            raise ValueError("seconds")
        images, step = read_count(header.get("images", 0)), read_count(header.get("step", 0))
        self.images, self.step, self.seconds = images, step, seconds


def read_count(value: object) -> int:
    """Return a counter from a state file.

    Raises:
        ValueError: it is not a whole number from 0 to 2^53 - 1.
    """
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError("counter")
    return value
