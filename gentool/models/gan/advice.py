"""What a GAN reports on its run: a discriminator that overfits, or has too small a loss."""

from collections.abc import Mapping

import torch

from gentool.models.capabilities import Advice
from gentool.models.gan.losses import AdversarialLoss

_WON = 0.05  # times D's loss at logits of 0; below it, G learns little from D
_AUGMENTED = 0.79  # ADA's p from which on D overfits; p is at most 0.8
_SETTLED = 0.1  # fraction of the run before which ``health`` reports nothing


class GANAdvice(Advice):
    """Advice on a GAN.

    Args:
        loss: The loss of generator and discriminator.
        slopes: Weights of the penalties R1 and R2 in use, by name.
    """

    def __init__(self, loss: AdversarialLoss, slopes: Mapping[str, float]) -> None:
        self._loss = loss
        self.against_collapse = "Use -o penalties=r1+r2 or a smaller --lr"
        if slopes:
            weights = "+".join(f"{k}:{w:g}" for k, w in slopes.items())
            self.against_collapse = f"Use a larger penalty (now {weights}) or a smaller --lr"

    def health(self, record: Mapping[str, float]) -> str | None:
        """Report a discriminator that overfits, or whose loss is so small that G learns little."""
        undecided = float(self._loss.critic(torch.zeros(1), torch.zeros(1)))
        if record.get("share", 0.0) < _SETTLED:
            return None
        if record.get("ada_p", 0.0) >= _AUGMENTED:
            return (
                f"overfitting: the discriminator has memorised the images in spite of augmentation "
                f"(ada_p {record['ada_p']:.2f}). Use more images, a smaller --width or a shorter "
                "run"
            )
        if undecided > 0 and record.get("d_loss", undecided) < _WON * undecided:
            return (
                f"the discriminator is too strong: its loss is {record['d_loss']:.3g} "
                f"({undecided:.3g} if it cannot separate real from generated images), so the "
                f"generator learns little. {self.against_collapse}"
            )
        return None
