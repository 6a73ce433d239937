"""TensorBoard: event files in the folder ``tensorboard`` of the run."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from gentool.trackers.table import Start


class TensorBoard:
    """Writes event files.

    Args:
        start: The run.
    """

    def __init__(self, start: Start) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        # Values of an earlier command from this step on are hidden.
        purged = start.images + 1 if start.images else None
        self._writer = SummaryWriter(str(start.folder / "tensorboard"), purge_step=purged)
        if not start.images:
            rows = "\n".join(f"| {name} | {value} |" for name, value in start.settings.items())
            self._writer.add_text("settings", f"| setting | value |\n| --- | --- |\n{rows}")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers by name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def picture(self, step: int, name: str, file: Path) -> None:
        """Write a picture."""
        with Image.open(file, formats=["PNG"]) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(name, pixels, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Close the event files."""
        self._writer.close()


def start(start: Start) -> TensorBoard:
    """Return a tracker of a run that begins or continues."""
    return TensorBoard(start)
