"""One gradient step of one phase, with its learning rate.

The learning rate of a phase falls along a half cosine (Loshchilov and Hutter 2017,
arXiv:1608.03983) to ``Phase.decay`` times its first value. Each return to the last good state
halves it (``divergence``).
"""

from dataclasses import replace

import numpy as np
import torch

from gentool.core.distributed import Ranks
from gentool.core.half_cosine import half_cosine
from gentool.core.rng import Draw
from gentool.models.base import Batch, LossTerms, Model, Phase
from gentool.training.accumulation import PartLoss, Parts
from gentool.training.batches import Feeder
from gentool.training.divergence import check_step, gradient_norm
from gentool.training.optimisers import StepFilter, open_optimiser
from gentool.training.setup import Setup


class Updates:
    """Gradient steps of the phases of one run.

    Args:
        setup: Of the run.
        model: The model that learns.
        phases: Its phases.
        feeder: Gives the batches.
        parts: Computes gradients, in parts if memory is short.
        ranks: The processes that train together.

    Attributes:
        optimisers: By name of the phase.
        filter: Decides which steps are left out.
    """

    def __init__(
        self,
        setup: Setup,
        model: Model,
        phases: tuple[Phase, ...],
        feeder: Feeder,
        parts: Parts,
        ranks: Ranks,
    ) -> None:
        self._setup, self._model, self._feeder, self._parts = setup, model, feeder, parts
        self._rows = ranks.share(setup.settings.batch)
        self.optimisers = {p.name: open_optimiser(p, setup.settings.lr) for p in phases}
        self.filter = StepFilter()

    def take(
        self, phase: Phase, start: int, step: int, share: float, lr: float
    ) -> dict[str, torch.Tensor]:
        """Take one step of a phase.

        Args:
            phase: The phase.
            start: Number of the first image of the batch.
            step: Steps of the run before this one.
            share: Fraction of the run that is finished.
            lr: Learning rate, before the factor and the schedule of the phase.

        Returns:
            Means over the batch for the log: the loss or its terms, and the gradient norm.

        Raises:
            NotFinite: the loss, a gradient or a weight is not finite.
        """
        self._model.requires_grad_(False)
        phase.module.requires_grad_(True)
        optimiser = self.optimisers[phase.name]
        falling = half_cosine(phase.progress(share), floor=phase.decay)
        for group in optimiser.param_groups:
            group["lr"] = lr * phase.lr_factor * falling
        loss, means = self._parts.backward(
            self._loss_of_part(phase, start, step, share),
            optimiser.zero_grad,
            list(phase.module.parameters()),
        )
        check_step(self._model, phase, loss)
        length = gradient_norm(phase.module)
        means |= {f"grad_{phase.name}": length}
        if not self.filter.leaves_out(phase, length):
            optimiser.step()
        if phase.skip_over:
            means[f"skipped_{phase.name}"] = torch.tensor(self.filter.share(phase))
        return means

    def _loss_of_part(self, phase: Phase, start: int, step: int, share: float) -> PartLoss:
        """Return the loss of some rows of this process's part of a batch, as a function."""
        seed, device = self._setup.settings.seed, self._setup.device
        precision = self._setup.precision
        first, last = self._rows
        indices = np.arange(start + first, start + last, dtype=np.int64)
        batch, half = self._feeder.batch(start + first), precision != torch.float32
        draw = Draw(seed, phase.name, indices, step, device, min(share, 1.0))

        def partial_loss(first: int, last: int) -> LossTerms:
            part = slice(first, last)
            labels = None if batch.labels is None else batch.labels[part]
            with torch.autocast(device.type, precision, enabled=half):
                return phase.loss(
                    Batch(batch.images[part], labels), replace(draw, indices=indices[part])
                )

        return partial_loss
