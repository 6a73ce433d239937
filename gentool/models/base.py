"""The contract: all that the verbs and the training loop know of a model.

Nothing above this waist names a model. A model says what it can (``prior``, ``decode``,
``encode``), what is trained in which turn (``phases``), and which of its parts the model file
holds (``exported``).
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
    """What a phase sees: images (B, C, H, W) in [-1, 1], labels int64 (B,) or None."""

    images: torch.Tensor
    labels: torch.Tensor | None = None


@dataclass(frozen=True)
class LossTerms:
    """A loss before reduction.

    Attributes:
        total: What is minimised, one value per image, shape (B,).
        parts: Named values per image, shape (B,), for the log alone.
    """

    total: torch.Tensor
    parts: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Phase:
    """One turn of a step: which module learns, and from which loss.

    Attributes:
        name: For the log and for the noise; unique in the model.
        module: The part that learns; all others are frozen meanwhile.
        loss: (batch, draw) -> LossTerms.
        every: Taken in every n-th step only.
        repeats: How often per step, each time on images of its own.
        span: Share of the run, from and to, in which the phase is active. When it is over,
            what it trained becomes its own average, which the phases to come then stand on.
        betas: Adam's moments (Kingma and Ba 2015).
        optimiser: ``adam``, or ``adamax`` of the same paper, which a few long gradients upset less.
        skip_over: A step is left out whose gradient is more than so many times as long as the
            running median (0: none is).
        decay: Over the span the learning rate falls along a half cosine to this share of itself.
        lr_factor: Times the run's learning rate.
        changes_samples: Whether what it trains has a part in samples.
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
        """How much of the span is over, from 0 to 1, at a share of the run."""
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
        """What options mean that a file does not have, since there were none such when it was made.

        Args:
            options: Those that it has.
        """
        return to_json(cls())


@dataclass(frozen=True)
class NoDrawing:
    """A model whose prior is drawn from in one way only."""


