"""``--batch auto``: choose the batch size for this device by timing real steps.

The search begins with the batch size of the preset, for which the learning rate was chosen. The
batch is halved while a step does not fit into memory. It is doubled if this makes training much
faster per image. A run that already exists keeps its batch size (see ``continuing``).
Without ``auto`` the batch size is that of the preset (``models.presets``).
"""

import time
from dataclasses import replace

import torch

from gentool.core.signals import StopFlag
from gentool.data import Split
from gentool.evaluation.quick_score import Score
from gentool.training.failures import explaining
from gentool.training.loop import Trainer
from gentool.training.setup import Setup

_MOST_DOUBLINGS = 3  # for larger batches the learning rate of the preset is not suitable
_GAIN = 1.3  # smallest factor in images per second that justifies a doubling
_STEPS = 3  # timed steps, after one step of warm-up


class _Silent:
    """Reporter that ignores all events of the timed steps."""

    def resumed(self, images: int) -> None:
        """Ignore that a run continues."""

    def progress(self, images: int, share: float) -> None:
        """Ignore the progress."""

    def logged(self, record: dict[str, float]) -> None:
        """Do nothing: the measurement of the batch size writes no log."""

    def scored(self, images: int, score: Score) -> None:
        """Ignore a score."""

    def saved(self, images: int) -> None:
        """Ignore that files were written."""

    def warned(self, message: str) -> None:
        """Ignore warnings about split batches, which the search expects."""


def with_batch(setup: Setup, batch: int) -> Setup:
    """Return the setup with another batch size."""
    return replace(setup, settings=replace(setup.settings, batch=batch))


def choose_batch(images: Split, setup: Setup, stop: StopFlag) -> tuple[int, str]:
    """Images per step, and why, in words.

    Args:
        images: The training images and the held-out images.
        setup: Of the run, with the preset's batch.
        stop: Polled between steps.

    Raises:
        DeviceError: not even one image fits into memory.
    """
    with explaining(setup):
        return _choose(images, setup, stop)


def _choose(images: Split, setup: Setup, stop: StopFlag) -> tuple[int, str]:
    most = len(images.train)
    batch = min(setup.settings.batch, most)
    while (speed := _images_per_second(images, setup, batch, stop)) is None and batch > 1:
        batch //= 2
    if speed is None or batch < min(setup.settings.batch, most):
        return batch, f"batch {batch}: {2 * batch} images do not fit into memory"
    for _ in range(_MOST_DOUBLINGS):
        more = 2 * batch
        faster = _images_per_second(images, setup, more, stop) if more <= most else None
        if faster is None or faster < _GAIN * speed:
            break
        batch, speed = more, faster
    return batch, f"batch {batch}: it fits into memory, with {speed:.0f} images/s in {_STEPS} steps"


def _images_per_second(images: Split, setup: Setup, batch: int, stop: StopFlag) -> float | None:
    """Return the speed of complete steps; None if a step does not fit into memory."""
    trainer = Trainer(images, with_batch(setup, batch), _Silent())
    began = 0.0
    for step in range(1 + _STEPS):
        if step == 1:
            began = _now(setup.device)
        stop.poll("stopped before the first step; no work is lost")
        trainer.take_step(0.0)
        if trainer.parts.size < batch:
            return None
    return _STEPS * batch / (_now(setup.device) - began)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
