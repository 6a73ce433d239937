"""Injected faults, such as NaN or a lack of memory, in a training in a child process.

They are requested by a job of ``forkserver``; the package contains no code for them.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from gentool.models.base import Batch, LossTerms, Phase
from gentool.training.update import Updates

NAN = float("nan")
Means = dict[str, torch.Tensor]


def strike(job: dict[str, Any]) -> None:
    """Make a step of one phase go wrong.

    Args:
        job: ``phase``: name; ``step``: the first step at which it happens; ``times``: how often;
            ``what``: ``loss``, ``gradient`` or ``weight``; ``part``: what the names of the
            gradients and weights begin with.
    """
    take = Updates.take
    left = [job["times"]]

    def struck(self: Updates, phase: Phase, start: int, step: int, *more: float) -> Means:
        due = phase.name == job["phase"] and step >= job["step"]
        if not due or left[0] == 0:
            return take(self, phase, start, step, *more)
        left[0] -= 1
        return _spoilt(lambda p: take(self, p, start, step, *more), phase, job)

    Updates.take = struck  # type: ignore[method-assign, assignment]


def _spoilt(go: Callable[[Phase], Means], phase: Phase, job: dict[str, Any]) -> Means:
    named = phase.module.named_parameters()
    weight = next(p for name, p in named if name.startswith(job["part"]) and p.ndim > 1)
    one = (0,) * weight.ndim
    if job["what"] == "weight":
        with torch.no_grad():
            weight[one] = NAN
        return go(phase)

    def loss(batch: Batch, draw: Any) -> LossTerms:
        terms = phase.loss(batch, draw)
        if job["what"] == "loss":
            return LossTerms(terms.total + NAN, terms.parts)
        edge = (weight[one] - weight.detach()[one]).abs().sqrt()  # 0, but its slope is no number
        return LossTerms(terms.total + edge, terms.parts)

    return go(replace(phase, loss=loss))


def starve(job: dict[str, Any]) -> None:
    """Run out of memory as long as more than so many images are taken at once.

    Args:
        job: ``fits``: images that fit; ``moment``: ``forward`` or ``backward``; ``step``: the
            first step at which memory is short.
    """
    take = Updates.take

    def starved(self: Updates, phase: Phase, start: int, step: int, *more: float) -> Means:
        short = step >= job["step"]

        def loss(batch: Batch, draw: Any) -> LossTerms:
            if short and job["moment"] == "forward" and len(batch.images) > job["fits"]:
                raise torch.OutOfMemoryError("CUDA out of memory, it is said")
            terms = phase.loss(batch, draw)
            if not short or len(batch.images) <= job["fits"]:
                return terms
            return LossTerms(_Starving.apply(terms.total), terms.parts)

        return take(self, replace(phase, loss=loss), start, step, *more)

    Updates.take = starved  # type: ignore[method-assign, assignment]


class _Starving(torch.autograd.Function):
    """The identity, with no memory left for its gradient."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        """Nothing happens yet."""
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        """It happens."""
        raise torch.OutOfMemoryError("CUDA out of memory, it is said")


def spoil(job: dict[str, Any]) -> None:
    """What a job asks for."""
    {"strike": strike, "starve": starve}[job["kind"]](job)
