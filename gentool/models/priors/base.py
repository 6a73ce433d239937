"""Base of the priors, and functions for normal distributions and random draws."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import one_hot

from gentool.core.errors import UsageError
from gentool.core.images import ImageShape
from gentool.core.rng import Draw, normal, uniform
from gentool.models.base import Batch
from gentool.models.capabilities import CHOICE_PURPOSE, NOISE_PURPOSE
from gentool.models.classes import draw_classes

_MOST_NUMBERS = 2**29  # covariances in a model file


def draw_normal(
    indices: NDArray[np.int64], seed: int, size: int, device: torch.device
) -> torch.Tensor:
    """Draw rows of N(0, I), shape (B, size), float32; row i depends on (seed, indices[i]) only."""
    return torch.from_numpy(normal(seed, NOISE_PURPOSE, indices, size)).to(device)


def draw_uniform(indices: NDArray[np.int64], seed: int, device: torch.device) -> torch.Tensor:
    """Draw uniform numbers in [0, 1), shape (B,), float32.

    Entry i depends on (seed, indices[i]) only.
    """
    numbers = uniform(seed, CHOICE_PURPOSE, indices, 1)[:, 0]
    return torch.from_numpy(numbers).to(device, torch.float32)


def choose(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Draw indices (B,), int64, by inversion of the distribution function.

    Args:
        probabilities: (B, K), not negative, of any sum above 0.
        uniform: (B,), in [0, 1).
    """
    steps = probabilities.cumsum(dim=1)
    total = steps[:, -1:]
    chosen = (steps <= uniform[:, None] * total).sum(dim=1)
    # If the product is rounded up to the total, the last index of probability > 0 is chosen.
    return torch.minimum(chosen, (steps < total).sum(dim=1))


