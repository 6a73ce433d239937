"""The penalties of one run, read from ``-o penalties=`` and applied together (``penalties``)."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import nn

from gentool.core.options import Term
from gentool.models.base import LossTerms
from gentool.models.gan.penalties import PENALTIES, CriticTurn, GeneratorTurn, Penalty


class Penalties(nn.Module):
    """Several penalties, each with its weight and interval.

    Args:
        names: Such as ``r1+r2`` or ``r1:0.5/16+lecam`` (``Term``); empty or ``none`` for none.
        weights: Name -> weight that replaces the published one; a weight of 0 removes the penalty.
        every: Name -> interval in steps that replaces the published one.

    Raises:
        UnknownName: a name is not in ``PENALTIES``.
        UsageError: a weight or an interval cannot be read.
    """

    def __init__(
        self,
        names: str,
        weights: Mapping[str, float] | None = None,
        every: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.entries = nn.ModuleDict()
        self.weights: dict[str, float] = {}
        self.every: dict[str, int] = {}
        for word in () if names in ("", "none") else names.split("+"):
            term = Term.read(word)
            name, kind = term.name, PENALTIES.get(term.name)
            weight = (weights or {}).get(name, kind.weight) if term.weight is None else term.weight
            if weight > 0:
                self.entries[name] = kind()
                self.weights[name] = weight
                self.every[name] = term.every or (every or {}).get(name, kind.every)

    def due(self, step: int, of_generator: bool = False) -> tuple[str, ...]:
        """Return the names of the penalties of discriminator or generator that apply in a step."""
        return tuple(
            name
            for name, entry in self.entries.items()
            if cast("Penalty", entry).of_generator == of_generator and step % self.every[name] == 0
        )

    def leaves(self, step: int, of_generator: bool = False) -> frozenset[str]:
        """Return which tensors must be leaves before the forward pass of this step."""
        wanted = [cast("Penalty", self.entries[n]).leaves for n in self.due(step, of_generator)]
        return frozenset().union(*wanted)

    def forward(
        self, turn: CriticTurn | GeneratorTurn, slope_factor: torch.Tensor | float = 1.0
    ) -> LossTerms:
        """Return what to add to the loss of the discriminator or the generator.

        Args:
            turn: The tensors of the update; its ``draw`` has the step.
            slope_factor: Factor on the weight of squared slopes.

        Returns:
            The total (B,), the sum of value times weight times interval, and the plain values by
            name.
        """
        of_generator = isinstance(turn, GeneratorTurn)
        some = turn.images if isinstance(turn, GeneratorTurn) else turn.real
        total = torch.zeros(len(some), device=some.device)
        parts: dict[str, torch.Tensor] = {}
        for name in self.due(turn.draw.step, of_generator):
            entry = cast("Penalty", self.entries[name])
            parts[name] = entry(turn)
            factor = slope_factor if entry.of_slope else 1.0
            total = total + factor * self.weights[name] * self.every[name] * parts[name]
        return LossTerms(total, parts)
