"""The progress of a pass over images, which a signal can stop."""

from gentool.core.progress_bar import ProgressBar
from gentool.core.signals import StopFlag


class IntakeBar(ProgressBar):
    """Shows a pass over images: a bar on a terminal, a plain line every ten seconds elsewhere.

    Args:
        stop: Polled at every update; there is nothing to save.
        label: The label of the bar.
    """

    def __init__(self, stop: StopFlag, label: str) -> None:
        super().__init__(transient=True)
        self._stop, self._label = stop, label

    def update(self, done: int, total: int) -> None:
        """Show how many images are done.

        Raises:
            Stopped: a signal asked to stop.
        """
        self._stop.poll("stopped; nothing was written")
        self.pass_over(self._label, done, total)
