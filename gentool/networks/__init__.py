"""Networks: modules from tensors to tensors, without losses and independent of the models.

``PAIRS`` lists the pairs of a generator and a discriminator, one file per pair. The other files
hold encoders and decoders of autoencoders, priors, and shared parts. Importing this package does
not import torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from gentool.core.registry import Entry, Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gentool.core.images import ImageShape


class Discriminator(Protocol):
    """Interface of every discriminator, which is also an ``nn.Module``."""

    def __call__(self, images: "Tensor", labels: "Tensor | None" = None) -> "Tensor":
        """Return logits (B,), float32, of images (B, C, H, W) and labels int64 (B,)."""
        ...

    def features(self, images: "Tensor") -> "Tensor":
        """Return the penultimate vector (B, F), which does not depend on the labels."""
        ...


class BuildGenerator(Protocol):
    """Builds a generator: latents (B, L), labels int64 (B,) or None -> unbounded (B, C, H, W)."""

    def __call__(
        self, shape: "ImageShape", width: int, latent_size: int, classes: int = 0, **options: Any
    ) -> "nn.Module":
        """Build a generator; ``classes`` = 0 means unconditional."""
        ...


class BuildDiscriminator(Protocol):
    """Builds a discriminator: images (B, C, H, W), labels int64 (B,) or None -> logits (B,)."""

    def __call__(
        self, shape: "ImageShape", width: int, classes: int = 0, **options: Any
    ) -> "nn.Module":
        """Build a ``Discriminator``; ``classes`` = 0 means unconditional."""
        ...


@dataclass(frozen=True)
class Pair:
    """A generator and a discriminator that are trained together."""

    generator: BuildGenerator
    discriminator: BuildDiscriminator


def _pair(name: str) -> Callable[[], Pair]:
    """Return a function that imports the module ``name`` and returns its pair."""

    def load() -> Pair:
        module = import_module(f"gentool.networks.{name}")
        return Pair(module.Generator, module.Discriminator)

    return load


PAIRS: Registry[Pair] = Registry(
    "network",
    "gentool list networks",
    {
        "dcgan": Entry("DCGAN (Radford 2016): plain strided convolutions", _pair("dcgan")),
        "resnet": Entry("SNGAN and WGAN-GP (Miyato 2018): residual blocks", _pair("sngan")),
        "r3": Entry("R3GAN (Huang 2024): grouped bottlenecks, no normalisation", _pair("r3gan")),
        "style": Entry(
            "StyleGAN2 (Karras 2020): styles, noise, truncation in w", _pair("stylegan2")
        ),
        "fast": Entry(
            "FastGAN (Liu 2021): gated skip connections, for few images", _pair("fastgan")
        ),
    },
)
