"""Detect loss, gradients or weights that are not finite, and return to the last good state.

A step whose loss or gradient is not finite is not taken, and averages are not updated from weights
that are not finite, so the saved weights and averages stay finite. The run returns to its last
saved state (or to its start) with half the learning rate. It does so three times at most; then it
ends with a diagnosis.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from gentool.core.errors import Diverged
from gentool.models.base import Phase
from gentool.training.accumulation import Parts
from gentool.training.run_folder import Learner, RunFolder
from gentool.training.setup import Setup
from gentool.training.state import Counters, HasState, read_count

_MOST_SETBACKS = 3


class NotFinite(Exception):
    """A number is not finite; the message names the tensor, and the phase if it is known."""


@torch.no_grad()
def all_finite(tensors: Iterable[torch.Tensor | None]) -> bool:
    """Return whether all numbers in the tensors are finite; waits for the device once.

    If the Euclidean norm of each tensor is finite, so are all numbers. The norm can overflow
    although they are finite; only then the largest magnitudes are computed, which takes a CPU
    about twenty times as long. Tensors of integers and None are ignored.
    """
    present = [t for t in tensors if t is not None and t.is_floating_point() and t.numel()]
    if not present:
        return True
    return _finite_norms(present, 2) or _finite_norms(present, math.inf)


def _finite_norms(tensors: list[torch.Tensor], order: float) -> bool:
    """Return whether the norm of every tensor is finite."""
    norms = torch._foreach_norm(tensors, order)
    # Optimisers that are not fused keep their count of steps on the CPU, so devices may differ.
    together = torch.stack([norm.to(norms[0].device) for norm in norms])
    return bool(together.isfinite().all().item())  # not the sum, which may overflow


def check_step(model: torch.nn.Module, phase: Phase, loss: torch.Tensor) -> None:
    """Check the loss and the gradients before the optimiser uses them.

    Args:
        model: The whole model, for the diagnosis.
        phase: The phase whose gradients were just computed.
        loss: The loss, a scalar.

    Raises:
        NotFinite: the loss or a gradient is not finite, so the step must not be taken.
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
    """Return the Euclidean norm of all gradients together, a scalar, without waiting for it."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def check_averaged(live: list[torch.Tensor], model: torch.nn.Module) -> None:
    """Check ``live``, the weights of ``model`` that are averaged, before the averages are updated.

    Raises:
        NotFinite: a weight is not finite, so the averages must not be updated.
    """
    if not all_finite(live):
        check_weights(model.state_dict(), "weight")


def check_weights(tensors: Mapping[str, torch.Tensor], what: str) -> None:
    """Check weights before they are averaged or written.

    Args:
        tensors: The weights by name.
        what: What they are, for the message.

    Raises:
        NotFinite: a weight is not finite.
    """
    if not all_finite(tensors.values()):
        raise NotFinite(f"the {what} {not_finite(tensors)[0]}")


def not_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the names of the tensors that contain a number that is not finite."""
    return [name for name, tensor in tensors.items() if not all_finite([tensor])]


class Setbacks:
    """How often a run went back to its last saved state; each time the learning rate is halved."""

    def __init__(self) -> None:
        self.count = 0

    @property
    def lr_factor(self) -> float:
        """Factor on the learning rate."""
        return float(0.5**self.count)

    def go_back(
        self,
        fault: NotFinite,
        folder: RunFolder,
        learner: Learner,
        kept: Sequence[HasState],
        counters: Counters,
        parts: Parts,
        initial: Callable[[], Learner],
    ) -> None:
        """Return to the last saved state, or to the start, and halve the learning rate.

        Args:
            fault: The reason.
            folder: The run folder, which holds the last state if one was saved.
            learner: Its weights, averages and optimisers are restored.
            kept: What the state file keeps besides tensors; restored too.
            counters: The counters among them, whose seconds stay.
            parts: The parts of a batch among them, whose size stays.
            initial: Returns the learner of a new run.

        Raises:
            Diverged: the run has already returned three times.
            UsageError: the state belongs to a run with other settings.
            ModelFileError: the state is damaged.
        """
        if self.count >= _MOST_SETBACKS:
            raise _diagnosis(fault, folder.setup, counters.images) from None
        setbacks, seconds, size = self.count + 1, counters.seconds, parts.state()
        for optimiser in learner.optimisers.values():
            optimiser.state.clear()
        if not folder.read_state(learner, kept):
            fresh = initial()
            learner.model.load_state_dict(fresh.model.state_dict())
            learner.average.load_state_dict(fresh.average.state_dict())
            for part in kept:
                part.load({})
        self.count, counters.seconds = setbacks, seconds
        parts.load(size)

    def state(self) -> dict[str, Any]:
        """Return what the state file keeps."""
        return {"setbacks": self.count}

    def load(self, header: Mapping[str, Any]) -> None:
        """Restore what ``state`` returned.

        Raises:
            ValueError: a count that no run can have.
        """
        self.count = read_count(header.get("setbacks", 0))


def _diagnosis(fault: NotFinite, setup: Setup, images: int) -> Diverged:
    """Return the error that ends a run after three returns; it suggests what to change."""
    tries = [f"--lr {setup.settings.lr / 2 ** (_MOST_SETBACKS + 1):g}"]
    if setup.precision != torch.float32:
        tries.insert(0, "--precision float32")
    return Diverged(
        f"{fault} is not finite at {images:,} images, after {_MOST_SETBACKS} restarts with half "
        f"the learning rate each. Files in {setup.out} hold the last good state. Try "
        f"{' or '.join(tries)}, with another --out or with --override; search for bad images "
        "with 'gentool data check'"
    )
