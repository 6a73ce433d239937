"""Weights & Biases: files in the folder ``wandb`` of the run, which ``wandb sync`` uploads.

Nothing leaves this machine unless the environment says so with ``WANDB_MODE=online``.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from gentool.trackers.table import Start

_STEP = "images"  # the axis of all charts; wandb's own step may not go back after a resume


class Wandb:
    """Writes the files of a run.

    Args:
        start: The run.
    """

    def __init__(self, start: Start) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._image = wandb.Image
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "gentool"),
            name=start.name,
            id=start.key,
            resume="allow",
            mode=os.environ.get("WANDB_MODE", "offline"),
            dir=str(start.folder),
            config=dict(start.settings),
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True,
                x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True,
            ),
        )  # fmt: skip
        self._run.define_metric(_STEP)
        self._run.define_metric("*", step_metric=_STEP)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers by name."""
        self._run.log({**values, _STEP: step})

    def picture(self, step: int, name: str, file: Path) -> None:
        """Write a picture."""
        self._run.log({name: self._image(str(file)), _STEP: step})

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


def start(start: Start) -> Wandb:
    """Return a tracker of a run that begins or continues."""
    return Wandb(start)
