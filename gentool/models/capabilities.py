"""What only some models can do: styles, layers of latents, a bound on log p(x), codes.

A model offers each of these as an attribute (``model.styles``, ``model.layers``,
``model.variational``, ``model.codes``, ``model.noise_map``) that is None where the model lacks it.
A command asks for the attribute once and then works with the object. ``model.advice`` is always
there.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from gentool.core.errors import NoLikelihood, NoStyles, UsageError
from gentool.core.rng import Draw

NOISE_PURPOSE, CHOICE_PURPOSE = "prior", "prior/component"
ACTIVE_VARIANCE = 0.01  # a unit is active above this variance of its posterior mean over images


@dataclass(frozen=True)
class NoiseMap:
    """How a model that draws latents from noise in one pass does it, for programs outside gentool.

    The noise of a sample is ``normal`` of ``core.rng`` with the purpose ``NOISE_PURPOSE``, and its
    uniform number is ``uniform`` with ``CHOICE_PURPOSE``.

    Attributes:
        size: How many normal numbers a sample needs.
        latents: Function of noise from N(0, I), (B, size), of uniform numbers in [0, 1), (B,), and
            of classes, int64 (B,), or None, that returns latents. Without classes, a class is drawn
            with its frequency.
    """

    size: int
    latents: Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


class Styles(ABC):
    """The styles of a model whose generator maps latents to one style per layer.

    Attributes:
        needed: Whether the drawing options in use ask for something that only styles can express.
    """

    needed: bool = False

    @abstractmethod
    def of(self, latents: torch.Tensor, *, drawn: bool = False) -> torch.Tensor:
        """Return the styles (B, layers, S) of latents (B, ...), float32, coarse layers first.

        Args:
            latents: Latents of the model.
            drawn: Whether the latents come from ``prior``. If so, drawing options that only styles
                can express are applied as well.
        """

    @abstractmethod
    def centre(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the styles (B, layers, S) that truncation moves the styles of latents towards."""

    @abstractmethod
    def synthesise(self, styles: torch.Tensor) -> torch.Tensor:
        """Return images (B, C, H, W) in [-1, 1] of styles (B, layers, S).

        ``Model.decode`` is ``of`` followed by this.
        """


class LatentLayers(ABC):
    """The layers of a model's latents, from the coarsest at the top to the finest.

    Attributes:
        lengths: Number of latents of every layer, from the top.
    """

    lengths: tuple[int, ...]

    def check(self, layers: int) -> None:
        """Check that there are at least ``layers`` layers.

        Raises:
            UsageError: there are fewer.
        """
        if layers > len(self.lengths):
            raise UsageError(
                f"--keep-top is {layers}, but this model has only {len(self.lengths)} layers of "
                "latents"
            )

    def keep_top(self, kept: torch.Tensor, drawn: torch.Tensor, layers: int) -> torch.Tensor:
        """Return latents with the first ``layers`` layers of ``kept`` and the rest of ``drawn``.

        Args:
            kept: Latents (B, L), with class weights at the end where the model has classes.
            drawn: Latents (B, L) likewise. The class weights of the result are those of ``kept``.
            layers: Number of layers to keep.

        Raises:
            UsageError: the model has fewer layers.
        """
        self.check(layers)
        end, all_latents = sum(self.lengths[:layers]), sum(self.lengths)
        return torch.cat([kept[:, :end], drawn[:, end:all_latents], kept[:, all_latents:]], dim=1)


class Variational(ABC):
    """The posterior q(z|x) of a model and its lower bound on log p(x).

    Attributes:
        dims: Number of values of an image.
        discrete: Whether the likelihood is a probability mass; else it is a density on
            [-1, 1]^dims.
        kl_caveat: How the KL of ``posterior_terms`` differs from that of the bound; empty if equal.
    """

    dims: int
    discrete: bool
    kl_caveat: str = ""

    @abstractmethod
    def draw_latents(self, images: torch.Tensor, draw: Draw) -> torch.Tensor:
        """Draw latents (B, ...) of images (B, C, H, W) in [-1, 1] from their posteriors."""

    @abstractmethod
    def log_prob_bound(self, images: torch.Tensor, draw: Draw, samples: int) -> torch.Tensor:
        """Return a lower bound on log p(x) per image in nats, shape (B,).

        The bound becomes tight as ``samples`` grows (Burda et al. 2016, arXiv:1509.00519, Eq. 8).

        Raises:
            OutsideSupport: images are outside the support of the likelihood.
        """

    @abstractmethod
    def posterior_terms(
        self, images: torch.Tensor, draw: Draw
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return posterior mean and KL to the prior per latent, both (B, L), for diagnostics.

        A model that binarises images does it as in ``log_prob_bound`` with the same ``draw``.
        """

    @property
    def measure(self) -> str:
        """Quantity whose logarithm ``log_prob_bound`` bounds, for printed output."""
        return "mass" if self.discrete else "density; bits/dim are per 8-bit grey level"

    def bits_per_dim(self, nats: float) -> float:
        """Convert log p(x) of an image from nats to bits per dimension; lower is better.

        The unit of a dimension is an 8-bit grey level. A density on [-1, 1]^D is converted to grey
        levels, 127.5 of which are one unit of length.
        """
        shift = 0.0 if self.discrete else math.log2(127.5)
        return -nats / (self.dims * math.log(2)) + shift


class DiscreteCodes(ABC):
    """The discrete codes of a model with a quantiser."""

    @abstractmethod
    def frequencies(self, images: torch.Tensor) -> torch.Tensor:
        """Return the relative frequency of each code in images (B, C, H, W), shape (codes,)."""


class Advice:
    """What a model reports on the state of its run, and what it advises.

    Attributes:
        against_collapse: Advice for a run whose samples are all alike.
    """

    against_collapse: str = "Use a smaller --lr or a longer run"

    def health(self, record: Mapping[str, float]) -> str | None:
        """Return a diagnosis of the run from its log, with advice; None if nothing is wrong.

        The text before the first colon names the problem; every problem is reported once.

        Args:
            record: A line of the log: means of the values that the phases log, and ``share``, the
                fraction of the run that is over.
        """
        return None


def required_styles(styles: Styles | None) -> Styles:
    """Return ``styles``.

    Raises:
        NoStyles: the model has none.
    """
    if styles is None:
        raise NoStyles("this model has no styles; models with -o network=style have them")
    return styles


def required_layers(layers: LatentLayers | None) -> LatentLayers:
    """Return ``layers``.

    Raises:
        UsageError: the latents of the model have none.
    """
    if layers is None:
        raise UsageError("the latents of this model have no layers. Leave --keep-top out")
    return layers


def required_posterior(variational: Variational | None) -> Variational:
    """Return ``variational``, for draws from the posterior.

    Raises:
        UsageError: the model has no posterior.
    """
    if variational is None:
        raise UsageError("this model has no posterior. Leave --draw out")
    return variational


def required_likelihood(variational: Variational | None) -> Variational:
    """Return ``variational``, for likelihoods.

    Raises:
        NoLikelihood: the model has no bound on log p(x).
    """
    if variational is None:
        raise NoLikelihood("this model has no likelihood")
    return variational
