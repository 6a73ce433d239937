"""The interface of an object that the training loop informs of its progress."""

from typing import Protocol

from gentool.evaluation.quick_score import Score


class Reporter(Protocol):
    """An object whose methods the training loop calls, for example to print."""

    def resumed(self, images: int) -> None:
        """Report that a run continues from ``images``, the number of images seen."""

    def progress(self, images: int, share: float) -> None:
        """After every step: images seen, and the share of the run that is done."""

    def logged(self, record: dict[str, float]) -> None:
        """A line was written to the log."""

    def scored(self, images: int, score: Score) -> None:
        """The averaged weights were scored."""

    def saved(self, images: int) -> None:
        """State, model and previews were written; only the first process is told."""

    def warned(self, message: str) -> None:
        """Something happened that the user should know."""