def moving_buffers(part: nn.Module) -> dict[str, torch.Tensor]:
    """The buffers that steps of training change, by name.

    Those of a part that ``rests`` are written by ``Model.finish`` alone, and may be large.
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
        Drawing: Frozen dataclass that declares how ``prior`` may be asked to draw (truncation,
            temperature), each with its neutral value as the default. Not stored: chosen anew
            by every command. It never changes what given latents decode to.
        drawing: The choice in force; see ``draw_with``.
        exported: Names of the submodules that the model file holds and the verbs need; they
            alone are averaged over training.
        interpolation: ``slerp`` for latents from a spherical prior, ``lerp`` for codes.
        takes_classes: Whether the model can be conditional on the classes of the data, at least
            with some options.
        search_steps: Gradient steps by which latents of an image are found, or found better than
            ``encode`` does, unless the user says how many.
        has_posterior: Whether what ``encode`` gives is the mean of a posterior, which
            ``encode_drawn`` draws from.
        has_layers: Whether its latents have layers, so that ``keep_top`` works.
        classes: Number of classes that this one is conditional on; 0 for none.
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
        """Choose how ``prior`` draws from now on, for example ``truncation=0.7``.

        Raises:
            UsageError: the model has no such choice, or not in these bounds.
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
        """How many numbers, the last of its latents, say how much of each class is wanted.

        0 where ``prior`` alone knows the class.
        """
        return self.classes

    @classmethod
    def suit(cls, config: Any, images: int) -> tuple[Any, list[str]]:
        """What was left to ``auto``, chosen for a number of training images.

        Returns:
            The config with every choice made, and each choice in words with its reason.
        """
        return config, []

    @classmethod
    def conditional(cls, config: Any, classes: int) -> bool:
        """Whether the model can be conditional on so many classes with these options."""
        return cls.takes_classes

    @classmethod
    def why_unconditional(cls, config: Any, classes: int) -> str:
        """Why it takes no notice of so many classes, with these options, and what would."""
        return "this model never does"

    @classmethod
    def look(cls, config: Any, pixels: Callable[[], Pixels] | None) -> tuple[Any, list[str]]:
        """What was left to ``auto``, chosen by some of the images; otherwise as ``suit``.

        Args:
            config: The options.
            pixels: Gives prepared images, uint8 (N, H, W, C); None if training changes them.
        """
        return config, []

    @abstractmethod
    def prior(
        self, indices: NDArray[Any], seed: int, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Latents (B, ...) drawn from p(z); row i depends on (seed, indices[i]) alone.

        Args:
            indices: Which rows, (B,).
            seed: Any.
            labels: Classes wanted, int64 (B,); None draws them too, as often as in the data.
        """

    @abstractmethod
    def decode(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Images (B, C, H, W) in [-1, 1] of latents."""

    def keep_top(self, kept: torch.Tensor, drawn: torch.Tensor, layers: int) -> torch.Tensor:
        """Latents with the first so many layers of ``kept``, all else as in ``drawn``.

        Raises:
            UsageError: its latents have no layers, or not so many.
        """
        self.check_layers(layers)
        raise NotImplementedError

    def check_layers(self, layers: int) -> None:
        """Whether the latents have so many layers to keep.

        Raises:
            UsageError: they have not.
        """
        raise UsageError("this model's latents have no layers to keep. Leave --keep-top out")

    def styles(self, latents: torch.Tensor, *, drawn: bool = False) -> torch.Tensor:
        """Styles (B, layers, S), float32, coarse layers first, that latents (B, ...) stand for.

        Args:
            latents: Any.
            drawn: Whether they come from ``prior``: what ``drawing`` asks for and only styles
                can express is then done as well.

        Raises:
            NoStyles: the model has none.
        """
        raise NoStyles("this model has no styles; models with -o network=style have")

    def synthesise(self, styles: torch.Tensor) -> torch.Tensor:
        """Images (B, C, H, W) in [-1, 1] of styles; ``decode`` is this after ``styles``.

        Raises:
            NoStyles: the model has none.
        """
        raise NoStyles("this model has no styles; models with -o network=style have")

    @property
    def styled(self) -> bool:
        """Whether its images are made from styles, so that ``styles`` and ``synthesise`` work."""
        return False

    @property
    def denoises(self) -> bool:
        """Whether it was trained to give clean images for noisy ones."""
        return False

    def directions(self) -> Mapping[str, Callable[[int], torch.Tensor]]:
        """Ways to find directions that the model itself knows, by name, beside those that all have.

        Each takes how many are wanted and gives at most that many unit vectors, strongest first:
        (K, L) in its styles if it has some, else in its latents (B, L) without the classes.
        """
        return {}

    @property
    def draws_styles(self) -> bool:
        """Whether ``drawing`` asks for what no latents can say, only styles."""
        return False

    def encode(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Latents of images (B, C, H, W) in [-1, 1].

        Raises:
            NoEncoder: the model has none.
        """
        raise NoEncoder("this model has no encoder; its latents are found by inversion")

    def encode_drawn(self, images: torch.Tensor, draw: Draw) -> torch.Tensor:
        """Latents of images drawn from their posteriors.

        Raises:
            UsageError: the model has no posterior.
        """
        raise UsageError("this model has no posterior to draw from. Leave --draw out")

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """What is trained, in the order of one step."""

    def augmented(self, images: torch.Tensor, draw: Draw) -> torch.Tensor | None:
        """Training images (B, C, H, W) as a player sees them augmented; None if it never does.

        What is only meant for the player's eyes must not show in the samples.
        """
        return None

    def log_prob_bound(self, images: torch.Tensor, draw: Draw, samples: int) -> torch.Tensor:
        """A lower bound on log p(x) per image in nats, shape (B,), tight as samples grow.

        Raises:
            NoLikelihood: the model has none.
        """
        raise NoLikelihood("this model has no likelihood")

    def posterior_terms(
        self, images: torch.Tensor, draw: Draw
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Posterior mean and KL to the prior per latent, both (B, L), for diagnostics.

        By the same randomness as ``log_prob_bound``, where the model draws what it sees.

        Raises:
            NoLikelihood: the model has no posterior.
        """
        raise NoLikelihood("this model has no posterior")

    @property
    def layer_lengths(self) -> tuple[int, ...]:
        """How many latents every layer has, from the top; empty where they lie in one."""
        return ()

    def code_shares(self, images: torch.Tensor) -> torch.Tensor | None:
        """How often each code occurs in images (B, C, H, W), (codes,); None without codes."""
        return None

    @property
    def kl_caveat(self) -> str:
        """What the KL of ``posterior_terms`` is, if it is not that of the bound; else empty."""
        return ""

    @property
    def discrete(self) -> bool:
        """Whether the likelihood is a mass; else it is a density on [-1, 1]^D."""
        return False

    @property
    def measure(self) -> str:
        """What ``log_prob_bound`` is the logarithm of, for people."""
        return "mass" if self.discrete else "density; bits/dim are per 8-bit grey level"

    def bits_per_dim(self, nats: float) -> float:
        """Log p(x) of an image in nats as bits per dimension of 8-bit grey levels; less is better.

        A density on [-1, 1]^D counts in units of 1 / 127.5 grey levels.
        """
        shift = 0.0 if self.discrete else math.log2(127.5)
        return -nats / (self.shape.dims * math.log(2)) + shift

    def health(self, record: Mapping[str, float]) -> str | None:
        """What is wrong with the run by its log, and what to change; None if nothing is.

        Args:
            record: A line of the log: means of what the phases log, and ``share`` of the run.
        """
        return None

    @property
    def against_collapse(self) -> str:
        """What to change if its samples turn out all alike."""
        return "A smaller --lr or a longer run helps"

    def begin(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Start what starts at training images; called once on a new model.

        Args:
            batches: Gives a fresh pass over (a sample of) the training images, the same in all
                processes.
        """

    def finish(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Fit whatever is fitted after training; called on the averaged model, in eval mode.

        Args:
            batches: Gives a fresh pass over (a sample of) the training images.
        """

    def refresh(self) -> None:
        """Measure anew what belongs to the weights, after averages took their place."""

    def summary(self) -> str:
        """One sentence on how samples come about, for ``info``."""
        return "samples decode latents drawn from N(0, I)"

    @property
    def fitted(self) -> bool:
        """Whether ``finish`` fits a part to codes of images: other weights need it again."""
        parts = [part for part in self.modules() if getattr(part, "rests", False)]
        return any(True for part in parts for _ in part.buffers())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def exported_parts(self) -> dict[str, nn.Module]:
        """The submodules named in ``exported``."""
        return {name: getattr(self, name) for name in self.exported}
