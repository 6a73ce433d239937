"""The options of the generative adversarial network: for training and for drawing samples.

``GANConfig.adapted`` chooses the augmentation of the discriminator by the number of images.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from gentool.core.images import Pixels
from gentool.core.options import Scalar, Term, option
from gentool.models.augmentation import AUGMENTATIONS
from gentool.models.base import BaseConfig
from gentool.models.gan.losses import LOSSES
from gentool.models.gan.penalties import PENALTIES
from gentool.networks import PAIRS
from gentool.networks.convnet import DOUBLINGS

PLAIN = "dcgan"  # the networks with the options norm and doubling
SPECTRAL = ("dcgan", "resnet", "fast")  # networks with the option spectral
SLOPES = ("r1", "r2")  # the penalties that the options penalty, calibrate, ... are for
_FEW = ((1_000, "diffaugment"), (10_000, "ada"))  # (fewer images than this, augmentation)


def _slopes(config: "GANConfig") -> list[Term]:
    """Return R1 and R2 as the option ``penalties`` names them."""
    words = config.penalties.split("+") if config.penalties != "none" else []
    return [term for term in map(Term.read, words) if term.name in SLOPES]


def _no_own_weight(config: "GANConfig") -> str | None:
    if any(term.weight is None for term in _slopes(config)):
        return None
    return (
        f"it is the weight of R1 and R2 without their own weight, and penalties is "
        f"{config.penalties}. Leave it out, or write a weight after a name: "
        "-o penalties=wgan-gp:5"
    )


def _active(config: "GANConfig") -> list[Term]:
    """Return R1 and R2 if their weight is not 0."""
    return [t for t in _slopes(config) if (config.penalty if t.weight is None else t.weight) > 0]


def _no_slopes(config: "GANConfig") -> str | None:
    if _active(config):
        return None
    return f"it is for the penalties R1 and R2, and {_weightless(config)}. Leave it out"


def _no_interval(config: "GANConfig") -> str | None:
    if any(term.every is None for term in _active(config)):
        return None
    if _active(config):
        return f"penalties={config.penalties} has its own intervals. Leave one of the two out"
    return _no_slopes(config)


def _weightless(config: "GANConfig") -> str:
    return "their weight is 0" if _slopes(config) else f"penalties is {config.penalties}"


def _not_plain(config: "GANConfig") -> str | None:
    if config.network == PLAIN:
        return None
    return f"it is for the networks {PLAIN}, and network is {config.network}. Leave it out"


def _not_spectral(config: "GANConfig") -> str | None:
    if config.network in SPECTRAL:
        return None
    return (
        f"network {config.network} has no spectral normalisation. Networks that have it: "
        f"{', '.join(SPECTRAL)}"
    )


@dataclass(frozen=True)
class GANConfig(BaseConfig):
    """Options of ``gan``."""

    width: int = option(48, "channels of the widest grid; scales both networks", low=1, high=1024)
    latent_size: int = option(128, "length of the latent vector z", low=1, high=4096)
    network: str = option("dcgan", "generator and discriminator networks", choices=PAIRS)
    loss: str = option("relativistic", "loss of both networks", choices=LOSSES)
    penalties: str = option(
        "r1+r2", "penalties joined by +, each as name:weight/every; or none",
        choices=PENALTIES, joined=True, weighted=True,
    )  # fmt: skip
    penalty: float = option(
        1.0, "weight gamma of R1 and R2 (0: none)", low=0, high=1e4, idle=_no_own_weight
    )
    calibrate: bool = option(
        True, "scale gamma by the variance of the images (1 for 32x32 photos)", idle=_no_slopes
    )
    penalty_end: float = option(
        1.0, "final gamma, as a fraction of gamma", low=0, high=1, idle=_no_slopes
    )
    penalty_every: int = option(
        8,
        "compute R1 and R2 every N steps, with N times the weight",
        low=1,
        high=1024,
        idle=_no_interval,
    )
    critic_steps: int = option(1, "discriminator updates per generator update", low=1, high=100)
    beta1: float = option(0.0, "decay of the first moment in Adam", low=0, high=0.999)
    beta2: float = option(0.99, "decay of the second moment in Adam", low=0, high=0.99999)
    norm: str = option(
        "batch",
        "normalisation in the generator of dcgan",
        choices=("none", "batch", "group"),
        idle=_not_plain,
    )
    doubling: str = option(
        DOUBLINGS[0], "upsampling in the generator of dcgan: nearest neighbour and a "
        "convolution, or a transposed convolution, as published",
        choices=DOUBLINGS, idle=_not_plain,
    )  # fmt: skip
    spectral: bool = option(
        False,
        "spectral normalisation of the discriminator (dcgan, resnet, fast)",
        idle=_not_spectral,
    )
    augment: str = option(
        "auto", "augmentations of the images of the discriminator, joined by +; none; auto: by the "
        "number of images",
        choices=AUGMENTATIONS, joined=True, automatic=True,
    )  # fmt: skip
    encoder_share: float = option(
        0.1, "last fraction of the run, which trains the encoder for reconstruct", low=0, high=0.9
    )

    @classmethod
    def absent(cls, options: Mapping[str, object]) -> dict[str, Scalar]:
        """Return defaults for options that were added after a file was written.

        Before there was ``doubling``, grids grew by transposed convolution.
        """
        plain = options.get("network", PLAIN) == PLAIN
        return super().absent(options) | ({"doubling": "transposed"} if plain else {})

    def adapted(self, images: int, pixels: Callable[[], Pixels] | None) -> tuple[Self, list[str]]:
        """Choose the augmentation by the number of images, since D would memorise few images."""
        if self.augment != "auto":
            return self, []
        name = next((name for most, name in _FEW if images < most), "none")
        if name == "none":
            return replace(self, augment=name), []
        note = (
            f"{images:,} images are few, so the discriminator sees them through {name} "
            "(-o augment=none: unchanged)"
        )
        return replace(self, augment=name), [note]


@dataclass(frozen=True)
class GANDrawing:
    """Options for drawing samples."""

    truncation: float = option(
        1.0,
        "psi; below 1: samples nearer to the mean, with fewer faults and less variety",
        low=0,
        high=1,
    )
