"""The base of the autoencoders whose samples come from a prior of their latents.

The prior is an entry of ``priors``: it is fitted to the latents of the training images when
training ends (ex-post density estimation, Ghosh et al. 2020, arXiv:1903.12436), or learned.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Generic

import numpy as np
import torch
from numpy.typing import NDArray

from gentool.models.base import Batch, C, Model, NoDrawing
from gentool.models.capabilities import NoiseMap
from gentool.models.priors import PRIORS, Prior, which_know


def no_components(config: "PriorOptions") -> str | None:
    """Return why the option ``components`` has no effect."""
    if PRIORS.get(config.prior).has_components:
        return None
    with_some = [n for n in config.offered if PRIORS.get(n).has_components]
    return (
        f"prior {config.prior} has no components. Leave it out, or use -o prior="
        f"{' or '.join(with_some)}"
    )


class PriorOptions:
    """What follows from the options ``prior`` and ``denoise``; a base of two ``Config`` classes.

    Attributes:
        offered: Names of the priors that the model offers.
    """

    offered: ClassVar[Iterable[str]] = PRIORS
    prior: str
    denoise: float

    def why_unconditional(self, classes: int) -> str | None:
        """Return why the prior ignores that many classes, and which priors would use them."""
        if classes <= PRIORS.get(self.prior).most_classes:
            return None
        return which_know(classes, self.prior, self.offered)

    @property
    def denoises(self) -> bool:
        """Whether the encoder is trained on noisy images (Vincent et al. 2008)."""
        return self.denoise > 0


class PriorModel(Model[C, NoDrawing], Generic[C]):
    """A model whose samples decode latents drawn from a prior in the model file.

    Attributes:
        density: The prior.
    """

    classes_in_latents = False
    Drawing = NoDrawing
    density: Prior

    @abstractmethod
    def moments(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log-variance, both (B, L), of the latents of images (B, C, H, W).

        The log-variance of an encoder without posteriors is -inf.
        """

    def fitted_to(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Return the batches whose images the prior is fitted to; the same, unless overridden."""
        return batches

    def prior(
        self, indices: NDArray[np.int64], seed: int, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw latents (B, L) from the prior in the model file."""
        return self.density.draw(indices, seed, self.device, labels)

    @property
    def noise_map(self) -> NoiseMap:
        """How the prior transforms noise to latents."""
        return NoiseMap(self.density.size, self._latents_of)

    def _latents_of(
        self, noise: torch.Tensor, uniform: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor:
        return self.density.transform(noise, uniform, labels if self.density.classes else None)

    @torch.no_grad()
    def finish(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Fit the prior to the latents of the training images."""
        self.density.settle(self.moments, self.fitted_to(batches()))

    def summary(self) -> str:
        """Return one sentence on how samples are made."""
        if not self.density.ready:
            return "samples decode latents drawn from N(0, I), because the prior is not trained yet"
        return f"samples decode latents drawn from {self.density.words}"