def kl_to_standard_normal(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Return KL(N(mean, diag exp(log_variance)) || N(0, I)) per latent, in nats.

    Kingma and Welling 2014 (arXiv:1312.6114), appendix B: -1/2 (1 + log sigma^2 - mu^2 - sigma^2).
    The sum over latents is the KL of an image.

    Args:
        mean: (B, L), float32.
        log_variance: Log sigma^2, (B, L), float32.

    Returns:
        Shape (B, L).
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def log_normal(
    latents: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor
) -> torch.Tensor:
    """Return log N(z; mean, diag exp(log_variance)) in nats, summed over the last axis.

    The arguments broadcast.
    """
    squares = (latents - mean).square() * torch.exp(-log_variance)
    return -0.5 * (squares + log_variance + math.log(2 * math.pi)).sum(dim=-1)


def log_standard_normal(latents: torch.Tensor) -> torch.Tensor:
    """Return log N(z; 0, I) per row of (B, L), in nats, shape (B,)."""
    return -0.5 * (latents.square() + math.log(2 * math.pi)).sum(dim=1)


def check_room(numbers: int, size: int) -> None:
    """Check that the covariances of a prior are not too large for a model file.

    Args:
        numbers: Number of float32 entries of all covariances.
        size: Length of a code, for the message.

    Raises:
        UsageError: they would take more than 2 GiB.
    """
    if numbers > _MOST_NUMBERS:
        raise UsageError(
            f"the covariances of {size} latents need {numbers * 4 / 2**30:.0f} GiB. "
            "Use a smaller -o latent_size or -o grid, or -o prior=normal"
        )


Encode = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
LogDensity = Callable[[torch.Tensor], torch.Tensor]  # (B, L) -> (B,), in nats


class Codes(NamedTuple):
    """Posteriors of the training images: N(means, diag variances), both (N, L), float32.

    The variances of an encoder without a posterior are zero. Labels, int64 (N,), are for priors
    with classes.
    """

    means: torch.Tensor
    variances: torch.Tensor
    labels: torch.Tensor | None = None

    def drawn(self, turn: int) -> torch.Tensor:
        """Return one draw per image, (N, L), on the CPU; it depends on codes and ``turn`` only."""
        means, variances = self.means.cpu(), self.variances.cpu()
        if not variances.any():
            return means
        rows = np.arange(turn * len(means), (turn + 1) * len(means))
        noise = torch.from_numpy(normal(0, "fit/posterior", rows, means.shape[1]))
        return means + variances.sqrt() * noise


class Prior(nn.Module, ABC):
    """Base of the priors; before it is fitted, a prior is N(0, I).

    Args:
        size: Length L of a code.
        components: Components of a mixture; other priors ignore it.
        shape: Shape of the images.
        classes: Number of classes; 0 for none.

    Attributes:
        joint: Whether it is learned together with the model.
        learned: Whether it is learned after the model, in the last span of the run. A prior that is
            neither joint nor learned is fitted at the end.
        has_components: Whether the option ``components`` has an effect.
        rests: Whether training steps leave its buffers unchanged; see ``moving_buffers``.
        most_classes: Largest number of classes that it can have.
        counts_classes: Whether it holds the frequencies of its classes, ``class_shares``,
            (classes,).
        words: What samples are drawn from, as text.

    Raises:
        UsageError: it cannot have that many classes.
    """

    joint: ClassVar[bool] = False
    learned: ClassVar[bool] = False
    has_components: ClassVar[bool] = False
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
                f"this prior can use {knows} classes. Use -o prior=mixture, or --unconditional"
            )
        self.size, self.classes = size, classes
        if classes and self.counts_classes:
            self.register_buffer("class_shares", torch.full((classes,), 1 / classes))

    @classmethod
    def open(
        cls, size: int, components: int, shape: ImageShape, classes: int, places: tuple[int, int],
        width: int,
    ) -> "Prior":  # fmt: skip
        """Build the prior of latents that lie on a grid of ``places``, channel by channel.

        Args:
            size: Length L of a code.
            components: Components of a mixture; other priors ignore it.
            shape: Shape of the images.
            classes: Number of classes; 0 for none.
            places: Rows and columns of the grid.
            width: Width of the network of a prior that is learned on the grid; other priors ignore
                it and ``places``.

        Raises:
            UsageError: it cannot have that many classes.
        """
        return cls(size, components, shape, classes)

    @abstractmethod
    def fit(self, codes: Codes) -> None:
        """Fit to the codes of training images; the result depends on the codes only."""

    @abstractmethod
    def transform(
        self, noise: torch.Tensor, uniform: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Transform noise to draws of p(z), or of p(z|y) with labels, (B, L).

        Args:
            noise: Rows of N(0, I), (B, L).
            uniform: Uniform numbers in [0, 1), (B,).
            labels: int64 (B,), or None; always None without classes.
        """

    def begin(self, batches: Iterable[Batch]) -> None:
        """Initialise from training images, alike in all processes; called once on a new model."""

    def settle(self, encode: Encode, batches: Iterable[Batch]) -> None:
        """Finish the prior at the end of training; in most priors this is the fit.

        Args:
            encode: Images -> mean and log-variance of their posteriors, both (B, L).
            batches: Batches of training images.
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
        """Return the loss of a ``learned`` prior, (B,), on latents (B, L) of training images.

        Raises:
            TypeError: the prior is not ``learned``.
        """
        raise TypeError(f"{type(self).__name__} has no training phase of its own")

    @property
    def ready(self) -> bool:
        """Whether draws are as ``words`` says; a ``learned`` prior is N(0, I) before its span."""
        return True

    def of_the_bound(self, encode: Encode, labels: torch.Tensor | None = None) -> LogDensity:
        """Return log p(z) of the bound: that of N(0, I), unless the prior is joint.

        Args:
            encode: Images -> mean and log-variance of their posteriors, both (B, L).
            labels: Labels of the rows, int64 (B,), for log p(z|y) of a joint prior with classes.

        Returns:
            Function of latents (B, L) that returns nats per row, (B,).
        """
        return log_standard_normal

    def moments(self) -> tuple[torch.Tensor | float, torch.Tensor | float]:
        """Return mean and variance per latent of the prior of the bound."""
        return 0.0, 1.0

    def draw(
        self, indices: NDArray[np.int64], seed: int, device: torch.device,
        labels: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Draw rows (B, L) of p(z), or of p(z|y) with labels int64 (B,) if the prior has classes.

        Row i depends on (seed, indices[i], labels[i]) only.
        """
        noise = draw_normal(indices, seed, self.size, device)
        wanted = labels if self.classes else None
        return self.transform(noise, draw_uniform(indices, seed, device), wanted)

    def labels_of(self, codes: Codes) -> torch.Tensor:
        """Return the class of each code, int64 (N,), on the CPU; 0 for all without classes.

        Raises:
            ValueError: the prior has classes, but the codes have no labels.
        """
        if not self.classes:
            return torch.zeros(len(codes.means), dtype=torch.int64)
        if codes.labels is None:
            raise ValueError(f"a prior with {self.classes} classes needs the labels of the codes")
        return codes.labels.cpu()

    def one_hot(self, labels: torch.Tensor) -> torch.Tensor:
        """Return classes int64 (B,) as one-hot float32 (B, classes); (B, 0) without classes."""
        if not self.classes:
            return torch.zeros(labels.shape[0], 0, device=labels.device)
        return one_hot(labels, self.classes).float()

    def kinds(self, uniform: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """Return the labels, or classes drawn with the frequencies ``class_shares``, int64 (B,).

        Classes are also drawn in place of a label that had no images. Without classes all are 0.

        Args:
            uniform: Uniform numbers in [0, 1), (B,).
            labels: int64 (B,), or None.
        """
        if not self.classes:
            return torch.zeros_like(uniform, dtype=torch.int64)
        drawn = draw_classes(self.class_shares, uniform)
        if labels is None:
            return drawn
        return torch.where(self.class_shares[labels] > 0, labels, drawn)


class Standardised(Prior):
    """A prior of codes that are standardised: mean 0 and variance 1 in every dimension.

    Attributes:
        mean: Mean of the codes, (L,).
        scale: Standard deviation of the codes, (L,); 1 for a constant dimension.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, size: int, components: int, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(size, components, shape, classes)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def measure(self, codes: Codes) -> None:
        """Measure mean and standard deviation of draws from the posteriors.

        The variance is Var z = Var E[z|x] + E Var[z|x].
        """
        means, variances = codes.means.cpu().double(), codes.variances.cpu().double()
        total = means.var(dim=0, correction=0) + variances.mean(dim=0)
        scale = torch.where(total > 0, total.sqrt(), torch.ones_like(total))
        self.mean.copy_(means.mean(dim=0))
        self.scale.copy_(scale)

    def inward(self, latents: torch.Tensor) -> torch.Tensor:
        """Return (z - mean) / scale, (B, L)."""
        return (latents - self.mean.to(latents)) / self.scale.to(latents)

    def outward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return mean + scale * rows, (B, L)."""
        return self.mean + self.scale * rows

    def log_scale(self) -> torch.Tensor:
        """Return log |det dz / d row|, a scalar."""
        return self.scale.log().sum()
