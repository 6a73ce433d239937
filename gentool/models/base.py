"""The base class of all models: what the commands and the training loop know of a model.

Code outside ``gentool.models`` uses every model through this interface. A model declares what it
can do (``prior``, ``decode``, ``encode``), its training phases (``phases``), and which of its
submodules the model file holds (``exported``).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from typing_extensions import TypeVar

from gentool.core.errors import NoEncoder, UsageError
from gentool.core.images import ImageShape, Pixels
from gentool.core.options import Scalar, from_json, option, refuse_idle, to_json
from gentool.core.rng import Draw
from gentool.models.capabilities import (
    Advice,
    DiscreteCodes,
    LatentLayers,
    NoiseMap,
    Styles,
    Variational,
)


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
        10_000, "half-life of the averaged weights, in images", low=1, high=10**9
    )

    @classmethod
    def absent(cls, options: Mapping[str, object]) -> dict[str, Scalar]:
        """Return defaults for options that were added after a file was written.

        Args:
            options: The options in the file.
        """
        return to_json(cls())

    def adapted(self, images: int, pixels: Callable[[], Pixels] | None) -> tuple[Self, list[str]]:
        """Choose the options that are ``auto``.

        Args:
            images: Number of training images.
            pixels: Returns some prepared images, uint8 (N, H, W, C); None if training changes the
                images.

        Returns:
            The options with these choices, and one sentence on each choice and its reason.
        """
        return self, []

    def why_unconditional(self, classes: int) -> str | None:
        """Return why a model with these options ignores that many classes, and what would not.

        None if the model uses the classes.
        """
        return None

    @property
    def denoises(self) -> bool:
        """Whether the model learns to reconstruct clean images from noisy ones."""
        return False


@dataclass(frozen=True)
class NoDrawing:
    """The empty options of a model that has no options for drawing samples."""


C = TypeVar("C", bound=BaseConfig, default=BaseConfig, covariant=True)
D = TypeVar("D", default=object, covariant=True)


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


def has_fitted_parts(model: nn.Module) -> bool:
    """Return whether ``Model.finish`` fits a part to codes of images.

    If so, new weights need a new fit.
    """
    parts = [part for part in model.modules() if getattr(part, "rests", False)]
    return any(True for part in parts for _ in part.buffers())


class Model(nn.Module, ABC, Generic[C, D]):
    """Base of all models, generic over the types of its options and of its drawing options.

    Attributes:
        Config: Frozen dataclass that declares the model's options.
        Drawing: Frozen dataclass that declares the options of ``prior`` (truncation, temperature),
            each with its neutral value as the default. They are not stored: every command sets them
            again. They never change how given latents are decoded.
        exported: Names of the submodules that the model file holds and the commands need; only
            these have moving averages.
        interpolation: ``slerp`` for latents from a spherical prior, ``lerp`` for codes.
        search_steps: Default number of gradient steps of the search for the latents of an image,
            which begins at the result of ``encode`` where there is one; 0 for no search.
        classes_in_latents: Whether class weights are the last numbers of the latents. If not, only
            ``prior`` uses the class.
        config: The options in use.
        shape: Shape of the images.
        drawing: The drawing options in use; see ``draw_with``.
        classes: Number of classes that the model is conditional on; 0 for none.
        latent_classes: Number of class weights at the end of the latents.
        styles: Styles, or None; like the following, see ``capabilities``.
        layers: Layers of the latents, or None.
        variational: Posterior and likelihood, or None. If there is a posterior, ``encode`` returns
            its mean.
        codes: Discrete codes, or None.
        noise_map: How latents are drawn from noise, or None.
        advice: Diagnosis of a run.
    """

    Config: ClassVar[type[BaseConfig]]
    Drawing: ClassVar[type[object]] = NoDrawing
    exported: tuple[str, ...]
    interpolation: ClassVar[str] = "slerp"
    search_steps: ClassVar[int] = 0
    classes_in_latents: ClassVar[bool] = True

    def __init__(self, config: C, shape: ImageShape, classes: int = 0) -> None:
        super().__init__()
        self.config = config
        self.shape = shape
        self.classes = classes
        self.latent_classes = classes if self.classes_in_latents else 0
        self.drawing = cast("D", self.Drawing())

    # Capabilities are made when they are asked for: a stored one would refer back to the model,
    # and the circle would keep the memory of a model that nobody uses any more.

    @property
    def styles(self) -> Styles | None:
        """Styles, if images are made from them."""
        return None

    @property
    def layers(self) -> LatentLayers | None:
        """Layers of the latents, if there are any."""
        return None

    @property
    def variational(self) -> Variational | None:
        """Posterior and bound on log p(x), if the model has them."""
        return None

    @property
    def codes(self) -> DiscreteCodes | None:
        """Discrete codes, if the model has a quantiser."""
        return None

    @property
    def noise_map(self) -> NoiseMap | None:
        """How latents are drawn from noise, if one pass of a network does it."""
        return None

    @property
    def advice(self) -> Advice:
        """Diagnosis of a run, with advice."""
        return Advice()

    def draw_with(self, **wanted: Scalar) -> None:
        """Set drawing options for the next calls of ``prior``, for example ``truncation=0.7``.

        Raises:
            UsageError: the model has no such option, the value is out of bounds, or it has no
                effect beside the others.
        """
        known = list(to_json(self.drawing))
        for name in wanted:
            if name not in known:
                flags = ", ".join(known).replace("_", "-") or "no drawing options"
                flag = name.replace("_", "-")
                raise UsageError(
                    f"this model does not support --{flag}; it has {flags}. Leave --{flag} out"
                )
        self.drawing = cast("D", from_json(self.Drawing, {**to_json(self.drawing), **wanted}))
        refuse_idle(self.drawing, wanted)

    @abstractmethod
    def prior(
        self, indices: NDArray[np.int64], seed: int, labels: torch.Tensor | None = None
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

    def directions(self) -> Mapping[str, Callable[[int], torch.Tensor]]:
        """Return the model's own methods to find directions, by name.

        Methods that work for all models are not among them. Each takes the number of directions
        wanted and returns at most that many unit vectors, strongest first: (K, L) in the styles
        where the model has them, else in its latents (B, L) without the class weights.
        """
        return {}

    def encode(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return latents of images (B, C, H, W) in [-1, 1].

        Raises:
            NoEncoder: the model has no encoder.
        """
        raise NoEncoder("this model has no encoder")

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """Return the training phases, in their order within a step."""

    def augmented(self, images: torch.Tensor, draw: Draw) -> torch.Tensor | None:
        """Return training images (B, C, H, W) as the discriminator sees them; None if unchanged.

        This augmentation is for the discriminator only and must not appear in the samples.
        """
        return None

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
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def exported_parts(self) -> dict[str, nn.Module]:
        """Return the submodules named in ``exported``, by name."""
        return {name: getattr(self, name) for name in self.exported}
