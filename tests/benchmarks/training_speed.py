"""The speed of ``gentool train`` as a fraction of a plain loop, measured in one run.

The plain loop is what an engineer would write by hand for the same training: the same networks,
loss, penalty, optimiser, precision and averages, on float tensors that are already in memory,
without a log, files or a display. The other side is the whole of ``train``: counter-based order
and noise, uint8 cache, log, previews and saves. The two sides alternate, so that a change in the
speed of the machine affects both.

    python tests/benchmarks/training_speed.py --images 20000 --rounds 3
"""

import argparse
import copy
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.functional import softplus

from gentool.core.devices import memory_format, select_device
from gentool.core.images import to_unit
from gentool.core.signals import StopFlag
from gentool.data import Dataset, open_dataset
from gentool.evaluation.quick_score import Score
from gentool.models.gan.losses import squared_gradient_norm
from gentool.models.gan.model import GAN
from gentool.training.loop import train
from gentool.training.settings import Settings
from gentool.training.setup import Setup


class Silent:
    """A reporter that shows nothing."""

    def resumed(self, images: int) -> None:
        """Ignore."""

    def progress(self, images: int, share: float) -> None:
        """Ignore."""

    def logged(self, record: dict[str, float]) -> None:
        """Ignore."""

    def scored(self, images: int, score: Score) -> None:
        """Ignore."""

    def saved(self, images: int) -> None:
        """Ignore."""

    def warned(self, message: str) -> None:
        """Ignore."""


def bare_loop(data: torch.Tensor, model: GAN, setup: Setup) -> float:
    """Seconds of a hand-written loop over ``settings.images`` images."""
    settings = setup.settings
    config, half = model.config, setup.precision != torch.float32
    average = copy.deepcopy(model.generator)
    optimisers = [
        torch.optim.Adam(part.parameters(), lr=settings.lr, betas=(0.0, 0.99), fused=True)
        for part in (model.discriminator, model.generator)
    ]
    assert settings.images is not None
    began = time.perf_counter()
    for step in range(-(-settings.images // settings.batch)):
        real_images = data[torch.randint(len(data), (settings.batch,))]
        latents = torch.randn(2, settings.batch, config.latent_size)
        with torch.autocast("cpu", setup.precision, enabled=half):
            with torch.no_grad():
                fakes = model.generator(latents[0])
            if step % config.penalty_every == 0:
                real, r1 = squared_gradient_norm(model.discriminator, real_images)
                fake, r2 = squared_gradient_norm(model.discriminator, fakes)
                penalty = config.penalty_every * config.penalty / 2 * (r1 + r2)
            else:
                real, fake = model.discriminator(real_images), model.discriminator(fakes)
                penalty = torch.zeros(settings.batch)
        _descend(optimisers[0], (softplus(fake - real) + penalty).mean())
        model.discriminator.requires_grad_(False)
        with torch.autocast("cpu", setup.precision, enabled=half):
            with torch.no_grad():
                real = model.discriminator(real_images)
            fake = model.discriminator(model.generator(latents[1]))
        _descend(optimisers[1], softplus(real - fake).mean())
        model.discriminator.requires_grad_(True)
        with torch.no_grad():
            torch._foreach_lerp_(
                list(average.parameters()), list(model.generator.parameters()), 0.01
            )
    return time.perf_counter() - began


def _descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def gentool_loop(dataset: Dataset, setup: Setup) -> float:
    """Seconds of ``train`` in a run folder of its own."""
    with tempfile.TemporaryDirectory() as folder, StopFlag() as stop:
        began = time.perf_counter()
        settings = replace(setup.settings, out=str(Path(folder) / "run"))
        now = replace(setup, settings=settings, started=time.monotonic())
        train(dataset.split(0), now, Silent(), stop)
        return time.perf_counter() - began


def main() -> None:
    """Print images per second of both and the median of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000, help="images per turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--data", default="builtin:shapes:8000")
    arguments = parser.parse_args()
    device = select_device("cpu")
    dataset = open_dataset(arguments.data, "32", "rgb")
    config = GAN.Config()
    settings = Settings(out="", size="32", mode="rgb", images=arguments.images, batch=64, lr=5e-4,
                        device="cpu")  # fmt: skip
    setup = Setup("gan", config, settings, time.monotonic())
    tensors = to_unit(torch.from_numpy(dataset.images[:])).contiguous(
        memory_format=memory_format(device)
    )
    ratios = []
    for number in range(arguments.rounds + 1):
        model = GAN(config, dataset.shape)
        bare = bare_loop(tensors, model.to(memory_format=memory_format(device)), setup)
        ours = gentool_loop(dataset, setup)
        if number:  # the first turn warms both up
            ratios.append(bare / ours)
            print(f"bare {arguments.images / bare:.0f} images/s, "
                  f"gentool {arguments.images / ours:.0f}, ratio {ratios[-1]:.3f}")  # fmt: skip
    print(f"median ratio {statistics.median(ratios):.3f} ({setup.precision}, 32x32 rgb)")


if __name__ == "__main__":
    main()
