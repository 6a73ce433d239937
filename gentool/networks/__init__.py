"""Networks: tensors in, tensors out; they know no loss and no model.

``PAIRS`` holds the adversarial pairs, each a file of its own; ``convnet`` and ``resnet`` also hold
the encoders and decoders of the autoencoders. Importing this package costs no torch.
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
    """What every discriminator can; each is also an ``nn.Module``."""

    def __call__(self, images: "Tensor", labels: "Tensor | None" = None) -> "Tensor":
        """Logits (B,), float32, of images (B, C, H, W) and labels int64 (B,)."""
        ...

    def features(self, images: "Tensor") -> "Tensor":
        """The penultimate vector (B, F), which does not know the labels."""
        ...


class BuildGenerator(Protocol):
    """Builds G: (latents (B, L), labels int64 (B,) or None) -> maps (B, C, H, W), unbounded."""

    def __call__(
        self, shape: "ImageShape", width: int, latent_size: int, classes: int = 0, **options: Any
    ) -> "nn.Module":
        """A generator; ``classes`` = 0 means unconditional."""
        ...


class BuildDiscriminator(Protocol):
    """Builds D: (images (B, C, H, W), labels int64 (B,) or None) -> logits (B,)."""

    def __call__(
        self, shape: "ImageShape", width: int, classes: int = 0, **options: Any
    ) -> "nn.Module":
        """A ``Discriminator``; ``classes`` = 0 means unconditional."""
        ...


@dataclass(frozen=True)
class Pair:
    """Two networks made for each other."""

    generator: BuildGenerator
    discriminator: BuildDiscriminator


def _pair(name: str) -> Callable[[], Pair]:
    """A loader of the pair in the file ``name``."""

    def load() -> Pair:
        module = import_module(f"gentool.networks.{name}")
        return Pair(module.Generator, module.Discriminator)

    return load


PAIRS: Registry[Pair] = Registry(
    "network",
    "gentool list networks",
    {
        "dcgan": Entry("DCGAN (Radford 2016): plain strided convolutions", _pair("dcgan")),
        "resnet": Entry("SNGAN, WGAN-GP (Miyato 2018): residual blocks", _pair("sngan")),
        "r3": Entry("R3GAN (Huang 2024): grouped bottlenecks, no normalisation", _pair("r3gan")),
        "style": Entry(
            "StyleGAN2 (Karras 2020): styles, noise, truncation in w", _pair("stylegan2")
        ),
        "fast": Entry(
            "FastGAN (Liu 2021): gated skips, self-supervised; few images", _pair("fastgan")
        ),
    },
)
