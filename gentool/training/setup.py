"""A run that is ready to be trained: the model's options, the settings, and what follows from them.

``plan`` makes a ``Setup`` from what a person gives; the loop and the run folder read it.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from gentool.core.devices import select_device, select_precision
from gentool.core.images import MODES, ImageShape
from gentool.core.options import to_json
from gentool.data import Preprocessing, make_preprocessing, parse_size
from gentool.models.base import BaseConfig
from gentool.training.settings import Settings, identity_of
from gentool.training.snapshots import Keep, parse_keep


@dataclass(frozen=True)
class Setup:
    """Everything that decides a run.

    Attributes:
        model: Name in the table of models.
        config: Options of the model.
        settings: Settings of the run.
        started: ``time.monotonic()`` at the start of the command; a budget in minutes counts
            from here.
        stop_after: Number of images after which this command stops and leaves the run to be
            continued; None for no limit.
        override: Whether the run may continue with other settings than it began with.
        preset: Name of the preset that the settings began with; None where there was none.
    """

    model: str
    config: BaseConfig
    settings: Settings
    started: float = field(compare=False)
    stop_after: int | None = None
    override: bool = False
    preset: str | None = None

    @cached_property
    def out(self) -> Path:
        """The run folder."""
        return Path(self.settings.out).expanduser()

    @cached_property
    def device(self) -> torch.device:
        """The device that computes.

        Raises:
            UsageError: no such kind of device.
            DeviceError: this machine does not have it.
        """
        return select_device(self.settings.device)

    @cached_property
    def precision(self) -> torch.dtype:
        """The dtype of autocast.

        Raises:
            UsageError: no such precision.
        """
        return select_precision(self.device, self.settings.precision)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """How images are preprocessed.

        Raises:
            UsageError: a size, fit, background, margin or levels that is not allowed.
        """
        s = self.settings
        shape = ImageShape(*parse_size(s.size), MODES[s.mode])
        return make_preprocessing(shape, s.fit, s.background, s.margin, s.levels)

    @cached_property
    def keep(self) -> Keep:
        """Which models stay beside the last one.

        Raises:
            UsageError: ``--keep`` says none of them.
        """
        return parse_keep(self.settings.keep)

    def identity(self) -> dict[str, object]:
        """Return what two commands must share to be the same run, but for the images."""
        options = {f"-o {name}": value for name, value in to_json(self.config).items()}
        return {"model": self.model, **options, **identity_of(self.settings)}
