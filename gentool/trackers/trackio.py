"""Trackio: a database in its own folder on this machine, which ``trackio show`` displays.

Nothing leaves this machine unless the environment says so, for example with ``TRACKIO_SPACE_ID``.
"""

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path

from gentool.trackers.table import Start


class Trackio:
    """Writes to Trackio's database.

    Args:
        start: The run.
    """

    def __init__(self, start: Start) -> None:
        for name in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
            os.environ.setdefault(name, "1")
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
        with contextlib.redirect_stdout(io.StringIO()):  # it prints in colours, to any stdout
            import trackio

            self._image, self._finish = trackio.Image, trackio.finish
            self._run = trackio.init(
                project="gentool",
                name=f"{start.name}-{start.key[:6]}",
                config=dict(start.settings),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers by name."""
        self._run.log(dict(values), step=step)

    def picture(self, step: int, name: str, file: Path) -> None:
        """Write a picture."""
        self._run.log({name: self._image(str(file))}, step=step)

    def close(self) -> None:
        """Write what is left."""
        with contextlib.redirect_stdout(io.StringIO()):  # it speaks of an upload, even if local
            self._finish()  # and not that of the run, after which the library ends it once more


def start(start: Start) -> Trackio:
    """Return a tracker of a run that begins or continues."""
    return Trackio(start)
