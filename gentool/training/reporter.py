"""What the training loop informs of its progress."""

from typing import Protocol

from gentool.evaluation.quick_score import Score


class Reporter(Protocol):
    """Who is told how training goes."""

    def resumed(self, images: int) -> None:
        """A run goes on from ``images``."""

    def progress(self, images: int, share: float) -> None:
        """After every step: images seen, and the share of the run that is done."""

    def logged(self, record: dict[str, float]) -> None:
        """A line was written to the log."""

    def scored(self, images: int, score: Score) -> None:
        """The averaged weights were scored."""

    def warned(self, message: str) -> None:
        """Something happened that the user should know."""
