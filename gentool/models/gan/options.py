"""The options of the generative adversarial network: for training and for drawing samples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from gentool.core.errors import UsageError
from gentool.core.images import Pixels
from gentool.core.options import Scalar, option
from gentool.models.base import BaseConfig
from gentool.models.gan.augmentation import AUGMENTATIONS
from gentool.models.gan.losses import LOSSES
from gentool.models.gan.penalties import PENALTIES
from gentool.networks import PAIRS
from gentool.networks.convnet import DOUBLINGS

PLAIN = "dcgan"  # the networks with the options norm and doubling
SPECTRAL = ("dcgan", "resnet", "fast")  # networks with the option spectral
_FEW = ((1_000, "diffaugment"), (10_000, "ada"))  # (fewer images than this, augmentation)


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
    penalty: float = option(1.0, "gamma of R1 and R2 (0: without them)", low=0, high=1e4)
    calibrate: bool = option(True, "scale gamma by the images' variance (1 for 32x32 photos)")
    penalty_end: float = option(1.0, "gamma falls to this share of itself", low=0, high=1)
    penalty_every: int = option(
        8, "steps between R1 and R2, whose weight makes up for it", low=1, high=1024
    )
    critic_steps: int = option(1, "turns of D for one of G", low=1, high=100)
    beta1: float = option(0.0, "Adam's first moment: the game turns", low=0, high=0.999)
    beta2: float = option(0.99, "Adam's second moment", low=0, high=0.99999)
    norm: str = option(
        "batch", "normalisation in dcgan's generator", choices=("none", "batch", "group")
    )
    doubling: str = option(
        DOUBLINGS[0], "how grids grow in dcgan's generator: each value four times, then a "
        "convolution; or by transposed convolution, as published",
        choices=DOUBLINGS,
    )  # fmt: skip
    spectral: bool = option(False, "spectral normalisation of D (dcgan, resnet, fast)")
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

    def refuse_unused(self) -> None:
        """Check that every option has an effect.

        Raises:
            UsageError: an option has none with the chosen networks or penalties.
        """
        network = self.network
        if self.spectral and network not in SPECTRAL:
            raise UsageError(
                f"network {network} has no spectral normalisation. Networks that have it: "
                f"{', '.join(SPECTRAL)}"
            )
        if self.norm != "batch" and network != PLAIN:
            raise UsageError(f"network {network} has its own normalisation. Leave -o norm out")
        if self.doubling != DOUBLINGS[0] and network != PLAIN:
            raise UsageError(f"network {network} has its own grids. Leave -o doubling out")
        names = self.penalties
        if self.penalty != 1.0 and not {"r1", "r2"} & {w.split("/")[0] for w in names.split("+")}:
            raise UsageError(
                f"penalty weighs R1 and R2 that bear no weight of their own, not {names}. "
                "Write a weight after the name: -o penalties=wgan-gp:5"
            )


@dataclass(frozen=True)
class GANDrawing:
    """Options for drawing samples."""

    truncation: float = option(
        1.0, "psi: towards the mean, fewer oddities and less variety", low=0, high=1
    )
