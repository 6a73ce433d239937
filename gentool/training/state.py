"""The training state as plain tensors: weights, averages and optimisers by parameter name.

Nothing but these tensors and the counters in the header is needed to go on: order, noise and
schedules are functions of the counter.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import torch

from gentool.checkpoint import Header, Tensors, exported_tensors
from gentool.models.base import Model, Phase
from gentool.training.optimisers import MOMENTS, WINDOW, Optimiser, step_device

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


@dataclass
class Counters:
    """What a state file holds beside tensors.

    Attributes:
        images: Seen so far; order, noise and schedules are functions of it.
        step: Steps taken.
        seconds: Wall-clock seconds of all commands before.
        best_score: The lowest so far.
        scored: Images seen at the last score.
        setbacks: How often the run went back because numbers were not finite; each time the
            learning rate was halved.
        part: Images per part of a batch that did not fit into memory whole; 0 for whole.
        began: Images seen when each phase had its first turn, by name.
        settled: Names of the phases that are over.
        lengths: Of the last gradients, for phases that leave steps out, by name.
        skips: Which of the last steps these phases left out.
    """

    images: int = 0
    step: int = 0
    seconds: float = 0.0
    best_score: float = math.inf
    scored: int = 0
    setbacks: int = 0
    part: int = 0
    began: dict[str, int] = field(default_factory=dict)
    settled: tuple[str, ...] = ()
    lengths: dict[str, tuple[float, ...]] = field(default_factory=dict)
    skips: dict[str, tuple[bool, ...]] = field(default_factory=dict)


def _count(value: object) -> int:
    """A counter from a state file."""
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError("counter")
    return value


def _lengths(values: list[object]) -> tuple[float, ...]:
    """Lengths of gradients from a state file."""
    lengths = tuple(float(str(value)) for value in values)
    if len(lengths) > WINDOW or not all(0 <= length < math.inf for length in lengths):
        raise ValueError("lengths")
    return lengths


def _skips(values: list[object]) -> tuple[bool, ...]:
    """Which steps were left out, from a state file."""
    if len(values) > WINDOW or not all(type(value) is bool for value in values):
        raise ValueError("skips")
    return tuple(map(bool, values))


def read_counters(header: Header) -> Counters:
    """What the header of a state says; any of several errors where it says something impossible."""
    best, seconds = header["best_score"], float(header["seconds"])
    images = _count(header["images"])
    began = {str(name): _count(count) for name, count in header["began"].items()}
    if not 0 <= seconds < math.inf:
        raise ValueError("seconds")
    if max(began.values(), default=0) > images:
        raise ValueError("began")
    return Counters(
        images,
        _count(header["step"]),
        seconds,
        math.inf if best is None else float(best),
        _count(header.get("scored", 0)),
        _count(header.get("setbacks", 0)),
        _count(header.get("part", 0)),
        began,
        tuple(str(name) for name in header["settled"]),
        {str(k): _lengths(some) for k, some in header.get("lengths", {}).items()},
        {str(k): _skips(some) for k, some in header.get("skips", {}).items()},
    )
