"""What every prior can: be fitted to codes, and be drawn from."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import one_hot

from gentool.core.errors import UsageError
from gentool.core.images import ImageShape
from gentool.core.rng import Draw, normal, uniform
from gentool.models.base import Batch
from gentool.models.classes import draw_classes

_MOST_NUMBERS = 2**29  # of covariances in a model file


def draw_normal(indices: NDArray[Any], seed: int, size: int, device: torch.device) -> torch.Tensor:
    """Rows of N(0, I), shape (B, size), float32; row i depends on (seed, indices[i]) alone."""
    return torch.from_numpy(normal(seed, "prior", indices, size)).to(device)


def draw_uniform(indices: NDArray[Any], seed: int, device: torch.device) -> torch.Tensor:
    """Uniform numbers in [0, 1), shape (B,), float32; entry i as in ``draw_normal``."""
    numbers = uniform(seed, "prior/component", indices, 1)[:, 0]
    return torch.from_numpy(numbers).to(device, torch.float32)


def choose(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Indices (B,) by inversion of the distribution function.

    Args:
        probabilities: (B, K), not negative, of any sum above 0.
        uniform: (B,), in [0, 1).
    """
    steps = probabilities.cumsum(dim=1)
    total = steps[:, -1:]
    chosen = (steps <= uniform[:, None] * total).sum(dim=1)
    # A product rounded up to the total would choose beyond the last code that can occur.
    return torch.minimum(chosen, (steps < total).sum(dim=1))


def kl_to_standard_normal(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, diag exp(log_variance)) || N(0, I)) per latent, in nats.

    Kingma and Welling 2014 (arXiv:1312.6114), appendix B:
    -1/2 (1 + log sigma^2 - mu^2 - sigma^2), whose sum over latents is that of an image.

    Args:
        mean: (B, L), float32.
        log_variance: (B, L), log sigma^2, likewise.

    Returns:
        Shape (B, L).
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def log_normal(
    latents: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor
) -> torch.Tensor:
    """Log N(z; mean, diag exp(log_variance)), summed over the last axis; they broadcast."""
    squares = (latents - mean).square() * torch.exp(-log_variance)
    return -0.5 * (squares + log_variance + math.log(2 * math.pi)).sum(dim=-1)


def log_standard_normal(latents: torch.Tensor) -> torch.Tensor:
    """Log N(z; 0, I) per row of (B, L), in nats, shape (B,)."""
    return -0.5 * (latents.square() + math.log(2 * math.pi)).sum(dim=1)


def check_room(numbers: int, size: int) -> None:
    """Whether the covariances of a prior, so many numbers, may lie in a model file.

    Args:
        numbers: In all.
        size: Length of a code.

    Raises:
        UsageError: they would take more than 2 GiB.
    """
    if numbers > _MOST_NUMBERS:
        raise UsageError(
            f"the covariances of {size} latents would take {numbers * 4 / 2**30:.0f} GiB. "
            "Use a smaller -o latent_size or -o grid, or -o prior=normal"
        )


Encode = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
LogDensity = Callable[[torch.Tensor], torch.Tensor]  # (B, L) -> (B,), in nats


class Codes(NamedTuple):
    """Where the training images lie: N(means, diag variances) each, both (N, L), float32.

    The variances of an encoder without a posterior are zero. Labels, int64 (N,), are for priors
    that know classes.
    """

    means: torch.Tensor
    variances: torch.Tensor
    labels: torch.Tensor | None = None

    def drawn(self, turn: int) -> torch.Tensor:
        """One draw per image, (N, L), on the CPU; a function of the codes and ``turn``."""
        means, variances = self.means.cpu(), self.variances.cpu()
        if not variances.any():
            return means
        rows = np.arange(turn * len(means), (turn + 1) * len(means))
        noise = torch.from_numpy(normal(0, "fit/posterior", rows, means.shape[1]))
        return means + variances.sqrt() * noise


