"""The adversarial seam: losses of the two-player game, and penalties on the discriminator.

A loss is one entry: ``critic(real, fake)`` and ``generator(real, fake)``, both given the
discriminator's logits of real and generated images, shape (B,), and both returning one value
per image to be minimised. With logits a(x), the discriminator of Goodfellow et al. 2014 is
D(x) = sigmoid(a(x)), so log D = -softplus(-a) and log(1 - D) = -softplus(a).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import relu, softplus

from gentool.registry import Entry, Registry

Pairwise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class AdversarialLoss:
    """One loss of the game; ``needs_real`` says whether the generator's part reads ``real``."""

    critic: Pairwise
    generator: Pairwise
    needs_real: bool = False


def _cross_entropy_critic(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """-[log D(x) + log(1 - D(G(z)))]: the discriminator maximises V of Eq. 1."""
    return softplus(-real) + softplus(fake)


# Goodfellow et al. 2014 (arXiv:1406.2661), Eq. 1: G minimises log(1 - D(G(z))), to the letter.
_MINIMAX = AdversarialLoss(_cross_entropy_critic, lambda real, fake: -softplus(fake))

# Ibid., section 3: "maximise log D(G(z))" instead, which does not saturate when D is confident.
_NON_SATURATING = AdversarialLoss(_cross_entropy_critic, lambda real, fake: softplus(-fake))

# Mao et al. 2017 (arXiv:1611.04076), Eq. 9 with a = 0, b = c = 1.
_LEAST_SQUARES = AdversarialLoss(
    lambda real, fake: 0.5 * (real - 1).square() + 0.5 * fake.square(),
    lambda real, fake: 0.5 * (fake - 1).square(),
)

# Lim and Ye 2017 (arXiv:1705.02894); Miyato et al. 2018 (arXiv:1802.05957), Eq. 16 and 17.
_HINGE = AdversarialLoss(
    lambda real, fake: relu(1 - real) + relu(1 + fake),
    lambda real, fake: -fake,
)

# Jolicoeur-Martineau 2018 (arXiv:1807.00734), Eq. 5, in the form that Huang et al. 2024
# (arXiv:2501.05441), Eq. 2, prove to converge with R1 and R2: each fake against one real.
_RELATIVISTIC = AdversarialLoss(
    lambda real, fake: softplus(fake - real),
    lambda real, fake: softplus(real - fake),
    needs_real=True,
)

# Arjovsky et al. 2017 (arXiv:1701.07875), Eq. 2 and Algorithm 1: D, held to slopes of 1 by a
# penalty, makes E[a(x)] - E[a(G(z))] as large as it can, which is the Wasserstein distance.
_WASSERSTEIN = AdversarialLoss(lambda real, fake: fake - real, lambda real, fake: -fake)

LOSSES: Registry[AdversarialLoss] = Registry(
    "GAN loss",
    "gentool list losses",
    {
        "minimax": Entry(
            "the value function of Goodfellow 2014, Eq. 1, to the letter", lambda: _MINIMAX
        ),
        "non-saturating": Entry(
            "Goodfellow 2014, section 3: G maximises log D(G(z))", lambda: _NON_SATURATING
        ),
        "least-squares": Entry(
            "LSGAN (Mao 2017): squared distance to 0 and 1", lambda: _LEAST_SQUARES
        ),
        "hinge": Entry("geometric GAN (Lim and Ye 2017): margins at +1 and -1", lambda: _HINGE),
        "wasserstein": Entry(
            "WGAN (Arjovsky 2017): needs a penalty such as wgan-gp", lambda: _WASSERSTEIN
        ),
        "relativistic": Entry(
            "RpGAN (Jolicoeur-Martineau 2018): each fake against one real", lambda: _RELATIVISTIC
        ),
    },
)


def squared_slope(outputs: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    """||grad a||^2 per row, (B,), of outputs (B,) that were computed from ``leaf`` (B, ...).

    Differentiable in all that the outputs depend on.
    """
    (gradient,) = torch.autograd.grad(outputs.sum(), leaf, create_graph=True)
    wide = torch.promote_types(gradient.dtype, torch.float32)
    return gradient.to(wide).square().sum(dim=tuple(range(1, gradient.ndim)))


def squared_gradient_norm(
    discriminator: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """||grad_x a(x)||^2 per image: R1 on real images, R2 on generated ones.

    Mescheder et al. 2018 (arXiv:1801.04406), Eq. 9 and 10, without the factor gamma / 2.

    Args:
        discriminator: Images -> logits (B,); must treat each image by itself.
        images: (B, C, H, W); a fresh leaf is made of them.

    Returns:
        The logits (B,) and the squared norms (B,), both differentiable in the weights.
    """
    leaf = images.detach().requires_grad_(True)
    logits = discriminator(leaf)
    return logits, squared_slope(logits, leaf)
