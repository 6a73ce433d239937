"""The training state as plain tensors: weights, averages and optimisers by parameter name.

Nothing but these tensors and the counters in the header is needed to go on: order, noise and
schedules are functions of the counter.
"""

from collections.abc import Collection, Iterator, Mapping

import torch

from gentool.checkpoint import Tensors, exported_tensors
from gentool.models.base import Model, Phase
from gentool.optimisers import MOMENTS, Optimiser, step_device

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
        raise RuntimeError(f"shape {list(source.shape)} where {list(target.shape)} is due")
    return target.copy_(source)


def _parameters(
    phases: tuple[Phase, ...],
) -> Iterator[tuple[str, torch.nn.Parameter, Phase]]:
    """(tensor prefix, parameter, its phase) of every phase."""
    for phase in phases:
        for name, parameter in phase.module.named_parameters():
            yield f"optimiser/{phase.name}/{name}/", parameter, phase