class Prior(nn.Module, ABC):
    """Base of the entries; until it is fitted, an entry is N(0, I).

    Args:
        size: Length L of a code.
        components: Parts of a mixture; the others ignore it.
        shape: Of the images.
        classes: How many classes it can be asked for.

    Attributes:
        joint: Whether it is learned together with the model.
        learned: Whether it is learned when the model has been, in the last span of the run; one
            that is neither is fitted at the end.
        rests: Whether its buffers stand still until it is fitted or settled.
        most_classes: Up to how many classes it can be fitted to, and be drawn from for one of them.
        counts_classes: Whether it holds how often each of its classes occurs, ``class_shares``.
        words: What samples are drawn from, for people.

    Raises:
        UsageError: it knows no classes, or not as many.
    """

    joint: ClassVar[bool] = False
    learned: ClassVar[bool] = False
    rests: ClassVar[bool] = True
    most_classes: ClassVar[int] = 0
    counts_classes: ClassVar[bool] = False
    words: ClassVar[str]
    class_shares: torch.Tensor

    def __init__(self, size: int, components: int, shape: ImageShape, classes: int = 0) -> None:
        super().__init__()
        if classes > self.most_classes:
            knows = f"at most {self.most_classes}" if self.most_classes else "no"
            raise UsageError(
                f"this prior knows {knows} classes. Use -o prior=mixture, or --unconditional"
            )
        self.size, self.classes = size, classes
        if classes and self.counts_classes:
            self.register_buffer("class_shares", torch.full((classes,), 1 / classes))

    @classmethod
    def open(
        cls, size: int, components: int, shape: ImageShape, classes: int, places: tuple[int, int],
        width: int,
    ) -> "Prior":  # fmt: skip
        """The prior of latents that lie on a grid of ``places``, channel by channel.

        Args:
            size: As for the class, and the next three.
            components: Parts.
            shape: Of the images.
            classes: Wanted.
            places: Rows and columns.
            width: Of the network of a prior that is learned on the grid; others need neither.

        Raises:
            UsageError: as for the class.
        """
        return cls(size, components, shape, classes)

    @abstractmethod
    def fit(self, codes: Codes) -> None:
        """Fit to the codes of training images; a function of the codes alone."""

    @abstractmethod
    def transform(
        self, noise: torch.Tensor, uniform: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Rows of p(z), or p(z|y), (B, L), from rows (B, L) of N(0, I) and uniform numbers (B,).

        Labels, int64 (B,), are only given where there are classes.
        """

    def begin(self, batches: Iterable[Batch]) -> None:
        """Called on a new model with training images, the same in all processes."""

    def settle(self, encode: Encode, batches: Iterable[Batch]) -> None:
        """What is left to do at the end of training: the fit.

        Args:
            encode: Images -> mean and log-variance of their posteriors.
            batches: Of training images.
        """
        means, log_variances, labels = [], [], []
        for batch in batches:
            mean, log_variance = encode(batch.images)
            means.append(mean)
            log_variances.append(log_variance)
            if batch.labels is not None:
                labels.append(batch.labels)
        self.fit(Codes(
            torch.cat(means), torch.cat(log_variances).exp(), torch.cat(labels) if labels else None
        ))  # fmt: skip

    def learn(self, latents: torch.Tensor, labels: torch.Tensor | None, draw: Draw) -> torch.Tensor:
        """What a prior that is ``learned`` minimises, (B,), on latents (B, L) of training images.

        Raises:
            TypeError: it is not.
        """
        raise TypeError(f"{type(self).__name__} is not learned in a span of its own")

    @property
    def ready(self) -> bool:
        """Whether it draws what ``words`` say; until a learned one begins, it is N(0, I)."""
        return True

    def of_the_bound(self, encode: Encode, labels: torch.Tensor | None = None) -> LogDensity:
        """Log p(z) as the bound has it: of N(0, I), unless the prior is learned with it.

        Args:
            encode: Images -> mean and log-variance of their posteriors.
            labels: Of the rows, int64 (B,), for log p(z|y) of a prior that knows classes.
        """
        return log_standard_normal

    def moments(self) -> tuple[torch.Tensor | float, torch.Tensor | float]:
        """Mean and variance per latent of the prior that the bound has."""
        return 0.0, 1.0

    def draw(
        self, indices: NDArray[Any], seed: int, device: torch.device,
        labels: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Rows (B, L) of p(z), or of p(z|y) with labels int64 (B,), where it knows classes.

        Row i depends on (seed, indices[i], labels[i]) alone.
        """
        noise = draw_normal(indices, seed, self.size, device)
        wanted = labels if self.classes else None
        return self.transform(noise, draw_uniform(indices, seed, device), wanted)

    def labels_of(self, codes: Codes) -> torch.Tensor:
        """The class of each code, int64 (N,), on the CPU; 0 for all without classes.

        Raises:
            ValueError: there are classes, and the codes have none.
        """
        if not self.classes:
            return torch.zeros(len(codes.means), dtype=torch.int64)
        if codes.labels is None:
            raise ValueError(f"a prior of {self.classes} classes needs labels of its codes")
        return codes.labels.cpu()

    def one_hot(self, labels: torch.Tensor) -> torch.Tensor:
        """Classes int64 (B,) as a network is told them, (B, classes); of no width without any."""
        if not self.classes:
            return torch.zeros(len(labels), 0, device=labels.device)
        return one_hot(labels, self.classes).float()

    def kinds(self, uniform: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """The labels, or classes drawn as often as ``class_shares`` has them, int64 (B,).

        They are drawn for a class that had no images, too. 0 for all without classes.
        """
        if not self.classes:
            return torch.zeros_like(uniform, dtype=torch.int64)
        drawn = draw_classes(self.class_shares, uniform)
        if labels is None:
            return drawn
        return torch.where(self.class_shares[labels] > 0, labels, drawn)


class Standardised(Prior):
    """A prior of codes that are shifted and scaled, per dimension, to mean 0 and variance 1.

    The buffers ``mean`` and ``scale`` (L) are measured on the codes.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, size: int, components: int, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(size, components, shape, classes)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def measure(self, codes: Codes) -> None:
        """Mean and standard deviation of the draws: Var z = Var E[z|x] + E Var[z|x]."""
        means, variances = codes.means.cpu().double(), codes.variances.cpu().double()
        total = means.var(dim=0, correction=0) + variances.mean(dim=0)
        scale = torch.where(total > 0, total.sqrt(), torch.ones_like(total))
        self.mean.copy_(means.mean(dim=0))
        self.scale.copy_(scale)

    def inward(self, latents: torch.Tensor) -> torch.Tensor:
        """(z - mean) / scale."""
        return (latents - self.mean.to(latents)) / self.scale.to(latents)

    def outward(self, rows: torch.Tensor) -> torch.Tensor:
        """Mean + scale * rows."""
        return self.mean + self.scale * rows

    def log_scale(self) -> torch.Tensor:
        """Log |dz / d row|, a scalar."""
        return self.scale.log().sum()
