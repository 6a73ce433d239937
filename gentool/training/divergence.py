"""Numbers gone wrong: noticed before they are learned from, and what a run then does.

A step whose loss or gradient is not finite is not taken, and averages are not moved towards
weights that are not finite, so both stay good. The run goes back to its last saved state (or to
its start) with half the learning rate, a few times; then it ends with a diagnosis.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from gentool.core.atomic_files import is_full, no_room
from gentool.core.errors import DeviceError, Diverged, UsageError
from gentool.models.base import Phase
from gentool.training.accumulation import is_out_of_memory
from gentool.training.run_folder import Learner, RunFolder
from gentool.training.setup import Setup
from gentool.training.state import Counters

_MOST_SETBACKS = 3


class NotFinite(Exception):
    """A number is not finite; the text says in which phase and where it was first seen."""


@torch.no_grad()
def all_finite(tensors: Iterable[torch.Tensor | None]) -> bool:
    """Whether every number is finite; the device is waited for once.

    Largest magnitudes, not Euclidean norms: those overflow where the numbers do not.
    """
    present = [t for t in tensors if t is not None and t.is_floating_point() and t.numel()]
    if not present:
        return True
    norms = torch._foreach_norm(present, math.inf)
    # Optimisers that are not fused count their steps on the CPU, whatever device the rest is on.
    largest = torch.stack([norm.to(norms[0].device) for norm in norms])
    return bool(largest.isfinite().all().item())  # a sum of them may overflow


def check_step(model: torch.nn.Module, phase: Phase, loss: torch.Tensor) -> None:
    """Look at the loss and its gradients before the optimiser does.

    Args:
        model: The whole model, for the diagnosis.
        phase: Whose gradients were just computed.
        loss: Scalar.

    Raises:
        NotFinite: the step must not be taken.
    """
    gradients = {k: p.grad for k, p in phase.module.named_parameters() if p.grad is not None}
    if all_finite([loss, *gradients.values()]):
        return
    bad_weights = not_finite(model.state_dict())
    bad_gradients = not_finite(gradients)
    if bad_weights:
        where = f"the weight {bad_weights[0]}"
    elif not math.isfinite(loss.item()):
        where = "the loss"
    else:
        where = f"the gradient of {bad_gradients[0]} ({len(bad_gradients)} of {len(gradients)})"
    raise NotFinite(f"{where} in the phase '{phase.name}'")


@torch.no_grad()
def gradient_norm(module: torch.nn.Module) -> torch.Tensor:
    """Euclidean norm of all gradients together, a scalar that nobody waits for."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def check_averaged(live: list[torch.Tensor], model: torch.nn.Module) -> None:
    """Look at the live weights (those of ``model`` that are averaged) before they are averaged.

    Raises:
        NotFinite: the averages must not move.
    """
    if not all_finite(live):
        check_weights(model.state_dict(), "weight")


def check_weights(tensors: Mapping[str, torch.Tensor], what: str) -> None:
    """Look at weights before they are averaged or written.

    Raises:
        NotFinite: one of them must not be kept.
    """
    if not all_finite(tensors.values()):
        raise NotFinite(f"the {what} {not_finite(tensors)[0]}")


def not_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the tensors with a number that is not finite."""
    return [name for name, tensor in tensors.items() if not all_finite([tensor])]


def go_back(
    fault: NotFinite,
    folder: RunFolder,
    learner: Learner,
    now: Counters,
    initial: Callable[[], Learner],
) -> Counters:
    """Return to the last saved state, or to the start, with half the learning rate.

    Args:
        fault: Why.
        folder: Where the last state lies, if there is one.
        learner: Its tensors are put back.
        now: The counters at the fault.
        initial: The learner of a run that begins.

    Returns:
        The counters to go on from.

    Raises:
        Diverged: it was done as often as it may be.
    """
    if now.setbacks >= _MOST_SETBACKS:
        raise _diagnosis(fault, folder.setup, now.images) from None
    for optimiser in learner.optimisers.values():
        optimiser.state.clear()
    found = folder.read_state(learner)
    if found is None:
        fresh = initial()
        learner.model.load_state_dict(fresh.model.state_dict())
        learner.average.load_state_dict(fresh.average.state_dict())
    before = found or Counters()
    return replace(before, setbacks=now.setbacks + 1, seconds=now.seconds, part=now.part)


def _diagnosis(fault: NotFinite, setup: Setup, images: int) -> Diverged:
    """The end of a run that went back as often as it may: what, where, and what to change."""
    tries = [f"--lr {setup.settings.lr / 2 ** (_MOST_SETBACKS + 1):g}"]
    if setup.precision != torch.float32:
        tries.insert(0, "--precision float32")
    return Diverged(
        f"{fault} left the finite numbers at {images:,} images, after going back {_MOST_SETBACKS} "
        f"times with half the learning rate. Files in {setup.out} hold the last good state. "
        f"Try {' or '.join(tries)}, with another --out or with --override; look for odd images "
        "with 'gentool data check'"
    )


@contextlib.contextmanager
def explaining(setup: Setup) -> Iterator["Needs"]:
    """Turn errors of memory, disk and device into gentool's own."""
    needs = Needs()
    try:
        yield needs
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise DeviceError(
                f"out of memory on {setup.device}, even with parts of the batch. "
                "Use a smaller --size or --width"
            ) from error
        if setup.settings.deterministic and "deterministic" in str(error):
            reason = str(error).partition(". ")[0]
            raise DeviceError(f"{reason}. Leave --deterministic out, or use the CPU") from error
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        if is_full(error):
            raise no_room(reason, setup.out, needs.bytes) from error
        raise UsageError(f"cannot write the run folder {setup.out}: {reason}") from error


@dataclass
class Needs:
    """Bytes that a save needs, as far as known."""

    bytes: int = 0
