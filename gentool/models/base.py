"""The base class of all models: what the commands and the training loop know of a model.

Code outside ``gentool.models`` uses every model through this interface. A model declares what it
can do (``prior``, ``decode``, ``encode``), its training phases (``phases``), and which of its
submodules the model file holds (``exported``).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import nn

from gentool.core.errors import NoEncoder, NoLikelihood, NoStyles, UsageError
from gentool.core.images import ImageShape, Pixels
from gentool.core.options import Scalar, from_json, option, to_json
from gentool.core.rng import Draw


@dataclass(frozen=True)
class Batch:
    """A batch of training data: images (B, C, H, W) in [-1, 1], labels int64 (B,) or None."""

    images: torch.Tensor
    labels: torch.Tensor | None = None


@dataclass(frozen=True)
class LossTerms:
    """A loss before the mean over the batch.

    Attributes:
        total: The loss to be minimised, one value per image, shape (B,).
        parts: Named values per image, shape (B,), for the log only.
    """

    total: torch.Tensor
    parts: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Phase:
    """One kind of update in a training step: which module is trained, and by which loss.

    Attributes:
        name: Name in the log and in the keys of the noise; unique in the model.
        module: The module that is trained; all other weights are frozen during the update.
        loss: Function (batch, draw) -> LossTerms.
        every: The update is done in every n-th step only.
        repeats: Updates per step, each on its own images.
        span: Start and end of the part of the run in which the phase is active, as fractions of the
            run. At its end, the moving averages of its weights replace the weights, and later
            phases use these.
        betas: Adam's decay rates beta1 and beta2 (Kingma and Ba 2015).
        optimiser: ``adam``, or ``adamax`` of the same paper, which is less sensitive to a few large
            gradients.
        skip_over: The update is skipped if the gradient norm is more than this many times the
            running median (0: never).
        decay: Learning rate at the end of the span over that at its start; it falls along a half
            cosine.
        lr_factor: Factor on the run's learning rate.
        changes_samples: Whether the samples depend on the trained module.
    """

    name: str
    module: nn.Module
    loss: Callable[[Batch, Draw], LossTerms]
    every: int = 1
    repeats: int = 1
    span: tuple[float, float] = (0.0, 1.0)
    betas: tuple[float, float] = (0.9, 0.99)
    optimiser: str = "adam"
    skip_over: float = 0.0
    decay: float = 1.0
    lr_factor: float = 1.0
    changes_samples: bool = True

    def progress(self, share: float) -> float:
        """Return the fraction of the span that is over, in [0, 1].

        Args:
            share: Fraction of the run that is over.
        """
        begin, end = self.span
        return min(max((share - begin) / (end - begin), 0.0), 1.0)


@dataclass(frozen=True)
class BaseConfig:
    """Options that every model has."""

    width: int = option(32, "channels of the widest grid; scales the whole model", low=1, high=1024)
    ema_images: int = option(
        10_000, "half-life of the averaged weights, in images seen", low=1, high=10**9
    )

    @classmethod
    def absent(cls, options: Mapping[str, object]) -> dict[str, Scalar]:
        """Return defaults for options that were added after a file was written.

        Args:
            options: The options in the file.
        """
        return to_json(cls())


@dataclass(frozen=True)
class NoDrawing:
    """The empty options of a model that has no options for drawing samples."""


def moving_buffers(part: nn.Module) -> dict[str, torch.Tensor]:
    """Return the buffers that training steps change, by name.

    Buffers of a submodule with a true attribute ``rests`` are left out: training steps do not
    change them, ``Model.finish`` does, and they may be large.
    """
    resting = tuple(
        f"{name}." if name else ""
        for name, module in part.named_modules()
        if getattr(module, "rests", False)
    )
    return {k: b for k, b in part.named_buffers() if not k.startswith(resting)}


class Model(nn.Module, ABC):
    """Base of all models.

    Attributes:
        Config: Frozen dataclass that declares the model's options.
        Drawing: Frozen dataclass that declares the options of ``prior`` (truncation, temperature),
            each with its neutral value as the default. They are not stored: every command sets them
            again. They never change how given latents are decoded.
        drawing: The drawing options in use; see ``draw_with``.
        exported: Names of the submodules that the model file holds and the commands need; only
            these have moving averages.
        interpolation: ``slerp`` for latents from a spherical prior, ``lerp`` for codes.
        takes_classes: Whether the model can be class-conditional, at least with some options.
        search_steps: Default number of gradient steps of the search for the latents of an image,
            which begins at the result of ``encode`` where there is one; 0 for no search.
        has_posterior: Whether ``encode`` returns the mean of a posterior, from which
            ``encode_drawn`` draws.
        has_layers: Whether the latents have layers, so that ``keep_top`` works.
        classes: Number of classes that the model is conditional on; 0 for none.
    """

    Config: ClassVar[type[BaseConfig]]
    Drawing: ClassVar[type[Any]] = NoDrawing
    exported: tuple[str, ...]
    interpolation: ClassVar[str] = "slerp"
    takes_classes: ClassVar[bool] = False
    search_steps: ClassVar[int] = 0
    has_posterior: ClassVar[bool] = False
    has_layers: ClassVar[bool] = False

    def __init__(self, config: Any, shape: ImageShape, classes: int = 0) -> None:
        super().__init__()
        self.config = config
        self.shape = shape
        self.classes = classes
        self.drawing = self.Drawing()

    def draw_with(self, **wanted: Scalar) -> None:
        """Set drawing options for the next calls of ``prior``, for example ``truncation=0.7``.

        Raises:
            UsageError: the model has no such option, or the value is out of bounds.
        """
        known = [f.name for f in fields(self.Drawing)]
        for name in wanted:
            if name not in known:
                flags = ", ".join(known).replace("_", "-") or "no such choices"
                flag = name.replace("_", "-")
                raise UsageError(
                    f"this model's samples have no {flag}; it has {flags}. Leave --{flag} out"
                )
        self.drawing = from_json(self.Drawing, {**to_json(self.drawing), **wanted})

    @property
    def latent_classes(self) -> int:
        """Number of class weights at the end of the latents.

        0 without classes, and where only ``prior`` uses the class.
        """
        return self.classes

    @classmethod
    def suit(cls, config: Any, images: int) -> tuple[Any, list[str]]:
        """Choose options that are ``auto`` by the number of training images.

        Returns:
            The config with these choices, and one sentence on each choice and its reason.
        """
        return config, []

    @classmethod
    def conditional(cls, config: Any, classes: int) -> bool:
        """Return whether the model can be conditional on ``classes`` classes with these options."""
        return cls.takes_classes

    @classmethod
    def why_unconditional(cls, config: Any, classes: int) -> str:
        """Return why the model ignores that many classes, and which options would use them."""
        return "this model never does"

    @classmethod
    def look(cls, config: Any, pixels: Callable[[], Pixels] | None) -> tuple[Any, list[str]]:
        """Choose options that are ``auto`` by some of the images.

        Args:
            config: The options.
            pixels: Returns prepared images, uint8 (N, H, W, C); None if training changes the
                images.

        Returns:
            The config with these choices, and one sentence on each choice and its reason.
        """
        return config, []

    @abstractmethod
    def prior(
        self, indices: NDArray[Any], seed: int, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw latents (B, ...) from p(z).

        Row i depends on (seed, indices[i], labels[i]) and ``drawing`` only, not on the other rows.

        Args:
            indices: Indices of the samples, (B,).
            seed: Any integer in [0, 2^63).
            labels: Classes wanted, int64 (B,); None draws classes with their frequencies in the
                data.
        """

    @abstractmethod
    def decode(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return images (B, C, H, W) in [-1, 1] of latents."""

    def keep_top(self, kept: torch.Tensor, drawn: torch.Tensor, layers: int) -> torch.Tensor:
        """Return latents with the first ``layers`` layers of ``kept`` and the rest of ``drawn``.

        Raises:
            UsageError: the latents have no layers, or fewer.
        """
        self.check_layers(layers)
        raise NotImplementedError

    def check_layers(self, layers: int) -> None:
        """Check that the latents have at least ``layers`` layers.

        Raises:
            UsageError: they have none, or fewer.
        """
        raise UsageError("this model's latents have no layers to keep. Leave --keep-top out")

    def styles(self, latents: torch.Tensor, *, drawn: bool = False) -> torch.Tensor:
        """Return the styles (B, layers, S) of latents, float32, coarse layers first.

        Args:
            latents: (B, ...).
            drawn: Whether the latents come from ``prior``. If so, drawing options that only styles
                can express are applied as well.

        Raises:
            NoStyles: the model has no styles.
        """
        raise NoStyles("this model has no styles; models with -o network=style have")

    def synthesise(self, styles: torch.Tensor) -> torch.Tensor:
        """Return images (B, C, H, W) in [-1, 1] of styles (B, layers, S).

        ``decode`` is ``styles`` followed by this.

        Raises:
            NoStyles: the model has no styles.
        """
        raise NoStyles("this model has no styles; models with -o network=style have")

    @property
    def styled(self) -> bool:
        """Whether images are made from styles, so that ``styles`` and ``synthesise`` work."""
        return False

    @property
    def denoises(self) -> bool:
        """Whether the model was trained to reconstruct clean images from noisy ones."""
        return False

    def directions(self) -> Mapping[str, Callable[[int], torch.Tensor]]:
        """Return the model's own methods to find directions, by name.

        Methods that work for all models are not among them. Each takes the number of directions
        wanted and returns at most that many unit vectors, strongest first: (K, L) in the styles
        where the model has them, else in its latents (B, L) without the class weights.
        """
        return {}

    @property
    def draws_styles(self) -> bool:
        """Whether ``drawing`` asks for something that only styles can express, not latents."""
        return False

    def encode(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return latents of images (B, C, H, W) in [-1, 1].

        Raises:
            NoEncoder: the model has no encoder.
        """
        raise NoEncoder("this model has no encoder; its latents are found by inversion")

    def encode_drawn(self, images: torch.Tensor, draw: Draw) -> torch.Tensor:
        """Draw latents of images (B, C, H, W) in [-1, 1] from their posteriors.

        Raises:
            UsageError: the model has no posterior.
        """
        raise UsageError("this model has no posterior to draw from. Leave --draw out")

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """Return the training phases, in their order within a step."""

    def augmented(self, images: torch.Tensor, draw: Draw) -> torch.Tensor | None:
        """Return training images (B, C, H, W) as the discriminator sees them; None if unchanged.

        This augmentation is for the discriminator only and must not appear in the samples.
        """
        return None

    def log_prob_bound(self, images: torch.Tensor, draw: Draw, samples: int) -> torch.Tensor:
        """Return a lower bound on log p(x) per image in nats, shape (B,).

        The bound becomes tight as ``samples`` grows.

        Raises:
            NoLikelihood: the model has no likelihood.
        """
        raise NoLikelihood("this model has no likelihood")

    def posterior_terms(
        self, images: torch.Tensor, draw: Draw
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return posterior mean and KL to the prior per latent, both (B, L), for diagnostics.

        A model that binarises images does it as in ``log_prob_bound`` with the same ``draw``.

        Raises:
            NoLikelihood: the model has no posterior.
        """
        raise NoLikelihood("this model has no posterior")

    @property
    def layer_lengths(self) -> tuple[int, ...]:
        """Number of latents of every layer, from the top; empty for latents without layers."""
        return ()

    def code_shares(self, images: torch.Tensor) -> torch.Tensor | None:
        """Return frequencies (codes,) of the codes in images (B, C, H, W); None without codes."""
        return None

    @property
    def kl_caveat(self) -> str:
        """How the KL of ``posterior_terms`` differs from that of the bound; empty if equal."""
        return ""

    @property
    def discrete(self) -> bool:
        """Whether the likelihood is a probability mass; else it is a density on [-1, 1]^D."""
        return False

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
        return -nats / (self.shape.dims * math.log(2)) + shift

    def health(self, record: Mapping[str, float]) -> str | None:
        """Return a diagnosis of the run from its log, with advice; None if nothing is wrong.

        The text before the first colon names the problem; every problem is reported once.

        Args:
            record: A line of the log: means of the values that the phases log, and ``share``, the
                fraction of the run that is over.
        """
        return None

    @property
    def against_collapse(self) -> str:
        """Advice for a run whose samples are all alike."""
        return "A smaller --lr or a longer run helps"

    def begin(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Initialise the parts that start from training images; called once on a new model.

        Args:
            batches: Returns an iterator over (a sample of) the training images, the same in all
                processes.
        """

    def finish(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Fit the parts that training steps do not learn.

        Called on the averaged model, in eval mode, before it is saved or scored.

        Args:
            batches: Returns an iterator over (a sample of) the training images.
        """

    def refresh(self) -> None:
        """Measure again the statistics that depend on the weights, after these were averaged."""

    def summary(self) -> str:
        """Return one sentence on how samples are made, for ``gentool info``."""
        return "samples decode latents drawn from N(0, I)"

    @property
    def fitted(self) -> bool:
        """Whether ``finish`` fits a part to codes of images, so that new weights need a new fit."""
        parts = [part for part in self.modules() if getattr(part, "rests", False)]
        return any(True for part in parts for _ in part.buffers())

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def exported_parts(self) -> dict[str, nn.Module]:
        """Return the submodules named in ``exported``, by name."""
        return {name: getattr(self, name) for name in self.exported}
