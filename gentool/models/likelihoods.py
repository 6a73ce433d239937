"""The likelihood seam: p(x | z), what the decoder's output means.

An entry declares how many numbers per colour channel the decoder gives
(``params_per_channel``), its parameters beyond the network (``module``), and ``log_prob``,
``mean`` and ``sample``. Images are in [-1, 1] as everywhere; ``log_prob`` sums over C, H and
W to one value per image, in nats.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from gentool.registry import Entry, Registry

_SCALE_RATE = 10.0  # one scalar must travel far: Adam moves it this much faster than a weight
_MIN_LOG_SCALE = -6.0  # sigma >= exp(-6) = 0.3 grey levels: below, the density only counts levels


class Likelihood(nn.Module, ABC):
    """Base of the entries.

    Attributes:
        params_per_channel: Decoder outputs per colour channel.
        discrete: True when ``log_prob`` is a log mass, False for a log density.
    """

    params_per_channel: ClassVar[int] = 1
    discrete: ClassVar[bool]

    @abstractmethod
    def log_prob(self, params: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Log p(x | z) per image in nats, shape (B,).

        Args:
            params: The decoder's output, (B, params_per_channel C, H, W).
            images: (B, C, H, W) in [-1, 1].
        """

    @abstractmethod
    def mean(self, params: torch.Tensor) -> torch.Tensor:
        """E[x | z] in [-1, 1], (B, C, H, W)."""

    @abstractmethod
    def sample(self, params: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """A draw from p(x | z), given standard normal ``noise`` (B, C, H, W)."""


class Bernoulli(Likelihood):
    """p(x | z) = prod p^x (1 - p)^(1 - x), p = sigmoid(logits), for x in {0, 1} (-1 and 1 here).

    Kingma and Welling 2014 (arXiv:1312.6114), appendix C.1. Grey values between are read as
    probabilities of ink, as is usual; the value is then a cross-entropy and no likelihood.
    """

    discrete = True

    def log_prob(self, params: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Log p(x | z) per image in nats."""
        ink = (images.float() + 1) / 2
        terms = binary_cross_entropy_with_logits(params.float(), ink, reduction="none")
        return -terms.sum(dim=(1, 2, 3))

    def mean(self, params: torch.Tensor) -> torch.Tensor:
        """E[x | z] = 2 p - 1."""
        return torch.tanh(params.float() / 2)  # = 2 sigmoid(logits) - 1

    def sample(self, params: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """-1 or 1: ink where Phi(noise), which is uniform, falls below p."""
        uniform = 0.5 * (1 + torch.erf(noise / math.sqrt(2)))
        return torch.where(uniform < torch.sigmoid(params.float()), 1.0, -1.0)


class Gaussian(Likelihood):
    """p(x | z) = N(x; mu(z), sigma^2 I) with one learned sigma for all pixels.

    Its optimum is sigma^2 = the mean squared error, which sets the balance between
    reconstruction and KL by itself (Rybkin et al. 2021, "Simple and effective VAE training
    with calibrated decoders", arXiv:2006.13202); a sigma fixed at 1 is what makes VAEs blurry.
    """

    discrete = False

    def __init__(self) -> None:
        super().__init__()
        self.raw_log_scale = nn.Parameter(torch.zeros(()))

    @property
    def log_scale(self) -> torch.Tensor:
        """Log sigma, on the [-1, 1] scale; a scalar, softly bounded below."""
        raw = _SCALE_RATE * self.raw_log_scale
        return _MIN_LOG_SCALE + softplus(raw - _MIN_LOG_SCALE)

    def log_prob(self, params: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Log p(x | z) per image in nats, a density on [-1, 1]^D."""
        log_scale = self.log_scale
        z = (images.float() - params.float()) * torch.exp(-log_scale)
        constant = log_scale + 0.5 * math.log(2 * math.pi)
        return -(0.5 * z.square() + constant).sum(dim=(1, 2, 3))

    def mean(self, params: torch.Tensor) -> torch.Tensor:
        """E[x | z] = mu(z), clipped to the range of images."""
        return params.float().clamp(-1, 1)

    def sample(self, params: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Mu + sigma noise, clipped to the range of images."""
        return (params.float() + torch.exp(self.log_scale) * noise).clamp(-1, 1)


LIKELIHOODS: Registry[type[Likelihood]] = Registry(
    "likelihood",
    "gentool list likelihoods",
    {
        "gaussian": Entry(
            "N(x; mu(z), sigma^2) with one learned sigma (a density)", lambda: Gaussian
        ),
        "bernoulli": Entry(
            "ink or no ink per pixel, for black and white images (a mass)", lambda: Bernoulli
        ),
    },
)
