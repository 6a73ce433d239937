"""``--batch auto``: how many images a step should take on this device, by real steps.

The preset's number is where it begins, since it is what the learning rate was chosen for: fewer
where its step does not fit into memory at once, more where twice as many are so much faster per
image that the device was idle. A run that is there already keeps its own (``continuing``).
"""

import time
from dataclasses import replace

import torch

from gentool.core.signals import StopFlag
from gentool.data import Split
from gentool.evaluation.quick_score import Score
from gentool.training.divergence import explaining
from gentool.training.loop import Trainer
from gentool.training.setup import Setup

_MOST_DOUBLINGS = 3  # beyond the preset's, as its learning rate no longer suits
_GAIN = 1.3  # in images per second, for which a doubling is worth it
_STEPS = 3  # timed, after a first one that prepares


class _Silent:
    """Told of steps that count for nothing."""

    def resumed(self, images: int) -> None:
        """Never."""

    def progress(self, images: int, share: float) -> None:
        """A step."""

    def logged(self, record: dict[str, float]) -> None:
        """Never."""

    def scored(self, images: int, score: Score) -> None:
        """Never."""

    def warned(self, message: str) -> None:
        """Of parts, which are what is looked for."""


def with_batch(setup: Setup, batch: int) -> Setup:
    """Return the setup with another batch."""
    return replace(setup, settings=replace(setup.settings, batch=batch))


def choose_batch(images: Split, setup: Setup, stop: StopFlag) -> tuple[int, str]:
    """Images per step, and why, in words.

    Args:
        images: The training images and the held-out images.
        setup: Of the run, with the preset's batch.
        stop: Polled between steps.

    Raises:
        DeviceError: not even one image fits.
    """
    with explaining(setup):
        return _choose(images, setup, stop)


def _choose(images: Split, setup: Setup, stop: StopFlag) -> tuple[int, str]:
    most = len(images.train)
    batch = min(setup.settings.batch, most)
    while (speed := _images_per_second(images, setup, batch, stop)) is None and batch > 1:
        batch //= 2
    if speed is None or batch < min(setup.settings.batch, most):
        return batch, f"batch {batch}: {2 * batch} do not fit into memory"
    for _ in range(_MOST_DOUBLINGS):
        more = 2 * batch
        faster = _images_per_second(images, setup, more, stop) if more <= most else None
        if faster is None or faster < _GAIN * speed:
            break
        batch, speed = more, faster
    return batch, f"batch {batch}: fits into memory, {speed:.0f} images/s in {_STEPS} steps"


def _images_per_second(images: Split, setup: Setup, batch: int, stop: StopFlag) -> float | None:
    """Speed of whole steps; None where they had to be taken in parts."""
    trainer = Trainer(images, with_batch(setup, batch), _Silent())
    began = 0.0
    for step in range(1 + _STEPS):
        if step == 1:
            began = _now(setup.device)
        stop.poll("stopped before the first step; nothing was lost")
        trainer.take_step(0.0)
        if trainer.parts.size < batch:
            return None
    return _STEPS * batch / (_now(setup.device) - began)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
