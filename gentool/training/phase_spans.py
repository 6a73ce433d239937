"""Which phases of a run are active, and since when.

A phase trains in a span of the run, given as fractions of the budget (``Phase.span``).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gentool.models.base import Phase
from gentool.training.state import read_count


class PhaseSpans:
    """The phases of one run.

    Args:
        phases: All phases of the model.

    Attributes:
        began: Images seen at the first update of each phase, by name.
    """

    def __init__(self, phases: tuple[Phase, ...]) -> None:
        self._phases = phases
        self.began: dict[str, int] = {}

    def active(self, share: float) -> list[Phase]:
        """Return the phases that train at ``share``, the finished fraction of the run."""
        return [p for p in self._phases if p.span[0] <= share < p.span[1]]

    def begin(self, phases: Iterable[Phase], images: int) -> None:
        """Note that phases train at ``images`` images seen; only the first time counts."""
        for phase in phases:
            self.began.setdefault(phase.name, images)

    def ages(self, phases: Iterable[Phase], images: int) -> dict[str, int]:
        """Return the images seen since each of some phases began, by name."""
        return {phase.name: images - self.began[phase.name] for phase in phases}

    def changes_samples(self, share: float) -> bool:
        """Return whether a phase that changes samples is active."""
        return any(phase.changes_samples for phase in self.active(share))

    def unchanged_since(self, images: int) -> int:
        """Return the images seen when the samples last changed, once they change no more."""
        others = (phase.name for phase in self._phases if not phase.changes_samples)
        return min((self.began.get(name, images) for name in others), default=images)

    def state(self) -> dict[str, Any]:
        """Return what the state file keeps."""
        return {"began": dict(self.began)}

    def load(self, header: Mapping[str, Any]) -> None:
        """Restore what ``state`` returned.

        Raises:
            ValueError: a count that no run can have.
        """
        began = {str(k): read_count(v) for k, v in header.get("began", {}).items()}
        if max(began.values(), default=0) > header.get("images", 0):
            raise ValueError("began")
        self.began = began
