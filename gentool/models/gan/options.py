"""The options of the generative adversarial network: for training and for drawing samples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from gentool.core.images import Pixels
from gentool.core.options import Scalar, Term, option
from gentool.models.base import BaseConfig
from gentool.models.gan.augmentation import AUGMENTATIONS
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
        f"it is the weight of R1 and R2 without a weight of their own, and penalties is "
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
        return f"penalties={config.penalties} has intervals of its own. Leave one of the two out"
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
    latent_size: int = option(128, "length of z", low=1, high=4096)
    network: str = option("dcgan", "the two networks", choices=PAIRS)
    loss: str = option("relativistic", "the game that is played", choices=LOSSES)
    penalties: str = option(
        "r1+r2", "what keeps the game stable, joined by +, each as name:weight/every; or none",
        choices=PENALTIES, joined=True, weighted=True,
    )  # fmt: skip
    penalty: float = option(
        1.0, "gamma of R1 and R2 (0: without them)", low=0, high=1e4, idle=_no_own_weight
    )
    calibrate: bool = option(
        True, "scale gamma by the images' variance (1 for 32x32 photos)", idle=_no_slopes
    )
    penalty_end: float = option(
        1.0, "gamma falls to this share of itself", low=0, high=1, idle=_no_slopes
    )
    penalty_every: int = option(
        8,
        "steps between R1 and R2, whose weight makes up for it",
        low=1,
        high=1024,
        idle=_no_interval,
    )
    critic_steps: int = option(1, "turns of D for one of G", low=1, high=100)
    beta1: float = option(0.0, "Adam's first moment: the game turns", low=0, high=0.999)
    beta2: float = option(0.99, "Adam's second moment", low=0, high=0.99999)
    norm: str = option(
        "batch",
        "normalisation in dcgan's generator",
        choices=("none", "batch", "group"),
        idle=_not_plain,
    )
    doubling: str = option(
        DOUBLINGS[0], "how grids grow in dcgan's generator: each value four times, then a "
        "convolution; or by transposed convolution, as published",
        choices=DOUBLINGS, idle=_not_plain,
    )  # fmt: skip
    spectral: bool = option(
        False, "spectral normalisation of D (dcgan, resnet, fast)", idle=_not_spectral
    )
    augment: str = option(
        "auto", "what D sees images through, joined by +; none; auto: by their number",
        choices=AUGMENTATIONS, joined=True, automatic=True,
    )  # fmt: skip
    encoder_share: float = option(
        0.1, "share of the run, its last, that trains reconstruct's encoder", low=0, high=0.9
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
            f"{images:,} images are few: D sees them through {name} (-o augment=none: as they are)"
        )
        return replace(self, augment=name), [note]


@dataclass(frozen=True)
class GANDrawing:
    """Options for drawing samples."""

    truncation: float = option(
        1.0, "psi: towards the mean, fewer oddities and less variety", low=0, high=1
    )
