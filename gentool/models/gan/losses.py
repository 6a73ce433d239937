"""Adversarial losses, and the squared gradient norm that the penalties use.

A loss is an entry with two functions, ``critic(real, fake)`` for the discriminator and
``generator(real, fake)``. Both take the discriminator's logits of real and of generated images,
shape (B,), and return one value per image to be minimised. With logits a(x), the discriminator of
Goodfellow et al. 2014 is D(x) = sigmoid(a(x)), so log D = -softplus(-a) and log(1 - D) =
-softplus(a).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import relu, softplus

from gentool.core.registry import Entry, Registry

Pairwise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class AdversarialLoss:
    """The two functions of an adversarial loss.

    Attributes:
        critic: Loss of the discriminator.
        generator: Loss of the generator.
        needs_real: Whether ``generator`` reads ``real``.
    """

    critic: Pairwise
    generator: Pairwise
    needs_real: bool = False


def _cross_entropy_critic(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Return -[log D(x) + log(1 - D(G(z)))], whose negative D maximises in Eq. 1."""
    return softplus(-real) + softplus(fake)


def _minimax_generator(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Return log(1 - D(G(z))), the generator's part of Eq. 1."""
    return -softplus(fake)


def _non_saturating_generator(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Return -log D(G(z)) (ibid., section 3), which does not saturate when D is confident."""
    return softplus(-fake)


def _least_squares_critic(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Return Eq. 9 of Mao et al. 2017 (arXiv:1611.04076) for D, with a = 0, b = 1."""
    return 0.5 * (real - 1).square() + 0.5 * fake.square()


def _least_squares_generator(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Return Eq. 9 of Mao et al. 2017 for G, with c = 1."""
    return 0.5 * (fake - 1).square()


def _hinge_critic(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Return the hinge loss of D.

    Lim and Ye 2017 (arXiv:1705.02894); Miyato et al. 2018 (arXiv:1802.05957), Eq. 16.
    """
    return relu(1 - real) + relu(1 + fake)


def _higher_fake(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Return -a(G(z)): Eq. 17 of Miyato et al., and the generator's loss of Arjovsky et al."""
    return -fake


def _relativistic_critic(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Return the loss of D on pairs of one generated and one real image.

    Jolicoeur-Martineau 2018 (arXiv:1807.00734), Eq. 5. Huang et al. 2024 (arXiv:2501.05441), Eq. 2,
    prove that this form converges with R1 and R2.
    """
    return softplus(fake - real)


def _relativistic_generator(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Return ``_relativistic_critic`` with real and fake exchanged."""
    return softplus(real - fake)


def _wasserstein_critic(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Return a(G(z)) - a(x): Arjovsky et al. 2017 (arXiv:1701.07875), Eq. 2 and Algorithm 1.

    D, whose slopes a penalty holds near 1, maximises E[a(x)] - E[a(G(z))]; the maximum is the
    Wasserstein distance.
    """
    return fake - real


# Named functions, not lambdas: a model holds its loss, and a model must be picklable.
_MINIMAX = AdversarialLoss(_cross_entropy_critic, _minimax_generator)
_NON_SATURATING = AdversarialLoss(_cross_entropy_critic, _non_saturating_generator)
_LEAST_SQUARES = AdversarialLoss(_least_squares_critic, _least_squares_generator)
_HINGE = AdversarialLoss(_hinge_critic, _higher_fake)
_RELATIVISTIC = AdversarialLoss(_relativistic_critic, _relativistic_generator, needs_real=True)
_WASSERSTEIN = AdversarialLoss(_wasserstein_critic, _higher_fake)

LOSSES: Registry[AdversarialLoss] = Registry(
    "GAN loss",
    "gentool list losses",
    {
        "minimax": Entry("Goodfellow 2014, Eq. 1: the value function, unchanged", lambda: _MINIMAX),
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
            "RpGAN (Jolicoeur-Martineau 2018): each generated image against one real",
            lambda: _RELATIVISTIC,
        ),
    },
)


def squared_slope(outputs: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    """Return ||grad a||^2 per row, (B,), differentiable in all that the outputs depend on.

    Args:
        outputs: a, (B,), computed from ``leaf``.
        leaf: (B, ...).
    """
    (gradient,) = torch.autograd.grad(outputs.sum(), leaf, create_graph=True)
    wide = torch.promote_types(gradient.dtype, torch.float32)
    return gradient.to(wide).square().sum(dim=tuple(range(1, gradient.ndim)))


def squared_gradient_norm(
    discriminator: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and ||grad_x a(x)||^2 per image: R1 for real images, R2 for generated ones.

    Mescheder et al. 2018 (arXiv:1801.04406), Eq. 9 and 10, without the factor gamma / 2.

    Args:
        discriminator: Images -> logits (B,); each logit must depend on its own image only.
        images: (B, C, H, W); they are detached first.

    Returns:
        The logits (B,) and the squared norms (B,), both differentiable in the weights.
    """
    leaf = images.detach().requires_grad_(True)
    logits = discriminator(leaf)
    return logits, squared_slope(logits, leaf)
